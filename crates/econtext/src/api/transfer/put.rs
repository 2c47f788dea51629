//! Files to a child's machine.

use super::entry::{
    CHUNK, Entry, Failure, HOLES, Have, Metadata, Reporter, WINDOW, bytes, digest, os_string,
};
use super::options::{Comparison, FileThere, Progress, TransferOptions, Transferred};
use super::task::Transfer;
use crate::api::call::Call;
use crate::api::channel::Channel;
use crate::api::context::Context;
use crate::error::Error;
use econtext_proto::Value;
use econtext_proto::wire::transfer::{DATA, DIRECTORY, END, FILE, HOLE, LINK, SKIP};
use sha1::{Digest as _, Sha1};
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

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

    /// Copies as [`put`](Context::put) does, on a thread of its own. `progress` is called there.
    ///
    /// ```no_run
    /// # async fn f(web: &econtext::Context) -> Result<(), econtext::Error> {
    /// let done = web.start_put(["app.conf"], "/etc/app.conf", Default::default(), |_| {}).await?;
    /// println!("{} bytes", done.bytes);
    /// # Ok(()) }
    /// ```
    pub fn start_put<P: Into<PathBuf>>(
        &self,
        sources: impl IntoIterator<Item = P>,
        destination: impl Into<OsString>,
        options: TransferOptions,
        progress: impl Fn(Progress<'_>) + Send + 'static,
    ) -> Transfer {
        let (context, destination) = (self.clone(), destination.into());
        let sources: Vec<PathBuf> = sources.into_iter().map(Into::into).collect();
        Transfer::start(options, move |options| context.put(&sources, &destination, options, progress))
    }

    /// Compares the files of a [`put`](Context::put) with those that are there, and changes
    /// nothing. The content of files there is included if it has no more than `content` bytes.
    ///
    /// ```no_run
    /// # fn f(web: &econtext::Context) -> Result<(), econtext::Error> {
    /// for file in web.compare(&["app.conf"], "/etc/app.conf", &Default::default(), 0)? {
    ///     println!("{}: {}", file.path.display(), if file.is_same() { "the same" } else { "changed" });
    /// }
    /// # Ok(()) }
    /// ```
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
}

/// Whether a destination is a directory in any case.
fn is_into(sources: usize, destination: &OsStr) -> bool {
    sources > 1 || destination.as_bytes().ends_with(b"/")
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
