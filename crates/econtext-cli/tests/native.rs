//! ssh in this process: what it can do, what it refuses, and that it leaves nothing.
#![cfg(feature = "native-ssh")]
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Ran, econtext, run};
use econtext_testkit::processes;
use econtext_testkit::sshd::{Sshd, User, free_port};
use std::fs;
use std::process::{Command, Stdio};

fn call(options: &[String], target: &str, more: &[&str]) -> Ran {
    let mut args: Vec<&str> = vec!["call", "--jsonl", "--ssh-native", "--timeout", "30"];
    args.extend(options.iter().map(String::as_str));
    args.extend(more);
    args.extend([target, "os:getuid"]);
    run(args)
}

fn kind(ran: &Ran) -> (i32, String) {
    (ran.status, ran.event("result")["kind"].as_str().unwrap_or_default().to_owned())
}

fn stderr(ran: &Ran) -> String {
    ran.event("result")["error"]["stderr"].as_str().unwrap_or_default().to_owned()
}

fn keygen(args: &[&str]) {
    assert!(Command::new("ssh-keygen").arg("-q").args(args).status().unwrap().success(), "{args:?}");
}

#[test]
fn a_login_needs_no_ssh_process_and_megabytes_go_through() {
    let Some(sshd) = Sshd::start() else { return };
    let ran = call(&sshd.key_options(), "root@127.0.0.1", &[]);
    assert_eq!(ran.event("result")["value"], 0, "{ran:?}");
    let code = format!(
        "import glob\nlines = []\nfor path in glob.glob('/proc/[0-9]*/cmdline'):\n    try:\n        \
         lines.append(open(path).read().split('\\0'))\n    except EnvironmentError:\n        pass\n\
         len([l for l in lines if l[0].endswith('ssh') and '{}' in l])",
        sshd.port
    );
    let mut args: Vec<String> = vec!["run".into(), "--ssh-native".into()];
    args.extend(sshd.key_options());
    args.extend(["root@127.0.0.1".into(), "-c".into(), code]);
    let ran = run(args);
    assert_eq!(ran.stdout, "0\n", "{ran:?}");
    let mut args: Vec<String> = vec!["exec".into(), "--ssh-native".into()];
    args.extend(sshd.key_options());
    args.extend(["root@127.0.0.1", "--", "sh", "-c", "wc -c; echo err >&2; exit 3"].map(String::from));
    let ran = common::run_with_input(args, &vec![b'x'; 5 << 20]);
    assert_eq!((ran.stdout.trim(), ran.stderr.trim(), ran.status), ("5242880", "err", 5));
}

#[test]
fn keys_of_every_kind_certificates_and_the_agent_log_in() {
    let Some(sshd) = Sshd::start() else { return };
    let at = |name: &str| sshd.path(name).display().to_string();
    let mut allowed = String::new();
    for (name, flags) in [("rsa", &["-t", "rsa", "-b", "2048"][..]), ("ecdsa", &["-t", "ecdsa"])] {
        keygen(&[flags, &["-N", "", "-f", &at(name)]].concat());
        allowed += &fs::read_to_string(sshd.path(&format!("{name}.pub"))).unwrap();
    }
    keygen(&["-t", "ed25519", "-N", "", "-f", &at("ca")]);
    keygen(&["-t", "ed25519", "-N", "", "-f", &at("signed")]);
    keygen(&["-s", &at("ca"), "-I", "test", "-n", "root", &at("signed.pub")]);
    allowed += &format!("cert-authority {}", fs::read_to_string(sshd.path("ca.pub")).unwrap());
    allowed += &fs::read_to_string(sshd.path("user_key.pub")).unwrap();
    fs::write(sshd.path("authorized_keys"), allowed).unwrap();
    for name in ["rsa", "ecdsa", "signed", "user_key"] {
        let mut options = sshd.options();
        options.extend(["--identity".into(), at(name)]);
        let ran = call(&options, "root@127.0.0.1", &[]);
        assert_eq!(ran.status, 0, "{name} {ran:?}");
    }
    // Nothing but the agent has a key.
    let socket = at("agent");
    let mut agent =
        Command::new("ssh-agent").args(["-D", "-a", &socket]).stdout(Stdio::null()).spawn().unwrap();
    processes::wait_until("the agent listens", || sshd.path("agent").exists());
    let added = Command::new("ssh-add")
        .arg(at("user_key"))
        .env("SSH_AUTH_SOCK", &socket)
        .stderr(Stdio::null())
        .status();
    assert!(added.unwrap().success());
    let mut options = sshd.options();
    let last = options.iter().position(|o| o == "IdentityAgent=none").unwrap();
    options[last] = format!("IdentityAgent={socket}");
    options.extend(["--identity".into(), "/nonexistent".into()]);
    let ran = call(&options, "root@127.0.0.1", &[]);
    let _ = agent.kill();
    let _ = agent.wait();
    assert_eq!(ran.status, 0, "{ran:?}");
}

#[test]
fn failures_have_the_kinds_that_they_have_with_ssh() {
    let Some(sshd) = Sshd::start() else { return };
    let mut wrong = sshd.options();
    wrong.extend(["--identity".into(), sshd.path("other_key").display().to_string()]);
    assert_eq!(kind(&call(&wrong, "root@127.0.0.1", &[])), (4, "auth".into()));
    let Some(user) = User::create("econtext-native", "/bin/sh", "correct horse") else { return };
    let target = format!("{}@127.0.0.1", user.name);
    let ran = call(&sshd.options(), &target, &["--password-cmd", "echo correct horse"]);
    assert!(ran.event("result")["value"].as_i64().is_some_and(|uid| uid > 0), "{ran:?}");
    let ran = call(&sshd.options(), &target, &["--password-cmd", "echo wrong"]);
    assert_eq!(kind(&ran), (4, "auth".into()), "{ran:?}");
    assert!(!format!("{ran:?}").contains("wrong"), "the password is shown: {ran:?}");
    let mut closed = sshd.key_options();
    closed[3] = free_port().to_string();
    assert_eq!(kind(&call(&closed, "127.0.0.1", &[])), (4, "unreachable".into()));
    let ran = call(&sshd.key_options(), "root@127.0.0.1", &["--python", "/nonexistent/python3"]);
    assert_eq!(kind(&ran), (4, "no_python".into()), "{ran:?}");
    // Keys that are unknown, changed or revoked.
    let known = fs::read_to_string(sshd.path("known_hosts")).unwrap();
    fs::write(
        sshd.path("known_hosts"),
        format!("{known}\n@revoked * {}", fs::read_to_string(sshd.path("host_key.pub")).unwrap()),
    )
    .unwrap();
    assert_eq!(kind(&call(&sshd.key_options(), "root@127.0.0.1", &[])), (4, "host_key".into()));
    fs::write(sshd.path("known_hosts"), "").unwrap();
    assert_eq!(kind(&call(&sshd.key_options(), "root@127.0.0.1", &[])), (4, "host_key".into()));
    sshd.know_host(&sshd.path("other_key.pub"));
    let ran = call(&sshd.key_options(), "root@127.0.0.1", &[]);
    assert_eq!(kind(&ran), (4, "host_key".into()), "{ran:?}");
    assert!(stderr(&ran).contains("IDENTIFICATION HAS CHANGED"), "{ran:?}");
}

#[test]
fn what_is_not_supported_of_a_configuration_is_refused_by_name() {
    let Some(sshd) = Sshd::start() else { return };
    for (option, name) in [
        ("ForwardAgent=yes", "forwardagent"),
        ("ProxyCommand=nc %h %p", "proxycommand"),
        ("SetEnv=A=b", "setenv"),
        ("Ciphers=aes128-ctr", "ciphers"),
        ("StrictHostKeyChecking=no", "StrictHostKeyChecking is"),
        ("LocalForward=7777 localhost:80", "localforward"),
    ] {
        let ran = call(&sshd.key_options(), "root@127.0.0.1", &["-o", option]);
        assert_eq!(ran.status, 4, "{option} {ran:?}");
        assert!(stderr(&ran).contains(name) && stderr(&ran).contains("--ssh-native"), "{option} {ran:?}");
    }
}

#[test]
fn jumps_are_followed_with_the_configuration_of_each() {
    let (Some(bastion), Some(inner)) = (Sshd::start(), Sshd::start()) else { return };
    let host = |name: &str, sshd: &Sshd, jump: &str| {
        format!(
            "Host {name}\n  HostName 127.0.0.1\n  Port {}\n  User root\n  UserKnownHostsFile {}\n  GlobalKnownHostsFile /dev/null\n  \
             IdentityFile {}\n  IdentityAgent none\n{jump}",
            sshd.port,
            sshd.path("known_hosts").display(),
            sshd.path("user_key").display()
        )
    };
    let config = host("bastion", &bastion, "") + &host("inner", &inner, "  ProxyJump bastion\n");
    fs::write(bastion.path("config"), config).unwrap();
    let config = bastion.path("config").display().to_string();
    let ran = call(&["-F".into(), config.clone()], "inner", &[]);
    assert_eq!(ran.event("result")["value"], 0, "{ran:?}");
    fs::write(bastion.path("known_hosts"), "").unwrap();
    let ran = call(&["-F".into(), config], "inner", &[]);
    assert_eq!(kind(&ran), (4, "host_key".into()), "the bastion's key is checked: {ran:?}");
}

#[test]
fn nothing_is_left_when_it_ends_in_whatever_way() {
    let Some(sshd) = Sshd::start() else { return };
    let mark = format!("native{}", std::process::id());
    let code = "import subprocess, sys, time; p = subprocess.Popen(['sleep', '600']); print('up'); sys.stdout.flush(); time.sleep(600)";
    let start = |more: &[&str]| {
        let mut command = econtext();
        command
            .args(["run", "--ssh-native", "--env", &format!("MARK={mark}")])
            .args(more)
            .args(sshd.key_options());
        command.args(["root@127.0.0.1", "-c", code, &mark]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut controller = command.spawn().unwrap();
        let mut line = String::new();
        let mut stdout = std::io::BufReader::new(controller.stdout.as_mut().unwrap());
        std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
        assert_eq!(line, "up\n");
        controller
    };
    let gone = || processes::wait_until("no process is left", || processes::with_text(&mark).is_empty());
    let mut controller = start(&[]);
    controller.kill().unwrap();
    controller.wait().unwrap();
    gone();
    let mut controller = start(&["--timeout", "1.5"]);
    assert_eq!(controller.wait().unwrap().code(), Some(3));
    gone();
    let mut controller = start(&["--connect-back"]);
    let pid = rustix::process::Pid::from_raw(i32::try_from(controller.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(controller.wait().unwrap().code(), Some(130));
    gone();
}
