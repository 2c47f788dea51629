//! Commands beside a child: their streams, their ends, and what is left of them.
#![allow(missing_docs, clippy::unwrap_used)]

use econtext::process::ProcessEvent;
use econtext::{Broker, Context, Error, Local, Python};
use econtext_testkit::{processes, pythons};
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

fn connect(broker: &Broker, python: &pythons::Python) -> Context {
    Context::builder("child").python(Python::Path(python.to_arg())).connect(broker, Local).unwrap()
}

fn each(test: impl Fn(&Context, &pythons::Python)) {
    let broker = Broker::new().unwrap();
    for python in pythons::all() {
        println!("Python {}", python.minor);
        test(&connect(&broker, &python), &python);
    }
}

/// A number that no other process of the machine has on its command line.
fn mark(number: u32) -> String {
    format!("{number}{}", std::process::id())
}

fn none_left(mark: &str) {
    processes::wait_until("no process is left", || processes::with_text(mark).is_empty());
}

#[test]
fn output_status_and_signal_come_back_apart() {
    each(|child, _| {
        let output = child.shell("echo out; echo err >&2; exit 3").output().unwrap();
        assert_eq!((&*output.stdout, &*output.stderr), (&b"out\n"[..], &b"err\n"[..]));
        assert_eq!(output.status.code, Some(3));
        let output = child.shell("kill -9 $$").output().unwrap();
        assert_eq!((output.status.code, output.status.signal), (None, Some(9)));
        assert!(child.command("true").status().unwrap().success());
        // Bytes are bytes, in arguments and in output.
        let odd = std::ffi::OsStr::from_bytes(b"\xff'\" $x\n*");
        let output = child.command("printf").arg("%s").arg(odd).output().unwrap();
        assert_eq!(output.stdout, b"\xff'\" $x\n*");
    });
}

#[test]
fn the_process_gets_the_surroundings_asked_for() {
    each(|child, _| {
        let output = child
            .shell("pwd; umask; echo $A-$HOME-$$; ulimit -n; nice; ps -o sid= -p $$ || echo $$")
            .env("A", "b c")
            .env_remove("HOME")
            .current_dir("/tmp")
            .umask(0o027)
            .nice(5)
            .rlimit("nofile", Some(77))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let pid = lines[2].rsplit('-').next().unwrap();
        assert_eq!(lines[..2], ["/tmp", "0027"], "{output:?}");
        assert_eq!(
            (lines[2].split(&format!("-{pid}")).next().unwrap(), lines[3], lines[4]),
            ("b c-", "77", "5")
        );
        assert_eq!(lines[5], pid, "a session of its own");
        // Python ignores SIGPIPE; what it starts does not.
        let output = child.shell("yes | head -1; echo ${PIPESTATUS:-x}").output().unwrap();
        assert!(output.stdout.starts_with(b"y\n") && output.stderr.is_empty(), "{output:?}");
    });
}

#[test]
fn what_cannot_be_started_says_why() {
    each(|child, _| {
        match child.command("/nonexistent/program").output() {
            Err(Error::NotStarted { errno: 2, program, .. }) => assert_eq!(program, "/nonexistent/program"),
            other => panic!("{other:?}"),
        }
        let error = child.command("true").current_dir("/nonexistent").output().unwrap_err();
        assert!(matches!(error, Error::NotStarted { errno: 2, .. }), "{error:?}");
        let error = child.command("/etc/passwd").output().unwrap_err();
        assert!(error.to_string().contains("Permission denied"), "{error}");
        assert!(child.command("true").status().unwrap().success());
    });
}

#[test]
fn input_streams_in_and_its_end_is_seen() {
    each(|child, _| {
        let mut streams = child.command("sort").spawn().unwrap();
        streams.process.write_all(b"b\na\n").unwrap();
        streams.process.end_input();
        let mut sorted = String::new();
        streams.stdout.read_to_string(&mut sorted).unwrap();
        assert_eq!(sorted, "a\nb\n");
        assert!(streams.process.wait().unwrap().success());
        // A program that does not read its input does not hold anybody up.
        let process = child.command("true").spawn_with(|_| {}).unwrap();
        let mut sent = 0;
        while process.write(&[b'x'; 1 << 16]).unwrap() && sent < 1000 {
            sent += 1;
        }
        assert!(sent < 1000);
        assert!(process.wait().unwrap().success());
    });
}

#[test]
fn megabytes_go_through_both_ways_and_calls_are_answered_meanwhile() {
    each(|child, _| {
        const SIZE: usize = 32 << 20;
        let Ok(mut streams) = child.command("cat").spawn() else { panic!() };
        let writer = streams.process.clone();
        let thread = std::thread::spawn(move || {
            let block: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
            for _ in 0..SIZE >> 20 {
                assert!(writer.write(&block).unwrap());
            }
            writer.end_input();
        });
        let mut all = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        while all.len() < SIZE / 2 {
            let n = streams.stdout.read(&mut buffer).unwrap();
            all.extend_from_slice(&buffer[..n]);
        }
        child.call::<i64>("os:getpid", ()).wait().unwrap();
        streams.stdout.read_to_end(&mut all).unwrap();
        thread.join().unwrap();
        assert_eq!(all.len(), SIZE);
        assert!(all.iter().zip((0..=255).cycle()).all(|(a, b): (&u8, u8)| *a == b));
    });
}

#[test]
fn a_call_that_runs_does_not_hold_processes_up() {
    each(|child, _| {
        let call = child.call::<()>("time:sleep", (3600,));
        let start = Instant::now();
        assert_eq!(child.command("echo").arg("hi").output().unwrap().stdout, b"hi\n");
        assert!(start.elapsed() < processes::HANGS);
        call.cancel();
        assert!(call.wait().is_err());
    });
}

#[test]
fn a_terminal_has_a_size_and_an_interrupt_character() {
    each(|child, python| {
        if python.chroot {
            return; // it has no /dev/pts
        }
        let (sender, events) = mpsc::channel();
        let process = child
            .shell("stty size; tty; read line; echo got $line; trap 'echo int; exit 7' INT; echo ready; sleep 60 & wait")
            .terminal(11, 77)
            .spawn_with(move |event| drop(sender.send(event)))
            .unwrap();
        let mut text = String::new();
        let until = |text: &mut String, wanted: &str| {
            while !text.contains(wanted) {
                match events.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| panic!("{text}")) {
                    ProcessEvent::Output { fd: 1, data } => text.push_str(&String::from_utf8_lossy(&data)),
                    ProcessEvent::Ended(status) => panic!("{status:?} {text}"),
                    _ => {}
                }
            }
        };
        until(&mut text, "/dev/pts");
        assert!(text.starts_with("11 77\r\n"), "{text}");
        process.write(b"hello\n").unwrap();
        until(&mut text, "ready");
        assert!(text.contains("got hello"), "{text}");
        process.write(b"\x03").unwrap();
        assert_eq!(process.wait().unwrap().code, Some(7), "{text}");
    });
}

#[test]
fn what_is_dropped_or_killed_or_closed_leaves_nothing_behind() {
    each(|child, python| {
        let line = |mark: &str| format!("sleep {mark} & sleep {mark} & echo up; wait");
        let start = |mark: &str| {
            let mut streams = child.shell(line(mark)).spawn().unwrap();
            let mut up = [0; 3];
            streams.stdout.read_exact(&mut up).unwrap();
            streams
        };
        let version: u32 = python.minor.replace('.', "").parse().unwrap();
        let marks: Vec<String> = (0..3).map(|n| mark(100 + 3 * version + n)).collect();
        drop(start(&marks[0]));
        none_left(&marks[0]);
        // One that does not heed SIGTERM.
        let mut stubborn = child
            .shell(format!("trap '' TERM; echo up; while true; do sleep 0.{}; done", marks[1]))
            .spawn()
            .unwrap();
        stubborn.stdout.read_exact(&mut [0; 3]).unwrap();
        stubborn.process.kill();
        assert_eq!(stubborn.process.wait().unwrap().signal, Some(9));
        none_left(&marks[1]);
        let streams = start(&marks[2]);
        child.shutdown(Duration::ZERO);
        none_left(&marks[2]);
        assert!(streams.process.wait().is_err());
    });
}

#[test]
fn a_process_that_leaves_the_pipe_to_others_has_ended_all_the_same() {
    each(|child, python| {
        let version: u32 = python.minor.replace('.', "").parse().unwrap();
        let mark = mark(5000 + version);
        let start = Instant::now();
        let output = child.shell(format!("sleep {mark} & echo done")).output().unwrap();
        assert_eq!(output.stdout, b"done\n");
        assert!(start.elapsed() < processes::HANGS);
        // While it becomes another program, a process shows no command line.
        processes::wait_until("what was left runs on", || !processes::with_text(&mark).is_empty());
        child.shutdown(Duration::from_secs(1));
        none_left(&mark);
    });
}

#[test]
fn many_processes_share_one_connection() {
    each(|child, _| {
        let running: Vec<_> =
            (0..50).map(|n| child.shell(format!("head -c 100000 /dev/zero; exit {n}")).start()).collect();
        for (n, running) in running.into_iter().enumerate() {
            let output = running.wait().unwrap();
            assert_eq!((output.stdout.len(), output.status.code), (100_000, Some(n as u8)));
        }
    });
}

#[test]
fn a_child_that_is_gone_ends_its_processes_with_its_error() {
    let broker = Broker::new().unwrap();
    let child = connect(&broker, &pythons::any());
    let seen = Arc::new(AtomicUsize::new(0));
    let ends = seen.clone();
    let process = child
        .command("sleep")
        .arg("3600")
        .spawn_with(move |event| {
            if let ProcessEvent::Ended(Err(_)) = event {
                ends.fetch_add(1, Ordering::Relaxed);
            }
        })
        .unwrap();
    drop(child.call::<()>("os:_exit", (5,)));
    let error = process.wait().unwrap_err();
    assert!(error.to_string().contains("status 5"), "{error}");
    processes::wait_until("the callback was told, once", || seen.load(Ordering::Relaxed) == 1);
    assert!(child.command("true").output().is_err());
}

#[test]
fn a_child_that_is_killed_takes_its_processes_along() {
    use rustix::process::{Pid, Signal, kill_process};
    let version = |python: &pythons::Python| python.minor.replace('.', "").parse::<u32>().unwrap();
    let broker = Broker::new().unwrap();
    for python in pythons::all() {
        println!("Python {}", python.minor);
        for (n, signal) in [Signal::TERM, Signal::KILL, Signal::SEGV].into_iter().enumerate() {
            let mark = mark(7000 + 4 * version(&python) + u32::try_from(n).unwrap());
            let child = connect(&broker, &python);
            let process = child.shell(format!("sleep {mark} & sleep {mark}")).spawn_with(|_| {}).unwrap();
            processes::wait_until("it runs", || processes::with_text(&mark).len() > 2);
            let pid = i32::try_from(child.call::<i64>("os:getpid", ()).wait().unwrap()).unwrap();
            kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
            none_left(&mark);
            assert!(process.wait().is_err());
        }
    }
}

#[test]
fn a_signal_right_after_the_start_is_not_lost() {
    each(|child, _| {
        for _ in 0..10 {
            let process = child.command("sleep").arg("3600").spawn_with(|_| {}).unwrap();
            process.signal(15).unwrap();
            assert_eq!(process.wait().unwrap().signal, Some(15));
        }
        let process = child.command("sleep").arg("3600").spawn_with(|_| {}).unwrap();
        process.kill();
        assert_eq!(process.wait().unwrap().signal, Some(15));
    });
}

#[test]
fn output_that_nobody_reads_is_let_go_with_its_process() {
    each(|child, python| {
        if python.chroot {
            return; // it has no /proc
        }
        let files = || child.call::<Vec<String>>("os:listdir", ("/proc/self/fd",)).wait().unwrap().len();
        child.command("true").status().unwrap();
        let before = files();
        for _ in 0..20 {
            let streams = child.command("head").args(["-c", "400000", "/dev/zero"]).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(20));
            drop(streams);
        }
        for _ in 0..5 {
            assert!(child.command("/nonexistent").output().is_err());
        }
        processes::wait_until("all files are closed", || files() <= before);
    });
}
