//! Modules and files below a list of directories, by the rules of `sys.path`.

use super::finder::{FileAnswer, record};
use super::listings::{Listings, Stamp, stamp};
use econtext_proto::{ModuleKind, ModuleRecord};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};

/// A source file over this size is not sent: it is no module that a person wrote.
const MAX_SOURCE: u64 = 32 << 20;
/// Bytes of a file in one answer.
const CHUNK: u64 = 1 << 20;
/// Directories of a package that are searched for compiled modules, or for files.
const MAX_DIRECTORIES: usize = 20_000;
/// How far down a directory is searched for a module that makes it a namespace.
const NAMESPACE_DEPTH: usize = 3;

/// A directory to look in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Root {
    /// The canonical path.
    pub(super) path: PathBuf,
    /// Whether files that belong to no package are served too.
    pub(super) data: bool,
    /// The only package or module that is served from it, if not all are.
    pub(super) only: Option<String>,
}

impl Root {
    /// Whether this root may have anything to do with a module.
    fn may_have(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| is_in(name, only) || is_in(only, name))
    }
}

/// Whether a dotted name is `package`, or in it.
pub(super) fn is_in(name: &str, package: &str) -> bool {
    name.strip_prefix(package).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// All directories, in the order in which they are looked into.
#[derive(Debug, Default)]
pub(super) struct Roots {
    roots: Vec<Root>,
    listings: Listings,
}

/// Every directory and file that an answer depends on, as each was before it was looked at.
pub(super) type Stamps = Vec<(PathBuf, Stamp)>;

/// Notes a path before it is used.
pub(super) fn note(stamps: &mut Stamps, path: &Path) {
    stamps.push((path.to_owned(), stamp(path)));
}

impl Roots {
    pub(super) fn add(&mut self, root: Root) {
        if !self.roots.contains(&root) {
            self.roots.push(root);
        }
    }

    pub(super) fn first(&self) -> Option<&Root> {
        self.roots.first()
    }

    /// The rule of PEP 420: in each root a package, then a module, ends the search; directories without
    /// `__init__` make up a namespace if nothing did.
    pub(super) fn find(&self, name: &str, used: &mut Stamps) -> Option<ModuleRecord> {
        let parts: Vec<&str> = name.split('.').collect();
        let (last, parents) = parts.split_last()?;
        let mut portions = Vec::new();
        let mut unsendable = None;
        for (root, directory) in self.directories(name, parents, used) {
            let names = self.listings.of(&directory);
            let below = |path: &Path| path.strip_prefix(root).map(|p| p.to_string_lossy().into_owned()).ok();
            let refused = |kind, reason: &str| Some(record(name, kind, reason.to_owned(), None, Vec::new()));
            let package = directory.join(last);
            let is_directory = names.has(last) && package.is_dir();
            if is_directory {
                note(used, &package);
                let inside = self.listings.of(&package);
                let init = package.join("__init__.py");
                note(used, &init);
                if inside.has("__init__.py")
                    && let Some(source) = confined(root, &init)
                {
                    let children = self.children(root, &package);
                    return Some(record(name, ModuleKind::Package, below(&init)?, Some(&source), children));
                }
                if inside.has("__init__.pyc") && !inside.has("__init__.py") && is_below(root, &package) {
                    unsendable = unsendable.or_else(|| refused(ModuleKind::Refused, BYTECODE));
                }
            }
            if names.has(&format!("{last}.py")) {
                let module = directory.join(format!("{last}.py"));
                note(used, &module);
                if let Some(source) = confined(root, &module) {
                    return Some(record(
                        name,
                        ModuleKind::Module,
                        below(&module)?,
                        Some(&source),
                        Vec::new(),
                    ));
                }
            }
            if names.is_compiled(last) && is_below(root, &directory) {
                unsendable = unsendable.or_else(|| refused(ModuleKind::Compiled, COMPILED));
            } else if names.has(&format!("{last}.pyc")) && is_below(root, &directory) {
                unsendable = unsendable.or_else(|| refused(ModuleKind::Refused, BYTECODE));
            }
            if is_directory && is_below(root, &package) {
                portions.push((root, package));
            }
        }
        if unsendable.is_some() || portions.is_empty() {
            return unsendable;
        }
        let mut children: BTreeMap<String, ModuleKind> = BTreeMap::new();
        for (root, portion) in &portions {
            for (child, kind) in self.children(root, portion) {
                children.entry(child).or_insert(kind);
            }
        }
        let children: Vec<_> = children.into_iter().collect();
        if children.is_empty() {
            return None; // a directory without a module is not meant as a namespace
        }
        Some(record(name, ModuleKind::Namespace, parts.join("/"), None, children))
    }

    /// The directories that make up the package called `parents`, each with its root.
    fn directories(&self, name: &str, parents: &[&str], used: &mut Stamps) -> Vec<(&Path, PathBuf)> {
        let roots = self.roots.iter().filter(|root| root.may_have(name));
        let mut found: Vec<(&Path, PathBuf)> = roots.map(|r| (r.path.as_path(), r.path.clone())).collect();
        for parent in parents {
            found.iter().for_each(|(_, directory)| note(used, directory));
            let mut next = Vec::new();
            for (root, directory) in found {
                let package = directory.join(parent);
                if !self.listings.of(&directory).has(parent) || !package.is_dir() {
                    continue;
                }
                if self.listings.of(&package).has("__init__.py") {
                    next = vec![(root, package)];
                    break;
                }
                if is_below(root, &package) {
                    next.push((root, package));
                }
            }
            found = next;
        }
        found.iter().for_each(|(_, directory)| note(used, directory));
        found
    }

    /// The modules directly in a directory.
    fn children(&self, root: &Path, directory: &Path) -> Vec<(String, ModuleKind)> {
        if !is_below(root, directory) {
            return Vec::new();
        }
        let mut found: BTreeMap<String, ModuleKind> = BTreeMap::new();
        for file in self.listings.of(directory).names() {
            let path = directory.join(file);
            let (name, kind) = if let Some(name) = file.strip_suffix(".py") {
                (name, ModuleKind::Module)
            } else if file.ends_with(".so") {
                (file.split('.').next().unwrap_or_default(), ModuleKind::Compiled)
            } else if let Some(name) = file.strip_suffix(".pyc") {
                (name, ModuleKind::Refused)
            } else if is_part(file) && path.join("__init__.py").is_file() {
                (file, ModuleKind::Package)
            } else if is_part(file) && has_modules(&path, NAMESPACE_DEPTH) {
                (file, ModuleKind::Namespace)
            } else {
                continue;
            };
            let link = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink());
            if name == "__init__" || !is_part(name) || link && !is_below(root, &path) {
                continue;
            }
            // The order is Python's own.
            let rank = |kind| match kind {
                ModuleKind::Package => 0,
                ModuleKind::Module => 1,
                ModuleKind::Compiled => 2,
                ModuleKind::Refused => 3,
                ModuleKind::Namespace => 4,
            };
            let known = found.entry(name.to_owned()).or_insert(kind);
            if rank(kind) < rank(*known) {
                *known = kind;
            }
        }
        found.into_iter().collect()
    }

    /// Whether there is a compiled module in a top-level package, at any depth.
    pub(super) fn has_compiled(&self, package: &str) -> bool {
        let mut directories: Vec<PathBuf> =
            self.roots.iter().map(|root| root.path.join(package)).filter(|path| path.is_dir()).collect();
        let mut left = MAX_DIRECTORIES;
        while let Some(directory) = directories.pop() {
            let listing = self.listings.of(&directory);
            if listing.has_compiled() {
                return true;
            }
            left -= 1;
            if left == 0 {
                return false;
            }
            directories.extend(
                listing
                    .names()
                    .filter(|name| is_part(name))
                    .map(|name| directory.join(name))
                    .filter(|p| p.is_dir()),
            );
        }
        false
    }

    /// The bytes of all files of a package, given by its path, if some are no modules; and the sources among them.
    ///
    /// `None` if there are only modules, or more than `limit` bytes.
    pub(super) fn data(&self, package: &str, limit: u64) -> Option<(u64, Vec<PathBuf>)> {
        let mut directories = vec![self.places(package).into_iter().find(|place| place.is_dir())?];
        let (mut size, mut has_data, mut sources) = (0, false, Vec::new());
        let mut left = MAX_DIRECTORIES;
        while let Some(directory) = directories.pop() {
            left = left.checked_sub(1)?;
            for (name, is_directory, bytes) in read_directory(&directory)? {
                let path = directory.join(&name);
                if is_directory {
                    directories.push(path);
                    continue;
                }
                size += bytes;
                if size > limit {
                    return None;
                }
                match path.extension().and_then(std::ffi::OsStr::to_str) {
                    Some("py") => sources.push(path),
                    Some("pyc" | "pyo" | "pyi" | "pyx" | "pxd" | "so" | "c" | "h") => {}
                    _ => has_data |= name != "py.typed",
                }
            }
        }
        has_data.then_some((size, sources))
    }

    /// The content at a path below the roots, as if they were one.
    pub(super) fn read(&self, path: &str, offset: u64) -> Option<FileAnswer> {
        let places = self.places(path);
        let first = places.first()?;
        if !first.is_dir() {
            return read_chunk(first, offset);
        }
        // A package is where it was found first; any other directory is the sum of its parts.
        let mut all: BTreeMap<String, (bool, u64)> = BTreeMap::new();
        for place in places.iter().filter(|p| p.is_dir()) {
            for (name, directory, size) in read_directory(place)? {
                all.entry(name).or_insert((directory, size));
            }
            if place.join("__init__.py").is_file() {
                break;
            }
        }
        Some(FileAnswer::Directory(all.into_iter().map(|(name, (d, size))| (name, d, size)).collect()))
    }

    /// The path's places in the roots that have it, if it leads nowhere else and may be served.
    fn places(&self, path: &str) -> Vec<PathBuf> {
        let plain =
            |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['\0', '/', '\\']);
        if !path.is_empty() && !path.split('/').all(plain) {
            return Vec::new();
        }
        let served = |root: &&Root| {
            is_below(&root.path, &root.path.join(path))
                && self.is_spelled_so(&root.path, path)
                && (root.data || is_in_package(&root.path, Path::new(path)))
                && root.only.as_ref().is_none_or(|only| is_in(&path.replace('/', "."), only))
        };
        self.roots.iter().filter(served).map(|root| root.path.join(path)).collect()
    }

    /// Whether every part of a path is there in these letters. Some file systems do not tell cases apart.
    fn is_spelled_so(&self, root: &Path, path: &str) -> bool {
        let mut directory = root.to_owned();
        path.split('/').filter(|part| !part.is_empty()).all(|part| {
            let there = self.listings.of(&directory).has(part);
            directory.push(part);
            there
        })
    }
}

/// The text that `core.py` puts behind the name of the package.
pub(super) const COMPILED: &str = "has compiled modules";
const BYTECODE: &str =
    "only its bytecode (.pyc) is here, which one version of Python could read; its source is needed";

/// Whether a path is that of a package, or in one.
fn is_in_package(root: &Path, path: &Path) -> bool {
    path.ancestors().any(|p| p != Path::new("") && root.join(p).join("__init__.py").is_file())
}

fn read_directory(path: &Path) -> Option<Vec<(String, bool, u64)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).ok()?.flatten() {
        let (Ok(name), Ok(metadata)) = (entry.file_name().into_string(), fs::metadata(entry.path())) else {
            continue;
        };
        if name != "__pycache__" && !name.starts_with('.') && (metadata.is_dir() || metadata.is_file()) {
            entries.push((name, metadata.is_dir(), metadata.len()));
        }
    }
    Some(entries)
}

fn read_chunk(path: &Path, offset: u64) -> Option<FileAnswer> {
    // Opening a pipe or a device would wait, or do something.
    let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    let mut file = fs::File::open(path).ok()?;
    file.seek(io::SeekFrom::Start(offset)).ok()?;
    let mut chunk = Vec::new();
    file.take(CHUNK).read_to_end(&mut chunk).ok()?;
    Some(FileAnswer::File { size: metadata.len(), chunk })
}

/// The source at a path, if that lies below the root.
pub(super) fn confined(root: &Path, path: &Path) -> Option<Vec<u8>> {
    if is_below(root, path) { read_source(path) } else { None }
}

/// Whether a path exists and lies below a root, which is canonical. Most paths have no symbolic
/// link in them, and then no more than a look at each part is needed.
fn is_below(root: &Path, path: &Path) -> bool {
    for part in path.ancestors().take_while(|part| *part != root) {
        match fs::symlink_metadata(part) {
            Ok(metadata) if metadata.is_symlink() => {
                return fs::canonicalize(path).is_ok_and(|real| real.starts_with(root));
            }
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    path.starts_with(root)
}

/// The text of a regular file of a sane size.
pub(super) fn read_source(path: &Path) -> Option<Vec<u8>> {
    let metadata = fs::metadata(path).ok()?;
    if !metadata.is_file() || metadata.len() > MAX_SOURCE {
        return None;
    }
    fs::read(path).ok()
}

/// Whether a name in a directory may be a part of a module's name: a dot would split it. Hidden
/// names are excluded.
fn is_part(name: &str) -> bool {
    !name.contains('.') && econtext_proto::is_module_name(name)
}

/// Whether a directory may be a namespace: there is a module in it, not too far down.
fn has_modules(directory: &Path, depth: usize) -> bool {
    fs::read_dir(directory).into_iter().flatten().flatten().take(1000).any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.ends_with(".py")
            || name.ends_with(".so")
            || depth > 0 && is_part(&name) && has_modules(&entry.path(), depth - 1)
    })
}
