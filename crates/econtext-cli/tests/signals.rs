//! Whatever signals the command was started with ignored or blocked, it works, ends and tells how things ended.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Ran, econtext};
use econtext_testkit::files::tree;
use econtext_testkit::pythons;
use econtext_testkit::sshd::Sshd;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Ignores and blocks what a program can, and becomes another program.
const HOSTILE: &str = "
import os, signal, sys
for name in 'SIGCHLD', 'SIGPIPE', 'SIGINT', 'SIGTERM':
    signal.signal(getattr(signal, name), signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGALRM])
os.execv(sys.argv[1], sys.argv[1:])
";

fn hostile(args: &[&str]) -> Command {
    let mut command = Command::new(pythons::any().path);
    let inner = econtext();
    command.args(["-c", HOSTILE]).arg(inner.get_program()).args(args);
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the command, which is to end by itself.
fn run(args: &[&str]) -> Ran {
    let mut child = hostile(args).spawn().unwrap();
    let until = Instant::now() + econtext_testkit::processes::HANGS;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > until {
            child.kill().unwrap();
            panic!("{args:?} does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap().into()
}

fn every_verb(target: &[&str]) {
    let with = |verb: &[&'static str], rest: &[&str]| {
        let words: Vec<&str> =
            verb.iter().copied().chain(target.iter().copied()).chain(rest.iter().copied()).collect();
        let ran = run(&words);
        assert!(!ran.stderr.contains("unknown status"), "{words:?}: {ran:?}");
        ran
    };
    assert_eq!(with(&["call"], &["operator:add", "1", "2"]).stdout, "3\n");
    assert_eq!(with(&["exec", "-S"], &["--", "sh", "-c", "exit 7"]).status, 7);
    // Programs there find the signals as they usually are, and can wait for their own.
    let code = "import subprocess, signal\n\
                assert subprocess.call(['sh', '-c', 'exit 5']) == 5\n\
                assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL\n";
    let ran = with(&["run", "-S"], &["-c", code]);
    assert_eq!(ran.status, 0, "{ran:?}");
    let shown = with(&["exec"], &["--", "grep", "^Sig[BI]", "/proc/self/status"]).stdout;
    let sets: Vec<u64> = shown
        .split_whitespace()
        .skip(1)
        .step_by(2)
        .map(|set| u64::from_str_radix(set, 16).unwrap())
        .collect();
    // The 31 standard signals; what is beyond belongs to C libraries. SIGHUP and SIGQUIT are ignored on purpose, by nohup and by
    // a shell's `&`, where these tests are run so.
    let standard = 0x7fff_ffff & !0b101;
    assert_eq!(sets.iter().map(|set| set & standard).collect::<Vec<_>>(), [0, 0], "{shown}");
    assert_eq!(with(&["ping"], &[]).status, 0);
    let here = tree(&[("a", "text")]);
    let there = here.path().join("there");
    let (from, to) = (here.path().join("a"), there.display().to_string());
    assert_eq!(with(&["put"], &[from.to_str().unwrap(), &to]).status, 0);
    assert_eq!(with(&["get"], &[&to, here.path().join("back").to_str().unwrap()]).status, 0);
}

#[test]
fn every_verb_works_on_a_local_child() {
    every_verb(&["local:"]);
    assert_eq!(run(&["exec", "--raw", "-S", "local:", "--", "sh", "-c", "exit 7"]).status, 7);
}

#[test]
fn every_verb_works_over_ssh() {
    let Some(sshd) = Sshd::start() else { return };
    let options = sshd.key_options();
    let mut words: Vec<&str> = options.iter().map(String::as_str).collect();
    words.push("root@127.0.0.1");
    every_verb(&words);
}

#[test]
fn a_termination_ends_it() {
    let mut child = hostile(&["exec", "local:", "--", "sh", "-c", "echo up; sleep 600"]).spawn().unwrap();
    let mut up = [0; 3];
    child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(143));
}
