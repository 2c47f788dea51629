//! Many hosts: which, how many at a time, what becomes of those that fail.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Ran, econtext, run};
use econtext_testkit::sshd::{Sshd, free_port};
use econtext_testkit::{processes, pythons, tools};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Hosts with a result that is as wanted, in the order in which they ended.
fn ended(ran: &Ran, wanted: impl Fn(&serde_json::Value) -> bool) -> Vec<String> {
    ran.events()
        .iter()
        .filter(|e| e["event"] == "result" && wanted(e))
        .map(|e| e["host"].as_str().unwrap().to_owned())
        .collect()
}

/// A program in place of ssh that keeps a list of whom it was to reach.
fn recorder(directory: &TempDir, script: &str) -> (String, impl Fn() -> Vec<String>) {
    let (path, list) = (directory.path().join("ssh"), directory.path().join("list"));
    let text = format!(
        "#!/bin/bash\nwhile [ $# -gt 2 ]; do shift; done\nhost=$1\nlist={}\necho $host >>$list\n{script}\n",
        list.display()
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let read = move || fs::read_to_string(&list).unwrap_or_default().lines().map(str::to_owned).collect();
    (path.display().to_string(), read)
}

#[test]
fn inventories_say_who_there_is_and_how_to_get_there() {
    let Some(sshd) = Sshd::start() else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let key = sshd.path("user_key").display().to_string();
    let ini = format!(
        "[web]\nweb[1:2] ansible_host=127.0.0.1 ansible_port={} ansible_user=root\n[here]\nbox ansible_connection=local\n\
         [all:vars]\nansible_ssh_private_key_file={key}\n[site:children]\nweb\nhere\n",
        sshd.port
    );
    fs::write(path("hosts"), ini).unwrap();
    let mut options = sshd.options();
    options.drain(2..4); // the port is in the inventory
    let call = |more: &[&str]| {
        let mut args = strings(&["call", "--jsonl", "-i", &path("hosts")]);
        args.extend(options.iter().cloned());
        args.extend(strings(more));
        run(args)
    };
    let ok = |ran: &Ran| {
        assert_eq!(ran.status, 0, "{ran:?}");
        ended(ran, |e| e["ok"] == true).into_iter().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    };
    assert_eq!(ok(&call(&["@site", "os:getuid"])), ["box", "web1", "web2"]);
    assert_eq!(ok(&call(&["@*!web2", "os:getuid"])), ["box", "web1"]);
    assert_eq!(ok(&call(&["-g", "web", "-x", "web1", "os:getuid"])), ["web2"]);
    assert_eq!(ok(&call(&["-a", "-X", "here", "--limit", "web2,box", "os:getuid"])), ["web2"]);
    assert_eq!(ok(&call(&["-a", "--pick", "1", "os:getuid"])).len(), 1);
    let listed = run(["call", "-i", &path("hosts"), "--list-hosts", "@site", "os:getuid"]);
    assert_eq!((listed.stdout.as_str(), listed.status), ("web1\nweb2\nbox\n", 0), "{listed:?}");
    let none = run(["call", "-i", &path("hosts"), "@web!web[1-2]", "os:getuid"]);
    assert!(none.status == 2 && none.stderr.contains("no host was selected"), "{none:?}");
    let unknown = run(["call", "-i", &path("hosts"), "@wbe", "os:getuid"]);
    assert!(unknown.status == 2 && unknown.stderr.contains("there is @web"), "{unknown:?}");
    let vars = run(["hosts", "-i", &path("hosts"), "--vars", "@web"]);
    let first: serde_json::Value = serde_json::from_str(vars.stdout.lines().next().unwrap()).unwrap();
    assert_eq!((&first["host"], &first["groups"][1]), (&"web1".into(), &"site".into()), "{vars:?}");
    let key = run(["call", "-i", &key, "local:", "os:getuid"]);
    assert!(key.status == 2 && key.stderr.contains("--identity"), "{key:?}");
    // A host that is unknown, and is nearly one that is known.
    let near = run(["call", "-i", &path("hosts"), "-o", "ConnectTimeout=2", "web1.invalid", "os:getuid"]);
    assert_eq!(near.status, 4, "{near:?}");
    let near = run(["call", "-i", &path("hosts"), "--ssh", "false", "wbe1", "os:getuid"]);
    assert!(near.stderr.contains("hint: wbe1 is not in the inventory, and web1 is"), "{near:?}");
}

#[test]
fn a_dry_run_shows_what_would_happen_and_contacts_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let (ssh, list) = recorder(&directory, "exit 255");
    let ran = run(["call", "--dry-run", "--ssh", &ssh, "web[1-3]", "os:getuid"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(ran.stdout.lines().filter(|l| l.contains(&ssh)).count(), 3, "{ran:?}");
    assert_eq!(list(), Vec::<String>::new());
}

#[test]
fn batches_pauses_and_failures_stop_a_rollout() {
    let code = "import os, sys, time; sys.exit(1) if os.environ['N'] in sys.argv else time.time()";
    let begin = |more: &[&str]| {
        let mut args = strings(&["run", "--jsonl"]);
        args.extend(strings(more));
        args.extend(strings(&["local:n[1-6]", "-c", code]));
        args
    };
    let ran = run(begin(&["--env", "N=", "--batch", "2", "--pause", "0.5", "-f", "8"]));
    assert_eq!(ran.status, 0, "{ran:?}");
    let time = |host: &str| {
        let events = ran.events();
        let event = events.iter().find(|e| e["event"] == "result" && e["host"] == host).unwrap();
        event["value"].as_f64().unwrap()
    };
    let gap = |before: [&str; 2], behind: [&str; 2]| {
        behind.map(time).into_iter().fold(f64::MAX, f64::min)
            - before.map(time).into_iter().fold(0.0, f64::max)
    };
    assert!(gap(["local:n1", "local:n2"], ["local:n3", "local:n4"]) >= 0.5, "{ran:?}");
    assert!(gap(["local:n3", "local:n4"], ["local:n5", "local:n6"]) >= 0.5, "{ran:?}");

    let failing = ["run", "--jsonl", "-f", "1"];
    let tail = ["local:n[1-6]", "-c", "import sys; sys.exit(1)"];
    for (flags, begun) in [
        (&["--fail-on", "any"][..], 1),
        (&["--fail-on", "3"], 3),
        (&["--fail-on", "34%"], 3),
        (&["--fail-on", "all", "--batch", "2"], 2),
        (&["--fail-on", "all"], 6),
        (&[], 6),
    ] {
        let ran = run([&failing[..], flags, &tail].concat());
        assert_eq!(ran.status, 5, "{ran:?}");
        assert_eq!(ended(&ran, |e| e["kind"] == "exit").len(), begun, "{flags:?} {ran:?}");
        assert_eq!(ended(&ran, |e| e["kind"] == "cancelled").len(), 6 - begun, "{flags:?} {ran:?}");
        assert_eq!(ran.event("summary")["failed"], 6, "{ran:?}");
    }
}

#[test]
fn a_deadline_ends_the_whole_run() {
    let mark = format!("36101{}", std::process::id());
    let code = "import subprocess, sys; subprocess.call(['sleep', sys.argv[1]])";
    let ran =
        run(["run", "--jsonl", "--deadline", "1.5", "-f", "3", "local:n[1-9]", "-c", code, mark.as_str()]);
    assert_eq!(ran.status, 3, "{ran:?}");
    assert_eq!(ran.event("summary")["timeout"], 9, "{ran:?}");
    assert!(ran.event("result")["error"]["message"].as_str().unwrap().contains("1.5 s"), "{ran:?}");
    processes::wait_until("no process is left", || processes::with_text(&mark).is_empty());
}

#[test]
fn hosts_that_cannot_be_reached_are_tried_again_and_what_ran_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let python = pythons::any().path.display().to_string();
    // The first two tries of each host find no route; the third is a shell here.
    let script = format!(
        "[ $(grep -c $host $list) -gt 2 ] && PATH=$(dirname {python}):$PATH exec sh -c \"$2\"\n\
         echo ssh: connect to host $host port 22: No route to host >&2\nexit 255"
    );
    let (ssh, list) = recorder(&directory, &script);
    let args = |retries: &str, hosts: &str| {
        strings(&["call", "--jsonl", "--retries", retries, "--ssh", &ssh, hosts, "os:getuid"])
    };
    let ran = run(args("2", "a1,b1"));
    assert_eq!((ran.status, list().len()), (0, 6), "{ran:?}");
    let ran = run(args("1", "c1"));
    assert_eq!((ran.status, list().len()), (4, 8), "{ran:?}");
    // The call ran, and raised.
    let ran = run(["call", "--retries", "5", "--jsonl", "local:", "os:listdir", "/nonexistent"]);
    assert_eq!(ended(&ran, |_| true).len(), 1, "{ran:?}");
    // A wrong login is as wrong the next time, and accounts are locked by such.
    let directory = tempfile::tempdir().unwrap();
    let (ssh, list) = recorder(&directory, "echo 'root@h: Permission denied (publickey).' >&2; exit 255");
    let ran = run(["call", "--retries", "5", "--ssh", &ssh, "h", "os:getuid"]);
    assert_eq!((ran.status, list().len()), (4, 1), "{ran:?}");
}

#[test]
fn connections_begin_at_the_rate_that_was_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let (ssh, list) = recorder(&directory, "exit 255");
    let started = Instant::now();
    let ran = run(["ping", "--connect-rate", "2", "--ssh", &ssh, "h[1-5]"]);
    assert_eq!((ran.status, list().len()), (4, 5), "{ran:?}");
    // The fifth begins two seconds after the first, on a machine of any speed.
    assert!(started.elapsed() >= Duration::from_secs(2), "{ran:?}");
}

#[test]
fn two_hundred_logins_at_an_sshd_that_refuses_most_all_come_through() {
    let Some(sshd) = Sshd::start_with(None, "0.0.0.0", "MaxStartups 10:30:100\nLoginGraceTime 60") else {
        return;
    };
    let mut args = strings(&["call", "--json", "-f", "200", "-t", "300"]);
    args.extend(sshd.key_options());
    args.extend(strings(&["root@127.0.1.[1-200]", "os:getuid"]));
    let ran = run(args);
    let document = ran.document();
    assert_eq!((ran.status, &document["summary"]["ok"]), (0, &200.into()), "{}", ran.stderr);
    let log = fs::read_to_string(sshd.path("log")).unwrap();
    let refused =
        log.matches("drop connection").count() + log.matches("beginning MaxStartups throttling").count();
    assert!(refused > 0, "it refused none, and so this shows nothing");
    eprintln!("200 logins; {refused} lines of the log are about refusals");
}

#[test]
fn one_dead_and_one_hanging_host_hold_up_nobody_and_a_rerun_contacts_these_two() {
    if !tools::has("ssh") {
        return;
    }
    // It accepts and says nothing, as a host whose disk is gone.
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let hanging_address = listener.local_addr().unwrap().to_string();
    let dead = free_port();
    let hosts = format!("local:n[1-18],127.0.0.1:{dead},{hanging_address}");
    let state = tempfile::tempdir().unwrap();
    let go = |more: &[&str]| -> Ran {
        let mut args = strings(&["call", "--jsonl", "-t", "10"]);
        args.extend(strings(more));
        args.extend(strings(&["-F", "/dev/null", &hosts, "os:getuid"]));
        econtext().env("XDG_STATE_HOME", state.path()).args(args).output().unwrap().into()
    };
    let ran = go(&[]);
    assert_eq!(ran.status, 4, "{ran:?}");
    let order = ended(&ran, |_| true);
    assert_eq!(order.len(), 20, "{ran:?}");
    assert_eq!(order[19], hanging_address, "it is the last, and has held up no other: {ran:?}");
    let slowest = ran
        .events()
        .iter()
        .filter(|e| e["event"] == "result" && e["ok"] == true)
        .map(|e| e["elapsed_ms"].as_i64().unwrap())
        .max();
    eprintln!("the slowest of the other 18 took {slowest:?} ms");
    assert!(ran.stderr.contains("18 ok, 2 unreachable in"), "{ran:?}");
    assert!(ran.stderr.contains("; again: econtext call --rerun unreachable"), "{ran:?}");
    let again = go(&["--rerun", "failed,unreachable"]);
    let both: BTreeSet<String> = ended(&again, |e| e["kind"] == "unreachable").into_iter().collect();
    assert_eq!((again.status, both.len(), ended(&again, |_| true).len()), (4, 2, 2), "{again:?}");
    let none = go(&["--rerun", "timeout"]);
    assert!(none.status == 0 && none.stderr.contains("no such host"), "{none:?}");
    drop(listener);
}

#[test]
fn a_rerun_needs_a_run_and_does_only_what_is_undone() {
    let state = tempfile::tempdir().unwrap();
    let flags = tempfile::tempdir().unwrap();
    let code = format!(
        "import os, sys; name = os.path.join({:?}, sys.argv[1]); done = os.path.exists(name); open(name, 'w'); sys.exit(0 if done else 7)",
        flags.path().display().to_string()
    );
    let go = |more: &[&str], word: &str| -> Ran {
        let args = [&["run"][..], more, &["local:a,local:b", "-c", &code, word]].concat();
        econtext().env("XDG_STATE_HOME", state.path()).args(args).output().unwrap().into()
    };
    let never = go(&["--rerun", "failed"], "x");
    assert!(never.status == 2 && never.stderr.contains("no earlier run"), "{never:?}");
    // Both fail, as neither sees the file when it starts, or one does: either way a rerun of what failed is right then.
    let first = go(&["-f", "1", "--fail-on", "any"], "x");
    assert_eq!(first.status, 5, "{first:?}");
    let second = go(&["--rerun=failed", "-f", "1", "--fail-on", "any"], "x");
    assert_eq!(second.status, 0, "{second:?}");
    assert!(
        second.stderr.contains("2 ok"),
        "both: the one that failed, and the one that was not begun: {second:?}"
    );
    // So that a loop of `until econtext ... --rerun failed` ends.
    let third = go(&["--rerun", "failed", "-f", "1", "--fail-on", "any"], "x");
    assert!(third.status == 0 && third.stderr.contains("no such host"), "{third:?}");
    let listed = go(&["--rerun", "failed", "--list-hosts", "-f", "1", "--fail-on", "any"], "x");
    assert!(listed.stderr.contains("no such host"), "what only looks is the same command: {listed:?}");
    let other = go(&["--rerun", "failed"], "another word is another command");
    assert!(other.stderr.contains("no earlier run"), "{other:?}");
    let kept: Vec<_> = fs::read_dir(state.path().join("econtext/last")).unwrap().collect();
    let text = fs::read_to_string(kept[0].as_ref().unwrap().path()).unwrap();
    assert!(!text.contains("import"), "no command line is on record: {text}");
    let mode = fs::metadata(kept[0].as_ref().unwrap().path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// The command under a limit of open files, soft and hard.
fn limited(soft: u32, hard: u32, args: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new("bash");
    let inner = econtext();
    for (name, value) in inner.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    command.args(["-c", &format!("ulimit -Sn {soft}; ulimit -Hn {hard}; exec \"$0\" \"$@\"")]);
    command.arg(inner.get_program()).args(args).stdin(Stdio::null());
    command
}

#[test]
fn five_hundred_children_work_with_a_thousand_files() {
    let python = pythons::any().to_arg();
    let args = ["call", "--python", &python, "-f", "500", "local:n[1-500]", "platform:node", "--fold"];
    let ran: Ran = limited(1024, 1024, &args).output().unwrap().into();
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.stdout.starts_with("local:n[1-500] (500):\n  "), "{ran:?}");
    assert!(ran.stderr.contains("500 ok in"), "{ran:?}");
    assert!(ran.stderr.contains("hosts at a time in place of 500"), "{ran:?}");
    // With room above the soft limit that is raised, and nothing said.
    let args = ["call", "--python", &python, "-f", "100", "local:n[1-100]", "os:getuid"];
    let ran: Ran = limited(128, 4096, &args).output().unwrap().into();
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(!ran.stderr.contains("in place of"), "{ran:?}");
}

#[test]
fn an_interrupt_in_the_middle_of_five_hundred_children_leaves_nothing() {
    let mark = format!("36102{}", std::process::id());
    let python = pythons::any().to_arg();
    let code = "import subprocess, sys; p = subprocess.Popen(['sleep', sys.argv[1]]); print('up'); p.wait()";
    let args = ["run", "--python", &python, "-N", "-f", "500", "local:n[1-500]", "-c", code, &mark];
    let mut child = limited(1024, 1024, &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    for _ in 0..60 {
        stdout.read_line(&mut line).unwrap();
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert!(stderr.contains("stopping") && stderr.contains(" failed in "), "{stderr}");
    processes::wait_until("no process is left", || processes::with_text(&mark).is_empty());
}

#[test]
fn twenty_hosts_behind_a_bastion_that_refuses_logins_all_connect() {
    let Some(sshd) = Sshd::start_with(None, "127.0.0.1", "MaxStartups 2:50:4") else { return };
    let mut args = strings(&["call", "--jsonl", "-t", "120", "--via", "root@127.0.0.1"]);
    args.extend(sshd.key_options());
    args.extend(strings(&["local:n[1-20]", "os:getuid"]));
    let ran = run(args);
    assert_eq!((ran.status, ended(&ran, |e| e["ok"] == true).len()), (0, 20), "{ran:?}");
    // And by ssh's own jump, where each host is a login at the bastion.
    let config = format!(
        "Host *\n  Port {}\n  UserKnownHostsFile {}\n  GlobalKnownHostsFile /dev/null\n  IdentityFile {}\n  IdentityAgent none\n  User root\n  StrictHostKeyChecking yes\n  BatchMode yes\n",
        sshd.port,
        sshd.path("known_hosts").display(),
        sshd.path("user_key").display()
    );
    fs::write(sshd.path("config"), config).unwrap();
    let config = sshd.path("config").display().to_string();
    let args =
        ["call", "--jsonl", "-t", "120", "-F", &config, "-J", "127.0.0.1", "a[1-8]@127.0.0.1", "os:getuid"];
    let args: Vec<String> = args.iter().map(|a| a.replace("a[1-8]@", "root@")).collect();
    let ran = run(args);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(Path::new(&config).exists());
}

#[test]
fn children_of_hosts_that_are_done_are_gone_and_so_are_the_logins_they_became_another_from() {
    if !tools::sudo_is_free() {
        return;
    }
    // Eight at a time, each with a login and a child behind it, within a hundred files for sixty hosts.
    let args = ["exec", "-q", "-b", "-f", "4", "local:n[1-60]", "--", "true"];
    let ran: Ran = limited(100, 100, &args).output().unwrap().into();
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "{ran:?}");
}

#[test]
fn times_without_end_and_rates_of_nothing_are_no_trouble() {
    let ran =
        run(["call", "-t", "1e19", "--pause", "1e19", "--deadline", "1e300", "local:", "operator:pos", "0"]);
    assert_eq!(ran.stdout, "0\n", "{ran:?}");
    let ran = run(["call", "--connect-rate", "1e-19", "local:", "os:getuid"]);
    assert_eq!(ran.status, 2, "{ran:?}");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x").display().to_string();
    fs::write(&path, format!("a\n^{path}\n")).unwrap();
    let ran = run(["hosts", &format!("^{path}")]);
    assert!(ran.status == 2 && ran.stderr.contains("within itself"), "{ran:?}");
    // Waiting for a turn is not a host's time: the last has its turn after eleven seconds.
    let ran = run(["ping", "--connect-rate", "1", "--timeout", "10", "local:n[1-12]"]);
    assert_eq!(ran.status, 0, "{ran:?}");
}
