//! Flow control, in a process of its own: memory is measured.
#![allow(missing_docs, clippy::unwrap_used)]

use econtext::{Broker, Context, Local, Python};
use econtext_testkit::{processes, pythons};
use std::io::Read as _;
use std::time::{Duration, Instant};

fn connect(broker: &Broker, python: &pythons::Python) -> Context {
    Context::builder("child").python(Python::Path(python.to_arg())).connect(broker, Local).unwrap()
}

#[test]
fn a_reader_that_stops_stops_the_writer_and_memory_stays_flat() {
    let broker = Broker::new().unwrap();
    let child = connect(&broker, &pythons::any());
    let pid = u32::try_from(child.call::<i64>("os:getpid", ()).wait().unwrap()).unwrap();
    let mut streams = child.command("yes").spawn().unwrap();
    let mut buffer = vec![0; 1 << 20];
    streams.stdout.read_exact(&mut buffer).unwrap();
    let memory = || {
        let of = |pid| processes::memory(pid).unwrap();
        (of(std::process::id()), of(pid))
    };
    let before = memory();
    let seconds =
        std::env::var("ECONTEXT_TEST_STOPPED_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(5);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut calls = 0;
    while Instant::now() < end {
        child.call::<i64>("os:getpid", ()).wait().unwrap();
        calls += 1;
        std::thread::sleep(Duration::from_millis(10));
    }
    let after = memory();
    println!("{calls} calls in {seconds} s; KiB {before:?} -> {after:?}");
    assert!(after.0 < before.0 + 4096 && after.1 < before.1 + 4096, "{before:?} -> {after:?}");
    // It goes on where it stopped.
    streams.stdout.read_exact(&mut buffer).unwrap();
    assert!(buffer.chunks(2).all(|c| c == b"y\n"));
}
