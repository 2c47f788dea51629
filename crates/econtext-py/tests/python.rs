//! The Python package, as its users have it: from a wheel, in clean environments, by its own tests under `tests/`.

use econtext_testkit::{pythons, repository, skip};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The environments that `.ci/setup` makes; the last has the checkers of types and a notebook's kernel.
const ENVIRONMENTS: [&str; 3] = ["3.9", "3.11", "3.13"];

/// Runs a command to its end, and shows what it wrote if that was bad.
fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
    // The number of skipped tests is to be seen.
    text.lines().filter(|line| line.contains("passed")).for_each(|line| println!("{line}"));
}

/// The wheel, built for systems as old as there are wheels for.
fn wheel(tools: &Path) -> PathBuf {
    let out = repository("target/wheels");
    let _ = std::fs::remove_dir_all(&out);
    let path = std::env::var("PATH").unwrap_or_default();
    run(Command::new(tools.join("bin/maturin"))
        .args(["build", "--release", "--zig", "--compatibility", "manylinux2014", "--out"])
        .arg(&out)
        .arg("--target-dir")
        .arg(repository("target/wheel-build"))
        .arg("--manifest-path")
        .arg(repository("crates/econtext-py/Cargo.toml"))
        .env("PATH", format!("{}:{path}", tools.join("bin").display())));
    let found = std::fs::read_dir(&out).expect("maturin makes it").flatten().map(|entry| entry.path());
    let wheels: Vec<PathBuf> = found.filter(|path| path.extension().is_some_and(|e| e == "whl")).collect();
    assert_eq!(wheels.len(), 1, "{wheels:?}");
    let name = wheels[0].file_name().expect("it has one").to_string_lossy().into_owned();
    assert!(name.contains("cp39-abi3-manylinux"), "{name}");
    wheels.into_iter().next().expect("there is one")
}

/// The directory of the environments that `.ci/setup` makes.
fn environments() -> Option<PathBuf> {
    let python = repository("target/python").canonicalize().ok()?;
    python.join(".complete").exists().then_some(python)
}

#[test]
fn the_wheel_works_in_clean_environments() {
    let Some(python) = environments() else {
        return skip("target/python, the environments for the Python package's tests,");
    };
    let wheel = wheel(&python.join("tools"));
    let children: Vec<String> = pythons::all()
        .iter()
        .map(|p| format!("{}={}", p.minor, p.path.canonicalize().expect("it is there").display()))
        .collect();
    for version in ENVIRONMENTS {
        let bin = python.join(version).join("bin");
        run(Command::new(bin.join("pip"))
            .args(["install", "-q", "--no-deps", "--force-reinstall"])
            .arg(&wheel));
        run(Command::new(bin.join("python")).args(["-c", EXAMPLES]).current_dir("/"));
        let mut tests = Command::new(bin.join("python"));
        tests
            .args(["-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider"])
            .arg(repository("crates/econtext-py/tests"));
        if version != "3.13" {
            tests.args(["--ignore-glob=*test_typing.py", "--ignore-glob=*test_notebook.py"]);
        }
        // Nothing of the checkout is to be found by accident.
        run(tests.current_dir("/").env("ECONTEXT_TEST_PYTHONS", children.join(":")));
    }
}

/// A program that runs the examples in docstrings, wherever the package is.
const EXAMPLES: &str = "import doctest, importlib, sys\n\
    names = ['_host', '_group', '_executor', '_channel', '_values', 'aio', 'master', '_connect']\n\
    modules = [importlib.import_module('econtext')] + [importlib.import_module('econtext.' + n) for n in names]\n\
    results = [doctest.testmod(m) for m in modules]\n\
    assert sum(r.attempted for r in results) > 20\n\
    sys.exit(any(r.failed for r in results))";

/// Needs nothing but cargo and a Python. Where there are environments for it, the wheel's examples are run in those.
#[test]
fn the_examples_in_docstrings_are_true_without_a_wheel() {
    if environments().is_some() {
        return;
    }
    let usable =
        |p: &pythons::Python| !p.chroot && !["2.7", "3.6", "3.7", "3.8", "3.14"].contains(&p.minor.as_str());
    let Some(python) = pythons::all().into_iter().rev().find(usable) else {
        return skip("a Python from 3.9 on");
    };
    let manifest = repository("Cargo.toml");
    run(Command::new(env!("CARGO")).args(["build", "-p", "econtext-py", "--manifest-path"]).arg(&manifest));
    let stage = tempfile::tempdir().expect("a directory");
    let package = stage.path().join("econtext");
    std::fs::create_dir(&package).expect("a directory");
    let sources = std::fs::read_dir(repository("crates/econtext-py/python/econtext")).expect("it is there");
    for source in sources.flatten().map(|entry| entry.path()).filter(|path| path.is_file()) {
        let name = source.file_name().expect("it has one").to_owned();
        if !name.to_string_lossy().ends_with(".so") {
            std::fs::copy(&source, package.join(name)).expect("a copy");
        }
    }
    let built = std::env::current_exe().expect("it has a path");
    let built = built.ancestors().nth(2).expect("the directory of the profile").join("lib_econtext.so");
    std::fs::copy(built, package.join("_econtext.abi3.so")).expect("a copy");
    run(Command::new(&python.path).args(["-c", EXAMPLES]).current_dir("/").env("PYTHONPATH", stage.path()));
}
