//! Files from a child's machine.

use super::entry::{
    CHUNK, Entry, Failure, HOLES, Have, Metadata, Reporter, WINDOW, bytes, digest, os_string,
};
use super::options::{Listed, Progress, TransferOptions, Transferred};
use super::part_file::{NO_FOLLOW, PartFile, umask};
use super::task::Transfer;
use crate::api::call::Call;
use crate::api::channel::Channel;
use crate::api::context::Context;
use crate::error::Error;
use econtext_proto::Value;
use econtext_proto::wire::transfer::{DATA, DIRECTORY, END, FILE, HOLE, LINK, SKIP};
use sha1::Digest as _;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, fchown, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

impl Context {
    /// Lists the files and directories that a [`get`](Context::get) of `sources` would copy.
    ///
    /// ```no_run
    /// # fn f(web: &econtext::Context) -> Result<(), econtext::Error> {
    /// for file in web.list(&["/var/log/app"], &Default::default())? {
    ///     println!("{} {:?}", file.name.display(), file.size);
    /// }
    /// # Ok(()) }
    /// ```
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
    /// ```no_run
    /// # fn f(web: &econtext::Context) -> Result<(), econtext::Error> {
    /// let got = web.get(&["/var/log/app/*.log"], "logs".as_ref(), &Default::default(), |_| {})?;
    /// println!("{} files, {} bytes", got.files, got.bytes);
    /// # Ok(()) }
    /// ```
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

    /// Copies as [`get`](Context::get) does, on a thread of its own. `progress` is called there.
    ///
    /// ```no_run
    /// # async fn f(web: &econtext::Context) -> Result<(), econtext::Error> {
    /// let logs = web.start_get(["/var/log/app/*.log"], "logs", Default::default(), |_| {});
    /// println!("{} files", logs.await?.files);
    /// # Ok(()) }
    /// ```
    pub fn start_get<S: Into<OsString>>(
        &self,
        sources: impl IntoIterator<Item = S>,
        directory: impl Into<PathBuf>,
        options: TransferOptions,
        progress: impl Fn(Progress<'_>) + Send + 'static,
    ) -> Transfer {
        let (context, directory) = (self.clone(), directory.into());
        let sources: Vec<OsString> = sources.into_iter().map(Into::into).collect();
        Transfer::start(options, move |options| context.get(&sources, &directory, options, progress))
    }
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
