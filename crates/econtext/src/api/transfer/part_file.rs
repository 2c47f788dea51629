//! The file beside its final name in which a file arrives, until it is whole.

use rustix::fs::{FlockOperation, OFlags, flock};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// The end of the name of a file that is not whole; `transfer.py` has the same.
const SUFFIX: &str = ".econtext-part";

/// The flag of `open` that keeps a symbolic link from being followed.
pub(super) const NO_FOLLOW: i32 = OFlags::NOFOLLOW.bits() as i32;

/// A file that nothing else writes, because it is locked as long as it is open.
#[derive(Debug)]
pub(super) struct PartFile {
    pub(super) path: PathBuf,
    pub(super) file: File,
}

impl PartFile {
    /// The path of the part that an earlier transfer may have left of a file.
    pub(super) fn path_of(path: &Path) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(SUFFIX);
        path.with_file_name(name)
    }

    /// Opens the part of the file `path`, at its start. It has the `offset` bytes that were seen there before, if they still
    /// are anywhere.
    ///
    /// Where another transfer writes the same file at the same time, the second has a name of its
    /// own for its part, and copies those bytes from the part of the first, or from the file that
    /// it has become.
    pub(super) fn open(path: &Path, offset: u64) -> io::Result<Self> {
        let usual = Self::path_of(path);
        let file = open_own(&usual)?;
        let (path, file, sources) = if is_mine(&file, &usual) {
            (usual, file, vec![path.to_owned()])
        } else {
            drop(file);
            let own = beside(&usual)?;
            let file = options().create_new(true).open(&own)?;
            (own, file, vec![usual, path.to_owned()])
        };
        let mut part = PartFile { path, file };
        part.complete(offset, &sources)?;
        Ok(part)
    }

    /// Copies the missing ones of the first `offset` bytes.
    fn complete(&mut self, offset: u64, sources: &[PathBuf]) -> io::Result<()> {
        let mut have = self.file.seek(io::SeekFrom::End(0))?;
        for source in sources {
            // A part that is gone may have become the next source.
            let Ok(mut from) = File::open(source) else { continue };
            if have >= offset || from.seek(io::SeekFrom::Start(have)).is_err() {
                continue;
            }
            have += io::copy(&mut from.take(offset - have), &mut self.file)?;
        }
        self.file.rewind()
    }

    /// Gives the part its final name.
    pub(super) fn finish(self, path: &Path) -> io::Result<()> {
        // The part is renamed before it is closed: after that another transfer may have its name.
        fs::rename(&self.path, path)
    }

    /// Removes the part. The content would not be used again.
    pub(super) fn remove(self) {
        // If it cannot be removed, the next transfer writes over it.
        let _ = fs::remove_file(&self.path);
    }
}

fn options() -> fs::OpenOptions {
    let mut options = File::options();
    options.read(true).write(true).custom_flags(NO_FOLLOW).mode(0o600);
    options
}

/// Opens a file of our own, new or left over: where others may write too, they may have put another
/// file there.
fn open_own(path: &Path) -> io::Result<File> {
    loop {
        match fs::symlink_metadata(path) {
            Ok(metadata) => {
                let ours = metadata.is_file()
                    && metadata.uid() == rustix::process::geteuid().as_raw()
                    && metadata.nlink() == 1;
                if ours {
                    match options().open(path) {
                        Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                        result => return result,
                    }
                }
                fs::remove_file(path)?;
            }
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            Err(_) => {}
        }
        match options().create_new(true).open(path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {} // another transfer was first
            result => return result,
        }
    }
}

/// Whether the file could be locked, and still has this name. Where there are no locks, every file can.
fn is_mine(file: &File, path: &Path) -> bool {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(e) if e == rustix::io::Errno::WOULDBLOCK => return false,
        _ => {}
    }
    let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => same(&open, &named),
        _ => false,
    }
}

/// A name that no other transfer has.
fn beside(usual: &Path) -> io::Result<PathBuf> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let mut name = usual.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{:016x}", u64::from_be_bytes(random)));
    Ok(usual.with_file_name(name))
}

/// The permissions that files made by this process do not get.
///
/// The system call that reads them sets them, for all threads. Linux has them in a file as well;
/// elsewhere our own threads take turns at least.
#[cfg_attr(
    not(target_vendor = "apple"),
    expect(clippy::useless_conversion, reason = "a mode is 16 bits on some systems")
)]
pub(super) fn umask() -> u32 {
    static TURN: Mutex<()> = Mutex::new(());
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    if let Some(mask) = found.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()) {
        return mask;
    }
    let _turn = crate::sync::lock(&TURN);
    let mask = rustix::process::umask(rustix::fs::Mode::empty());
    rustix::process::umask(mask);
    mask.bits().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_second_transfer_of_the_same_file_has_a_part_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        let mut first = PartFile::open(&path, 0).unwrap();
        first.file.write_all(b"hello world").unwrap();
        let mut second = PartFile::open(&path, 5).unwrap();
        assert_ne!(first.path, second.path);
        let mut text = String::new();
        second.file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        first.finish(&path).unwrap();
        second.remove();
        let names: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["f"]);
    }

    #[test]
    fn what_an_ended_transfer_left_is_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        PartFile::open(&path, 0).unwrap().file.write_all(b"abc").unwrap();
        let mut again = PartFile::open(&path, 3).unwrap();
        assert_eq!(again.path, PartFile::path_of(&path));
        let mut text = String::new();
        again.file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "abc");
    }
}
