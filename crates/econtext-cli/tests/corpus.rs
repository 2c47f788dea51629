//! Real packages: each smoke of `tests/corpus` returns in a bare child what it returned where it is installed.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::econtext;
use econtext_testkit::{repository, skip};
use serde_json::Value as Json;
use std::collections::VecDeque;
use std::sync::Mutex;

/// What one smoke returned, or what went wrong.
fn smoke(version: &str, name: &str, spool: bool) -> Result<Json, String> {
    let corpus = repository("target/corpus").canonicalize().unwrap();
    let bare = corpus.join(format!("bare-{version}"));
    let mut command = econtext();
    command
        .current_dir("/")
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", "/")
        .env("LANG", "C.UTF-8")
        .env("LD_LIBRARY_PATH", bare.join("lib"))
        .args(["call", "--jsonl", "--timeout", "120", "--python"])
        .arg(bare.join(format!("bin/python{version}")))
        .arg("--path")
        .arg(corpus.join("site"))
        .arg("--path")
        .arg(repository("tests/corpus"));
    if spool {
        command.args(["--spool", "all"]);
    }
    let output = command.args(["local:", &format!("smokes:{name}")]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let events = text.lines().filter_map(|line| serde_json::from_str::<Json>(line).ok());
    match events.into_iter().find(|event| event["event"] == "result") {
        Some(event) if event["ok"] == true => Ok(event["value"].clone()),
        Some(event) => Err(event["error"].to_string().chars().take(400).collect()),
        None => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

#[test]
fn every_smoke_of_the_corpus_returns_its_reference_value_in_a_bare_child() {
    if !repository("target/corpus/.complete").exists() {
        return skip("target/corpus");
    }
    let reference: Json =
        serde_json::from_slice(&std::fs::read(repository("tests/corpus/reference.json")).unwrap()).unwrap();
    let mut queue = VecDeque::new();
    for (version, smokes) in reference.as_object().unwrap() {
        let minor = version.rsplit_once('.').unwrap().0;
        queue.extend(smokes.as_object().unwrap().iter().map(|(name, s)| (minor, name, &s["value"])));
    }
    let (total, queue) = (queue.len(), Mutex::new(queue));
    let (from_memory, wrong) = (Mutex::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap().pop_front();
                    let Some((version, name, expected)) = next else { return };
                    // Most work as they are; what opens files beside its own needs them.
                    if smoke(version, name, false).as_ref() == Ok(expected) {
                        *from_memory.lock().unwrap() += 1;
                        continue;
                    }
                    let found = smoke(version, name, true);
                    if found.as_ref() != Ok(expected) {
                        wrong.lock().unwrap().push(format!("{version} {name}: {found:?}"));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    let from_memory = from_memory.into_inner().unwrap();
    println!(
        "{total} smokes, {from_memory} from memory, {} with --spool, {} wrong",
        total - from_memory - wrong.len(),
        wrong.len()
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(from_memory * 100 >= total * 85, "{from_memory} of {total}");
}
