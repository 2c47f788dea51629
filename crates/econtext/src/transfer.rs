//! Files and directories to a child's machine and back: checked, atomic, and in flat memory.
//!
//! A file is written beside its name and gets it once its checksum is right. Files that are the
//! same already are skipped. The part of a file that a lost connection left is resumed, if its
//! checksum is that of the beginning.

mod part_file;

use crate::channel::Channel;
use crate::context::{Call, Context};
use crate::error::Error;
use econtext_proto::Value;
use part_file::{NO_FOLLOW, PartFile, umask};
use sha1::{Digest as _, Sha1};
use std::cell::Cell;
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown, symlink};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

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
    /// Copies files and directories to `destination` there: into it if it is a directory, ends in a
    /// slash (then it is made if it is missing), or there are several sources; else under its name.
    /// `~` is the home directory there.
    ///
    /// ```no_run
    /// # fn f(web: &econtext::Context) -> Result<(), econtext::Error> {
    /// web.put(&["app.conf"], "/etc/app.conf", &Default::default(), |_| {})?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The error of the system here or there, or the end of the child.
    pub fn put<P: AsRef<Path>>(
        &self,
        sources: &[P],
        destination: impl AsRef<OsStr>,
        options: &TransferOptions,
        progress: impl Fn(Progress<'_>),
    ) -> Result<Transferred, Error> {
        let destination = destination.as_ref();
        let entries = self.entries(sources, options)?;
        let into = is_into(sources.len(), destination);
        let files: Vec<(Value, u64)> =
            entries.iter().filter(|e| e.kind == FILE).map(|e| (bytes(&e.name), e.size)).collect();
        let look = self.timed("econtext.transfer:look", options).args((bytes(destination), into, files));
        let (destination, into, have): (Value, bool, Vec<Option<Have>>) = look.start().wait()?;
        let channel = self.channel();
        let call: Call<u64> = self
            .timed("econtext.transfer:put", options)
            .args((
                &channel,
                destination,
                into,
                options.preserve,
                options.mode,
                &options.owner,
                &options.group,
                options.backup,
            ))
            .start();
        let mut sender = Sender {
            channel: &channel,
            host: self.name(),
            options,
            in_flight: 0,
            sent: Transferred::default(),
        };
        let reporter = Reporter::new(&progress, entries.iter().filter(|e| e.kind == FILE));
        let mut have = have.into_iter();
        let mut result = Ok(());
        for entry in &entries {
            result = match entry.kind {
                FILE => sender.file(entry, have.next().flatten(), &reporter),
                LINK => sender.send((LINK, bytes(&entry.name), bytes(&entry.target))),
                _ => sender.send((entry.kind, bytes(&entry.name), entry.metadata)),
            };
            if result.is_err() {
                break;
            }
        }
        let sent = sender.sent;
        channel.close();
        // If the other side failed, that is the reason.
        call.wait()?;
        result.map_err(|failure| failure.into_error(self))?;
        Ok(sent)
    }

    /// Compares the files of a [`put`](Context::put) with those that are there, and changes
    /// nothing. The content of files there is included if it has no more than `content` bytes.
    ///
    /// # Errors
    /// The errors of [`put`](Context::put).
    pub fn compare<P: AsRef<Path>>(
        &self,
        sources: &[P],
        destination: impl AsRef<OsStr>,
        options: &TransferOptions,
        content: u64,
    ) -> Result<Vec<Comparison>, Error> {
        let destination = destination.as_ref();
        let entries: Vec<Entry> =
            self.entries(sources, options)?.into_iter().filter(|e| e.kind == FILE).collect();
        let files: Vec<(Value, u64)> = entries.iter().map(|e| (bytes(&e.name), e.size)).collect();
        type There = (Value, Option<u64>, Value, Option<u32>, Option<String>, Option<String>, Value);
        let survey = self.timed("econtext.transfer:survey", options);
        let into = is_into(sources.len(), destination);
        let survey = survey.args((bytes(destination), into, files, content)).start::<Vec<There>>();
        let mut found = Vec::new();
        for (entry, there) in entries.into_iter().zip(survey.wait()?) {
            let (path, size, theirs, mode, owner, group, content) = there;
            let file = File::open(&entry.path);
            let sha = file.and_then(|mut file| digest(&mut file, entry.size));
            let sha = sha.map_err(|e| self.local_error(&entry.path, e))?.unwrap_or_default();
            let there = size.zip(mode).map(|(size, mode)| FileThere {
                size,
                digest: theirs.as_bytes().unwrap_or_default().to_vec(),
                mode,
                owner: owner.unwrap_or_default(),
                group: group.unwrap_or_default(),
                content: content.as_bytes().map(<[u8]>::to_vec),
            });
            found.push(Comparison {
                source: entry.path,
                size: entry.size,
                digest: sha.finalize().to_vec(),
                mode: entry.metadata.0,
                path: os_string(&path).into(),
                there,
            });
        }
        Ok(found)
    }

    /// The entries that a [`put`](Context::put) sends.
    fn entries<P: AsRef<Path>>(&self, sources: &[P], options: &TransferOptions) -> Result<Vec<Entry>, Error> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut names: HashSet<OsString> = HashSet::new();
        for source in sources {
            let source = source.as_ref();
            let name = base_name(source).map_err(|e| self.local_error(source, e))?;
            if !names.insert(name.clone()) {
                let message = format!("two sources would be called {} there", name.display());
                return Err(Error::Usage(message));
            }
            walk(name, source, options.links, &mut Vec::new(), &mut entries)
                .map_err(|(path, e)| self.local_error(&path, e))?;
        }
        Ok(entries)
    }

    /// Lists the files and directories that a [`get`](Context::get) of `sources` would copy.
    ///
    /// # Errors
    /// The errors of [`get`](Context::get).
    pub fn list<S: AsRef<OsStr>>(
        &self,
        sources: &[S],
        options: &TransferOptions,
    ) -> Result<Vec<Listed>, Error> {
        let found = self.listing(sources, options)?.into_iter();
        Ok(found
            .map(|entry| Listed {
                name: entry.name.into(),
                path: entry.path,
                size: (entry.kind == FILE).then_some(entry.size),
                mode: entry.metadata.0,
            })
            .collect())
    }

    /// Lists the entries below paths there, by names that do not lead elsewhere here.
    fn listing<S: AsRef<OsStr>>(
        &self,
        sources: &[S],
        options: &TransferOptions,
    ) -> Result<Vec<Entry>, Error> {
        let sources: Vec<Value> = sources.iter().map(|s| bytes(s.as_ref())).collect();
        let listing = self.timed("econtext.transfer:listing", options).args((sources, options.links));
        type Found = (Value, Value, i64, u64, Value, Metadata);
        let listed: Vec<Found> = listing.start().wait()?;
        let mut entries = Vec::new();
        for (name, path, kind, size, target, metadata) in listed {
            let name = os_string(&name);
            // A hostile child must not choose where its files go.
            let plain = Path::new(&name).components().all(|part| matches!(part, Component::Normal(_)));
            if !plain || name.is_empty() {
                let message = format!("a file called {}", name.display());
                return Err(Error::Protocol { host: self.name().to_owned(), message });
            }
            entries.push(Entry {
                name,
                path: os_string(&path).into(),
                kind,
                size,
                target: os_string(&target),
                metadata,
            });
        }
        // The child must not choose it by a link that it sends first, either.
        let links: Vec<&OsString> = entries.iter().filter(|e| e.kind == LINK).map(|e| &e.name).collect();
        if let Some(entry) = entries.iter().find(|e| {
            links
                .iter()
                .any(|link| Path::new(&e.name) != Path::new(link) && Path::new(&e.name).starts_with(link))
        }) {
            let message = format!("a file behind a link: {}", entry.name.display());
            return Err(Error::Protocol { host: self.name().to_owned(), message });
        }
        Ok(entries)
    }

    /// Copies files and directories from there into a local directory, which is made if it is missing. A source that is not
    /// there and has wildcards (`*`, `?`, `[`) stands for all that match.
    ///
    /// # Errors
    /// The error of the system here or there, or the end of the child.
    pub fn get<S: AsRef<OsStr>>(
        &self,
        sources: &[S],
        directory: &Path,
        options: &TransferOptions,
        progress: impl Fn(Progress<'_>),
    ) -> Result<Transferred, Error> {
        let failed = |path: &Path, e: io::Error| self.local_error(path, e);
        fs::create_dir_all(directory).map_err(|e| failed(directory, e))?;
        let entries = self.listing(sources, options)?;
        for entry in entries.iter().filter(|e| e.kind == DIRECTORY) {
            let path = directory.join(&entry.name);
            // A link that lies there, perhaps from the last time, must not lead the files elsewhere.
            let is_directory = || fs::symlink_metadata(&path).is_ok_and(|m| m.is_dir());
            match fs::create_dir(&path) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists || !is_directory() => {
                    return Err(failed(&path, e));
                }
                _ => {}
            }
        }
        let files: Vec<&Entry> = entries.iter().filter(|e| e.kind == FILE).collect();
        let mut wanted = Vec::new();
        for entry in &files {
            let have =
                local_have(&directory.join(&entry.name), entry.size).map_err(|e| failed(&entry.path, e))?;
            let (offset, digest, whole) = have.unwrap_or((0, Value::None, false));
            wanted.push((bytes(entry.path.as_os_str()), offset, digest, whole));
        }
        let whole: Vec<bool> = wanted.iter().map(|(.., whole)| *whole).collect();
        let channel = self.channel();
        let call: Call<()> =
            self.timed("econtext.transfer:get", options).args((&channel, wanted, WINDOW)).start();
        let mut receiver = Receiver {
            channel: &channel,
            host: self.name(),
            directory,
            options,
            reporter: Reporter::new(&progress, files.iter().copied()),
            received: Transferred::default(),
        };
        let result = files.iter().zip(whole).try_for_each(|(entry, whole)| receiver.file(entry, whole));
        let received = receiver.received;
        if result.is_err() {
            call.cancel();
        }
        channel.close();
        let known = matches!(result, Err(Failure::Local(..) | Failure::Wrong(_)));
        if let (Err(error), false) = (call.wait(), known) {
            return Err(error);
        }
        result.map_err(|failure| failure.into_error(self))?;
        for entry in entries.iter().filter(|e| e.kind == LINK) {
            let path = directory.join(&entry.name);
            let same = fs::read_link(&path).is_ok_and(|target| target.as_os_str() == entry.target);
            if !same {
                let _ = fs::remove_file(&path); // a failure shows up in the next line
                symlink(&entry.target, &path).map_err(|e| failed(&path, e))?;
            }
        }
        if options.preserve {
            for entry in entries.iter().rev().filter(|e| e.kind == DIRECTORY) {
                let path = directory.join(&entry.name);
                set_metadata(&path, &entry.metadata).map_err(|e| failed(&path, e))?;
            }
        }
        Ok(received)
    }

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

/// Whether a destination is a directory in any case.
fn is_into(sources: usize, destination: &OsStr) -> bool {
    sources > 1 || destination.as_bytes().ends_with(b"/")
}

fn bytes(text: &OsStr) -> Value {
    Value::Bytes(text.as_bytes().to_vec())
}

fn os_string(value: &Value) -> OsString {
    OsString::from_vec(value.as_bytes().unwrap_or_default().to_vec())
}

fn base_name(path: &Path) -> io::Result<OsString> {
    match path.file_name() {
        Some(name) => Ok(name.to_owned()),
        // The paths `.` and `..` have a name too.
        None => fs::canonicalize(path)?
            .file_name()
            .map(OsStr::to_owned)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it has no name")),
    }
}

fn metadata_of(metadata: &fs::Metadata) -> Metadata {
    let time = metadata.mtime() as f64 + metadata.mtime_nsec() as f64 / 1e9;
    (metadata.mode() & 0o7777, metadata.uid(), metadata.gid(), time)
}

/// Lists all entries below a path, directories first.
fn walk(
    name: OsString,
    path: &Path,
    links: bool,
    above: &mut Vec<(u64, u64)>,
    found: &mut Vec<Entry>,
) -> Result<(), (PathBuf, io::Error)> {
    let failed = |e| (path.to_owned(), e);
    let metadata = if links { fs::symlink_metadata(path) } else { fs::metadata(path) }.map_err(failed)?;
    let mut entry = Entry {
        name: name.clone(),
        path: path.to_owned(),
        kind: FILE,
        size: metadata.len(),
        target: OsString::new(),
        metadata: metadata_of(&metadata),
    };
    if metadata.is_symlink() {
        entry.kind = LINK;
        entry.target = fs::read_link(path).map_err(failed)?.into_os_string();
    } else if metadata.is_dir() {
        entry.kind = DIRECTORY;
        found.push(entry);
        let me = (metadata.dev(), metadata.ino());
        if above.contains(&me) {
            return Err(failed(io::Error::other("a directory that is in itself")));
        }
        above.push(me);
        let mut names: Vec<OsString> = fs::read_dir(path)
            .map_err(failed)?
            .map(|e| e.map(|e| e.file_name()))
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        names.sort();
        for inner in names {
            walk(Path::new(&name).join(&inner).into_os_string(), &path.join(&inner), links, above, found)?;
        }
        above.pop();
        return Ok(());
    } else if !metadata.is_file() {
        // A device or socket among files is left out; by itself it is a mistake.
        return match Path::new(&name).components().count() {
            1 => Err((
                path.to_owned(),
                io::Error::new(io::ErrorKind::InvalidInput, "neither a file nor a directory"),
            )),
            _ => Ok(()),
        };
    }
    found.push(entry);
    Ok(())
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

/// The sender of entries, with no more on the way than the window.
struct Sender<'a> {
    channel: &'a Channel,
    host: &'a str,
    options: &'a TransferOptions,
    in_flight: usize,
    sent: Transferred,
}

impl Sender<'_> {
    fn send(&self, message: impl serde::Serialize) -> Result<(), Failure> {
        Ok(self.channel.send(&message)?)
    }

    /// Sends data once there is room in the window.
    fn data(&mut self, data: &[u8]) -> Result<(), Failure> {
        self.options.check(self.host)?;
        while self.in_flight + data.len() > WINDOW {
            match self.channel.recv::<usize>()? {
                Some(n) => self.in_flight = self.in_flight.saturating_sub(n),
                None => return Err(Failure::Ended),
            }
        }
        self.in_flight += data.len();
        self.sent.bytes += data.len() as u64;
        self.send((DATA, serde_bytes::Bytes::new(data)))
    }

    fn file(&mut self, entry: &Entry, have: Option<Have>, reporter: &Reporter<'_>) -> Result<(), Failure> {
        let failed = |e| Failure::Local(entry.path.clone(), e);
        let mut file = File::open(&entry.path).map_err(failed)?;
        let name = bytes(&entry.name);
        let mut offset = 0;
        let mut sha = Sha1::new();
        if let Some((size, theirs, whole)) = have {
            let ours = digest(&mut file, size).map_err(failed)?;
            match ours.filter(|ours| theirs.as_bytes() == Some(&ours.clone().finalize()[..])) {
                Some(_) if whole => {
                    self.sent.skipped += 1;
                    reporter.finish(&entry.name, entry.size);
                    return self.send((SKIP, name, entry.metadata));
                }
                Some(ours) => (offset, sha) = (size, ours),
                None => {}
            }
            file.seek(io::SeekFrom::Start(offset)).map_err(failed)?;
        }
        self.send((FILE, name, entry.size, offset, entry.metadata))?;
        let mut buffer = vec![0; CHUNK];
        let (mut done, mut hole) = (offset, 0);
        while done < entry.size {
            let want = usize::try_from(entry.size - done).unwrap_or(CHUNK).min(CHUNK);
            let n = match file.read(&mut buffer[..want]) {
                Ok(0) => {
                    let error =
                        io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter while it was read");
                    return Err(failed(error));
                }
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(failed(e)),
            };
            let data = &buffer[..n];
            sha.update(data);
            done += n as u64;
            if is_zero(data) {
                hole += n as u64;
                if hole >= HOLES {
                    self.send((HOLE, std::mem::take(&mut hole)))?;
                }
                continue;
            }
            if hole > 0 {
                self.send((HOLE, std::mem::take(&mut hole)))?;
            }
            self.data(data)?;
            reporter.report(&entry.name, entry.size, done);
        }
        if hole > 0 {
            self.send((HOLE, hole))?;
        }
        self.send((END, serde_bytes::Bytes::new(&sha.finalize())))?;
        self.sent.files += 1;
        reporter.finish(&entry.name, entry.size);
        Ok(())
    }
}

fn is_zero(data: &[u8]) -> bool {
    // The data is compared with itself, shifted: that is as fast as memory.
    data.first() == Some(&0) && data[..data.len() - 1] == data[1..]
}

/// The part of a file of that size that is here.
fn local_have(path: &Path, size: u64) -> io::Result<Option<Have>> {
    for (candidate, whole) in [(path.to_owned(), true), (PartFile::path_of(path), false)] {
        let Ok(metadata) = fs::symlink_metadata(&candidate) else { continue };
        if metadata.is_file() && (if whole { metadata.len() == size } else { metadata.len() <= size }) {
            let found = digest(&mut File::open(&candidate)?, metadata.len())?;
            return Ok(found.map(|sha| (metadata.len(), Value::Bytes(sha.finalize().to_vec()), whole)));
        }
    }
    Ok(None)
}

/// The receiver of files.
struct Receiver<'a> {
    channel: &'a Channel,
    host: &'a str,
    directory: &'a Path,
    options: &'a TransferOptions,
    reporter: Reporter<'a>,
    received: Transferred,
}

impl Receiver<'_> {
    fn next(&self) -> Result<Value, Failure> {
        self.options.check(self.host)?;
        self.channel.recv::<Value>()?.ok_or(Failure::Ended)
    }

    fn wrong(&self, entry: &Entry, what: &str) -> Failure {
        let message = format!("{}: {what}", entry.path.display());
        Failure::Wrong(Error::Protocol { host: self.host.to_owned(), message })
    }

    fn malformed(&self, entry: &Entry) -> Failure {
        self.wrong(entry, "a malformed message about it")
    }

    /// Receives one file; `whole` says that it is here, and may be skipped.
    fn file(&mut self, entry: &Entry, whole: bool) -> Result<(), Failure> {
        let path = self.directory.join(&entry.name);
        let failed = |e| Failure::Local(path.clone(), e);
        let first = self.next()?;
        let (size, offset) = match first.as_seq() {
            Some([Value::Int(SKIP)]) if whole => {
                self.received.skipped += 1;
                self.reporter.finish(&entry.name, entry.size);
                return if self.options.preserve {
                    set_metadata(&path, &entry.metadata).map_err(failed)
                } else {
                    Ok(())
                };
            }
            Some([Value::Int(FILE), Value::Int(size @ 0..), Value::Int(offset @ 0..)]) => {
                (*size as u64, *offset as u64)
            }
            _ => return Err(self.malformed(entry)),
        };
        if fs::symlink_metadata(&path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "what is there is no file")));
        }
        let mut part = PartFile::open(&path, offset).map_err(failed)?;
        let filled = self
            .fill(&mut part.file, entry, &path, (size, offset))
            .and_then(|()| self.permit(&part.path, entry, &path));
        match filled {
            Ok(()) => part.finish(&path).map_err(failed)?,
            Err(failure) => {
                // A failure here would happen again; the part that a lost connection leaves is
                // worth keeping.
                if matches!(failure, Failure::Local(..) | Failure::Wrong(_)) {
                    part.remove();
                }
                return Err(failure);
            }
        }
        self.received.files += 1;
        self.reporter.finish(&entry.name, size);
        Ok(())
    }

    /// Receives the bytes behind the first `offset` of a file, and checks the whole.
    fn fill(
        &mut self,
        file: &mut File,
        entry: &Entry,
        path: &Path,
        (size, offset): (u64, u64),
    ) -> Result<(), Failure> {
        let failed = |e| Failure::Local(path.to_owned(), e);
        let mut sha = digest(file, offset).map_err(failed)?.ok_or_else(|| self.malformed(entry))?;
        file.set_len(offset).map_err(failed)?;
        let zeros = vec![0; CHUNK];
        let mut done = offset;
        let expected = loop {
            let message = self.next()?;
            match message.as_seq() {
                Some([Value::Int(DATA), data]) => {
                    let data = data.as_bytes().ok_or_else(|| self.malformed(entry))?;
                    file.write_all(data).map_err(failed)?;
                    sha.update(data);
                    done += data.len() as u64;
                    self.received.bytes += data.len() as u64;
                    self.channel.send(&data.len())?;
                    self.reporter.report(&entry.name, size, done);
                }
                Some([Value::Int(HOLE), Value::Int(n)]) if (1..=2 * HOLES as i64).contains(n) => {
                    file.seek(io::SeekFrom::Current(*n)).map_err(failed)?;
                    let mut left = *n as u64;
                    while left > 0 && done <= size {
                        let n = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
                        sha.update(&zeros[..n]);
                        left -= n as u64;
                        done += n as u64;
                    }
                }
                Some([Value::Int(END), digest]) => break digest.as_bytes().unwrap_or_default().to_vec(),
                _ => return Err(self.malformed(entry)),
            }
            if done > size {
                return Err(self.malformed(entry));
            }
        };
        file.set_len(size).map_err(failed)?;
        match sha.finalize()[..] == expected[..] {
            true => Ok(()),
            false => Err(self.wrong(entry, "the checksum is wrong")),
        }
    }

    /// Gives the part the mode that the file is to have, or more than that.
    fn permit(&self, part: &Path, entry: &Entry, path: &Path) -> Result<(), Failure> {
        let result = if self.options.preserve {
            set_metadata(part, &entry.metadata)
        } else {
            let new = || entry.metadata.0 & 0o777 & !umask();
            let mode = fs::metadata(path).map_or_else(|_| new(), |m| m.permissions().mode());
            fs::set_permissions(part, fs::Permissions::from_mode(mode & 0o7777))
        };
        result.map_err(|e| Failure::Local(path.to_owned(), e))
    }
}

fn set_metadata(path: &Path, (mode, uid, gid, mtime): &Metadata) -> io::Result<()> {
    // The metadata of a link's target is never changed.
    let file = File::options().read(true).custom_flags(NO_FOLLOW).open(path)?;
    let distance = Duration::try_from_secs_f64(mtime.abs()).map_err(io::Error::other)?;
    let time = match *mtime < 0.0 {
        true => SystemTime::UNIX_EPOCH.checked_sub(distance),
        false => SystemTime::UNIX_EPOCH.checked_add(distance),
    };
    let time = time.ok_or_else(|| io::Error::other("its time is none of this system"))?;
    file.set_times(fs::FileTimes::new().set_modified(time).set_accessed(time))?;
    if rustix::process::geteuid().is_root() {
        fchown(&file, Some(*uid), Some(*gid))?;
    }
    // The mode comes after the owner, whose change clears some bits.
    file.set_permissions(fs::Permissions::from_mode(*mode))
}
