//! The hosts that the last run of a command line left undone: for `--rerun`.
//!
//! A record holds the names of hosts and the outcome of each, under a digest of the command line
//! and the working directory; the record contains neither.

use crate::args::{RerunKind, Usage};
use crate::config::base_directories;
use crate::outcome::Outcome;
use serde_json::{Map, Value as Json};
use sha1::{Digest as _, Sha1};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The number of command lines whose records are kept.
const KEPT: usize = 200;

/// The record of one command line.
#[derive(Debug)]
pub(crate) struct RunRecord {
    path: Option<PathBuf>,
}

impl RunRecord {
    /// The record of this command line, which is without `--rerun`.
    pub(crate) fn of(argv: &[OsString]) -> Self {
        use etcetera::BaseStrategy as _;
        let mut digest = Sha1::new();
        let directory = std::env::current_dir().unwrap_or_default();
        // The program's own path is no part of the digest.
        for word in std::iter::once(directory.as_os_str()).chain(argv.iter().skip(1).map(OsString::as_os_str))
        {
            digest.update(u64::try_from(word.len()).unwrap_or(u64::MAX).to_be_bytes());
            digest.update(word.as_bytes());
        }
        let name: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let state = base_directories().and_then(|base| base.state_dir());
        RunRecord { path: state.map(|state| state.join("econtext/last").join(name + ".json")) }
    }

    /// The hosts that the last run left as one of `kinds`.
    pub(crate) fn hosts(&self, kinds: &[RerunKind]) -> Result<Vec<String>, Usage> {
        let record = self.read().ok_or_else(|| {
            Usage("--rerun: no earlier run of this command line, in this directory, is on record".into())
        })?;
        let wanted = |how: &Json| kinds.iter().any(|kind| how == kind.as_str());
        Ok(record.into_iter().filter(|(_, how)| wanted(how)).map(|(host, _)| host).collect())
    }

    fn read(&self) -> Option<Map<String, Json>> {
        let text = std::fs::read(self.path.as_ref()?).ok()?;
        match serde_json::from_slice(&text).ok()? {
            Json::Object(record) => Some(record),
            _ => None,
        }
    }

    /// Records the outcomes of hosts, on top of the earlier record if this was a rerun. Returns
    /// whether the record was written.
    pub(crate) fn write(&self, hosts: &[&str], outcomes: &[Outcome], rerun: bool) -> bool {
        let Some(path) = &self.path else { return false };
        let mut record = if rerun { self.read().unwrap_or_default() } else { Map::new() };
        for (host, outcome) in hosts.iter().zip(outcomes) {
            record.insert((*host).to_owned(), outcome.class().into());
        }
        match keep(path, &Json::Object(record).to_string()) {
            Ok(()) => true,
            Err(error) => {
                tracing::info!(path = %path.display(), %error, "this run is not on record");
                false
            }
        }
    }
}

/// Writes a record that no other user can read, and removes the oldest ones.
fn keep(path: &Path, text: &str) -> std::io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let new = path.with_extension(format!("{}.new", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    std::io::Write::write_all(&mut &file, text.as_bytes())?;
    std::fs::rename(&new, path)?;
    let mut records: Vec<(std::time::SystemTime, PathBuf)> = std::fs::read_dir(directory)?
        .filter_map(|entry| entry.ok())
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    records.sort();
    for (_, old) in records.iter().rev().skip(KEPT) {
        // Another run may have removed it already.
        let _ = std::fs::remove_file(old);
    }
    Ok(())
}
