//! pytest itself runs in a bare child, over served code.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::econtext;
use econtext_testkit::{repository, skip};

#[test]
fn pytest_runs_there_with_tests_as_files_in_memory() {
    let lib = repository("target/python/3.11/lib/python3.11/site-packages");
    if !lib.join("pytest").exists() {
        return skip("target/python, which has pytest,");
    }
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("test_served.py"),
        "import os\n\ndef test_it_is_there():\n    assert 'econtext' in os.sys.modules\n\ndef test_it_fails():\n    assert 1 + 1 == 3\n",
    )
    .unwrap();
    let output = econtext()
        .current_dir(directory.path())
        .args(["run", "--path", "."])
        .arg("--path")
        .arg(lib.canonicalize().unwrap())
        .args([
            "--spool",
            "test_served",
            "local:",
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--pyargs",
            "test_served",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("1 failed, 1 passed"), "{text}{stderr}");
    // pytest has rewritten the assertion: it has read the source.
    assert!(text.contains("assert (1 + 1) == 3"), "{text}{stderr}");
}
