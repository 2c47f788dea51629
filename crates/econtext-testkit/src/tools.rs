//! One probe for each thing that a test needs and that a machine may lack: programs, root, a free sudo.
//!
//! Each probe says what is missing, as [`skip`] does.

use crate::skip;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Directories of programs for administrators, which are not on every account's PATH.
const ADMINISTRATORS: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/sbin"];

/// The path of a program, if it is there. Nothing is said.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(ADMINISTRATORS.map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
}

/// Whether a program is there; if not, that is said.
#[must_use]
pub fn has(program: &str) -> bool {
    let found = find(program).is_some();
    if !found {
        skip(program);
    }
    found
}

/// Whether all of these programs are there; the first one that is missing is named.
#[must_use]
pub fn has_all(programs: &[&str]) -> bool {
    programs.iter().all(|program| has(program))
}

/// Whether the tests run as root; if not, that is said.
#[must_use]
pub fn is_root(purpose: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        skip(&format!("root, for {purpose}"));
    }
    is_root
}

/// Whether sudo is there and lets this account run as root without a password; if not, that is said.
#[must_use]
pub fn sudo_is_free() -> bool {
    if !has("sudo") {
        return false;
    }
    let answer = Command::new("sudo").args(["-n", "true"]).stdin(Stdio::null()).output();
    let is_free = answer.is_ok_and(|output| output.status.success());
    if !is_free {
        skip("sudo without a password");
    }
    is_free
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_and_others_are_not() {
        assert!(find("sh").is_some_and(|path| path.is_absolute()));
        assert_eq!(find("no-such-program-here"), None);
        // A directory and a file that cannot be run are not programs.
        assert_eq!((find("."), find("../etc/passwd")), (None, None));
    }
}
