//! Children that connect back over TLS: on every Python, under load, and whom the listener has nothing for.
#![allow(missing_docs, clippy::unwrap_used)]

use econtext::{Broker, Context, ErrorKind, Listener, Local, PathFinder, Python};
use econtext_testkit::{processes, pythons};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn child(broker: &Broker, python: &pythons::Python, listener: &Listener) -> Context {
    Context::builder("back")
        .python(Python::Path(python.to_arg()))
        .finder(Arc::new(PathFinder::new().source(
            "work",
            "def numbers(n):\n    for i in range(n):\n        yield i\n\ndef length(b):\n    return len(b)\n\ndef make(n):\n    return b'x' * n\n",
        )))
        .connect_back(listener)
        .connect(broker, Local)
        .unwrap()
}

/// Whether this process has a connection to the listener's port, established.
fn connected(port: u16) -> bool {
    let wanted = format!(":{port:04X} ");
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().any(|file| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.lines().any(|line| line.contains(&wanted) && line.contains(" 01 "))
    })
}

#[test]
fn the_stream_moves_while_calls_run_and_nothing_is_lost() {
    let broker = Broker::new().unwrap();
    for python in pythons::all() {
        let listener = Listener::bind("127.0.0.1:0", &["127.0.0.1"]).unwrap();
        let child = child(&broker, &python, &listener);
        // Calls go on all the while.
        let started = Instant::now();
        let mut round = 0i64;
        let mut after = 0;
        while after < 200 {
            let calls: Vec<_> = (0..10).map(|i| child.call::<i64>("operator:add", (round, i))).collect();
            for (i, call) in (0i64..).zip(calls) {
                assert_eq!(call.wait().unwrap(), round + i, "Python {}", python.minor);
            }
            round += 1;
            after += i32::from(connected(listener.port()));
            assert!(started.elapsed() < processes::HANGS, "Python {}: it did not connect", python.minor);
        }
        let items: Vec<i64> =
            child.prepare("work:numbers").args((300,)).stream().collect::<Result<_, _>>().unwrap();
        assert_eq!(items.len(), 300);
        let big = serde_bytes::ByteBuf::from(vec![7; 3 << 20]);
        assert_eq!(child.call::<usize>("work:length", (big,)).wait().unwrap(), 3 << 20);
        let back: serde_bytes::ByteBuf = child.call("work:make", (3 << 20,)).wait().unwrap();
        assert_eq!(back.len(), 3 << 20);
        // A deadline works there too.
        let late = child.prepare("time:sleep").args((60,)).timeout(Duration::from_millis(300));
        assert_eq!(late.start::<()>().wait().unwrap_err().kind(), ErrorKind::Timeout);
        let pid: i64 = child.call("os:getpid", ()).wait().unwrap();
        drop(child);
        processes::wait_until("the child is gone", || {
            !std::path::Path::new(&format!("/proc/{pid}")).exists()
        });
    }
}

#[test]
fn a_child_that_cannot_reach_the_port_stays_where_it_is() {
    let broker = Broker::new().unwrap();
    for python in pythons::some() {
        let listener = Listener::bind("127.0.0.1:0", &["192.0.2.1", "no-such-host.invalid"]).unwrap();
        let child = child(&broker, &python, &listener);
        for _ in 0..50 {
            assert!(child.call::<i64>("os:getpid", ()).wait().unwrap() > 1);
        }
        assert!(!connected(listener.port()));
    }
}

#[test]
fn strangers_are_told_nothing_and_cost_little() {
    let broker = Broker::new().unwrap();
    let listener = Listener::bind("127.0.0.1:0", &["127.0.0.1"]).unwrap();
    let address = ("127.0.0.1", listener.port());
    // Silence, noise, and more of them than are let in.
    let mut silent: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut noisy = TcpStream::connect(address).unwrap();
    let _ = noisy.write_all(&[0xff; 4096]);
    noisy.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut answer = Vec::new();
    let _ = noisy.read_to_end(&mut answer);
    assert!(answer.len() < 64, "no more than TLS's own alert: {answer:?}");
    // All are hung up on.
    for stranger in &mut silent {
        stranger.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        let mut rest = Vec::new();
        let _ = stranger.read_to_end(&mut rest);
        assert!(rest.is_empty(), "{rest:?}");
    }
    // And a child comes through.
    let child = child(&broker, &pythons::any(), &listener);
    child.call::<i64>("os:getpid", ()).wait().unwrap();
    processes::wait_until("it is connected", || connected(listener.port()));
    assert!(child.call::<i64>("os:getpid", ()).wait().unwrap() > 1);
}
