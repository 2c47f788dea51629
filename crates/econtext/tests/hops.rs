//! Children behind children: other users by real sudo, su and doas, and what a hop does for many.
#![allow(missing_docs, clippy::unwrap_used)]

use econtext::transport::{Argv, Doas, Nspawn, Su, Sudo, Transport};
use econtext::{Broker, Context, Error, ErrorKind, Local, PathFinder, Program, Python};
use econtext_testkit::files::tree;
use econtext_testkit::sshd::User;
use econtext_testkit::{processes, pythons, skip, tools};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

const PASSWORD: &str = "s3cret pass";

/// A file of the system's configuration as a test wants it; as it was, when dropped.
struct Configured {
    path: PathBuf,
    before: Option<Vec<u8>>,
}

impl Configured {
    fn new(path: &str, text: &str, mode: u32) -> Self {
        let path = PathBuf::from(path);
        let before = fs::read(&path).ok();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        Configured { path, before }
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        match &self.before {
            Some(before) => fs::write(&self.path, before).unwrap(),
            None => fs::remove_file(&self.path).unwrap(),
        }
    }
}

/// The configuration of the system is one for all tests.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A child as another user, started by root without a password.
fn as_user(broker: &Broker, user: &User) -> Context {
    let root = broker.local("local").unwrap();
    Context::builder("deploy").via(&root).connect(broker, Su::new().user(&user.name)).unwrap()
}

fn uid(broker: &Broker, hop: &Context, transport: impl Transport + 'static) -> Result<u32, Error> {
    let child = Context::builder("root")
        .via(hop)
        .connect_timeout(Duration::from_secs(20))
        .connect(broker, transport)?;
    child.call("os:getuid", ()).wait()
}

fn kind(result: Result<u32, Error>) -> (ErrorKind, String) {
    let error = result.unwrap_err();
    assert!(!error.to_string().contains(PASSWORD), "{error}");
    (error.kind(), error.to_string())
}

#[test]
fn sudo_gives_root_in_every_configuration() {
    if !tools::has("sudo") {
        return;
    }
    let _guard = one_at_a_time();
    let Some(user) = User::create("ectsudo", "/bin/bash", PASSWORD) else { return };
    let broker = Broker::new().unwrap();
    let hop = as_user(&broker, &user);
    assert_ne!(hop.call::<u32>("os:getuid", ()).wait().unwrap(), 0);
    let file = "/etc/sudoers.d/econtext-test";
    for defaults in [
        "!use_pty",
        "requiretty",
        "use_pty",
        "pwfeedback",
        "log_output",
        "requiretty,use_pty,pwfeedback,log_output",
        "passprompt=\"Mot de passe\u{a0}: \",passprompt_override",
        "passprompt=\"[sudo] 密码：\",passprompt_override",
        "lecture=always",
    ] {
        let rule = |tag: &str| {
            format!("Defaults:ectsudo {defaults},timestamp_timeout=0\nectsudo ALL=(ALL) {tag}ALL\n")
        };
        let configured = Configured::new(file, &rule(""), 0o440);
        println!("{defaults}");
        assert_eq!(uid(&broker, &hop, Sudo::new().password(PASSWORD.into())).unwrap(), 0, "{defaults}");
        drop(configured);
        let _configured = Configured::new(file, &rule("NOPASSWD: "), 0o440);
        assert_eq!(uid(&broker, &hop, Sudo::new()).unwrap(), 0, "{defaults}, NOPASSWD");
        assert_eq!(
            uid(&broker, &hop, Sudo::new().password("not asked for".into())).unwrap(),
            0,
            "{defaults}"
        );
    }
    let _configured =
        Configured::new(file, "Defaults:ectsudo timestamp_timeout=0\nectsudo ALL=(ALL) ALL\n", 0o440);
    for sudo in [Sudo::new().login(), Sudo::new().set_home(), Sudo::new().preserve_env()] {
        assert_eq!(uid(&broker, &hop, sudo.password(PASSWORD.into())).unwrap(), 0);
    }
    let (wrong, message) = kind(uid(&broker, &hop, Sudo::new().password("wrong".into())));
    assert!(wrong == ErrorKind::Become && message.contains("not accepted"), "{message}");
    let (none, message) = kind(uid(&broker, &hop, Sudo::new()));
    assert!(none == ErrorKind::Become && message.contains("password"), "{message}");
    let (unknown, message) =
        kind(uid(&broker, &hop, Sudo::new().user("nobody-here").password(PASSWORD.into())));
    assert!(unknown == ErrorKind::Become && message.contains("unknown user"), "{message}");
    let (missing, message) = kind(uid(&broker, &hop, Sudo::new().program("/opt/sudo")));
    assert!(missing == ErrorKind::Become, "{message}");
}

#[test]
fn sudo_rs_gives_root() {
    let Some(root) = pythons::forky().filter(|root| root.join("etc/sudoers-rs").exists()) else {
        return skip("sudo-rs in target/roots/forky");
    };
    if !tools::has("systemd-nspawn") || !tools::is_root("systemd-nspawn") {
        return;
    }
    let broker = Broker::new().unwrap();
    let there = Nspawn::new(root.display().to_string()).arg("--keep-unit").arg("--register=no");
    let there = Context::builder("there").connect(&broker, there).unwrap();
    let hop = Context::builder("ectrs").via(&there).connect(&broker, Su::new().user("ectrs")).unwrap();
    assert_ne!(hop.call::<u32>("os:getuid", ()).wait().unwrap(), 0);
    let sudo = || Sudo::new().program("sudo-rs");
    assert_eq!(uid(&broker, &hop, sudo().password(PASSWORD.into())).unwrap(), 0);
    let (wrong, message) = kind(uid(&broker, &hop, sudo().password("wrong".into())));
    assert!(wrong == ErrorKind::Become, "{message}");
    let (none, message) = kind(uid(&broker, &hop, sudo()));
    assert!(none == ErrorKind::Become, "{message}");
}

#[test]
fn su_and_doas_give_root() {
    let _guard = one_at_a_time();
    let Some(user) = User::create("ectsu", "/bin/sh", PASSWORD) else { return };
    let Some(other) = User::create("ectother", "/bin/bash", PASSWORD) else { return };
    let broker = Broker::new().unwrap();
    let hop = as_user(&broker, &user);
    let su = || Su::new().user(&other.name);
    let expected: u32 = as_user(&broker, &other).call("os:getuid", ()).wait().unwrap();
    assert_eq!(uid(&broker, &hop, su().password(PASSWORD.into())).unwrap(), expected);
    assert_eq!(uid(&broker, &hop, su().login().password(PASSWORD.into())).unwrap(), expected);
    let (wrong, message) = kind(uid(&broker, &hop, su().password("wrong".into())));
    assert!(wrong == ErrorKind::Become && message.contains("su: "), "{message}");
    let (none, message) = kind(uid(&broker, &hop, su()));
    assert!(none == ErrorKind::Become && message.contains("none was given"), "{message}");
    if !tools::has("doas") {
        return;
    }
    let configured = Configured::new("/etc/doas.conf", "permit ectsu as root\n", 0o400);
    assert_eq!(uid(&broker, &hop, Doas::new().password(PASSWORD.into())).unwrap(), 0);
    let (wrong, message) = kind(uid(&broker, &hop, Doas::new().password("wrong".into())));
    assert!(wrong == ErrorKind::Become, "{message}");
    drop(configured);
    let _configured = Configured::new("/etc/doas.conf", "permit nopass ectsu as root\n", 0o400);
    assert_eq!(uid(&broker, &hop, Doas::new()).unwrap(), 0);
}

#[test]
fn children_nest_to_any_depth_and_errors_name_the_hop() {
    let broker = Broker::new().unwrap();
    let mut child = broker.local("hop0").unwrap();
    let mut hops = Vec::new();
    for depth in 1..5 {
        let next = Context::builder(format!("hop{depth}")).via(&child).connect(&broker, Local).unwrap();
        hops.push(std::mem::replace(&mut child, next));
    }
    assert_eq!(child.call::<i64>("operator:add", (40, 2)).wait().unwrap(), 42);
    let megabytes = vec![7u8; 3 << 20];
    let sum = child.prepare("builtins:len").args((serde_bytes::Bytes::new(&megabytes),)).start::<usize>();
    assert_eq!(sum.wait().unwrap(), megabytes.len());
    let output = child.shell("head -c 2000000 /dev/zero; echo err >&2; exit 4").output().unwrap();
    assert_eq!(
        (output.stdout.len(), &*output.stderr, output.status.code),
        (2_000_000, &b"err\n"[..], Some(4))
    );
    // A hop in the middle is gone.
    let waiting = child.call::<()>("time:sleep", (3600,));
    drop(hops[1].call::<()>("os:_exit", (9,)));
    let error = waiting.wait().unwrap_err();
    assert!(error.kind() == ErrorKind::Closed && error.host() == Some("hop4"), "{error}");
    assert!(error.to_string().contains("hop3") || error.to_string().contains("hop"), "{error}");
    // The error of a program that cannot be started there names the hop.
    let hop = broker.local("the hop").unwrap();
    let missing = Argv(vec!["/nonexistent/tool".into()]);
    let error = uid(&broker, &hop, missing).unwrap_err();
    assert!(error.kind().is_connect() && error.to_string().contains("the hop"), "{error}");
    // A hop that is not there at all.
    let nowhere = Context::builder("nowhere").connect(&broker, Argv(vec!["false".into()])).unwrap();
    let error = uid(&broker, &nowhere, Local).unwrap_err();
    assert!(error.kind().is_connect() && error.to_string().contains("nowhere"), "{error}");
}

#[test]
fn every_python_is_a_hop_for_every_other() {
    let broker = Broker::new().unwrap();
    for python in pythons::all() {
        let hop =
            Context::builder("hop").python(Python::Path(python.to_arg())).connect(&broker, Local).unwrap();
        // In a root of its own there is that one Python only.
        let there = if python.chroot { Python::Auto } else { Python::Path(pythons::any().to_arg()) };
        let child = Context::builder("child").python(there).via(&hop).connect(&broker, Local).unwrap();
        let (input, call) = child.run(&Program::code("import sys; len(sys.stdin.read())"), None);
        for _ in 0..32 {
            assert!(input.write(&[b'x'; 1 << 16]).unwrap());
        }
        input.close();
        assert_eq!(call.wait().unwrap(), (0, econtext::Value::Int(32 << 16)), "Python {}", python.minor);
    }
}

#[test]
fn a_module_for_fifty_children_crosses_to_their_hop_once() {
    let mut noise = vec![0u8; 1700 << 10];
    getrandom::fill(&mut noise).unwrap();
    let text: String = noise.iter().map(|b| char::from(b'a' + b % 26)).collect();
    let large = format!("DATA = '{text}'\n\ndef size():\n    return len(DATA)\n");
    let dir = tree(&[("large.py", &large)]);
    let finder = Arc::new(PathFinder::new().root(dir.path()).unwrap());
    let broker = Broker::new().unwrap();
    let hop = broker.local("hop").unwrap();
    hop.wait_ready().unwrap();
    let start = Instant::now();
    // Each login takes its time.
    let login = || Argv(["sh", "-c", "sleep 2; exec \"$@\"", "sh"].map(String::from).to_vec());
    let children: Vec<Context> = (0..50)
        .map(|n| {
            Context::builder(format!("child{n}"))
                .via(&hop)
                .finder(finder.clone())
                .connect(&broker, login())
                .unwrap()
        })
        .collect();
    for child in &children {
        child.wait_ready().unwrap();
    }
    let up = start.elapsed();
    let calls: Vec<_> = children.iter().map(|child| child.call::<usize>("large:size", ())).collect();
    for call in calls {
        assert_eq!(call.wait().unwrap(), text.len());
    }
    let sent = hop.sent_bytes();
    let one = finder_size(&finder);
    println!("50 children up after {up:?}; {sent} bytes to the hop; the module has {one} in zlib");
    assert!(sent < 2 << 20, "{sent} bytes");
    // One after the other they would take a hundred seconds at least.
    assert!(up < Duration::from_secs(90), "{up:?}");
}

fn finder_size(finder: &PathFinder) -> usize {
    use econtext::modules::ModuleFinder as _;
    finder.find("large").unwrap().size()
}

#[test]
fn what_runs_behind_hops_ends_with_them() {
    let mark = format!("86{}", std::process::id());
    let broker = Broker::new().unwrap();
    let start = |broker: &Broker| {
        let hop = broker.local("hop").unwrap();
        let child = Context::builder("child").via(&hop).connect(broker, Local).unwrap();
        let grandchild = Context::builder("grandchild").via(&child).connect(broker, Local).unwrap();
        let process = grandchild.shell(format!("sleep {mark} & sleep {mark}")).spawn_with(|_| {}).unwrap();
        processes::wait_until("it runs", || processes::with_text(&mark).len() > 2);
        (hop, child, grandchild, process)
    };
    let none_left = || {
        processes::wait_until("no process is left", || processes::with_text(&mark).is_empty());
    };
    let (hop, ..) = start(&broker);
    hop.shutdown(Duration::ZERO);
    none_left();
    let (hop, ..) = start(&broker);
    let pid: u32 = hop.process_id().unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    none_left();
    let everything = start(&broker);
    drop(everything);
    none_left();
    assert!(Path::new("/proc").exists());
}

#[test]
fn a_hop_that_is_gone_already_is_an_error_and_keeps_nobody_waiting() {
    let broker = Broker::new().unwrap();
    let hop = Context::builder("gone").connect(&broker, Argv(vec!["false".into()])).unwrap();
    assert!(hop.wait_ready().is_err());
    let error = Context::builder("child").via(&hop).connect(&broker, Local).unwrap_err();
    assert!(error.kind().is_connect() && error.host() == Some("child"), "{error}");
    assert!(error.to_string().contains("on the hop gone"), "{error}");
    // It would wait for every child that it knows of.
    drop(hop);
    drop(broker);
}
