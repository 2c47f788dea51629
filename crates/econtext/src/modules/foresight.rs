//! The modules that a call will import, read from source in advance, so that they can go ahead of
//! the call.

use super::finder::{Foresight, ModuleFinder, PlannedModule, Start};
use super::roots::is_in;
use econtext_proto::ModuleKind;
use econtext_pysource::Import;
use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

/// The modules that the standard library itself tries to import and does not find on the systems
/// that children run on.
const OPTIONAL: [&str; 17] = [
    "_msi",
    "_overlapped",
    "_scproxy",
    "_winapi",
    "_winreg",
    "_wmi",
    "ce",
    "java",
    "msvcrt",
    "nt",
    "org",
    "os2",
    "riscos",
    "vms_lib",
    "winreg",
    "winsound",
    "_dummy_threading",
];

/// The most bytes of a package's modules that are small enough to be sent together.
const CHILDREN: usize = 48 << 10;

/// The most bytes of a package that is sent whole because its modules are asked for one after the
/// other.
const WHOLE_PACKAGE: usize = 256 << 10;

/// The most bytes of modules that go ahead although only a function imports them: for one import,
/// and in all.
const EACH_LATER: usize = 24 << 10;
const LATER: usize = 32 << 10;

/// Modules of the standard library, or in its place, that ask the importer for files.
const FILE_READERS: [&str; 7] = [
    "importlib.metadata",
    "importlib.resources",
    "importlib_metadata",
    "importlib_resources",
    "pkg_resources",
    "pkgutil",
    "zoneinfo",
];

/// Follows imports from `start` through a finder. `scan` gives the imports of a module that the
/// finder has.
pub(crate) fn follow(
    finder: &dyn ModuleFinder,
    scan: &dyn Fn(&str) -> Arc<[Import]>,
    source_of: &dyn Fn(&str) -> Option<Vec<u8>>,
    start: Start<'_>,
) -> Foresight {
    let mut walk = Walk::new(finder, scan);
    match start {
        Start::Module(name) => {
            walk.want(name);
            walk.want_children(name);
        }
        Start::WithFunctions(name) => {
            walk.want(name);
            let top = name.split('.').next().unwrap_or_default();
            let mut at = 0;
            while let Some(name) = walk.found.modules.get(at).map(|m| m.module.name.clone()) {
                for import in scan(&name).iter().filter(|i| i.scope.is_none() || is_in(&name, top)) {
                    walk.import(&name, import);
                }
                at += 1;
            }
            walk.queue.clear();
        }
        Start::WholePackage(name) => {
            walk.want(name);
            walk.want_all(name.split('.').next().unwrap_or_default());
        }
        Start::Main(name) => {
            walk.want(name);
            let main = format!("{name}.__main__");
            let name =
                if finder.find(name).is_some_and(|r| r.kind != ModuleKind::Module) { &main } else { name };
            walk.want(name);
            for import in scan(name).iter().filter(|i| i.scope.is_some()) {
                walk.import(name, import);
            }
        }
        Start::Function(module, function) => {
            walk.want(module);
            let scopes = source_of(module).map(|source| econtext_pysource::reachable(&source, function));
            for import in scan(module).iter() {
                let runs = import.scope.as_ref().zip(scopes.as_ref()).is_some_and(|(s, all)| all.contains(s));
                if runs {
                    walk.import(module, import);
                }
            }
        }
        Start::Program(source) => {
            for import in econtext_pysource::imports(source) {
                walk.import("__main__", &import);
            }
        }
    }
    walk.run(0, usize::MAX);
    match start {
        Start::WithFunctions(_) | Start::WholePackage(_) => {}
        // The functions of this module that will run are known.
        Start::Function(module, _) => walk.run_functions(module),
        _ => walk.run_functions(""),
    }
    for name in OPTIONAL {
        if finder.find(name).is_none() {
            walk.absent.insert(name.to_owned());
        }
    }
    walk.found.absent = walk.absent.into_iter().collect();
    walk.found
}

/// Whether a package cannot be imported without a compiled module of its own. `scan` gives the
/// imports of a module.
pub(crate) fn needs_compiled(
    finder: &dyn ModuleFinder,
    scan: &dyn Fn(&str) -> Arc<[Import]>,
    package: &str,
) -> bool {
    let required = |name: &str| -> Arc<[Import]> {
        let imports = scan(name);
        imports
            .iter()
            .filter(|i| !i.optional && (i.level > 0 || is_in(&i.module, package)))
            .cloned()
            .collect()
    };
    let mut walk = Walk::new(finder, &required);
    walk.want(package);
    walk.run(0, usize::MAX);
    walk.found
        .modules
        .iter()
        .any(|found| found.module.kind == ModuleKind::Compiled && is_in(&found.module.name, package))
}

struct Walk<'a> {
    finder: &'a dyn ModuleFinder,
    /// The imports of a module that the finder has.
    scan: &'a dyn Fn(&str) -> Arc<[Import]>,
    seen: HashSet<String>,
    /// The seen modules that cannot be sent.
    refused: HashSet<String>,
    queue: VecDeque<String>,
    found: Foresight,
    absent: BTreeSet<String>,
    /// The module whose imports are being followed.
    importer: String,
}

impl<'a> Walk<'a> {
    fn new(finder: &'a dyn ModuleFinder, scan: &'a dyn Fn(&str) -> Arc<[Import]>) -> Self {
        Walk {
            finder,
            scan,
            seen: HashSet::new(),
            refused: HashSet::new(),
            queue: VecDeque::new(),
            found: Foresight::default(),
            absent: BTreeSet::new(),
            importer: String::new(),
        }
    }

    /// Takes a module in, with the packages above it; whether the finder has it.
    fn want(&mut self, name: &str) -> bool {
        if self.seen.contains(name) {
            return !self.refused.contains(name);
        }
        if let Some((package, _)) = name.rsplit_once('.')
            && !self.want(package)
        {
            return false;
        }
        if self.absent.contains(name) {
            return false;
        }
        match self.finder.find(name) {
            Some(record) => {
                self.seen.insert(name.to_owned());
                let is_sent = !matches!(record.kind, ModuleKind::Compiled | ModuleKind::Refused);
                self.found.modules.push(PlannedModule { module: record, importer: self.importer.clone() });
                if is_sent {
                    self.queue.push_back(name.to_owned());
                } else {
                    // Modules in it will not be imported.
                    self.refused.insert(name.to_owned());
                }
                is_sent
            }
            None => {
                if !name.contains('.') && name != "__main__" {
                    self.absent.insert(name.to_owned());
                }
                false
            }
        }
    }

    /// Follows the imports that run when modules are imported, as long as the modules found from
    /// `first` on are within `limit` bytes.
    fn run(&mut self, first: usize, limit: usize) -> bool {
        let (mut at, mut size) = (first, 0);
        while let Some(name) = self.queue.pop_front() {
            for import in (self.scan)(&name).iter().filter(|i| i.scope.is_none()) {
                self.import(&name, import);
            }
            for module in &self.found.modules[at..] {
                size += module.module.size();
            }
            at = self.found.modules.len();
            if size > limit {
                return false;
            }
        }
        true
    }

    /// Follows the imports of other packages in functions of the modules found, where those are
    /// small.
    fn run_functions(&mut self, except: &str) {
        let certain: Vec<String> =
            self.found.modules.iter().map(|m| m.module.name.clone()).filter(|name| name != except).collect();
        let mut left = LATER;
        let mut too_much: HashSet<String> = HashSet::new();
        for name in certain {
            let package = name.split('.').next().unwrap_or_default().to_owned();
            for import in (self.scan)(&name).iter().filter(|i| i.scope.is_some() && i.level == 0) {
                // The modules of its own that a package imports late are large, and rarely needed;
                // another package is a dependency.
                let key = import.module.split('.').next().unwrap_or_default().to_owned();
                if left == 0 || key == package || too_much.contains(&key) {
                    continue;
                }
                let before = self.found.modules.len();
                self.import(&name, import);
                let within = self.run(before, EACH_LATER.min(left));
                let size: usize = self.found.modules[before..].iter().map(|m| m.module.size()).sum();
                if within && size <= EACH_LATER.min(left) {
                    left -= size;
                } else {
                    for module in self.found.modules.drain(before..) {
                        self.seen.remove(&module.module.name);
                    }
                    self.queue.clear();
                    too_much.insert(key);
                }
            }
        }
    }

    /// Adds the modules directly in a package, if those are small: an unforeseen package is one
    /// that is searched for plug-ins.
    fn want_children(&mut self, name: &str) {
        let Some(record) = self.finder.find(name).filter(|r| r.kind == ModuleKind::Package) else { return };
        let modules = record.children.iter().filter(|(_, kind)| *kind == ModuleKind::Module);
        let names: Vec<String> = modules.map(|(child, _)| format!("{name}.{child}")).collect();
        let size = |name: &String| self.finder.find(name).map_or(0, |r| r.size());
        if names.len() <= 32 && names.iter().map(size).sum::<usize>() <= CHILDREN {
            for name in &names {
                self.want(name);
            }
        }
    }

    /// Adds the modules in a package, at any depth, the shallow ones first.
    fn want_all(&mut self, package: &str) {
        let mut packages = VecDeque::from([package.to_owned()]);
        let mut left = WHOLE_PACKAGE;
        while let Some(record) = packages.pop_front().and_then(|package| self.finder.find(&package)) {
            for (child, kind) in &record.children {
                let name = format!("{}.{child}", record.name);
                match kind {
                    ModuleKind::Module | ModuleKind::Package => {
                        let Some(found) = self.finder.find(&name) else { continue };
                        if found.size() > left {
                            continue;
                        }
                        left -= found.size();
                        self.want(&name);
                    }
                    _ => {}
                }
                if matches!(kind, ModuleKind::Package | ModuleKind::Namespace) {
                    packages.push_back(name);
                }
            }
        }
        // The modules that those import in turn were not asked for.
        self.queue.clear();
    }

    fn import(&mut self, importer: &str, import: &Import) {
        importer.clone_into(&mut self.importer);
        let module = if import.level == 0 {
            import.module.clone()
        } else {
            let is_package = self.finder.find(importer).is_some_and(|r| r.kind != ModuleKind::Module);
            let mut base: Vec<&str> = importer.split('.').collect();
            let up = import.level - usize::from(is_package);
            if up > base.len() {
                return;
            }
            base.truncate(base.len() - up);
            base.extend(Some(import.module.as_str()).filter(|m| !m.is_empty()));
            base.join(".")
        };
        let reads = |name: &str| FILE_READERS.iter().any(|reader| is_in(name, reader));
        self.found.files |=
            reads(&module) || import.names.iter().any(|name| reads(&format!("{module}.{name}")));
        if module.is_empty() || !self.want(&module) {
            return;
        }
        let Some(record) = self.finder.find(&module) else { return };
        for name in &import.names {
            if record.children.iter().any(|(child, _)| child == name) {
                self.want(&format!("{module}.{name}"));
            }
        }
    }
}
