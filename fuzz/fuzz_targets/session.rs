//! A session takes any sequence of commands and of messages of a child that has its key: no panic, no call without an end, and
//! after an error always the same one.
#![no_main]

use econtext_proto::frame::{FrameDecoder, FrameEncoder};
use econtext_proto::mac::Sender;
use econtext_proto::pickle::{PickleLimits, encode};
use econtext_proto::{CallSpec, Event, Handle, Limits, Secret, Session, Value};
use libfuzzer_sys::fuzz_target;
use std::collections::HashSet;
use std::time::{Duration, Instant};

fuzz_target!(|data: &[u8]| {
    let secret = Secret::new([7; 32]);
    let limits = Limits { frame: 1 << 16, ..Limits::default() };
    let mut session = Session::new(&secret, limits, b"payload".to_vec(), 0..0);
    let mut child = FrameEncoder::new(&secret, Sender::Child);
    session.handle_ready(FrameDecoder::new(&secret, Sender::Child, 1 << 16)).expect("nothing is wrong yet");
    let mut now = Instant::now();
    let mut open: HashSet<Handle> = HashSet::new();
    let mut handles = vec![Handle(100), Handle(101), Handle(104), Handle(105), Handle(107), Handle(108), Handle(109)];
    let mut failed = None;
    let mut bytes = data.iter().copied();
    while let Some(operation) = bytes.next() {
        let argument = bytes.next().unwrap_or(0);
        let handle = handles[usize::from(argument) % handles.len()];
        match operation % 9 {
            0 => {
                let mut spec = CallSpec::parse("os:getpid").expect("a function");
                spec.deadline = (argument & 1 == 1).then(|| now + Duration::from_millis(u64::from(argument)));
                if let Ok(handle) = session.call(spec) {
                    open.insert(handle);
                    handles.push(handle);
                }
            }
            1 => session.cancel(handle, now),
            2 => {
                now += Duration::from_millis(u64::from(argument) * 50);
                session.handle_timeout(now);
            }
            3 => drop(session.send(handle, &Value::Int(argument.into()))),
            4 => handles.push(session.add_receiver()),
            5 => session.remove_receiver(handle),
            6 => {
                let n = session.transmit().len();
                session.advance(n.min(usize::from(argument)));
            }
            kind => {
                // A message of the child: a plausible one, or whatever bytes follow.
                let mut message = Vec::new();
                if kind == 7 {
                    let value = match argument % 5 {
                        0 => Value::Dead,
                        1 => Value::None,
                        2 => Value::Tuple(vec![Value::Int(handle.0), "name".into(), Value::Int(-1)]),
                        3 => Value::Tuple(vec![Value::Int(1), Value::Bytes(vec![argument; 9])]),
                        _ => "text".into(),
                    };
                    encode(handle.0, &value, &PickleLimits::default(), &mut message).expect("plain values");
                } else {
                    message.extend(bytes.by_ref().take(usize::from(argument)));
                }
                let mut wire = Vec::new();
                child.encode(&message, &mut wire);
                match (session.handle_bytes(&wire), &failed) {
                    (Err(error), Some(before)) => assert_eq!(error, *before, "an error stays"),
                    (Err(error), None) => failed = Some(error),
                    (Ok(()), before) => assert!(before.is_none(), "what failed does not work again"),
                }
            }
        }
        while let Some(event) = session.poll_event() {
            if let Event::Finished(handle, _) = event {
                assert!(open.remove(&handle), "a call ends once");
            }
        }
    }
    // A call that has a deadline or was cancelled ends.
    session.handle_timeout(now + Duration::from_secs(3600));
    assert!(session.poll_timeout().is_none_or(|at| at > now));
});
