//! The names in directories, each directory read once until it changes.

use crate::sync::lock;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

/// The time of the last change of a path, and its size; `None` if it does not exist.
pub(super) type Stamp = Option<(SystemTime, u64)>;

/// The stamp of a file or directory as it is now.
pub(super) fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// The content of one directory.
#[derive(Debug, Default)]
pub(super) struct Listing {
    names: BTreeSet<String>,
    /// The names of compiled modules, for any platform.
    compiled: HashSet<String>,
}

impl Listing {
    fn read(directory: &Path) -> Self {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        // A cache is no package, though it is a directory of that kind of name.
        let names: BTreeSet<String> =
            entries.filter_map(|e| e.file_name().into_string().ok()).filter(|n| n != "__pycache__").collect();
        let compiled = names.iter().filter(|name| name.ends_with(".so"));
        let compiled = compiled.filter_map(|name| name.split('.').next().map(str::to_owned)).collect();
        Listing { names, compiled }
    }

    /// Whether this very name is there: some file systems do not tell cases apart.
    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    pub(super) fn is_compiled(&self, module: &str) -> bool {
        self.compiled.contains(module)
    }

    pub(super) fn has_compiled(&self) -> bool {
        !self.compiled.is_empty()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }
}

/// The listings of directories that were looked into.
#[derive(Debug, Default)]
pub(super) struct Listings(Mutex<HashMap<PathBuf, (Stamp, Arc<Listing>)>>);

impl Listings {
    /// The content of a directory now.
    pub(super) fn of(&self, directory: &Path) -> Arc<Listing> {
        let now = stamp(directory);
        if now.is_none() {
            return Arc::default();
        }
        let mut known = lock(&self.0);
        if let Some((then, listing)) = known.get(directory)
            && *then == now
        {
            return listing.clone();
        }
        let listing = Arc::new(Listing::read(directory));
        known.insert(directory.to_owned(), (now, listing.clone()));
        listing
    }
}
