//! `--outdir`: the output and the outcome of each host, in files.

use super::events::Event;
use econtext_fleet::{below, file_name};
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// The files of all hosts, below one directory.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    /// The files that this run has begun; it overwrites those of earlier runs.
    begun: HashSet<String>,
    error: Option<io::Error>,
}

impl Files {
    pub(super) fn create(directory: &Path) -> io::Result<Self> {
        let named = |e: io::Error| io::Error::new(e.kind(), format!("--outdir {}: {e}", directory.display()));
        fs::create_dir_all(directory).map_err(named)?;
        Ok(Files { directory: directory.to_owned(), begun: HashSet::new(), error: None })
    }

    pub(super) fn output(&mut self, host: &str, fd: u8, data: &[u8]) {
        self.append(host, if fd == 2 { "stderr" } else { "stdout" }, data);
    }

    pub(super) fn result(&mut self, host: &str, event: &Event) {
        // A host that printed nothing has an empty file, and not that of an earlier run.
        self.append(host, "stdout", b"");
        self.append(host, "stderr", b"");
        self.append(host, "json", event.clone().into_line().as_bytes());
    }

    /// The first error.
    pub(super) fn error(&self) -> Option<&io::Error> {
        self.error.as_ref()
    }

    /// Appends to a file of a host. Files are not kept open: there may be more of them than this
    /// process may have.
    fn append(&mut self, host: &str, kind: &str, data: &[u8]) {
        let name = format!("{}.{kind}", file_name(host));
        let first = !self.begun.contains(&name);
        if first || !data.is_empty() {
            let path = below(&self.directory, &name);
            let write = || -> io::Result<()> {
                let mut file = match first {
                    true => File::create(&path)?,
                    false => OpenOptions::new().append(true).open(&path)?,
                };
                file.write_all(data)
            };
            if let Err(error) = write() {
                self.error.get_or_insert(error);
            }
            self.begun.insert(name);
        }
    }
}
