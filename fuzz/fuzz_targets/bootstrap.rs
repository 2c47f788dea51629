//! The bootstrap takes any noise in front of the child, in any pieces; the hello behind it is found, and nothing behind that is
//! lost.
#![no_main]

use econtext_proto::frame::FrameEncoder;
use econtext_proto::mac::Sender;
use econtext_proto::pickle::{PickleLimits, encode};
use econtext_proto::bootstrap::Ready;
use econtext_proto::{Bootstrap, Secret, Value};
use libfuzzer_sys::fuzz_target;

const HELLO: i64 = 106;

fuzz_target!(|input: (u8, Vec<u8>, Vec<u8>)| {
    let (piece, noise, behind) = input;
    let secret = Secret::new([7; 32]);
    let mut encoder = FrameEncoder::new(&secret, Sender::Child);
    let hello = Value::Tuple(vec!["3.11.2".into(), 4711.into(), "root".into()]);
    let mut data = Vec::new();
    encode(HELLO, &hello, &PickleLimits::default(), &mut data).expect("plain values");
    let mut wire = noise.clone();
    encoder.encode(&data, &mut wire);
    encoder.encode(&behind, &mut wire);
    let mut bootstrap = Bootstrap::new(&secret, 1 << 20);
    let mut ready = None;
    for chunk in wire.chunks(usize::from(piece).max(1)) {
        match &mut ready {
            None => ready = bootstrap.handle_bytes(chunk).expect("the hello is right"),
            Some(found) => {
                let found: &mut Ready = found;
                found.decoder.push(chunk);
            }
        }
        assert!(bootstrap.tail().len() < 8192);
    }
    let mut ready = ready.expect("the hello is found behind any noise");
    assert_eq!(ready.hello.pid, 4711);
    assert_eq!(ready.decoder.next_frame(), Ok(Some(behind.as_slice())));
});
