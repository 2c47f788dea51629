//! A proxy that does to a session whatever a link can do: at every position, in both directions. What comes of it is right or
//! a clean error; never a wrong value, a hang, or a process that is left.
//!
//! This test has no harness: started with `relay` it is the proxy itself.
#![allow(missing_docs, clippy::unwrap_used)]

use econtext::transport::Argv;
use econtext::{Broker, Context, Error, ErrorKind, PathFinder, Python, Value};
use econtext_testkit::{processes, pythons};
use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// MAC and length of a frame.
const HEADER: usize = 24;

/// Something that happens to a direction of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    None,
    /// Every byte by itself from here on.
    Split,
    /// Nothing for a while.
    Delay,
    /// The end.
    Truncate,
    /// One bit is another.
    Flip,
    /// A byte is missing.
    Lose,
    /// A byte comes twice.
    Double,
    /// A frame comes twice.
    Repeat,
    /// A frame is missing.
    Drop,
    /// A frame comes after the next.
    Reorder,
    /// A frame that neither side made.
    Inject,
}

const OF_BYTES: [Fault; 6] =
    [Fault::Split, Fault::Delay, Fault::Truncate, Fault::Flip, Fault::Lose, Fault::Double];
const OF_FRAMES: [Fault; 4] = [Fault::Repeat, Fault::Drop, Fault::Reorder, Fault::Inject];

fn named(word: &str) -> Fault {
    let known = OF_BYTES.into_iter().chain(OF_FRAMES);
    known.into_iter().find(|fault| format!("{fault:?}") == word).unwrap_or(Fault::None)
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("relay") => {
            relay(&args[2..]);
            ExitCode::SUCCESS
        }
        // The questions of tools that look for tests.
        Some("--list") => ExitCode::SUCCESS,
        Some(filter) if !filter.starts_with('-') && !"faults".contains(filter) => ExitCode::SUCCESS,
        _ => {
            every_fault_at_every_position();
            ExitCode::SUCCESS
        }
    }
}

// -- the proxy: relay DIRECTION FAULT POSITION STATS COMMAND...

fn relay(args: &[String]) {
    let (direction, fault, position) = (args[0].as_str(), named(&args[1]), args[2].parse().unwrap());
    let mut child =
        Command::new(&args[4]).args(&args[5..]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut up = Direction::new(if direction == "up" { fault } else { Fault::None }, position, true);
    let mut down = Direction::new(if direction == "down" { fault } else { Fault::None }, position, false);
    let stats = args[3].clone();
    let copy_up = std::thread::spawn(move || {
        up.copy(std::io::stdin(), to);
        up
    });
    down.copy(from, std::io::stdout());
    // The reader behind us is to see the end, although the other direction may still be open.
    let _ = rustix::stdio::dup2_stdout(std::fs::File::open("/dev/null").unwrap());
    let status = child.wait().unwrap();
    if stats != "-" {
        let up = copy_up.join().unwrap();
        std::fs::write(stats, format!("{} {} {} {}", up.seen, up.frames, down.seen, down.frames)).unwrap();
    }
    std::process::exit(status.code().unwrap_or(1));
}

/// One direction, cut into what comes before the frames, and frames.
struct Direction {
    fault: Fault,
    /// A byte of the direction, or a frame of it.
    position: usize,
    seen: usize,
    frames: usize,
    /// The payload, or the marker, is not over yet.
    opening: bool,
    is_up: bool,
    pending: Vec<u8>,
    held: VecDeque<Vec<u8>>,
    split: bool,
}

impl Direction {
    fn new(fault: Fault, position: usize, is_up: bool) -> Self {
        let (pending, held) = (Vec::new(), VecDeque::new());
        Direction { fault, position, seen: 0, frames: 0, opening: true, is_up, pending, held, split: false }
    }

    fn copy(&mut self, mut from: impl Read, mut to: impl Write) {
        let mut buffer = [0; 65536];
        loop {
            let n = match from.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(n) => n,
            };
            let written = if OF_FRAMES.contains(&self.fault) {
                self.pending.extend_from_slice(&buffer[..n]);
                self.whole_frames(&mut to)
            } else {
                self.bytes(&buffer[..n], &mut to)
            };
            if written.is_none() || to.flush().is_err() {
                return;
            }
        }
    }

    fn bytes(&mut self, data: &[u8], to: &mut impl Write) -> Option<()> {
        let hit = self.position.checked_sub(self.seen).filter(|at| *at < data.len());
        self.seen += data.len();
        let Some(at) = hit else { return self.put(data, to) };
        self.put(&data[..at], to)?;
        let rest = &data[at..];
        match self.fault {
            Fault::Split => {
                self.split = true;
                self.put(rest, to)
            }
            Fault::Delay => {
                to.flush().ok()?;
                std::thread::sleep(Duration::from_millis(30));
                self.put(rest, to)
            }
            Fault::Truncate => None,
            Fault::Flip => {
                self.put(&[rest[0] ^ 1 << (at % 8)], to)?;
                self.put(&rest[1..], to)
            }
            Fault::Lose => self.put(&rest[1..], to),
            Fault::Double => {
                self.put(&rest[..1], to)?;
                self.put(rest, to)
            }
            _ => self.put(rest, to),
        }
    }

    fn put(&mut self, data: &[u8], to: &mut impl Write) -> Option<()> {
        if !self.split {
            return to.write_all(data).ok();
        }
        for byte in data {
            to.write_all(&[*byte]).ok()?;
            to.flush().ok()?;
        }
        Some(())
    }

    /// Writes what is whole of the pending bytes, a frame at a time.
    fn whole_frames(&mut self, to: &mut impl Write) -> Option<()> {
        loop {
            let size = match self.opening {
                // Five digits, and so many bytes; or the marker.
                true if self.is_up => {
                    let digits = self.pending.get(..5).and_then(|d| std::str::from_utf8(d).ok());
                    digits.and_then(|d| d.parse::<usize>().ok()).map(|n| n + 5)
                }
                true => Some(3),
                false => self.pending.get(HEADER - 4..HEADER).map(|length| {
                    HEADER + usize::try_from(u32::from_be_bytes(length.try_into().unwrap())).unwrap()
                }),
            };
            let Some(size) = size.filter(|size| *size <= self.pending.len()) else { return Some(()) };
            let frame: Vec<u8> = self.pending.drain(..size).collect();
            self.seen += size;
            if std::mem::take(&mut self.opening) {
                to.write_all(&frame).ok()?;
                continue;
            }
            let hit = self.frames == self.position;
            self.frames += 1;
            match self.fault {
                Fault::Repeat if hit => {
                    to.write_all(&frame).ok()?;
                    to.write_all(&frame).ok()?;
                }
                Fault::Drop if hit => {}
                Fault::Reorder if hit => {
                    self.held.push_back(frame);
                    continue;
                }
                Fault::Inject if hit => {
                    // As long as the next, with the MAC of another.
                    let mut forged = frame.clone();
                    forged.iter_mut().skip(HEADER).for_each(|byte| *byte = byte.wrapping_add(1));
                    to.write_all(&forged).ok()?;
                    to.write_all(&frame).ok()?;
                }
                _ => to.write_all(&frame).ok()?,
            }
            if let Some(held) = self.held.pop_front() {
                to.write_all(&held).ok()?;
            }
        }
    }
}

// -- the cases

const MODULE: &str = "def echo(x):\n    return x\n\ndef log():\n    import logging\n    logging.warning('careful')\n    print('printed')\n    return 'logged'\n";

/// The outcome of a case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Came {
    Right,
    Failed(ErrorKind),
}

struct Case {
    up: bool,
    fault: Fault,
    position: usize,
}

/// A whole session: connecting, calls, an import, output, an end. What is not right and no error is a panic.
fn session(case: &Case, python: &str, mark: &str, stats: &str) -> Came {
    let relay = std::env::current_exe().unwrap().display().to_string();
    let direction = if case.up { "up" } else { "down" };
    let (fault, position) = (format!("{:?}", case.fault), case.position.to_string());
    let argv = [relay.as_str(), "relay", direction, &fault, &position, stats];
    let broker = Broker::new().unwrap();
    // A broken session need not be waited for as long as a slow one.
    let slow = matches!(case.fault, Fault::None | Fault::Split | Fault::Delay | Fault::Reorder);
    let timeout = Duration::from_millis(if slow { 15_000 } else { 900 });
    let go = || -> Result<(), Error> {
        let child = Context::builder(format!("{mark}-{direction}-{fault}-{position}"))
            .python(Python::Path(python.to_owned()))
            .finder(Arc::new(PathFinder::new().source("served", MODULE)))
            .connect_timeout(timeout)
            .connect(&broker, Argv(argv.map(str::to_owned).to_vec()))?;
        let call = |function: &str| child.prepare(function).timeout(timeout);
        let pid = call("os:getpid").start::<i64>();
        let echoes: Vec<_> =
            (0..4).map(|i| (i, call("served:echo").args((vec![i; 9],)).start::<Vec<i64>>())).collect();
        let logged = call("served:log").start::<String>();
        assert!(pid.wait()? > 1);
        for (i, echo) in echoes {
            assert_eq!(echo.wait()?, vec![i; 9], "a wrong value: {direction} {fault} {position}");
        }
        assert_eq!(logged.wait()?, "logged");
        let big = Value::Bytes(vec![7; 3000]);
        let back: Value = call("served:echo").args((&big,)).start().wait()?;
        assert_eq!(back, big, "a wrong value: {direction} {fault} {position}");
        Ok(())
    };
    match go() {
        Ok(()) => Came::Right,
        Err(error) => Came::Failed(error.kind()),
    }
}

fn every_fault_at_every_position() {
    let python = pythons::any().path.display().to_string();
    let mark = format!("faults{}", std::process::id());
    let directory = tempfile::tempdir().unwrap();
    let stats = directory.path().join("stats").display().to_string();
    let whole = session(&Case { up: true, fault: Fault::None, position: 0 }, &python, &mark, &stats);
    assert_eq!(whole, Came::Right, "without a fault all is right");
    processes::wait_until("the relay has counted", || std::path::Path::new(&stats).exists());
    let frames = Case { up: true, fault: Fault::Reorder, position: usize::MAX };
    let frame_stats = directory.path().join("frames").display().to_string();
    assert_eq!(session(&frames, &python, &mark, &frame_stats), Came::Right);
    let counts = |path: &str| -> Vec<usize> {
        processes::wait_until("the relay has counted", || {
            std::fs::read_to_string(path).is_ok_and(|text| !text.is_empty())
        });
        std::fs::read_to_string(path).unwrap().split(' ').map(|n| n.parse().unwrap()).collect()
    };
    let (up_bytes, down_bytes) = (counts(&stats)[0], counts(&stats)[2]);
    // One direction was cut into frames; the other has a number of frames that is no more than its bytes over a header.
    let up_frames = counts(&frame_stats)[1];
    let down_frames = 20;

    // Every position would be ten thousand sessions; what is a payload in zlib is stepped through, what follows is not.
    let every: usize = std::env::var("ECONTEXT_FAULT_STEP").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let payload = up_bytes.saturating_sub(3800);
    let mut cases = Vec::new();
    for fault in OF_BYTES {
        let up = (0..payload).step_by(311 * every).chain((payload..up_bytes).step_by(61 * every));
        cases.extend(up.map(|position| Case { up: true, fault, position }));
        let down = (0..down_bytes.min(900)).step_by(13 * every).chain((900..down_bytes).step_by(97 * every));
        cases.extend(down.map(|position| Case { up: false, fault, position }));
    }
    for fault in OF_FRAMES {
        cases.extend((0..up_frames).map(|position| Case { up: true, fault, position }));
        cases.extend((0..down_frames).map(|position| Case { up: false, fault, position }));
    }

    let outcomes: Mutex<BTreeMap<(Fault, Came), usize>> = Mutex::default();
    let next = AtomicUsize::new(0);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let begun = Instant::now();
                    let came = session(case, &python, &mark, "-");
                    assert!(begun.elapsed() < processes::HANGS, "it hung: {case:?}");
                    // A delay changes no outcome.
                    if matches!(case.fault, Fault::Split | Fault::Delay) {
                        assert_eq!(came, Came::Right, "{case:?}");
                    }
                    *outcomes.lock().unwrap().entry((case.fault, came)).or_default() += 1;
                }
            });
        }
    });
    println!(
        "{} cases of faults in {:.0} s, none wrong, none hung:",
        cases.len(),
        started.elapsed().as_secs_f64()
    );
    for ((fault, came), n) in outcomes.lock().unwrap().iter() {
        let came = match came {
            Came::Right => "right".to_owned(),
            Came::Failed(kind) => kind.to_string(),
        };
        println!("{n:>6}  {fault:?}: {came}");
    }
    processes::wait_until("no process is left", || processes::with_text(&mark).is_empty());
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?} at {}", if self.up { "up" } else { "down" }, self.fault, self.position)
    }
}
