//! Children and controllers that are killed at any moment leave nothing: no process, no zombie, no file descriptor.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::econtext;
use econtext::{Broker, Context, Local, Python};
use econtext_testkit::{processes, pythons};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A thousand in all, or as many as wanted.
fn rounds() -> u32 {
    std::env::var("ECONTEXT_TEST_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(1000) / 2
}

/// Numbers that look like chance and are the same every time.
fn moment(round: u32) -> Duration {
    let mixed = (round ^ 0x5bd1_e995).wrapping_mul(0x9e37_79b9) >> 12;
    Duration::from_micros(u64::from(mixed % 90_000))
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn zombies() -> usize {
    let own = std::process::id().to_string();
    let stat = |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path().join("stat")).ok();
    let of_ours = |stat: &String| {
        let behind = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect::<Vec<_>>());
        behind.is_some_and(|fields| fields[0] == "Z" && fields[1] == own)
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(stat).filter(of_ours).count()
}

#[test]
fn a_thousand_kills_leave_no_process_no_zombie_and_no_descriptor() {
    let mark = format!("kills{}", std::process::id());
    let python = pythons::any().path.display().to_string();
    let broker = Broker::new().unwrap();
    drop(broker.local("first").unwrap().call::<i64>("os:getpid", ()).wait());
    processes::wait_until("the first has ended", || zombies() == 0);
    let before = descriptors();

    // Children, from here.
    let next = AtomicU32::new(0);
    let all = rounds();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(round) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|r| *r < all) {
                    let child = Context::builder(format!("{mark}-child-{round}"))
                        .python(Python::Path(python.clone()))
                        .connect(&broker, Local)
                        .unwrap();
                    let pid = child.process_id().and_then(|p| i32::try_from(p).ok()).unwrap();
                    let first = child.call::<i64>("os:getpid", ());
                    let second = child.call::<()>("time:sleep", (0.02,));
                    std::thread::sleep(moment(round));
                    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                    }
                    // An answer or an error, and soon.
                    for came in [
                        first.wait_timeout(Duration::from_secs(20)).map(|r| r.map(drop)),
                        second.wait_timeout(Duration::from_secs(20)),
                    ] {
                        assert!(came.is_some(), "round {round}: a call hangs");
                    }
                }
            });
        }
    });
    processes::wait_until("no child is left", || processes::with_text(&mark).is_empty());
    processes::wait_until("no zombie is left", || zombies() == 0);
    processes::wait_until("no descriptor is left", || descriptors() <= before);

    // Controllers, with a child that has started something.
    let next = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(round) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|r| *r < all) {
                    let code = "import subprocess, sys; subprocess.call(['sleep', '600', sys.argv[1]])";
                    let code = code.replace("'600', sys.argv[1]", "'600'");
                    let mut controller = econtext()
                        .args([
                            "run",
                            "--python",
                            &python,
                            &format!("local:{mark}-{round}"),
                            "-c",
                            &code,
                            &mark,
                        ])
                        .env("KILLS_MARK", &mark)
                        .stdout(Stdio::null())
                        .stderr(Stdio::null())
                        .spawn()
                        .unwrap();
                    std::thread::sleep(moment(round) + Duration::from_millis(10));
                    controller.kill().unwrap();
                    controller.wait().unwrap();
                }
            });
        }
    });
    processes::wait_until("nothing of the controllers is left", || processes::with_text(&mark).is_empty());
    println!("{all} children and {all} controllers were killed");
}
