//! Files and directories to a child's machine and back: checked, atomic, and in flat memory.
//!
//! A file is written beside its name and gets it once its checksum is right. Files that are the
//! same already are skipped. The part of a file that a lost connection left is resumed, if its
//! checksum is that of the beginning.

mod get;
mod part_file;
mod put;
mod task;

pub use task::Transfer;

use crate::context::Context;
use crate::error::Error;
use econtext_proto::Value;
use sha1::{Digest as _, Sha1};
use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The most bytes of a file in one message.
const CHUNK: usize = 256 << 10;
/// The most bytes on their way that are not acknowledged.
const WINDOW: usize = 4 << 20;
/// The most bytes of a hole in one message: holes are reported in pieces so that both sides are at
/// work.
const HOLES: u64 = 4 << 20;

// The kinds of messages; the same numbers are in `transfer.py`.
const DIRECTORY: i64 = 0;
const LINK: i64 = 1;
const FILE: i64 = 2;
const DATA: i64 = 3;
const HOLE: i64 = 4;
const END: i64 = 5;
const SKIP: i64 = 6;

/// The options of a transfer, beside the copy of contents.
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

    fn check(&self, host: &str) -> Result<(), Error> {
        match &self.stop {
            Some(stop) if stop.load(Ordering::Relaxed) => Err(Error::Cancelled { host: host.to_owned() }),
            _ => Ok(()),
        }
    }
}

/// A file of a [`put`](Context::put), and the file that is in its place: see
/// [`compare`](Context::compare).
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

/// A file or directory that a [`get`](Context::get) would copy: see [`list`](Context::list).
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

/// The reporter of the progress of a transfer.
struct Reporter<'a> {
    progress: &'a dyn Fn(Progress<'_>),
    total: u64,
    /// The bytes of the files that are done.
    before: Cell<u64>,
}

impl<'a> Reporter<'a> {
    fn new<'e>(progress: &'a dyn Fn(Progress<'_>), files: impl Iterator<Item = &'e Entry>) -> Self {
        Reporter { progress, total: files.map(|entry| entry.size).sum(), before: Cell::new(0) }
    }

    fn report(&self, name: &OsStr, size: u64, done: u64) {
        let total_done = self.before.get() + done;
        (self.progress)(Progress { name: Path::new(name), size, done, total: self.total, total_done });
    }

    /// Reports that a file is there.
    fn finish(&self, name: &OsStr, size: u64) {
        self.report(name, size, size);
        self.before.set(self.before.get() + size);
    }
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

/// The mode, owner, group and modification time.
type Metadata = (u32, u32, u32, f64);

/// One thing to send.
struct Entry {
    name: OsString,
    path: PathBuf,
    kind: i64,
    size: u64,
    target: OsString,
    metadata: Metadata,
}

impl Context {
    fn timed(&self, target: &str, options: &TransferOptions) -> crate::context::CallBuilder<'_> {
        match options.timeout {
            Some(timeout) => self.prepare(target).timeout(timeout),
            None => self.prepare(target),
        }
    }

    fn local_error(&self, path: &Path, error: io::Error) -> Error {
        Error::local(Some(self.name()), path.display(), error)
    }
}

/// The part of a file that the other side has: bytes, their digest, and whether that is the file
/// itself.
type Have = (u64, Value, bool);

/// The reason why a transfer stopped.
enum Failure {
    /// A file here.
    Local(PathBuf, io::Error),
    /// The child, or the way to it.
    Remote(Error),
    /// The child has sent data that cannot be right.
    Wrong(Error),
    /// The other side has ended its part, and its call says why.
    Ended,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Remote(error)
    }
}

impl Failure {
    fn into_error(self, context: &Context) -> Error {
        match self {
            Failure::Local(path, error) => context.local_error(&path, error),
            Failure::Remote(error) | Failure::Wrong(error) => error,
            Failure::Ended => context.closed_error(),
        }
    }
}

fn bytes(text: &OsStr) -> Value {
    Value::Bytes(text.as_bytes().to_vec())
}

fn os_string(value: &Value) -> OsString {
    OsString::from_vec(value.as_bytes().unwrap_or_default().to_vec())
}

/// The digest of the first `size` bytes; `None` if there are fewer.
fn digest(file: &mut File, size: u64) -> io::Result<Option<Sha1>> {
    let mut sha = Sha1::new();
    let read = io::copy(&mut file.take(size), &mut HashWriter(&mut sha))?;
    Ok((read == size).then_some(sha))
}

struct HashWriter<'a>(&'a mut Sha1);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.update(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
