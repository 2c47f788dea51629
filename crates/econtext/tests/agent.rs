//! The unit tests of the agent alone, in `agent-tests/`, on every Python.
#![allow(missing_docs, clippy::unwrap_used)]

use econtext_testkit::{files, pythons, repository};
use std::path::Path;
use std::process::Command;

/// The directories that the tests use.
const PARTS: [&str; 3] = ["crates/econtext/agent", "crates/econtext/agent-tests", "testdata/vectors"];

/// Copies the tests to where a Python in another root sees them.
fn copy(into: &Path) {
    for part in PARTS {
        let from = repository(part);
        for file in files::below(&from, &|name| name == "__pycache__") {
            let to = into.join(part).join(file.strip_prefix(&from).unwrap());
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(&file, to).unwrap();
        }
    }
}

#[test]
fn the_agent_alone_passes_its_tests_on_every_python() {
    let pythons = pythons::all();
    assert!(!pythons.is_empty());
    for python in pythons {
        let root = python.chroot.then(|| repository("target/roots/forky").canonicalize().unwrap());
        let copied = root.as_ref().map(|root| tempfile::tempdir_in(root.join("tmp")).unwrap());
        let directory = match (&root, &copied) {
            (Some(root), Some(copied)) => {
                copy(copied.path());
                Path::new("/").join(copied.path().strip_prefix(root).unwrap()).join(PARTS[1])
            }
            _ => repository(PARTS[1]),
        };
        let run = format!(
            "import os, unittest; os.chdir({:?}); unittest.main(None, argv=['unittest', 'discover'])",
            directory.display().to_string()
        );
        let output = Command::new(&python.path).args(["-B", "-c", &run]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("Ran "), "Python {}:\n{text}", python.minor);
        println!("Python {}: {}", python.minor, text.lines().find(|line| line.starts_with("Ran ")).unwrap());
    }
}
