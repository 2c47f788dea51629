//! The Pythons of this machine.

use crate::component::{repository, skip};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The versions that econtext claims to work on.
pub const CLAIMED: [&str; 10] = ["2.7", "3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14"];

/// One interpreter.
#[derive(Clone, Debug)]
pub struct Python {
    /// Its version, as `3.11`.
    pub minor: String,
    /// The program to run.
    pub path: PathBuf,
    /// Whether it runs in a root file system of its own.
    pub chroot: bool,
}

impl Python {
    /// Whether it is a Python 3.
    pub fn is_3(&self) -> bool {
        self.minor.starts_with('3')
    }

    /// Its path as text.
    pub fn to_arg(&self) -> String {
        self.path.display().to_string()
    }
}

/// One Python of each claimed version, oldest first; a missing one is skipped loudly.
pub fn all() -> Vec<Python> {
    static FOUND: OnceLock<BTreeMap<String, Python>> = OnceLock::new();
    let found = FOUND.get_or_init(find);
    let mut pythons = Vec::new();
    for minor in CLAIMED {
        match found.get(minor) {
            Some(python) => pythons.push(python.clone()),
            None => skip(&format!("Python {minor}")),
        }
    }
    assert!(!pythons.is_empty(), "no Python on this machine");
    pythons
}

/// The few Pythons that differ most: the oldest, one in the middle, the newest.
pub fn some() -> Vec<Python> {
    all().into_iter().filter(|p| ["2.7", "3.6", "3.11", "3.13"].contains(&p.minor.as_str())).collect()
}

/// Some Python 3 of this machine's own file system.
pub fn any() -> Python {
    let pythons = all();
    pythons
        .iter()
        .rev()
        .find(|p| !p.chroot && p.minor != "3.14")
        .or(pythons.first())
        .expect("all() found one")
        .clone()
}

fn find() -> BTreeMap<String, Python> {
    let mut candidates: Vec<PathBuf> = Vec::new();
    if let Some(path) = std::env::var_os("PATH") {
        for directory in std::env::split_paths(&path).filter(|d| !d.ends_with("shims")) {
            candidates.extend(CLAIMED.iter().map(|v| directory.join(format!("python{v}"))));
        }
    }
    if let Ok(output) = Command::new("pyenv").arg("root").output() {
        let root = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        let versions = fs::read_dir(root.join("versions")).into_iter().flatten().flatten();
        candidates.extend(versions.map(|v| v.path().join("bin/python")));
    }
    let mut found = BTreeMap::new();
    for path in candidates.iter().filter(|p| p.exists()) {
        if let Some(minor) = version(path) {
            found.entry(minor.clone()).or_insert_with(|| Python { minor, path: path.clone(), chroot: false });
        }
    }
    if let Some(python) = in_chroot() {
        found.entry(python.minor.clone()).or_insert(python);
    }
    found
}

/// The root file system with Python 3.14 that `.ci/setup` makes.
pub fn forky() -> Option<PathBuf> {
    let root = repository("target/roots/forky");
    root.join(".complete").exists().then(|| root.canonicalize().expect("it exists"))
}

fn in_chroot() -> Option<Python> {
    let root = forky()?;
    let wrapper = repository("target/roots/python-in-forky");
    let own = wrapper.with_extension(std::process::id().to_string());
    fs::write(&own, format!("#!/bin/sh\nexec chroot {} /usr/bin/python3 \"$@\"\n", root.display())).ok()?;
    fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).ok()?;
    fs::rename(&own, &wrapper).ok()?; // tests run side by side: the file is whole, or not there
    Some(Python { minor: version(&wrapper)?, path: wrapper, chroot: true })
}

fn version(python: &Path) -> Option<String> {
    let output = Command::new(python)
        .args(["-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    CLAIMED.contains(&text.as_str()).then_some(text)
}
