//! The options of a transfer, its progress and its results.

use crate::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The options of a transfer, beside the copy of contents.
///
/// ```no_run
/// # fn f(web: &econtext::Context) -> Result<(), econtext::Error> {
/// use econtext::transfer::TransferOptions;
/// let options = TransferOptions { mode: Some(0o640), backup: true, ..Default::default() };
/// web.put(&["app.conf"], "/etc/app.conf", &options.owned_by("root:adm"), |_| {})?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
pub struct TransferOptions {
    /// Whether mode and times are kept, and the owner where the receiver may set it.
    pub preserve: bool,
    /// Whether symbolic links are copied as such. Otherwise their targets are copied.
    pub links: bool,
    /// The permissions of the files of a `put`; directories may be entered by those that may read
    /// them. By default a file that is replaced keeps its own, and a new one has those of its
    /// source without the bits of the umask there.
    pub mode: Option<u32>,
    /// The owner of the files and directories of a `put`, a name or number there.
    pub owner: Option<String>,
    /// The group of the files and directories of a `put`, a name or number there.
    pub group: Option<String>,
    /// Whether a file that a `put` replaces is kept, as `NAME.2026-11-28-06:38:46~`.
    pub backup: bool,
    /// The time that the whole transfer may take.
    pub timeout: Option<Duration>,
    /// A flag that ends the transfer as cancelled, at the next piece, once it is set.
    pub stop: Option<Arc<AtomicBool>>,
}

impl TransferOptions {
    /// Sets an owner and group as for chown: `root`, `root:adm` or `:adm`.
    #[must_use]
    pub fn owned_by(mut self, names: &str) -> Self {
        let (owner, group) = names.split_once(':').unwrap_or((names, ""));
        let name = |name: &str| Some(name.to_owned()).filter(|name| !name.is_empty());
        (self.owner, self.group) = (name(owner), name(group));
        self
    }

    pub(super) fn check(&self, host: &str) -> Result<(), Error> {
        match &self.stop {
            Some(stop) if stop.load(Ordering::Relaxed) => Err(Error::Cancelled { host: host.to_owned() }),
            _ => Ok(()),
        }
    }
}

/// A file of a [`put`](crate::Context::put), and the file that is in its place: see
/// [`compare`](crate::Context::compare).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Comparison {
    /// The file here.
    pub source: PathBuf,
    /// The size in bytes.
    pub size: u64,
    /// The SHA-1 of the content.
    pub digest: Vec<u8>,
    /// The permissions.
    pub mode: u32,
    /// The path that it goes to there.
    pub path: PathBuf,
    /// The file that is there.
    pub there: Option<FileThere>,
}

/// A file there.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FileThere {
    /// The size in bytes.
    pub size: u64,
    /// The SHA-1 of the content.
    pub digest: Vec<u8>,
    /// The permissions.
    pub mode: u32,
    /// The name of its owner, or the number where there is no name.
    pub owner: String,
    /// The name of its group, or the number.
    pub group: String,
    /// The content, if that is no more than was asked for.
    pub content: Option<Vec<u8>>,
}

impl Comparison {
    /// Whether the content is the same.
    pub fn is_same(&self) -> bool {
        self.there.as_ref().is_some_and(|there| there.digest == self.digest)
    }
}

/// A file or directory that a [`get`](crate::Context::get) would copy: see [`list`](crate::Context::list).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Listed {
    /// The name, relative to the directory that it would be copied into.
    pub name: PathBuf,
    /// The path there.
    pub path: PathBuf,
    /// The size in bytes, if it is a file.
    pub size: Option<u64>,
    /// The permissions.
    pub mode: u32,
}

/// The progress of a transfer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// The file, as named in the transfer.
    pub name: &'a Path,
    /// The size in bytes.
    pub size: u64,
    /// The bytes of it that are there.
    pub done: u64,
    /// The bytes of all files of the transfer.
    pub total: u64,
    /// The bytes of all files that are there.
    pub total_done: u64,
}

/// The summary of a transfer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transferred {
    /// The number of files that were written.
    pub files: u64,
    /// The number of files that were there already.
    pub skipped: u64,
    /// The bytes that crossed, without holes and without the bytes that were there already.
    pub bytes: u64,
}
