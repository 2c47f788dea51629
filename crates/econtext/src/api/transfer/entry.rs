//! The entries of a transfer, and what both directions need for them.

use super::options::{Progress, TransferOptions};
use crate::api::call::CallBuilder;
use crate::api::context::Context;
use crate::error::Error;
use econtext_proto::Value;
use sha1::{Digest as _, Sha1};
use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// The most bytes of a file in one message.
pub(super) const CHUNK: usize = 256 << 10;
/// The most bytes on their way that are not acknowledged.
pub(super) const WINDOW: usize = 4 << 20;
/// The most bytes of a hole in one message: holes are reported in pieces so that both sides are at
/// work.
pub(super) const HOLES: u64 = 4 << 20;

/// The reporter of the progress of a transfer.
pub(super) struct Reporter<'a> {
    progress: &'a dyn Fn(Progress<'_>),
    total: u64,
    /// The bytes of the files that are done.
    before: Cell<u64>,
}

impl<'a> Reporter<'a> {
    pub(super) fn new<'e>(
        progress: &'a dyn Fn(Progress<'_>),
        files: impl Iterator<Item = &'e Entry>,
    ) -> Self {
        Reporter { progress, total: files.map(|entry| entry.size).sum(), before: Cell::new(0) }
    }

    pub(super) fn report(&self, name: &OsStr, size: u64, done: u64) {
        let total_done = self.before.get() + done;
        (self.progress)(Progress { name: Path::new(name), size, done, total: self.total, total_done });
    }

    /// Reports that a file is there.
    pub(super) fn finish(&self, name: &OsStr, size: u64) {
        self.report(name, size, size);
        self.before.set(self.before.get() + size);
    }
}

/// The mode, owner, group and modification time.
pub(super) type Metadata = (u32, u32, u32, f64);

/// One thing to send.
pub(super) struct Entry {
    pub(super) name: OsString,
    pub(super) path: PathBuf,
    pub(super) kind: i64,
    pub(super) size: u64,
    pub(super) target: OsString,
    pub(super) metadata: Metadata,
}

impl Context {
    pub(super) fn timed(&self, target: &str, options: &TransferOptions) -> CallBuilder<'_> {
        match options.timeout {
            Some(timeout) => self.prepare(target).timeout(timeout),
            None => self.prepare(target),
        }
    }

    pub(super) fn local_error(&self, path: &Path, error: io::Error) -> Error {
        Error::local(Some(self.name()), path.display(), error)
    }
}

/// The part of a file that the other side has: bytes, their digest, and whether that is the file
/// itself.
pub(super) type Have = (u64, Value, bool);

/// The reason why a transfer stopped.
pub(super) enum Failure {
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
    pub(super) fn into_error(self, context: &Context) -> Error {
        match self {
            Failure::Local(path, error) => context.local_error(&path, error),
            Failure::Remote(error) | Failure::Wrong(error) => error,
            Failure::Ended => context.closed_error(),
        }
    }
}

pub(super) fn bytes(text: &OsStr) -> Value {
    Value::Bytes(text.as_bytes().to_vec())
}

pub(super) fn os_string(value: &Value) -> OsString {
    OsString::from_vec(value.as_bytes().unwrap_or_default().to_vec())
}

/// The digest of the first `size` bytes; `None` if there are fewer.
pub(super) fn digest(file: &mut File, size: u64) -> io::Result<Option<Sha1>> {
    let mut sha = Sha1::new();
    let read = io::copy(&mut file.take(size), &mut HashWriter(&mut sha))?;
    Ok((read == size).then_some(sha))
}

pub(super) struct HashWriter<'a>(&'a mut Sha1);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.update(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
