//! The shared parts of econtext's tests: the machine's Pythons, real packages, a private sshd, guards against leftovers.
//!
//! A test whose component is missing says so and passes, unless `ECONTEXT_TEST_ALL` is set: then it fails.

pub mod containers;
pub mod files;
pub mod processes;
pub mod pythons;
pub mod sshd;
pub mod terminal;
pub mod tools;

use std::path::{Path, PathBuf};

/// Says loudly that a test cannot run here. Where everything must run, it fails the test.
///
/// # Panics
/// If `ECONTEXT_TEST_ALL` is set.
pub fn skip(what: &str) {
    assert!(
        std::env::var_os("ECONTEXT_TEST_ALL").is_none(),
        "{what} is missing, and ECONTEXT_TEST_ALL is set"
    );
    eprintln!("SKIPPED: {what} is missing; .ci/setup installs it");
}

/// A path below the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The directory of real packages that `.ci/setup` makes: jinja2, markupsafe with its compiled part, six, bottle.
pub fn site_packages() -> Option<PathBuf> {
    let site = repository("target/site");
    site.join(".complete").exists().then_some(site)
}
