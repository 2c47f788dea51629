//! `econtext exec`, `put` and `get`: beside children, behind ssh, hops and other users, and without a Python.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{econtext, run, run_with_input};
use econtext_testkit::files::tree;
use econtext_testkit::sshd::{Sshd, User};
use econtext_testkit::{processes, pythons, tools};

fn none_left(mark: &str) {
    processes::wait_until("no process is left", || processes::with_text(mark).is_empty());
}

#[test]
fn output_and_status_are_the_commands_own() {
    for python in pythons::all() {
        let arg = python.to_arg();
        let ran =
            run(["exec", "--python", &arg, "local:", "--", "sh", "-c", "echo out; echo err >&2; exit 3"]);
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str(), ran.status), ("out\n", "err\n", 5), "{ran:?}");
        let ran = run(["exec", "-S", "--python", &arg, "local:", "--", "sh", "-c", "exit 3"]);
        assert_eq!(ran.status, 3);
    }
    let ran = run(["exec", "--jsonl", "local:", "--", "sh", "-c", "echo out; kill -9 $$"]);
    assert_eq!((ran.event("result")["kind"].as_str(), ran.status), (Some("signal"), 3), "{ran:?}");
    assert_eq!((ran.event("result")["signal"].as_i64(), ran.data("stdout")), (Some(9), "out\n".into()));
    let ran = run(["exec", "local:", "--", "/nonexistent/tool"]);
    assert!(ran.status == 5 && ran.stderr.contains("/nonexistent/tool: No such file"), "{ran:?}");
    // Arguments are as given, whatever is in them.
    let ran = run(["exec", "local:", "--", "printf", "%s|", "a b", "$HOME", "'\"", "*", "--", "-v"]);
    assert_eq!(ran.stdout, "a b|$HOME|'\"|*|--|-v|");
    assert_eq!(run(["exec", "local:"]).status, 2);
}

#[test]
fn a_line_for_the_shell_and_surroundings() {
    let ran = run([
        "exec",
        "--shell",
        "--env",
        "A=b c",
        "--chdir",
        "/tmp",
        "--nice",
        "3",
        "--rlimit",
        "nofile=99",
        "local:",
        "pwd; echo $A | tr b x; nice; ulimit -n",
    ]);
    assert_eq!(ran.stdout, "/tmp\nx c\n3\n99\n", "{ran:?}");
    let ran = run([
        "run",
        "--env",
        "A=é",
        "--chdir",
        "/tmp",
        "local:",
        "-c",
        "import os; (os.getcwd(), os.environ['A'])",
    ]);
    assert_eq!(ran.stdout, "[\"/tmp\",\"é\"]\n", "{ran:?}");
    let ran = run(["exec", "--chdir", "/nonexistent", "local:", "--", "echo", "ran"]);
    assert!(ran.status == 5 && ran.stdout.is_empty() && ran.stderr.contains("/nonexistent"), "{ran:?}");
    for bad in [["--env", "A"], ["--rlimit", "nofile=x"], ["--rlimit", "=3"]] {
        assert_eq!(run(["exec", bad[0], bad[1], "local:", "--", "true"]).status, 2, "{bad:?}");
    }
}

#[test]
fn input_streams_to_one_host_and_is_copied_to_several() {
    let input: Vec<u8> = (0..=255).cycle().take(3 << 20).collect();
    let ran = run_with_input(["exec", "local:", "--", "md5sum"], &input);
    let sum = ran.stdout.clone();
    assert!(sum.len() > 32 && ran.status == 0, "{ran:?}");
    let ran = run_with_input(["exec", "-f", "2", "local:a,local:b,local:c", "--", "md5sum"], &input);
    let mut lines: Vec<&str> = ran.stdout.lines().collect();
    lines.sort_unstable();
    let expected: Vec<String> =
        ["a", "b", "c"].iter().map(|n| format!("local:{n}: {}", sum.trim_end())).collect();
    assert_eq!(lines, expected, "{ran:?}");
    // A command that reads nothing ends all the same.
    assert_eq!(run_with_input(["exec", "local:", "--", "true"], &input).status, 0);
}

#[test]
fn a_command_may_have_a_terminal() {
    let ran = run(["exec", "--tty", "local:", "--", "sh", "-c", "test -t 0 && test -t 1 && stty size"]);
    assert_eq!(ran.stdout, "24 80\r\n", "{ran:?}");
    assert_eq!(run(["exec", "local:", "--", "test", "-t", "0"]).status, 5);
}

#[test]
fn a_timeout_or_a_closed_stdout_leaves_nothing_behind() {
    let mark = format!("71{}", std::process::id());
    let ran = run(["exec", "--timeout", "1", "--shell", "local:", &format!("sleep {mark} & sleep {mark}")]);
    assert_eq!(ran.status, 3, "{ran:?}");
    none_left(&mark);
    let mark = format!("72{}", std::process::id());
    let line = format!("sleep {mark} & while echo y; do :; done");
    let mut child = econtext()
        .args(["exec", "--shell", "local:", &line])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut some = [0; 100];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut some).unwrap();
    drop(child.stdout.take());
    child.wait().unwrap();
    none_left(&mark);
}

#[test]
fn without_a_python_there_the_transport_runs_the_command() {
    let Some(sshd) = Sshd::start() else { return };
    let mut args = vec!["exec".to_owned(), "--raw".into()];
    args.extend(sshd.key_options());
    let with = |more: &[&str]| {
        let args: Vec<String> = args.iter().cloned().chain(more.iter().map(|s| (*s).to_owned())).collect();
        args
    };
    let ran = run(with(&["root@127.0.0.1", "--", "sh", "-c", "echo \"$0\"; exit 3", "a 'b' $c"]));
    assert_eq!((ran.stdout.as_str(), ran.status), ("a 'b' $c\n", 5), "{ran:?}");
    let ran = run_with_input(with(&["root@127.0.0.1", "--", "cat"]), b"input");
    assert_eq!(ran.stdout, "input", "{ran:?}");
    let ran = run(["exec", "--raw", "--timeout", "1", "local:", "--", "sleep", "100"]);
    assert_eq!(ran.status, 3, "{ran:?}");
    let ran = run(["exec", "--raw", "-b", "local:", "--", "true"]);
    assert!(ran.status == 2 && ran.stderr.contains("--become"), "{ran:?}");
}

#[test]
fn through_a_bastion_and_sudo_a_timeout_ends_everything() {
    if !tools::has("sudo") {
        return;
    }
    let Some(sshd) = Sshd::start() else { return };
    let Some(user) = User::create("ectexec", "/bin/bash", "s3cret") else { return };
    let rule = "/etc/sudoers.d/econtext-exec";
    std::fs::write(rule, "ectexec ALL=(ALL) NOPASSWD: ALL\n").unwrap();
    let options = sshd.key_options();
    let mut args: Vec<&str> = vec!["exec", "-b", "--via", "root@127.0.0.1"];
    args.extend(options.iter().map(String::as_str));
    let target = format!("{}@127.0.0.1", user.name);
    let ran = run([&args[..], &["-q", &target, "--", "id", "-u"]].concat());
    assert_eq!((ran.stdout.as_str(), ran.status), ("0\n", 0), "{ran:?}");
    let mark = format!("73{}", std::process::id());
    let line = format!("sleep {mark} & sleep {mark}");
    let ran = run([&args[..], &["--timeout", "3", "--shell", &target, &line]].concat());
    assert_eq!(ran.status, 3, "{ran:?}");
    none_left(&mark);
    std::fs::remove_file(rule).unwrap();
    // Without it, sudo says why, and does not wait for a password.
    let ran = run([&args[..], &["--jsonl", &target, "--", "id", "-u"]].concat());
    assert_eq!((ran.event("result")["kind"].as_str(), ran.status), (Some("become"), 4), "{ran:?}");
    // With a password it is given once, from a command.
    std::fs::write(rule, "ectexec ALL=(ALL) ALL\n").unwrap();
    let ran = run([&args[..], &["-q", "--password-cmd", "echo s3cret", &target, "--", "id", "-u"]].concat());
    std::fs::remove_file(rule).unwrap();
    assert_eq!((ran.stdout.as_str(), ran.status), ("0\n", 0), "{ran:?}");
    assert!(!ran.stderr.contains("s3cret"));
}

#[test]
fn explain_shows_the_command_of_every_hop() {
    let ran = run(["explain", "exec", "-b", "--via", "bastion", "web01", "--", "id"]);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines[0], "web01: exec id");
    assert!(lines[1].starts_with("  by ssh ") && lines[1].contains(" bastion "), "{ran:?}");
    assert!(lines[2].starts_with("  and there by ssh ") && lines[2].contains(" web01 "), "{ran:?}");
    assert!(lines[3].starts_with("  and there by sh -c ") && lines[3].contains("sudo -u root -n"), "{ran:?}");
}

#[test]
fn files_go_to_every_host_and_come_back_under_its_name() {
    let here = tree(&[("src/a.txt", "a"), ("src/sub/b.txt", "b"), ("one.txt", "1")]);
    let there = tree(&[]);
    let path = |name: &str| here.path().join(name).display().to_string();
    let dest = format!("{}/", there.path().display());
    let ran = run(["put", "--jsonl", "local:", &path("src"), &path("one.txt"), &dest]);
    assert_eq!(ran.event("result")["value"]["files"], 3, "{ran:?}");
    assert_eq!(std::fs::read_to_string(there.path().join("src/sub/b.txt")).unwrap(), "b");
    let ran = run(["put", "local:", &path("one.txt"), &dest]);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str(), ran.status), ("", "", 0));
    let back = tree(&[]);
    let dir = back.path().display().to_string();
    let ran = run(["get", "local:a,local:b", &format!("{dest}src"), &dir]);
    assert_eq!(ran.status, 0, "{ran:?}");
    for host in ["local:a", "local:b"] {
        assert_eq!(std::fs::read_to_string(back.path().join(host).join("src/a.txt")).unwrap(), "a");
    }
    let ran = run(["put", "local:", &path("missing"), &dest]);
    assert!(ran.status == 2 && ran.stderr.contains("missing"), "{ran:?}");
    assert_eq!(run(["put", "local:", &path("one.txt")]).status, 2);
    let ran = run(["get", "local:", "/nonexistent/file", &dir]);
    assert!(ran.status == 5 && ran.stderr.contains("/nonexistent/file"), "{ran:?}");
}

#[test]
fn files_are_written_as_the_user_that_was_become() {
    let Some(user) = User::create("ectput", "/bin/sh", "s3cret") else { return };
    let here = tree(&[("a.txt", "a")]);
    let source = here.path().join("a.txt").display().to_string();
    let ran = run(["put", "-q", "-b=su", "--become-user", &user.name, "local:", &source, "~/copy.txt"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(user.home.join("copy.txt")).unwrap());
    assert_ne!(owner, 0);
}

#[test]
fn an_interrupt_or_kill_9_of_the_controller_ends_what_runs_behind_hops() {
    use rustix::process::{Pid, Signal, kill_process};
    if !tools::sudo_is_free() {
        return;
    }
    for (signal, status) in [(Signal::INT, Some(130)), (Signal::TERM, Some(143)), (Signal::KILL, None)] {
        let mark = format!("74{}{}", signal.as_raw(), std::process::id());
        let mut child = econtext()
            .args(["exec", "-q", "-b", "--via", "local:hop", "--via", "local:next", "--shell", "local:"])
            .arg(format!("sleep {mark} & sleep {mark}"))
            .spawn()
            .unwrap();
        processes::wait_until("it runs", || {
            processes::with_text(&mark).len() > 3 // the command here, the shell there and what it started
        });
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        let ended = child.wait().unwrap();
        assert_eq!(ended.code(), status, "{signal:?}");
        none_left(&mark);
    }
}
