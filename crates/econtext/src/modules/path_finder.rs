//! Finds modules in directories on the controller, without a Python.

use super::archive;
use super::finder::{FileAnswer, Foresight, LOOKS_BESIDE, ModuleFinder, Start, record};
use super::foresight;
use super::listings::{Stamp, stamp};
use super::roots::{self, Root, Roots, Stamps, confined, is_in, note, read_source};
use super::site;
use crate::sync::lock;
use econtext_proto::{ModuleKind, ModuleRecord, is_module_name};
use econtext_pysource::Import;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

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
    roots: Roots,
    /// The sources by module name, each with whether it is a package.
    sources: BTreeMap<String, (bool, Vec<u8>)>,
    main: Option<PathBuf>,
    blocked: Vec<String>,
    /// The unpacked archives among the roots, kept as long as they are needed.
    unpacked: Vec<tempfile::TempDir>,
    cache: Mutex<HashMap<String, Known>>,
    imports: Mutex<HashMap<String, Scanned>>,
    /// The foresights, each with the time at which it was last seen to be true.
    foresights: Mutex<HashMap<String, (Instant, Arc<Foresight>)>>,
    /// The packages that exist, with the answers that are given for them.
    verdicts: Mutex<HashMap<String, Verdict>>,
    /// Whether sources look for files beside modules, as each was then.
    looks: Mutex<HashMap<PathBuf, (Stamp, bool)>>,
    /// Whether packages that look for files find none.
    no_files: bool,
}

/// A package as it was found, and the record that a child is given of it.
type Verdict = (Arc<ModuleRecord>, Arc<ModuleRecord>);

/// Bytes of a package that is put into the memory of a host without being asked for.
const MAX_SPOOLED: u64 = 64 << 20;

/// A module, and what it imports.
type Scanned = (Arc<ModuleRecord>, Arc<[Import]>);

/// The module found under a name, and the paths that the result depended on.
#[derive(Debug)]
struct Known {
    found: Option<Arc<ModuleRecord>>,
    stamps: Stamps,
}

/// The time for which a foresight is not compared with the files again.
const FRESH: Duration = Duration::from_secs(1);
/// The most absent names, and the most starts of foresights, that are remembered: a child may make
/// up any number.
const MAX_KNOWN: usize = 10_000;

impl PathFinder {
    /// A finder that finds nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory to look in, behind those there are: its modules, and the files beside them.
    /// Names that begin with a dot are left out. A wheel, egg, zipapp or other zip file is looked
    /// into as if it were a directory.
    ///
    /// The entries of its `.pth` files come behind it, as with a site-packages directory of Python:
    /// further directories, and the packages of editable installs, as
    /// [`code_root`](PathFinder::code_root).
    ///
    /// # Errors
    /// If it is no directory and no archive that can be read.
    pub fn root(mut self, directory: impl AsRef<Path>) -> io::Result<Self> {
        self.add_root(directory.as_ref(), true)?;
        Ok(self)
    }

    /// Adds a directory that may hold much else: its modules, and files only if they are in a package.
    ///
    /// # Errors
    /// If it is no directory that can be read.
    pub fn code_root(mut self, directory: impl AsRef<Path>) -> io::Result<Self> {
        self.add_root(directory.as_ref(), false)?;
        Ok(self)
    }

    /// Adds a directory as [`root`](PathFinder::root) or, without `data`,
    /// [`code_root`](PathFinder::code_root) does, for callers that continue without the directories
    /// that cannot be read.
    ///
    /// # Errors
    /// The errors of those methods; the finder is unchanged then.
    pub fn add_root(&mut self, directory: &Path, data: bool) -> io::Result<()> {
        let mut path = fs::canonicalize(directory)?;
        let unpacked = if path.is_file() { Some(archive::unpack(&path)?) } else { None };
        if let Some(unpacked) = &unpacked {
            path = fs::canonicalize(unpacked.path())?;
        }
        fs::read_dir(&path)?;
        self.unpacked.extend(unpacked);
        let named = if data { site::roots(&path) } else { Vec::new() };
        self.roots.add(Root { path, data, only: None });
        named.into_iter().for_each(|root| self.roots.add(root));
        Ok(())
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
        confined(root, &root.join("__main__.py"))
    }

    /// Never serves this module or package, nor what is in it. Importing it there is an `ImportError` that says so.
    pub fn block(mut self, name: &str) -> Self {
        self.blocked.push(name.to_owned());
        self
    }

    fn is_blocked(&self, name: &str) -> bool {
        self.blocked.iter().any(|blocked| is_in(name, blocked))
    }

    /// Leaves the files of all packages here. Otherwise a package that looks for files beside its
    /// modules finds them on the host: in memory, from the first look on, and up to 64 MiB.
    ///
    /// ```
    /// let finder = econtext::PathFinder::new().without_files();
    /// ```
    pub fn without_files(mut self) -> Self {
        self.no_files = true;
        self
    }

    /// Makes `import __main__` in the child give this script.
    pub fn main_script(mut self, path: impl Into<PathBuf>) -> Self {
        self.main = Some(path.into());
        self
    }

    fn look_up(&self, name: &str, used: &mut Stamps) -> Option<ModuleRecord> {
        if name == "__main__" {
            let path = self.main.as_ref()?;
            note(used, path);
            let source = read_source(path)?;
            let file = path.file_name()?.to_string_lossy().into_owned();
            return Some(record(name, ModuleKind::Module, file, Some(&source), Vec::new()));
        }
        // A child has an `econtext` of its own, whatever is installed here.
        if !is_module_name(name) || is_in(name, "econtext") && !self.sources.contains_key(name) {
            return None;
        }
        if self.is_blocked(name) {
            let reason = "it is not to be sent to other machines".to_owned();
            return Some(record(name, ModuleKind::Refused, reason, None, Vec::new()));
        }
        self.embedded(name).or_else(|| self.roots.find(name, used))
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

    /// The module called `name`, whether it can be sent or not.
    fn as_it_is(&self, name: &str) -> Option<Arc<ModuleRecord>> {
        if let Some(known) = lock(&self.cache).get(name)
            && known.stamps.iter().all(|(path, then)| stamp(path) == *then)
        {
            return known.found.clone();
        }
        let mut stamps = Vec::new();
        let found = self.look_up(name, &mut stamps).map(Arc::new);
        let mut cache = lock(&self.cache);
        if found.is_some() || cache.len() < MAX_KNOWN {
            cache.insert(name.to_owned(), Known { found: found.clone(), stamps });
        }
        found
    }

    fn is_as_it_was(&self, foresight: &Foresight) -> bool {
        let is = |module: &Arc<ModuleRecord>| {
            self.find(&module.name).is_some_and(|found| Arc::ptr_eq(&found, module))
        };
        foresight.modules.iter().all(|m| is(&m.module))
            && foresight.absent.iter().all(|name| self.find(name).is_none())
    }

    /// The mark of a package that is in no other: that it cannot be sent, if it cannot be imported without a compiled
    /// module of its own; with a mark, if it looks for files beside its modules.
    fn judged(&self, found: Arc<ModuleRecord>) -> Arc<ModuleRecord> {
        let name = &found.name;
        if found.kind != ModuleKind::Package || self.sources.contains_key(name) {
            return found;
        }
        if let Some((known, verdict)) = lock(&self.verdicts).get(name)
            && Arc::ptr_eq(known, &found)
        {
            return verdict.clone();
        }
        let verdict = match name.rsplit_once('.') {
            None if self.needs_compiled(name) => {
                Arc::new(record(name, ModuleKind::Compiled, roots::COMPILED.to_owned(), None, Vec::new()))
            }
            Some((above, _)) if !self.is_namespace(above) => found.clone(),
            _ if self.looks_beside(name) => {
                let mut marked = ModuleRecord::clone(&found);
                marked.children.push((LOOKS_BESIDE.to_owned(), ModuleKind::Namespace));
                Arc::new(marked)
            }
            _ => found.clone(),
        };
        lock(&self.verdicts).insert(name.clone(), (found.clone(), verdict.clone()));
        verdict
    }

    fn is_namespace(&self, name: &str) -> bool {
        self.as_it_is(name).is_some_and(|found| found.kind == ModuleKind::Namespace)
    }

    /// Whether a top-level package cannot be imported without a compiled module of its own.
    fn needs_compiled(&self, name: &str) -> bool {
        self.roots.has_compiled(name)
            && foresight::needs_compiled(&AsTheyAre(self), &|name| self.imports_of(name), name)
    }

    /// Whether a package has files that are no modules, and looks for them; a package in a namespace, whether one of those
    /// does. It is said once what that leads to.
    fn looks_beside(&self, package: &str) -> bool {
        if self.no_files {
            return false;
        }
        let path = package.replace('.', "/");
        let Some((size, sources)) = self.roots.data(&path, MAX_SPOOLED) else { return false };
        let looks = |sources: Vec<PathBuf>| sources.iter().any(|path| self.source_looks_beside(path));
        let others = || {
            let (above, _) = path.split_once('/')?;
            self.roots.data(above, u64::MAX).map(|(_, sources)| sources)
        };
        let found = looks(sources) || others().is_some_and(looks);
        if found {
            tracing::info!(
                target: "econtext",
                package,
                bytes = size,
                "looks for files beside its modules: they are put into memory there when it does; --spool none leaves them here"
            );
        }
        found
    }

    /// Whether the source at a path looks for files beside modules. It is read once until it changes: each package of a
    /// namespace asks for the sources of all.
    fn source_looks_beside(&self, path: &Path) -> bool {
        let now = stamp(path);
        if let Some((then, looks)) = lock(&self.looks).get(path)
            && *then == now
        {
            return *looks;
        }
        let looks = read_source(path).is_some_and(|text| econtext_pysource::looks_beside(&text));
        lock(&self.looks).insert(path.to_owned(), (now, looks));
        looks
    }

    /// The imports of a module, read once.
    fn imports_of(&self, name: &str) -> Arc<[Import]> {
        let Some(record) = self.as_it_is(name) else { return Arc::default() };
        if let Some((known, imports)) = lock(&self.imports).get(name)
            && Arc::ptr_eq(known, &record)
        {
            return imports.clone();
        }
        let source = inflate(&record).unwrap_or_default();
        let found: Arc<[Import]> = econtext_pysource::imports(&source).into();
        lock(&self.imports).insert(name.to_owned(), (record, found.clone()));
        found
    }
}

/// The source of a record, inflated.
fn inflate(record: &ModuleRecord) -> Option<Vec<u8>> {
    let mut source = Vec::new();
    flate2::read::ZlibDecoder::new(record.source.as_deref()?).read_to_end(&mut source).ok()?;
    Some(source)
}

impl ModuleFinder for PathFinder {
    fn foresee(&self, start: Start<'_>) -> Arc<Foresight> {
        let key = key(start);
        let known = lock(&self.foresights).get(&key).cloned();
        if let Some((seen, foresight)) = known {
            if seen.elapsed() < FRESH {
                return foresight;
            }
            if self.is_as_it_was(&foresight) {
                lock(&self.foresights).insert(key, (Instant::now(), foresight.clone()));
                return foresight;
            }
        }
        let source_of = |name: &str| self.find(name).and_then(|record| inflate(&record));
        let found = Arc::new(foresight::follow(self, &|name| self.imports_of(name), &source_of, start));
        let mut foresights = lock(&self.foresights);
        if foresights.len() < MAX_KNOWN || foresights.contains_key(&key) {
            foresights.insert(key, (Instant::now(), found.clone()));
        }
        found
    }

    fn foreseen(&self, start: Start<'_>) -> Option<Arc<Foresight>> {
        let foresights = lock(&self.foresights);
        let (seen, foresight) = foresights.get(&key(start))?;
        (seen.elapsed() < FRESH).then(|| foresight.clone())
    }

    fn read(&self, path: &str, offset: u64) -> Option<FileAnswer> {
        if self.is_blocked(&path.replace('/', ".")) { None } else { self.roots.read(path, offset) }
    }

    fn find(&self, name: &str) -> Option<Arc<ModuleRecord>> {
        self.as_it_is(name).map(|record| self.judged(record))
    }
}

/// The modules of a finder, whether they can be sent or not.
struct AsTheyAre<'a>(&'a PathFinder);

impl ModuleFinder for AsTheyAre<'_> {
    fn find(&self, name: &str) -> Option<Arc<ModuleRecord>> {
        self.0.as_it_is(name)
    }
}

/// The key under which a foresight is remembered.
fn key(start: Start<'_>) -> String {
    match start {
        Start::Function(module, function) => format!("{module}:{function}"),
        Start::Module(module) => module.to_owned(),
        Start::WithFunctions(module) => format!("deep {module}"),
        Start::WholePackage(module) => format!("all {module}"),
        Start::Main(module) => format!("-m {module}"),
        Start::Program(source) => {
            let mut hasher = std::hash::DefaultHasher::new();
            source.hash(&mut hasher);
            format!("program {}", hasher.finish())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use econtext_testkit::files::tree;

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
    fn bytecode_without_source_is_refused_with_a_reason() {
        let root = tree(&[
            ("old.pyc", "x"),
            ("p/__init__.pyc", "x"),
            ("q/__init__.py", ""),
            ("q/z.pyc", "x"),
            ("__pycache__/gone.cpython-311.pyc", "x"),
            ("both.py", ""),
            ("both.pyc", "x"),
        ]);
        let finder = PathFinder::new().root(root.path()).unwrap();
        for name in ["old", "p", "q.z"] {
            let (kind, reason) = find(&finder, name).unwrap();
            assert_eq!(kind, ModuleKind::Refused, "{name}");
            assert!(reason.contains("bytecode"), "{reason}");
        }
        assert_eq!(find(&finder, "gone"), None);
        assert_eq!(find(&finder, "both").unwrap().0, ModuleKind::Module);
        assert_eq!(finder.find("q").unwrap().children, [("z".to_owned(), ModuleKind::Refused)]);
    }

    #[test]
    fn pth_files_and_editable_installs_of_a_root_are_followed() {
        let source = tree(&[
            ("src/plain.py", ""),
            ("src/notes.txt", "secret"),
            ("src/pkg/__init__.py", ""),
            ("src/pkg/data.txt", "x"),
            ("lib/mapped/__init__.py", ""),
            ("lib/mapped/inner.py", ""),
            ("lib/other.py", ""),
            ("ns/space/portion/__init__.py", ""),
            ("ns/space/hidden.py", ""),
        ]);
        let at = |path: &str| source.path().join(path).display().to_string();
        let site = tree(&[
            ("a.pth", &format!("# a comment\n{}\n/does/not/exist\nimport os; os.system('x')\n", at("src"))),
            ("__editable__.x.pth", "import __editable___x_finder; __editable___x_finder.install()"),
            (
                "__editable___x_finder.py",
                &format!(
                    "MAPPING: dict = {{'mapped': '{}', 'space.portion': '{}'}}\n",
                    at("lib/mapped"),
                    at("ns/space/portion")
                ),
            ),
            (".hidden.pth", &at("lib")),
        ]);
        let finder = PathFinder::new().root(site.path()).unwrap();
        for name in ["plain", "pkg", "mapped", "mapped.inner", "space.portion"] {
            assert!(find(&finder, name).is_some_and(|(kind, _)| kind != ModuleKind::Refused), "{name}");
        }
        assert_eq!(find(&finder, "other"), None, "only what is mapped");
        assert_eq!(find(&finder, "space.hidden"), None);
        assert!(finder.read("pkg/data.txt", 0).is_some() && finder.read("mapped/inner.py", 0).is_some());
        assert!(finder.read("notes.txt", 0).is_none() && finder.read("other.py", 0).is_none());
        // A directory that merely holds scripts is no site directory.
        let finder = PathFinder::new().code_root(site.path()).unwrap();
        assert_eq!(find(&finder, "plain"), None);
    }

    #[test]
    fn a_file_that_changes_is_read_again_and_one_that_does_not_is_not() {
        let root = tree(&[("m.py", "import a"), ("p/__init__.py", "")]);
        let finder = PathFinder::new().root(root.path()).unwrap();
        let first = finder.find("m").unwrap();
        assert!(Arc::ptr_eq(&first, &finder.find("m").unwrap()));
        assert_eq!(find(&finder, "new"), None);
        let imports = |finder: &PathFinder| {
            let foresight = finder.foresee(Start::Module("m"));
            let names: Vec<_> = foresight.modules.iter().map(|m| m.module.name.clone()).collect();
            names
        };
        assert_eq!(imports(&finder), ["m"]);
        fs::write(root.path().join("m.py"), "import new, p.q").unwrap();
        fs::write(root.path().join("new.py"), "").unwrap();
        fs::write(root.path().join("p/q.py"), "").unwrap();
        assert_eq!(inflate(&finder.find("m").unwrap()).unwrap(), b"import new, p.q");
        assert!(find(&finder, "new").is_some() && find(&finder, "p.q").is_some());
        std::thread::sleep(FRESH);
        assert_eq!(imports(&finder), ["m", "new", "p", "p.q"]);
        fs::remove_file(root.path().join("new.py")).unwrap();
        assert_eq!(find(&finder, "new"), None);
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
