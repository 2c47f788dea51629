//! Children in real containers and namespaces, and behind a chain of hosts.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Ran, econtext, run};
use econtext_testkit::containers::{Podman, root_for};
use econtext_testkit::sshd::{Sshd, User};
use econtext_testkit::{processes, tools};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

fn sh(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Calls, prints, runs and fails in it: all that a child does.
fn works(run: impl Fn(&[&str]) -> Ran, target: &str) {
    let ran = run(&["call", "--jsonl", target, "platform:python_version"]);
    assert!(ran.event("result")["value"].as_str().unwrap().starts_with("3."), "{ran:?}");
    let ran = run(&["exec", target, "--", "sh", "-c", "cat; echo err >&2; exit 3"]);
    assert_eq!((ran.stderr.as_str(), ran.status), ("err\n", 5), "{ran:?}");
    let ran = run(&["run", target, "-c", "import os; os.getuid()"]);
    assert_eq!(ran.stdout, "0\n", "{ran:?}");
}

#[test]
fn chroot_and_nspawn_have_children() {
    let Some(root) = root_for("systemd-nspawn") else { return };
    works(|args| run(args), &format!("chroot:{root}"));
    works(|args| run(args), &format!("nspawn:{root}"));
    // From a hop too.
    let through = |args: &[&str]| run([&args[..1], &["--via", "local:hop"], &args[1..]].concat());
    works(through, &format!("chroot:{root}"));
    let ran = run(["ping", "--jsonl", "chroot:/nonexistent"]);
    assert_eq!((ran.event("result")["kind"].as_str(), ran.status), (Some("unreachable"), 4), "{ran:?}");
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn nsenter_has_children_in_the_namespaces_of_a_process() {
    if !tools::has_all(&["nsenter", "unshare", "hostname"]) || !tools::is_root("namespaces") {
        return;
    }
    let mark = format!("81{}", std::process::id());
    let _unshare = Command::new("unshare")
        .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["sh", "-c", &format!("hostname ectinside; exec sleep {mark}")])
        .spawn()
        .map(Running)
        .unwrap();
    let mut pid = None;
    processes::wait_until("it sleeps", || {
        pid = processes::of_command(&["sleep", &mark]);
        pid.is_some()
    });
    let pid = pid.unwrap();
    works(|args| run(args), &format!("nsenter:{pid}"));
    let ran = run(["call", &format!("nsenter:{pid}"), "socket:gethostname"]);
    assert_eq!(ran.stdout, "ectinside\n", "{ran:?}");
}

#[test]
fn podman_and_a_docker_client_have_children() {
    let Some(root) = root_for("podman").and_then(|_| root_for("docker")) else { return };
    let podman = Podman::start(&root);
    let with = |args: &[&str]| Ran::from(podman.configure(econtext().args(args)).output().unwrap());
    works(with, &format!("podman:{}", podman.name));
    let mut service = Command::new("podman");
    let socket = podman.path("socket");
    let _service = podman
        .configure(service.args(["system", "service", "--time=0", &format!("unix://{}", socket.display())]))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map(Running)
        .unwrap();
    processes::wait_until("the service listens", || socket.exists());
    works(with, &format!("docker:{}", podman.name));
    // The processes in there end with the command here.
    let mark = format!("82{}", std::process::id());
    let target = format!("podman:{}", podman.name);
    let ran = with(&["exec", "--timeout", "3", "--shell", &target, &format!("sleep {mark} & sleep {mark}")]);
    assert_eq!(ran.status, 3, "{ran:?}");
    processes::wait_until("no process is left", || processes::with_text(&mark).is_empty());
    for target in ["podman:nothing-here", "docker:nothing-here"] {
        let ran = with(&["ping", "--jsonl", target]);
        assert_eq!(ran.event("result")["kind"].as_str(), Some("unreachable"), "{ran:?}");
    }
}

/// An LXC container; gone when dropped.
struct Lxc(String);

impl Drop for Lxc {
    fn drop(&mut self) {
        let _ = Command::new("lxc-stop").args(["-k", "-n", &self.0]).output();
        let _ = fs::remove_dir_all(Path::new("/var/lib/lxc").join(&self.0));
    }
}

#[test]
fn lxc_has_children() {
    let Some(root) = root_for("lxc-start") else { return };
    let lxc = Lxc(format!("econtext-test-{}", std::process::id()));
    let directory = Path::new("/var/lib/lxc").join(&lxc.0);
    fs::create_dir_all(&directory).unwrap();
    fs::write(
        directory.join("config"),
        format!(
            "lxc.uts.name = ectlxc\nlxc.rootfs.path = dir:{root}\nlxc.net.0.type = empty\nlxc.mount.auto = proc:mixed sys:ro\n\
             lxc.apparmor.profile = unconfined\nlxc.init.cmd = /bin/sleep 3600\n"
        ),
    )
    .unwrap();
    sh(&format!("lxc-start -n {}", lxc.0));
    works(|args| run(args), &format!("lxc:{}", lxc.0));
    let ran = run(["call", &format!("lxc:{}", lxc.0), "socket:gethostname"]);
    assert_eq!(ran.stdout, "ectlxc\n", "{ran:?}");
    let ran = run(["ping", "--jsonl", "lxc:nothing-here"]);
    assert_eq!(ran.event("result")["kind"].as_str(), Some("unreachable"), "{ran:?}");
}

/// Three hosts in a row, each in a network namespace of its own, of which only the first can be reached from here.
struct Hosts {
    names: Vec<String>,
}

impl Hosts {
    fn new() -> Self {
        let id = std::process::id();
        let names: Vec<String> = (1..=3).map(|n| format!("ect{id}-{n}")).collect();
        let hosts = Hosts { names };
        for (n, name) in hosts.names.iter().enumerate() {
            sh(&format!("ip netns add {name} && ip -n {name} link set lo up"));
            // From here, then from one to the next.
            let before = n.checked_sub(1).map(|before| hosts.names[before].as_str());
            let there = before.map_or(String::new(), |before| format!("-n {before}"));
            sh(&format!("ip {there} link add ect{n}a type veth peer name ect{n}b netns {name}"));
            sh(&format!("ip {there} addr add 10.177.{n}.1/24 dev ect{n}a && ip {there} link set ect{n}a up"));
            sh(&format!(
                "ip -n {name} addr add 10.177.{n}.2/24 dev ect{n}b && ip -n {name} link set ect{n}b up"
            ));
        }
        hosts
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

#[test]
fn a_chain_of_hosts_leads_to_root_on_the_last_and_back() {
    if root_for("ip").is_none() || !tools::has("sudo") {
        return;
    }
    let Some(user) = User::create("ectchain", "/bin/bash", "s3cret") else { return };
    let hosts = Hosts::new();
    let sshds: Vec<Sshd> = hosts
        .names
        .iter()
        .enumerate()
        .filter_map(|(n, name)| Sshd::start_in(Some(name), &format!("10.177.{n}.2")))
        .collect();
    if sshds.len() < 3 {
        return;
    }
    let rule = "/etc/sudoers.d/econtext-chain";
    fs::write(rule, "ectchain ALL=(ALL) NOPASSWD: ALL\n").unwrap();
    // The keys that all of them know.
    let known = sshds[0].path("all_known");
    let keys: String = sshds.iter().map(|s| fs::read_to_string(s.path("known_hosts")).unwrap()).collect();
    fs::write(&known, keys).unwrap();
    let mut args: Vec<String> =
        ["-F", "/dev/null", "-o", "GlobalKnownHostsFile=/dev/null", "-o", "IdentityAgent=none"]
            .map(String::from)
            .to_vec();
    args.extend(["-o".into(), format!("UserKnownHostsFile={}", known.display())]);
    for sshd in &sshds {
        args.extend(["-o".into(), format!("IdentityFile={}", sshd.path("user_key").display())]);
    }
    for path in sshds.iter().map(|s| s.path("user_key")) {
        // Its own account reads the key on the way.
        sh(&format!("chmod 600 {}", path.display()));
    }
    let at = |n: usize, user: &str| format!("{user}@{}:{}", sshds[n].address, sshds[n].port);
    args.extend(["--via".into(), at(0, "root"), "--via".into(), at(1, "root")]);
    let last = at(2, &user.name);
    let run_with = |verb: &str, more: &[&str]| {
        let args = [verb].into_iter().chain(args.iter().map(String::as_str)).chain(more.iter().copied());
        run(args.map(str::to_owned).collect::<Vec<_>>())
    };
    let direct = run(["ping", "--jsonl", "-t", "2", "-o", "ConnectTimeout=1", &last]);
    assert_eq!(direct.status, 4, "it cannot be reached from here: {direct:?}");
    let ran = run_with("call", &["--jsonl", &last, "os:getuid"]);
    assert!(ran.event("result")["value"].as_i64().unwrap() > 0, "{ran:?}");
    let ran = run_with(
        "exec",
        &["-b", "-q", &last, "--", "sh", "-c", "id -u; ip -brief addr | grep -c 10.177.2.2"],
    );
    assert_eq!((ran.stdout.as_str(), ran.status), ("0\n1\n", 0), "{ran:?}");
    let mark = format!("83{}", std::process::id());
    let line = format!("sleep {mark} & sleep {mark}");
    let ran = run_with("exec", &["-b", "--timeout", "5", "--shell", &last, &line]);
    assert_eq!(ran.status, 3, "{ran:?}");
    processes::wait_until("no process is left", || processes::with_text(&mark).is_empty());
    // The middle of the way is named when that is where it fails.
    let wrong = args.iter().position(|a| *a == at(1, "root")).unwrap();
    let mut broken = args.clone();
    broken[wrong] = "root@10.177.1.2:1".into();
    let broken = ["ping".to_owned(), "--jsonl".into()].into_iter().chain(broken).chain([last.clone()]);
    let ran = run(broken.collect::<Vec<_>>());
    let error = ran.event("result")["error"].to_string();
    assert!(ran.status == 4 && error.contains("10.177.1.2"), "{ran:?}");
    fs::remove_file(rule).unwrap();
}
