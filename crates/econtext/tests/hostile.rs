//! A child that has its key and means harm: what it sends is bounded, refused and named, and hurts no other child.
#![allow(missing_docs, clippy::unwrap_used)]

use econtext::{Broker, ChildEvent, Context, ErrorKind, Local, PathFinder, Python, Value};
use econtext_testkit::{processes, pythons};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Ways to misuse the stream, which user code in a child can reach.
const HOSTILE: &str = r#"
import struct
from econtext import core

def raw(data, length=None):
    """A frame with a right MAC and whatever is in it."""
    stream = core.child.stream
    with stream.writing:
        head = struct.pack('>QL', stream.sent, len(data))
        stream.sent += 1
        size = struct.pack('>L', len(data) if length is None else length)
        core.write_all(stream.wfd, stream.send_mac.digest(head, data) + size + data)

def doubling(n):
    """A few bytes that are 2**n values when they are written out."""
    raw(b'\x80\x02N' + b'2\x86' * n + b'.')
    return 'sent'

def doubled_reply(n):
    core.child.reply = lambda to, result: raw(core.dumps(to)[:-1] + b'N' + b'2\x86' * n + b'\x86.')

def deep(n):
    raw(b'\x80\x02' + b'(' * n + b'l' * n + b'.')
    return 'sent'

def announced(length):
    raw(b'', length)
    return 'sent'

def not_a_pickle():
    raw(b'\xff' * 100)
    return 'sent'

def global_of(name):
    raw(b'\x80\x02J\xe8\x03\x00\x00cposix\nsystem\nX\x02\x00\x00\x00id\x85R\x86.')
    return 'sent'

def strangers(n):
    """Replies to calls that were never made, and messages for handles that do not exist."""
    for i in range(n):
        raw(core.dumps((5000 + i, 'surprise')))
    return 'sent'

def logs(n):
    for i in range(n):
        core.child.stream.send(core.FORWARD_LOG, ('flood', 50, 'x' * 1000, 0.0))
    return 'sent'

def output(n):
    import os
    for i in range(n):
        os.write(1, b'y' * 4096)
    return 'sent'

def nonsense(handle):
    """The right handle with what does not belong there."""
    for value in None, 1, (), ('x',), {'a': []}, (1, 2, 3, 4, 5, 6), -1, ('x' * 100000, None):
        raw(core.dumps((handle, value)))
    return 'sent'

def questions(n):
    for i in range(n):
        raw(core.dumps((core.GET_MODULE, ((1 << 30) + 100 + i, '../../etc/passwd%d' % i))))
    return 'sent'
"#;

/// Memory is of the whole process, so one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

struct Case {
    function: &'static str,
    argument: Value,
    /// How it may end.
    allowed: &'static [Option<ErrorKind>],
}

const CLOSED: &[Option<ErrorKind>] = &[Some(ErrorKind::Protocol), Some(ErrorKind::Closed)];
const SURVIVES: &[Option<ErrorKind>] = &[None];
const EITHER: &[Option<ErrorKind>] = &[None, Some(ErrorKind::Protocol), Some(ErrorKind::Closed)];

fn cases() -> Vec<Case> {
    let case = |function, argument: i64, allowed| Case { function, argument: Value::Int(argument), allowed };
    let mut cases = vec![
        case("doubling", 60, EITHER),
        case("doubling", 100_000, EITHER),
        case("deep", 1_000_000, EITHER),
        case("announced", 0xffff_ffff, CLOSED),
        case("announced", 128 << 20 | 1, CLOSED),
        case("strangers", 50_000, SURVIVES),
        case("logs", 50_000, SURVIVES),
        case("output", 20_000, SURVIVES),
        case("questions", 20_000, SURVIVES),
    ];
    // Handles of the controller, by number.
    cases.extend([100, 101, 104, 106, 107, 108, 109].map(|handle| case("nonsense", handle, EITHER)));
    cases
}

#[test]
fn whatever_a_child_sends_is_bounded_and_hurts_nobody_else() {
    let _alone = alone();
    let broker = Broker::new().unwrap();
    let bystander = broker.local("bystander").unwrap();
    for python in pythons::some() {
        for case in cases() {
            let what = format!("{} {:?} on Python {}", case.function, case.argument, python.minor);
            let before = processes::memory(std::process::id()).unwrap();
            let seen = Arc::new(AtomicU64::new(0));
            let counter = seen.clone();
            let child = Context::builder("hostile")
                .python(Python::Path(python.to_arg()))
                .finder(Arc::new(PathFinder::new().source("hostile", HOSTILE)))
                .on_event(move |event| {
                    if matches!(event, ChildEvent::Output { .. } | ChildEvent::Log(_)) {
                        counter.fetch_add(1, Ordering::Relaxed);
                    }
                })
                .connect(&broker, Local)
                .unwrap();
            let started = Instant::now();
            let target = format!("hostile:{}", case.function);
            let call = child.prepare(&target).args((&case.argument,)).timeout(Duration::from_secs(60));
            let came = call.start::<String>().wait();
            let kind = came.as_ref().err().map(econtext::Error::kind);
            assert!(case.allowed.contains(&kind), "{what}: {came:?}");
            if let Err(error) = &came {
                assert!(
                    error.to_string().len() < 10_000,
                    "{what}: {} bytes of error",
                    error.to_string().len()
                );
                assert!(error.host() == Some("hostile"), "{what}: the host is named");
            }
            assert!(started.elapsed() < processes::HANGS, "{what}");
            let grown = processes::memory(std::process::id()).unwrap().saturating_sub(before);
            assert!(grown < 96 << 10, "{what}: {grown} KiB more");
            if case.function == "logs" {
                assert_eq!(seen.load(Ordering::Relaxed), 50_000, "{what}: none is lost");
            }
            let pid: i64 = bystander.call("os:getpid", ()).wait().unwrap();
            assert!(pid > 1, "{what}: others go on");
        }
    }
}

#[test]
fn a_reply_that_is_a_bomb_is_refused_by_name() {
    let _alone = alone();
    let broker = Broker::new().unwrap();
    for python in pythons::some() {
        let child = Context::builder("hostile")
            .python(Python::Path(python.to_arg()))
            .finder(Arc::new(PathFinder::new().source("hostile", HOSTILE)))
            .connect(&broker, Local)
            .unwrap();
        let _ = child.call::<Value>("hostile:doubled_reply", (200,)).wait();
        let error =
            child.prepare("os:getpid").timeout(Duration::from_secs(10)).start::<Value>().wait().unwrap_err();
        assert!(!matches!(error.kind(), ErrorKind::Timeout), "{error}");
    }
}

#[test]
fn frames_that_are_no_pickles_or_name_classes_are_said_so() {
    let _alone = alone();
    let broker = Broker::new().unwrap();
    let child = |name: &str| {
        Context::builder(name)
            .finder(Arc::new(PathFinder::new().source("hostile", HOSTILE)))
            .connect(&broker, Local)
            .unwrap()
    };
    let one = child("one");
    let error = one.call::<String>("hostile:not_a_pickle", ()).wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert_eq!(
        one.call::<i64>("os:getpid", ()).wait().unwrap_err().kind(),
        ErrorKind::Protocol,
        "it stays so"
    );
    // The first handle that the controller gives out is the call's own: its reply is a class that would run a command.
    let two = child("two");
    let error =
        two.prepare("hostile:global_of").args(("x",)).timeout(Duration::from_secs(5)).start::<Value>().wait();
    let text = format!("{error:?}");
    assert!(text.contains("posix.system") || error.is_ok(), "{text}");
}
