//! The frame decoder and the bootstrap take any bytes, in any pieces, without a panic and without keeping them all.
#![no_main]

use econtext_proto::Bootstrap;
use econtext_proto::Secret;
use econtext_proto::frame::{FrameDecoder, FrameEncoder};
use econtext_proto::mac::Sender;
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 1 << 16;

fuzz_target!(|input: (u8, Vec<u8>, Vec<u8>)| {
    let (piece, good, bytes) = input;
    let piece = usize::from(piece).max(1);
    let secret = Secret::new([7; 32]);

    // A good frame, then noise: the frame arrives, and nothing of the noise does.
    let mut wire = Vec::new();
    FrameEncoder::new(&secret, Sender::Child).encode(&good, &mut wire);
    let good_end = wire.len();
    wire.extend_from_slice(&bytes);
    let mut decoder = FrameDecoder::new(&secret, Sender::Child, LIMIT);
    let mut frames = 0;
    for chunk in wire.chunks(piece) {
        decoder.push(chunk);
        while let Ok(Some(data)) = decoder.next_frame() {
            assert_eq!(data, good);
            frames += 1;
        }
    }
    assert_eq!(frames, usize::from(good.len() <= LIMIT));
    assert!(decoder.buffered() <= wire.len() - if frames == 1 { good_end } else { 0 });

    let mut bootstrap = Bootstrap::new(&secret, LIMIT);
    for chunk in wire.chunks(piece) {
        if !matches!(bootstrap.handle_bytes(chunk), Ok(None)) {
            return;
        }
    }
    assert!(bootstrap.tail().len() < 8192);
});
