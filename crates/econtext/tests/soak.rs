//! Fifty children at work for a time: calls, streams, imports, processes, reconnects. Memory and descriptors stay flat.
//!
//! `ECONTEXT_SOAK_SECONDS` says for how long; half a minute if it does not.
#![allow(missing_docs, clippy::unwrap_used)]

use econtext::{Broker, Context, Local, PathFinder, Python};
use econtext_testkit::{processes, pythons};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const CHILDREN: usize = 50;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn memory() -> u64 {
    processes::memory(std::process::id()).unwrap()
}

#[test]
fn memory_and_descriptors_stay_flat() {
    let seconds = std::env::var("ECONTEXT_SOAK_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(30);
    let broker = Broker::new().unwrap();
    let mut finder =
        PathFinder::new().source("work", "def numbers(n):\n    for i in range(n):\n        yield i\n");
    for i in 0..20 {
        finder = finder.source(&format!("part{i}"), format!("VALUE = {i}\n\ndef get():\n    return VALUE\n"));
    }
    let finder = Arc::new(finder);
    let pythons = pythons::some();
    let connect = |i: usize| {
        Context::builder(format!("soak{i}"))
            .python(Python::Path(pythons[i % pythons.len()].to_arg()))
            .finder(finder.clone())
            .connect(&broker, Local)
            .unwrap()
    };
    let rounds = AtomicU64::new(0);
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut samples = Vec::new();
    std::thread::scope(|scope| {
        for worker in 0..4usize {
            let (connect, rounds) = (&connect, &rounds);
            scope.spawn(move || {
                let mut children: Vec<Context> =
                    (0..CHILDREN / 4 + 1).map(|i| connect(worker * 13 + i)).collect();
                let mut round = 0;
                while Instant::now() < until {
                    let which = round % children.len();
                    let child = &children[which];
                    let calls: Vec<_> = (0..20).map(|i| child.call::<i64>("operator:add", (i, 1))).collect();
                    for (i, call) in (0i64..).zip(calls) {
                        assert_eq!(call.wait().unwrap(), i + 1);
                    }
                    let items: Vec<i64> =
                        child.prepare("work:numbers").args((40,)).stream().collect::<Result<_, _>>().unwrap();
                    assert_eq!(items.len(), 40);
                    drop(child.prepare("work:numbers").args((1000,)).stream::<i64>().next());
                    let part = round % 20;
                    assert_eq!(child.call::<usize>(&format!("part{part}:get"), ()).wait().unwrap(), part);
                    if round % 7 == 0 {
                        let output = child.command("echo").arg("hello").output().unwrap();
                        assert_eq!(output.stdout, b"hello\n");
                    }
                    if round % 5 == 0 {
                        children[which] = connect(worker * 13 + which);
                    }
                    round += 1;
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        while Instant::now() < until {
            std::thread::sleep(Duration::from_millis(250));
            samples.push((memory(), descriptors()));
        }
    });
    let part = samples.len() / 4;
    let most = |samples: &[(u64, usize)]| {
        (samples.iter().map(|s| s.0).max().unwrap(), samples.iter().map(|s| s.1).max().unwrap())
    };
    let (early, late) = (most(&samples[part..2 * part]), most(&samples[3 * part..]));
    println!(
        "{} rounds in {seconds} s; memory {} KiB, then {} KiB; descriptors {}, then {}",
        rounds.load(Ordering::Relaxed),
        early.0,
        late.0,
        early.1,
        late.1
    );
    assert!(late.0 < early.0 + early.0 / 5 + (4 << 10), "memory grows: {early:?} {late:?}");
    assert!(late.1 <= early.1 + 12, "descriptors grow: {early:?} {late:?}");
}
