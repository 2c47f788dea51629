//! The command as it is released: one static file, which does the main job over ssh and into a container.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::Ran;
use econtext_testkit::containers::{Podman, root_for};
use econtext_testkit::sshd::Sshd;
use econtext_testkit::{repository, skip, tools};
use std::path::PathBuf;
use std::process::Command;

/// The binary that the README's command makes.
fn binary() -> Option<PathBuf> {
    let path = repository("target/x86_64-unknown-linux-musl/release/econtext");
    if !path.exists() {
        skip("target/x86_64-unknown-linux-musl/release/econtext");
    }
    path.exists().then_some(path)
}

#[test]
fn nothing_is_linked_to_it_at_run_time() {
    let Some(binary) = binary() else { return };
    if !tools::has_all(&["file", "ldd"]) {
        return;
    }
    let said = |program: &str| {
        let output = Command::new(program).arg(&binary).env("LC_ALL", "C").output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let file = said("file");
    assert!(file.contains("statically linked") || file.contains("static-pie linked"), "{file}");
    let ldd = said("ldd");
    assert!(ldd.contains("statically linked") || ldd.contains("not a dynamic executable"), "{ldd}");
}

#[test]
fn it_calls_over_ssh_and_into_a_container() {
    let Some(binary) = binary() else { return };
    let run = |args: &[String]| -> Ran { Command::new(&binary).args(args).output().unwrap().into() };
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let ran = run(&words(&["call", "local:", "operator:pos", "3"]));
    assert_eq!((ran.stdout.as_str(), ran.status), ("3\n", 0), "{ran:?}");
    if let Some(sshd) = Sshd::start() {
        let mut args = words(&["call"]);
        args.extend(sshd.key_options());
        args.extend(words(&["root@127.0.0.1", "operator:pos", "4"]));
        let ran = run(&args);
        assert_eq!((ran.stdout.as_str(), ran.status), ("4\n", 0), "{ran:?}");
    }
    if let Some(root) = root_for("podman") {
        let podman = Podman::start(&root);
        let mut command = Command::new(&binary);
        command.args(["call", &format!("podman:{}", podman.name), "operator:pos", "5"]);
        let ran: Ran = podman.configure(&mut command).output().unwrap().into();
        assert_eq!((ran.stdout.as_str(), ran.status), ("5\n", 0), "{ran:?}");
    }
}
