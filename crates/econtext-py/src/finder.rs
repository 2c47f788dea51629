//! Modules for children: those on `sys.path`, then those of the interpreter's other finders.

use econtext::PathFinder;
use econtext::internal::is_module_name;
use econtext::internal::lock;
use econtext::modules::{
    FileAnswer, Foresight, ModuleFinder, ModuleKind, ModuleRecord, Start, module_record,
};
use pyo3::prelude::*;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// A name's record and the source that it was made of.
type Known = HashMap<String, (Option<Vec<u8>>, Arc<ModuleRecord>)>;

pub(crate) struct Both {
    paths: PathFinder,
    /// A function that takes a name and returns (kind, path, source or None, [(child, kind)]) or None.
    other: Py<PyAny>,
    known: Mutex<Known>,
    /// Foresights of the directories, by their address, each with the foresight that also has the other finders.
    foresights: Mutex<Foresights>,
}

/// Pairs of foresights, by the address of the first.
type Foresights = HashMap<usize, (Arc<Foresight>, Arc<Foresight>)>;

/// The number of foresights that are remembered.
const MAX_FORESIGHTS: usize = 1000;

/// The source of modules for children.
#[pyclass(frozen, module = "econtext._econtext")]
pub(crate) struct Finder(pub(crate) Arc<Both>);

#[pymethods]
impl Finder {
    /// Makes a finder. `sites` are directories of installed packages, `sources` those with much else beside modules;
    /// `other` is asked about modules that are in neither.
    #[new]
    fn new(
        py: Python<'_>,
        sources: Vec<PathBuf>,
        sites: Vec<PathBuf>,
        main: Option<PathBuf>,
        other: Py<PyAny>,
    ) -> Self {
        let paths = py.detach(|| {
            let mut finder = PathFinder::new();
            for (directory, site) in sources.iter().map(|d| (d, false)).chain(sites.iter().map(|d| (d, true)))
            {
                // A directory that is not there has no modules, as with sys.path itself.
                let _ = finder.add_root(directory, site);
            }
            match main {
                Some(main) => finder.main_script(main),
                None => finder,
            }
        });
        Finder(Arc::new(Both { paths, other, known: Mutex::default(), foresights: Mutex::default() }))
    }
}

fn kind(number: u8) -> ModuleKind {
    match number {
        0 => ModuleKind::Module,
        1 => ModuleKind::Package,
        2 => ModuleKind::Namespace,
        3 => ModuleKind::Compiled,
        _ => ModuleKind::Refused,
    }
}

type Found = Option<(u8, String, Option<Vec<u8>>, Vec<(String, u8)>)>;

impl ModuleFinder for Both {
    fn find(&self, name: &str) -> Option<Arc<ModuleRecord>> {
        if let Some(found) = self.paths.find(name) {
            return Some(found);
        }
        // A child may ask for anything; finders of others are asked for modules.
        if !is_module_name(name) {
            return None;
        }
        let found = Python::try_attach(|py| {
            let found = self.other.bind(py).call1((name,)).and_then(|found| found.extract::<Found>());
            found.unwrap_or_else(|error| {
                error.write_unraisable(py, Some(self.other.bind(py)));
                None
            })
        });
        let (number, path, source, children) = found.flatten()?;
        let mut known = lock(&self.known);
        if let Some((old, record)) = known.get(name)
            && *old == source
        {
            return Some(record.clone());
        }
        let children = children.into_iter().map(|(name, number)| (name, kind(number))).collect();
        let record = Arc::new(module_record(name, kind(number), path, source.as_deref(), children));
        known.insert(name.to_owned(), (source, record.clone()));
        Some(record)
    }

    fn read(&self, path: &str, offset: u64) -> Option<FileAnswer> {
        self.paths.read(path, offset)
    }

    fn foreseen(&self, start: Start<'_>) -> Option<Arc<Foresight>> {
        let foresight = self.paths.foreseen(start)?;
        lock(&self.foresights).get(&Arc::as_ptr(&foresight).addr()).map(|(_, known)| known.clone())
    }

    fn foresee(&self, start: Start<'_>) -> Arc<Foresight> {
        let foresight = self.paths.foresee(start);
        let known = self.with_others(foresight.clone());
        let mut foresights = lock(&self.foresights);
        if foresights.len() >= MAX_FORESIGHTS {
            foresights.clear();
        }
        foresights.insert(Arc::as_ptr(&foresight).addr(), (foresight, known.clone()));
        known
    }
}

impl Both {
    fn with_others(&self, foresight: Arc<Foresight>) -> Arc<Foresight> {
        // A module that is not in the directories may be elsewhere.
        let absent: Vec<_> =
            foresight.absent.iter().filter(|name| self.find(name).is_none()).cloned().collect();
        if absent.len() == foresight.absent.len() {
            return foresight;
        }
        Arc::new(Foresight { absent, ..(*foresight).clone() })
    }
}
