//! Components that a test needs: where they are, and the word that one is missing.

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
