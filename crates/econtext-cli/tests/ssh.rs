//! Children behind a real sshd on loopback, and every way in which that can fail.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Ran, econtext, run};
use econtext_testkit::sshd::{Sshd, User, free_port};
use econtext_testkit::terminal::Terminal;
use econtext_testkit::{processes, pythons, tools};
use std::fs;

fn call(options: &[String], target: &str, more: &[&str]) -> Ran {
    let mut args: Vec<&str> = vec!["call", "--jsonl", "--timeout", "30"];
    args.extend(options.iter().map(String::as_str));
    args.extend(more);
    args.extend([target, "os:getuid"]);
    run(args)
}

fn kind(ran: &Ran) -> String {
    assert_eq!(ran.status, 4, "{ran:?}");
    ran.event("result")["kind"].as_str().unwrap_or_default().to_owned()
}

fn stderr(ran: &Ran) -> String {
    ran.event("result")["error"]["stderr"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn python_is_found_in_the_same_round_trip() {
    let Some(sshd) = Sshd::start() else { return };
    let mut args = vec!["call".to_owned(), "--jsonl".into()];
    args.extend(sshd.key_options());
    args.extend(["root@127.0.0.1".into(), "os:getuid".into()]);
    let ran = run(args);
    assert_eq!(ran.event("result")["value"], 0, "{ran:?}");
}

#[test]
fn the_right_password_logs_in_and_a_wrong_one_is_an_auth_error() {
    let Some(sshd) = Sshd::start() else { return };
    let Some(user) = User::create("econtext-pw", "/bin/sh", "correct horse") else { return };
    let target = format!("{}@127.0.0.1", user.name);
    let mut options = sshd.options();
    options.extend(["-o", "PubkeyAuthentication=no"].map(String::from));
    let ran = call(&options, &target, &["--password-cmd", "echo correct horse"]);
    assert!(ran.event("result")["value"].as_i64().is_some_and(|uid| uid > 0), "{ran:?}");
    let ran = call(&options, &target, &["--password-cmd", "echo wrong"]);
    assert_eq!(kind(&ran), "auth", "{ran:?}");
    assert!(!format!("{ran:?}").contains("wrong"), "the password is shown: {ran:?}");
    let ran = call(&options, &target, &[]);
    assert_eq!(kind(&ran), "auth", "{ran:?}");
    assert!(stderr(&ran).contains("Permission denied"), "{ran:?}");
}

#[test]
fn a_wrong_key_is_an_auth_error() {
    let Some(sshd) = Sshd::start() else { return };
    let mut options = sshd.options();
    options.extend(["--identity".into(), sshd.path("other_key").display().to_string()]);
    options.extend(["-o", "IdentitiesOnly=yes"].map(String::from));
    let ran = call(&options, "127.0.0.1", &[]);
    assert_eq!(kind(&ran), "auth", "{ran:?}");
}

#[test]
fn unknown_and_changed_host_keys_are_told_apart_from_all_else() {
    let Some(sshd) = Sshd::start() else { return };
    fs::write(sshd.path("known_hosts"), "").unwrap();
    let ran = call(&sshd.key_options(), "127.0.0.1", &[]);
    assert_eq!(kind(&ran), "host_key", "{ran:?}");
    let ran = call(&sshd.key_options(), "127.0.0.1", &["--password-cmd", "echo x"]);
    assert_eq!(kind(&ran), "host_key", "{ran:?}");
    let ran = call(&sshd.key_options(), "127.0.0.1", &["-o", "StrictHostKeyChecking=accept-new"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    sshd.know_host(&sshd.path("other_key.pub"));
    let ran = call(&sshd.key_options(), "127.0.0.1", &[]);
    assert_eq!(kind(&ran), "host_key", "{ran:?}");
    assert!(stderr(&ran).contains("IDENTIFICATION HAS CHANGED"), "{ran:?}");
}

#[test]
fn closed_ports_and_unknown_names_are_unreachable() {
    let Some(sshd) = Sshd::start() else { return };
    let mut options = sshd.key_options();
    let ran = call(&options, "no-such-host.invalid", &[]);
    assert_eq!(kind(&ran), "unreachable", "{ran:?}");
    assert!(stderr(&ran).contains("resolve"), "{ran:?}");
    options[3] = free_port().to_string();
    let ran = call(&options, "127.0.0.1", &[]);
    assert_eq!(kind(&ran), "unreachable", "{ran:?}");
    assert!(stderr(&ran).contains("refused"), "{ran:?}");
}

#[test]
fn no_python_there_is_said_so() {
    let Some(sshd) = Sshd::start() else { return };
    for shell in ["/bin/sh", "/bin/bash", "/bin/tcsh", "/usr/bin/fish"] {
        let Some(user) = User::create("econtext-nopy", shell, "x") else { continue };
        let target = format!("{}@127.0.0.1", user.name);
        let ran = call(&sshd.key_options(), &target, &["--python", "/nonexistent/python3"]);
        assert_eq!(kind(&ran), "no_python", "{shell} {ran:?}");
    }
}

#[test]
fn login_shells_of_every_kind_leave_the_command_alone() {
    let Some(sshd) = Sshd::start() else { return };
    for shell in
        ["/bin/sh", "/bin/bash", "/bin/tcsh", "/usr/bin/fish", "/usr/bin/zsh", "/usr/bin/ksh", "/bin/dash"]
    {
        let Some(user) = User::create("econtext-shell", shell, "x") else { continue };
        let target = format!("{}@127.0.0.1", user.name);
        // The Pythons of pyenv may be out of this account's sight.
        for python in ["python3", "auto"] {
            let mut args = vec!["call".to_owned(), "--jsonl".into(), "--timeout".into(), "30".into()];
            args.extend(["--python".into(), python.to_owned()]);
            args.extend(sshd.key_options());
            args.extend([target.clone(), "os:environ.get".into(), "SHELL".into()]);
            let ran = run(args);
            assert_eq!(ran.event("result")["value"], shell, "{ran:?}");
        }
    }
}

#[test]
fn noise_of_start_up_files_does_not_matter() {
    let Some(sshd) = Sshd::start() else { return };
    let Some(user) = User::create("econtext-noise", "/bin/bash", "x") else { return };
    let noise = "Welcome! $PATH OK\\npassword: \\001\\002";
    let bashrc = format!(
        "head -c 300000 /dev/zero | tr '\\0' x; echo; printf '{noise}'; echo OK; echo to stderr >&2\n"
    );
    // Debian's bash reads .bashrc under sshd.
    fs::write(user.home.join(".bashrc"), bashrc).unwrap();
    let ran = call(&sshd.key_options(), &format!("{}@127.0.0.1", user.name), &[]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.event("result")["value"].as_i64().is_some_and(|uid| uid > 0), "{ran:?}");
}

#[test]
fn many_hosts_make_the_highest_exit_status() {
    let Some(sshd) = Sshd::start() else { return };
    let python = pythons::any().to_arg();
    let mut args = vec!["call".to_owned(), "--jsonl".into(), "--python".into(), python];
    args.extend(sshd.key_options());
    args.extend(["local:,127.0.0.1,no-such-host.invalid".into(), "os:getuid".into()]);
    let ran = run(args);
    assert_eq!(ran.status, 4, "{ran:?}");
    let summary = ran.event("summary");
    assert_eq!((&summary["ok"], &summary["unreachable"]), (&2.into(), &1.into()), "{ran:?}");
}

#[test]
fn passwords_are_asked_for_on_the_terminal_and_not_shown() {
    if !tools::has("sudo") {
        return;
    }
    let Some(sshd) = Sshd::start() else { return };
    let Some(user) = User::create("econtext-ask", "/bin/sh", "correct horse") else { return };
    let rule = "/etc/sudoers.d/econtext-ask";
    fs::write(rule, "econtext-ask ALL=(ALL) ALL\n").unwrap();
    let target = format!("{}@127.0.0.1", user.name);
    let start = |flags: &[&str], options: Vec<String>| {
        let mut command = econtext();
        command.arg("call").args(flags).args(options).args([&target, "os:getuid"]);
        Terminal::start(&command, 200, 30)
    };
    let mut options = sshd.options();
    options.extend(["-o", "PubkeyAuthentication=no"].map(String::from));
    for (word, status) in [("correct horse", 0), ("wrong", 4)] {
        let mut terminal = start(&["-k"], options.clone());
        terminal.wait_for("ssh password: ", 0);
        terminal.type_keys(&format!("{word}\r"));
        let (ended, text) = terminal.finish();
        assert_eq!(ended.code(), Some(status), "{text}");
        assert!(!text.contains(word), "it is shown: {text}");
    }
    for (word, status) in [("correct horse", 0), ("wrong", 4)] {
        let mut terminal = start(&["-b", "-K"], sshd.key_options());
        terminal.wait_for("become password: ", 0);
        terminal.type_keys(&format!("{word}\r"));
        let (ended, text) = terminal.finish();
        assert_eq!(ended.code(), Some(status), "{text}");
        assert!(!text.contains(word), "it is shown: {text}");
        assert!(status != 0 || text.contains("\r\n0\r\n"), "{text}");
    }
    fs::remove_file(rule).unwrap();
}

#[test]
fn a_child_that_connects_back_needs_no_ssh_any_more() {
    let Some(sshd) = Sshd::start() else { return };
    // How many ssh clients of this port there are after a while, and whether all still works.
    let code = format!(
        "import glob, time\ntime.sleep(1.5)\nlines = []\nfor path in glob.glob('/proc/[0-9]*/cmdline'):\n    \
         try:\n        lines.append(open(path).read().split('\\0'))\n    except EnvironmentError:\n        pass\n\
         len([l for l in lines if l[0].endswith('ssh') and '{}' in l])",
        sshd.port
    );
    let go = |flags: &[&str]| {
        let mut args: Vec<String> = vec!["run".into(), "--jsonl".into()];
        args.extend(flags.iter().map(|f| (*f).to_owned()));
        args.extend(sshd.key_options());
        args.extend(["root@127.0.0.1".into(), "-c".into(), code.clone()]);
        run(args)
    };
    assert_eq!(go(&[]).event("result")["value"], 1, "without, its ssh is there");
    let back = go(&["--connect-back"]);
    assert_eq!((back.status, &back.event("result")["value"]), (0, &0.into()), "{back:?}");
    // No process is left when the controller is killed.
    let mark = format!("back{}", std::process::id());
    let code = "import subprocess, sys, time; p = subprocess.Popen(['sleep', '600']); time.sleep(1.5); print('up'); sys.stdout.flush(); time.sleep(600)";
    let mut command = econtext();
    command.args(["run", "--connect-back", "--env", &format!("MARK={mark}")]).args(sshd.key_options());
    command.args(["root@127.0.0.1", "-c", code, &mark]).stdout(std::process::Stdio::piped());
    let mut controller = command.spawn().unwrap();
    let mut line = String::new();
    let mut stdout = std::io::BufReader::new(controller.stdout.as_mut().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    assert_eq!(line, "up\n");
    controller.kill().unwrap();
    controller.wait().unwrap();
    processes::wait_until("no process is left", || processes::with_text(&mark).is_empty());
    let nowhere = go(&["--connect-back=192.0.2.1:0"]);
    assert_eq!((nowhere.status, &nowhere.event("result")["value"]), (0, &1.into()), "{nowhere:?}");
}
