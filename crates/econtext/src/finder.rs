//! Finds modules on the controller, without a Python.

use crate::archive;
use crate::foresight::{self, Foresight, Start};
use crate::sync::lock;
use econtext_proto::{ModuleKind, ModuleRecord, Value, is_identifier};
use econtext_pysource::Import;
use flate2::{Compression, write::ZlibEncoder};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Where children get modules from that they do not have.
///
/// Implementations are asked by a thread of the broker, one module at a time.
pub trait ModuleFinder: Send + Sync {
    /// The module called `name`, if there is one.
    fn find(&self, name: &str) -> Option<Arc<ModuleRecord>>;

    /// What is at `path`, below the roots as if they were one: a directory, or a piece of a file from `offset` on.
    fn read(&self, path: &str, offset: u64) -> Option<FileAnswer> {
        let _ = (path, offset);
        None
    }

    /// What will be imported from `start` on. It is sent ahead of a call; nothing by default.
    fn foresee(&self, start: Start<'_>) -> Arc<Foresight> {
        let _ = start;
        Arc::default()
    }
}

/// What a child is told about a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileAnswer {
    /// Names in a directory, with whether each is a directory, and its size in bytes.
    Directory(Vec<(String, bool, u64)>),
    /// A file of `size` bytes, and the bytes from the offset asked for; no more than a chunk.
    File {
        /// Bytes in all of the file.
        size: u64,
        /// Bytes from the offset on.
        chunk: Vec<u8>,
    },
}

/// Bytes of a file in one answer.
const CHUNK: u64 = 1 << 20;

impl FileAnswer {
    /// As `files.py` reads it.
    pub(crate) fn to_value(&self) -> Value {
        let int = |n: u64| Value::int(n.into());
        match self {
            FileAnswer::Directory(entries) => {
                let entry = |(name, directory, size): &(String, bool, u64)| {
                    Value::Tuple(vec![Value::Str(name.clone()), Value::Bool(*directory), int(*size)])
                };
                Value::Tuple(vec![Value::Int(0), Value::List(entries.iter().map(entry).collect())])
            }
            FileAnswer::File { size, chunk } => {
                Value::Tuple(vec![Value::Int(1), int(*size), Value::Bytes(deflate(chunk))])
            }
        }
    }
}

/// A source file over this size is not sent: it is no module that a person wrote.
const MAX_SOURCE: u64 = 32 << 20;

/// Modules in directories, in the order of `sys.path`, and sources that are part of the program.
///
/// Nothing outside the roots is read, whatever name is asked for and whatever symbolic links lie in them.
///
/// ```
/// use econtext::PathFinder;
/// let finder = PathFinder::new().source("facts", "def load():\n    return open('/proc/loadavg').read()\n");
/// ```
#[derive(Debug, Default)]
pub struct PathFinder {
    roots: Vec<Root>,
    /// By module name; with whether it is a package.
    sources: BTreeMap<String, (bool, Vec<u8>)>,
    main: Option<PathBuf>,
    blocked: Vec<String>,
    /// Archives among the roots, for as long as they are needed.
    unpacked: Vec<tempfile::TempDir>,
    cache: Mutex<HashMap<String, Option<Arc<ModuleRecord>>>>,
    imports: Mutex<HashMap<String, Arc<[Import]>>>,
    /// Names of compiled modules, by directory.
    compiled: Mutex<HashMap<PathBuf, HashSet<String>>>,
    foresights: Mutex<HashMap<String, Arc<Foresight>>>,
}

/// A directory to look in.
#[derive(Debug)]
struct Root {
    path: PathBuf,
    /// Whether files that belong to no package are served too.
    data: bool,
}

impl PathFinder {
    /// A finder that finds nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory to look in, behind those there are: its modules, and the files beside them. Nothing whose name
    /// begins with a dot. A wheel, egg, zipapp or other zip file is looked into as if it were a directory.
    ///
    /// # Errors
    /// If it is no directory and no archive that can be read.
    pub fn root(self, directory: impl AsRef<Path>) -> io::Result<Self> {
        self.add_root(directory.as_ref(), true)
    }

    /// Adds a directory that may hold much else: its modules, and files only if they are in a package.
    ///
    /// # Errors
    /// If it is no directory that can be read.
    pub fn code_root(self, directory: impl AsRef<Path>) -> io::Result<Self> {
        self.add_root(directory.as_ref(), false)
    }

    fn add_root(mut self, directory: &Path, data: bool) -> io::Result<Self> {
        let mut path = fs::canonicalize(directory)?;
        if path.is_file() {
            let unpacked = archive::unpack(&path)?;
            path = fs::canonicalize(unpacked.path())?;
            self.unpacked.push(unpacked);
        }
        fs::read_dir(&path)?;
        self.roots.push(Root { path, data });
        Ok(self)
    }

    /// Adds the source of one module, for instance from `include_str!`. It comes before all directories.
    pub fn source(mut self, name: &str, source: impl Into<Vec<u8>>) -> Self {
        self.sources.insert(name.to_owned(), (false, source.into()));
        self
    }

    /// Adds the source of a package's `__init__`.
    pub fn package(mut self, name: &str, source: impl Into<Vec<u8>>) -> Self {
        self.sources.insert(name.to_owned(), (true, source.into()));
        self
    }

    /// The text of `__main__.py` at the top of the first root, which is what running a zipapp or a directory runs.
    pub fn main_of_first_root(&self) -> Option<Vec<u8>> {
        let root = &self.roots.first()?.path;
        self.confined(root, &root.join("__main__.py"))
    }

    /// Never serves this module or package, nor what is in it. Importing it there is an `ImportError` that says so.
    pub fn block(mut self, name: &str) -> Self {
        self.blocked.push(name.to_owned());
        self
    }

    fn is_blocked(&self, name: &str) -> bool {
        self.blocked.iter().any(|b| {
            name.strip_prefix(b.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }

    /// Makes `import __main__` in the child give this script.
    pub fn main_script(mut self, path: impl Into<PathBuf>) -> Self {
        self.main = Some(path.into());
        self
    }

    fn look_up(&self, name: &str) -> Option<ModuleRecord> {
        if name == "__main__" {
            let path = self.main.as_ref()?;
            let source = read_source(path)?;
            let path = path.file_name()?.to_string_lossy().into_owned();
            return Some(record(name, ModuleKind::Module, path, Some(&source), Vec::new()));
        }
        let parts: Vec<&str> = name.split('.').collect();
        if parts.iter().any(|part| !is_identifier(part)) {
            return None;
        }
        if self.is_blocked(name) {
            let reason = "it is not to be sent to other machines".to_owned();
            return Some(record(name, ModuleKind::Refused, reason, None, Vec::new()));
        }
        if let Some(found) = self.embedded(name) {
            return Some(found);
        }
        self.in_directories(name, &parts)
    }

    fn embedded(&self, name: &str) -> Option<ModuleRecord> {
        let below = format!("{name}.");
        let mut children = BTreeMap::new();
        for (other, (package, _)) in self.sources.range(below.clone()..) {
            let Some(rest) = other.strip_prefix(&below) else { break };
            let kind = match rest.split_once('.') {
                Some((child, _)) => (child, ModuleKind::Namespace),
                None if *package => (rest, ModuleKind::Package),
                None => (rest, ModuleKind::Module),
            };
            children.entry(kind.0.to_owned()).or_insert(kind.1);
        }
        let path = name.replace('.', "/");
        match self.sources.get(name) {
            Some((false, source)) if children.is_empty() => {
                Some(record(name, ModuleKind::Module, path + ".py", Some(source), Vec::new()))
            }
            Some((_, source)) => {
                let children = children.into_iter().collect();
                Some(record(name, ModuleKind::Package, path + "/__init__.py", Some(source), children))
            }
            None if children.is_empty() => None,
            None => Some(record(name, ModuleKind::Namespace, path, None, children.into_iter().collect())),
        }
    }

    /// The rule of PEP 420: in each root a package, then a module, ends the search; directories without
    /// `__init__` make up a namespace if nothing did.
    fn in_directories(&self, name: &str, parts: &[&str]) -> Option<ModuleRecord> {
        let (last, parents) = parts.split_last()?;
        let mut portions = Vec::new();
        let mut compiled = None;
        for directory in self.directories(parents) {
            let (root, directory) = directory;
            let below = |path: &Path| path.strip_prefix(root).map(|p| p.to_string_lossy().into_owned()).ok();
            let package = directory.join(last);
            let init = package.join("__init__.py");
            if let Some(source) = self.confined(root, &init) {
                let children = list(root, &package);
                return Some(record(name, ModuleKind::Package, below(&init)?, Some(&source), children));
            }
            let module = directory.join(format!("{last}.py"));
            if let Some(source) = self.confined(root, &module) {
                return Some(record(name, ModuleKind::Module, below(&module)?, Some(&source), Vec::new()));
            }
            if compiled.is_none() && self.has_compiled(&directory, last) && is_below(root, &directory) {
                compiled = Some(record(
                    name,
                    ModuleKind::Compiled,
                    "a compiled module, which cannot be sent to another machine".into(),
                    None,
                    Vec::new(),
                ));
            }
            if package.is_dir() && is_below(root, &package) {
                portions.push((root, package));
            }
        }
        if compiled.is_some() || portions.is_empty() {
            return compiled;
        }
        let mut children: BTreeMap<String, ModuleKind> = BTreeMap::new();
        for (root, portion) in &portions {
            for (child, kind) in list(root, portion) {
                children.entry(child).or_insert(kind);
            }
        }
        let children: Vec<_> = children.into_iter().collect();
        if children.is_empty() {
            return None; // any directory would be a namespace; one without a module is none that is meant
        }
        Some(record(name, ModuleKind::Namespace, parts.join("/"), None, children))
    }

    /// The directories that make up the package called `parents`, each with its root.
    fn directories(&self, parents: &[&str]) -> Vec<(&Path, PathBuf)> {
        let mut found: Vec<(&Path, PathBuf)> =
            self.roots.iter().map(|r| (r.path.as_path(), r.path.clone())).collect();
        for parent in parents {
            let mut next = Vec::new();
            for (root, directory) in found {
                let package = directory.join(parent);
                if package.join("__init__.py").is_file() {
                    next = vec![(root, package)];
                    break;
                }
                if package.is_dir() && is_below(root, &package) {
                    next.push((root, package));
                }
            }
            found = next;
        }
        found
    }

    /// Whether there is a compiled module of this name, whatever it was compiled for. Each directory is read once.
    fn has_compiled(&self, directory: &Path, name: &str) -> bool {
        let mut known = lock(&self.compiled);
        let names = known.entry(directory.to_owned()).or_insert_with(|| {
            let names = fs::read_dir(directory)
                .into_iter()
                .flatten()
                .flatten()
                .filter_map(|e| e.file_name().into_string().ok());
            let compiled = names.filter(|file| file.ends_with(".so"));
            compiled.filter_map(|file| file.split('.').next().map(str::to_owned)).collect()
        });
        names.contains(name)
    }

    fn confined(&self, root: &Path, path: &Path) -> Option<Vec<u8>> {
        if !is_below(root, path) {
            return None;
        }
        read_source(path)
    }

    /// The path's places in the roots that have it, if it leads nowhere else and may be served.
    fn places(&self, path: &str) -> Vec<PathBuf> {
        let plain =
            |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['\0', '/', '\\']);
        if !path.is_empty() && !path.split('/').all(plain) || self.is_blocked(&path.replace('/', ".")) {
            return Vec::new();
        }
        let served = |root: &&Root| {
            is_below(&root.path, &root.path.join(path))
                && (root.data || is_in_package(&root.path, Path::new(path)))
        };
        self.roots.iter().filter(served).map(|root| root.path.join(path)).collect()
    }
}

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

/// The source of a record, inflated.
fn inflate(record: &ModuleRecord) -> Option<Vec<u8>> {
    let mut source = Vec::new();
    flate2::read::ZlibDecoder::new(record.source.as_deref()?).read_to_end(&mut source).ok()?;
    Some(source)
}

impl ModuleFinder for PathFinder {
    fn foresee(&self, start: Start<'_>) -> Arc<Foresight> {
        let key = match start {
            Start::Function(module, function) => format!("{module}:{function}"),
            Start::Module(module) => module.to_owned(),
            Start::Deep(module) => format!("deep {module}"),
            Start::Main(module) => format!("-m {module}"),
            Start::Program(source) => {
                let mut hasher = std::hash::DefaultHasher::new();
                source.hash(&mut hasher);
                format!("program {}", hasher.finish())
            }
        };
        // A poisoned cache is still a cache.
        if let Some(known) = lock(&self.foresights).get(&key) {
            return known.clone();
        }
        let scan = |name: &str| {
            if let Some(known) = lock(&self.imports).get(name) {
                return known.clone();
            }
            let source = self.find(name).and_then(|record| inflate(&record)).unwrap_or_default();
            let found: Arc<[Import]> = econtext_pysource::imports(&source).into();
            lock(&self.imports).insert(name.to_owned(), found.clone());
            found
        };
        let source_of = |name: &str| self.find(name).and_then(|record| inflate(&record));
        let found = Arc::new(foresight::follow(self, &scan, &source_of, start));
        let mut foresights = lock(&self.foresights);
        if foresights.len() < 10_000 {
            foresights.insert(key, found.clone());
        }
        found
    }

    fn read(&self, path: &str, offset: u64) -> Option<FileAnswer> {
        let places = self.places(path);
        let first = places.first()?;
        if !first.is_dir() {
            return read_chunk(first, offset);
        }
        // A package is where it was found first; what is not one is the sum of its parts.
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

    fn find(&self, name: &str) -> Option<Arc<ModuleRecord>> {
        // A poisoned cache is still a cache.
        if let Some(known) = lock(&self.cache).get(name) {
            return known.clone();
        }
        let found = self.look_up(name).map(Arc::new);
        let mut cache = lock(&self.cache);
        if found.is_some() || cache.len() < 10_000 {
            cache.insert(name.to_owned(), found.clone());
        }
        found
    }
}

fn record(
    name: &str,
    kind: ModuleKind,
    path: String,
    source: Option<&[u8]>,
    children: Vec<(String, ModuleKind)>,
) -> ModuleRecord {
    let source = source.map(|source| Arc::from(deflate(source)));
    ModuleRecord { name: name.to_owned(), kind, path, source, children }
}

/// `data` as a zlib stream, at a level that suits a LAN as well as a WAN.
pub(crate) fn deflate(data: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::with_capacity(data.len() / 3), Compression::new(6));
    // Writing to a Vec does not fail.
    let _ = encoder.write_all(data);
    encoder.finish().unwrap_or_default()
}

/// Whether what is at a path exists and lies below a root, which is canonical. Most paths have no symbolic link in
/// them, and then no more than a look at each part is needed.
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
fn read_source(path: &Path) -> Option<Vec<u8>> {
    let metadata = fs::metadata(path).ok()?;
    if !metadata.is_file() || metadata.len() > MAX_SOURCE {
        return None;
    }
    fs::read(path).ok()
}

/// Whether a directory may be a namespace: there is a module in it, not too far down.
fn has_modules(directory: &Path, depth: usize) -> bool {
    fs::read_dir(directory).into_iter().flatten().flatten().take(1000).any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.ends_with(".py")
            || name.ends_with(".so")
            || depth > 0 && is_identifier(&name) && has_modules(&entry.path(), depth - 1)
    })
}

/// The modules directly in a directory.
fn list(root: &Path, directory: &Path) -> Vec<(String, ModuleKind)> {
    if !is_below(root, directory) {
        return Vec::new();
    }
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut found: BTreeMap<String, ModuleKind> = BTreeMap::new();
    for entry in entries.flatten() {
        let Ok(file) = entry.file_name().into_string() else { continue };
        let (name, kind) = if let Some(name) = file.strip_suffix(".py") {
            (name, ModuleKind::Module)
        } else if file.ends_with(".so") {
            (file.split('.').next().unwrap_or_default(), ModuleKind::Compiled)
        } else if entry.path().join("__init__.py").is_file() {
            (file.as_str(), ModuleKind::Package)
        } else if file != "__pycache__" && is_identifier(&file) && has_modules(&entry.path(), 3) {
            (file.as_str(), ModuleKind::Namespace)
        } else {
            continue;
        };
        let link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        if name == "__init__" || !is_identifier(name) || link && !is_below(root, &entry.path()) {
            continue;
        }
        // Python's own order: package, compiled module, module, namespace.
        let rank = |kind| match kind {
            ModuleKind::Package => 0,
            ModuleKind::Module => 1,
            ModuleKind::Compiled => 2,
            _ => 3,
        };
        found
            .entry(name.to_owned())
            .and_modify(|known| {
                if rank(kind) < rank(*known) {
                    *known = kind;
                }
            })
            .or_insert(kind);
    }
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    fn find(finder: &PathFinder, name: &str) -> Option<(ModuleKind, String)> {
        finder.find(name).map(|r| (r.kind, r.path.clone()))
    }

    #[test]
    fn packages_modules_and_namespaces_are_found_in_the_order_of_the_roots() {
        let a = tree(&[
            ("m.py", "1"),
            ("p/__init__.py", ""),
            ("p/x.py", ""),
            ("ns/one.py", ""),
            ("data/x.txt", ""),
        ]);
        let b = tree(&[
            ("m.py", "2"),
            ("p/__init__.py", ""),
            ("p/y.py", ""),
            ("ns/two.py", ""),
            ("c.cpython-311.so", ""),
        ]);
        let finder = PathFinder::new().root(a.path()).unwrap().root(b.path()).unwrap();
        assert_eq!(find(&finder, "m"), Some((ModuleKind::Module, "m.py".into())));
        let p = finder.find("p").unwrap();
        assert_eq!(
            (p.kind, &*p.children),
            (ModuleKind::Package, &[("x".to_owned(), ModuleKind::Module)][..])
        );
        assert_eq!(find(&finder, "p.y"), None, "the first root's package hides the second's");
        let ns = finder.find("ns").unwrap();
        assert_eq!(ns.kind, ModuleKind::Namespace);
        assert_eq!(ns.children.len(), 2);
        assert_eq!(find(&finder, "ns.two"), Some((ModuleKind::Module, "ns/two.py".into())));
        assert_eq!(find(&finder, "c").unwrap().0, ModuleKind::Compiled);
        assert_eq!(find(&finder, "data"), None);
    }

    #[test]
    fn nothing_outside_the_roots_is_found() {
        let outside = tree(&[("secret.py", "x"), ("pkg/__init__.py", "")]);
        let root = tree(&[("fine.py", "")]);
        std::os::unix::fs::symlink(outside.path().join("secret.py"), root.path().join("link.py")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("pkg"), root.path().join("pkg")).unwrap();
        std::os::unix::fs::symlink(root.path().join("fine.py"), root.path().join("inner.py")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            root.path().join("pipe.py"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        let finder = PathFinder::new().root(root.path()).unwrap();
        for name in
            ["link", "pkg", "pipe", "..secret", "../secret", "/etc/passwd", "", ".", "a..b", "__main__"]
        {
            assert_eq!(find(&finder, name), None, "{name:?}");
        }
        assert!(find(&finder, "inner").is_some());
    }

    #[test]
    fn what_is_blocked_is_refused_with_all_that_is_in_it() {
        let root = tree(&[("p/__init__.py", ""), ("p/x.py", ""), ("p/data.txt", ""), ("pq.py", "")]);
        let finder = PathFinder::new().root(root.path()).unwrap().block("p");
        assert_eq!(find(&finder, "p").unwrap().0, ModuleKind::Refused);
        assert_eq!(find(&finder, "p.x").unwrap().0, ModuleKind::Refused);
        assert_eq!(finder.read("p/data.txt", 0), None);
        assert_eq!(find(&finder, "pq").unwrap().0, ModuleKind::Module);
    }

    #[test]
    fn sources_of_the_program_are_modules() {
        let finder = PathFinder::new().source("a.b.c", "x = 1").package("p", "").source("p.q", "");
        assert_eq!(find(&finder, "a"), Some((ModuleKind::Namespace, "a".into())));
        assert_eq!(find(&finder, "a.b.c"), Some((ModuleKind::Module, "a/b/c.py".into())));
        assert_eq!(find(&finder, "p"), Some((ModuleKind::Package, "p/__init__.py".into())));
        assert_eq!(finder.find("p").unwrap().children, [("q".to_owned(), ModuleKind::Module)]);
    }
}
