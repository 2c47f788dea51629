//! Real packages: each smoke of `tests/corpus` returns in a bare child what it returned where it is installed.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::econtext;
use econtext_testkit::files::tree;
use econtext_testkit::{repository, skip};
use serde_json::Value as Json;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Mutex;

/// The value that a function returned in a bare child, or the error, and the questions and bytes that it took.
struct Ran {
    result: Result<Json, String>,
    questions: usize,
    sent: u64,
}

fn call(version: &str, path: &Path, function: &str, spool: bool) -> Ran {
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
        .args(["call", "-vvv", "--jsonl", "--timeout", "120", "--python"])
        .arg(bare.join(format!("bin/python{version}")))
        .arg("--path")
        .arg(corpus.join("site"))
        .arg("--path")
        .arg(path);
    if spool {
        command.args(["--spool", "all"]);
    }
    let output = command.args(["local:", function]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let asked = |line: &&str| {
        ["module", "file", "tree"]
            .iter()
            .any(|what| line.starts_with(&format!("DEBUG econtext: {what} context=")))
    };
    let sent = stderr
        .lines()
        .find_map(|line| line.split_once("ended context=")?.1.split_once("sent=")?.1.parse().ok());
    let questions = stderr.lines().filter(asked).count();
    let events = text.lines().filter_map(|line| serde_json::from_str::<Json>(line).ok());
    let result = match events.into_iter().find(|event| event["event"] == "result") {
        Some(event) if event["ok"] == true => Ok(event["value"].clone()),
        Some(event) => Err(event["error"].to_string().chars().take(400).collect()),
        None => Err(stderr),
    };
    Ran { result, questions, sent: sent.unwrap_or(0) }
}

fn is_there() -> bool {
    let there = repository("target/corpus/.complete").exists();
    if !there {
        skip("target/corpus");
    }
    there
}

fn median<T: Ord + Copy>(values: &mut [T], percent: usize) -> T {
    values.sort_unstable();
    values[(values.len() * percent / 100).min(values.len() - 1)]
}

#[test]
fn every_smoke_of_the_corpus_returns_its_reference_value_in_a_bare_child() {
    if !is_there() {
        return;
    }
    let reference: Json =
        serde_json::from_slice(&std::fs::read(repository("tests/corpus/reference.json")).unwrap()).unwrap();
    let mut queue = VecDeque::new();
    for (version, smokes) in reference.as_object().unwrap() {
        let minor = version.rsplit_once('.').unwrap().0;
        queue.extend(smokes.as_object().unwrap().iter().map(|(name, s)| (minor, name, &s["value"])));
    }
    let (total, queue) = (queue.len(), Mutex::new(queue));
    let (from_memory, wrong) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let path = repository("tests/corpus");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap().pop_front();
                    let Some((version, name, expected)) = next else { return };
                    // Most work as they are; what opens files beside its own needs them.
                    let function = format!("smokes:{name}");
                    let ran = call(version, &path, &function, false);
                    if ran.result.as_ref() == Ok(expected) {
                        if ran.questions > 2 {
                            println!("{version} {name}: {} questions", ran.questions);
                        }
                        from_memory.lock().unwrap().push((ran.questions, ran.sent));
                        continue;
                    }
                    let found = call(version, &path, &function, true).result;
                    if found.as_ref() != Ok(expected) {
                        wrong.lock().unwrap().push(format!("{version} {name}: {found:?}"));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    let from_memory = from_memory.into_inner().unwrap();
    let (mut questions, mut sent): (Vec<usize>, Vec<u64>) = from_memory.iter().copied().unzip();
    let typical = (median(&mut questions, 50), median(&mut questions, 90));
    println!(
        "{total} smokes, {} from memory, {} with --spool, {} wrong; questions: median {}, 90th percentile {}; median of \
         bytes sent: {}",
        from_memory.len(),
        total - from_memory.len() - wrong.len(),
        wrong.len(),
        typical.0,
        typical.1,
        median(&mut sent, 50)
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(from_memory.len() * 100 >= total * 98, "{} of {total}", from_memory.len());
    // Those that look for files, which come by further questions, are among them.
    assert!(typical.0 == 0 && typical.1 <= 3, "{questions:?}");
    // The bytes that Mitogen sends for those of the same corpus that it passes.
    assert!(median(&mut sent, 50) <= 122_000, "{sent:?}");
}

#[test]
fn a_package_of_hundreds_of_modules_is_imported_without_a_question() {
    if !is_there() {
        return;
    }
    let directory =
        tree(&[("start.py", "import django.db.models\n\ndef f():\n    return django.VERSION[0]\n")]);
    let ran = call("3.11", directory.path(), "start:f", false);
    assert_eq!(ran.result, Ok(4.into()));
    assert_eq!(ran.questions, 0);
}
