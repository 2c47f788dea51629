//! A session against a child that is made of an encoder and a decoder, under a clock of its own.
#![allow(missing_docs, clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "a test gives the session the time")]

use econtext_proto::frame::{FrameDecoder, FrameEncoder};
use econtext_proto::mac::Sender;
use econtext_proto::pickle::{AllowList, Pickle, PickleLimits, encode};
use econtext_proto::wire::handles::{CALL_FUNCTION, CANCEL, LOAD, PUSH_MODULE};
use econtext_proto::{
    CallSpec, Event, Handle, Limits, ModuleKind, ModuleRecord, Outcome, Secret, Session, SessionError, Value,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The child's side.
struct Child {
    encoder: FrameEncoder,
    decoder: FrameDecoder,
}

fn pair() -> (Session, Child) {
    let secret = Secret::new([7; 32]);
    let mut session = Session::new(&secret, Limits::default(), Vec::new(), 0..0);
    session.handle_ready(FrameDecoder::new(&secret, Sender::Child, 1 << 27)).unwrap();
    let encoder = FrameEncoder::new(&secret, Sender::Child);
    let decoder = FrameDecoder::new(&secret, Sender::Controller, 1 << 27);
    (session, Child { encoder, decoder })
}

impl Child {
    /// Takes in all that the session has to write, no more than `piece` bytes at a time.
    fn read(&mut self, session: &mut Session, piece: usize) -> Vec<(Handle, Value)> {
        let mut found = Vec::new();
        while !session.transmit().is_empty() {
            let n = session.transmit().len().min(piece);
            self.decoder.push(&session.transmit()[..n]);
            session.advance(n);
            while let Some(data) = self.decoder.next_frame().unwrap() {
                let pickle = Pickle::parse(data, &PickleLimits::default()).unwrap();
                let (handle, payload) = pickle.pair(pickle.root()).unwrap();
                let value = pickle.value(payload, &AllowList::default());
                found.push((Handle(pickle.int(handle).unwrap()), value.unwrap_or(Value::Dead)));
            }
        }
        assert_eq!(session.queued_bytes(), 0);
        found
    }

    fn frame(&mut self, handle: Handle, value: &Value) -> Vec<u8> {
        let (mut data, mut wire) = (Vec::new(), Vec::new());
        encode(handle.0, value, &PickleLimits::default(), &mut data).unwrap();
        self.encoder.encode(&data, &mut wire);
        wire
    }
}

fn call(session: &mut Session, deadline: Option<Instant>) -> Handle {
    let mut spec = CallSpec::parse("os:getpid").unwrap();
    spec.deadline = deadline;
    session.call(spec).unwrap()
}

#[test]
fn calls_arrive_whole_however_they_are_written_and_end_once() {
    for piece in [1, 7, 100, 1 << 20] {
        let (mut session, mut child) = pair();
        let handles: Vec<Handle> = (0..5).map(|_| call(&mut session, None)).collect();
        let calls = child.read(&mut session, piece);
        assert_eq!(calls.len(), 5);
        for ((to, message), handle) in calls.iter().zip(&handles) {
            assert_eq!(*to, CALL_FUNCTION);
            assert_eq!(message.as_seq().unwrap()[0].as_i64(), Some(handle.0));
        }
        // Two answers in one read, split anywhere.
        let wire =
            [child.frame(handles[1], &Value::Int(1)), child.frame(handles[0], &Value::Int(0))].concat();
        for byte in wire.chunks(piece) {
            session.handle_bytes(byte).unwrap();
        }
        let finished = |handle, n| Some(Event::Finished(handle, Outcome::Value(Value::Int(n))));
        assert_eq!(session.poll_event(), finished(handles[1], 1));
        assert_eq!(session.poll_event(), finished(handles[0], 0));
        let again = child.frame(handles[0], &Value::Int(9));
        session.handle_bytes(&again).unwrap();
        assert_eq!(session.poll_event(), Some(Event::Stray(handles[0])), "it has ended");
        assert_eq!(session.poll_event(), None);
    }
}

#[test]
fn a_deadline_cancels_there_and_a_child_that_does_not_heed_it_is_told_of() {
    let (mut session, mut child) = pair();
    let start = Instant::now();
    let late = call(&mut session, Some(start + Duration::from_secs(5)));
    let other = call(&mut session, None);
    let later = call(&mut session, Some(start + Duration::from_secs(9)));
    child.read(&mut session, 1 << 20);
    assert_eq!(session.poll_timeout(), Some(start + Duration::from_secs(5)));
    session.handle_timeout(start + Duration::from_secs(4));
    assert_eq!(session.poll_event(), None);
    session.handle_timeout(start + Duration::from_secs(5));
    assert_eq!(session.poll_event(), Some(Event::Finished(late, Outcome::TimedOut)));
    let cancels = child.read(&mut session, 1 << 20);
    assert_eq!(cancels.len(), 1);
    assert_eq!((cancels[0].0, cancels[0].1.as_seq().unwrap()[0].as_i64()), (CANCEL, Some(late.0)));
    // Its grace of two seconds, and two more.
    assert_eq!(session.poll_timeout(), Some(start + Duration::from_secs(9)));
    session.handle_timeout(start + Duration::from_secs(9));
    let events: Vec<Event> = std::iter::from_fn(|| session.poll_event()).collect();
    assert!(events.contains(&Event::Unresponsive(late)), "{events:?}");
    assert!(events.contains(&Event::Finished(later, Outcome::TimedOut)), "{events:?}");
    // The end of a cancelled call is reported no more, and no timer is due for a call that has ended.
    for handle in [late, later] {
        let wire = child.frame(handle, &Value::None);
        session.handle_bytes(&wire).unwrap();
    }
    assert_eq!(session.poll_event(), None);
    assert_eq!(session.poll_timeout(), None);
    session.cancel(other, start);
    assert_eq!(session.poll_event(), Some(Event::Finished(other, Outcome::TimedOut)));
}

#[test]
fn an_answer_in_time_leaves_nothing_due() {
    let (mut session, mut child) = pair();
    let start = Instant::now();
    let handle = call(&mut session, Some(start + Duration::from_secs(5)));
    let wire = child.frame(handle, &Value::None);
    session.handle_bytes(&wire).unwrap();
    assert_eq!(session.poll_timeout(), None);
    session.handle_timeout(start + Duration::from_secs(60));
    assert_eq!(session.poll_event(), Some(Event::Finished(handle, Outcome::Value(Value::None))));
    assert_eq!(session.poll_event(), None);
}

#[test]
fn an_error_is_final_and_the_same_ever_after() {
    let (mut session, mut child) = pair();
    let handle = call(&mut session, None);
    let mut wire = child.frame(handle, &Value::None);
    *wire.last_mut().unwrap() ^= 1;
    let error = session.handle_bytes(&wire).unwrap_err();
    assert!(matches!(error, SessionError::Frame(_)), "{error}");
    let good = child.frame(handle, &Value::None);
    assert_eq!(session.handle_bytes(&good), Err(error));
    assert_eq!(session.poll_event(), None);
}

#[test]
fn long_strings_arrive_as_if_they_had_been_copied_behind_what_reads_them() {
    for piece in [999, 1 << 16, 1 << 30] {
        let (mut session, mut child) = pair();
        session.load_before_long_frames(ModuleRecord {
            name: "econtext.bulk".into(),
            kind: ModuleKind::Module,
            path: "econtext/bulk.py".into(),
            source: Some(Arc::from(&b"source"[..])),
            children: Vec::new(),
        });
        // As Python 2 would read them: what a child of either version takes for bytes.
        let long = |byte: u8, n: usize| Value::NativeStr(vec![byte; n]);
        let args = vec![
            long(1, (1 << 20) + 5),
            "text".into(),
            Value::List(vec![long(2, 3 << 20), Value::Dict(vec![("key".into(), long(3, 2 << 20))])]),
            long(4, 10),
        ];
        let mut spec = CallSpec::parse("m:f").unwrap();
        spec.args = args.clone();
        session.call(spec).unwrap();
        let after = call(&mut session, None);
        let found = child.read(&mut session, piece);
        let handles: Vec<Handle> = found.iter().map(|(handle, _)| *handle).collect();
        assert_eq!(handles, [PUSH_MODULE, LOAD, CALL_FUNCTION, CALL_FUNCTION]);
        assert_eq!(found[1].1.as_str(), Some("econtext.bulk"));
        let message = found[2].1.as_seq().unwrap();
        assert!(message[5] == Value::Tuple(args.clone()) || message[5] == Value::List(args), "the arguments");
        assert_eq!(found[3].1.as_seq().unwrap()[0].as_i64(), Some(after.0), "what follows is whole");
    }
}

#[test]
fn what_is_too_long_for_a_frame_is_refused_and_the_session_goes_on() {
    let secret = Secret::new([7; 32]);
    let limits = Limits { frame: 2 << 20, ..Limits::default() };
    let mut session = Session::new(&secret, limits, Vec::new(), 0..0);
    let mut spec = CallSpec::parse("m:f").unwrap();
    spec.args = vec![Value::Bytes(vec![0; 3 << 20])];
    assert!(session.call(spec).is_err());
    assert_eq!(session.queued_bytes(), 0);
    session.call(CallSpec::parse("m:f").unwrap()).unwrap();
    assert!(session.queued_bytes() > 0);
}

#[test]
fn a_gate_keeps_the_order_and_lets_answers_and_modules_pass() {
    let (mut session, mut child) = pair();
    let module = |name: &str| ModuleRecord {
        name: name.into(),
        kind: ModuleKind::Module,
        path: format!("{name}.py"),
        source: Some(Arc::from(b"".as_slice())),
        children: Vec::new(),
    };
    let handle = Handle(1 << 30);
    let text = |text: &str| Value::from(text);
    session.send(handle, &text("before")).unwrap();
    let first = session.hold();
    let called = call(&mut session, None);
    session.send(handle, &text("behind the call")).unwrap();
    let second = session.hold();
    session.send(handle, &Value::Bytes(vec![1; 3 << 20])).unwrap();
    session.cancel(called, Instant::now());
    session.provide_module(handle, None).unwrap();
    let handles = |read: Vec<(Handle, Value)>| read.into_iter().map(|(handle, _)| handle).collect::<Vec<_>>();
    let mut read = |session: &mut Session| {
        // A message that is held is queued, and not to be transmitted.
        let mut found = Vec::new();
        while !session.transmit().is_empty() {
            let n = session.transmit().len().min(1000);
            child.decoder.push(&session.transmit()[..n]);
            session.advance(n);
            while let Some(data) = child.decoder.next_frame().unwrap() {
                let pickle = Pickle::parse(data, &PickleLimits::default()).unwrap();
                let (handle, _) = pickle.pair(pickle.root()).unwrap();
                found.push((Handle(pickle.int(handle).unwrap()), Value::None));
            }
        }
        found
    };
    assert_eq!(handles(read(&mut session)), [handle, handle]);
    assert!(session.queued_bytes() > 3 << 20);
    // The second is opened first: it waits for the first all the same.
    session.open(second);
    assert_eq!(handles(read(&mut session)), []);
    session.push_modules([&module("m")], &[]).unwrap();
    session.open(first);
    assert_eq!(handles(read(&mut session)), [PUSH_MODULE, CALL_FUNCTION, handle, handle, CANCEL]);
    assert_eq!(session.queued_bytes(), 0);
    session.send(handle, &text("at once")).unwrap();
    assert_eq!(handles(read(&mut session)), [handle]);
}
