//! The interface of a finder of modules: the questions of a child, and the answers to them.

use econtext_proto::{ModuleKind, ModuleRecord, Value};
use flate2::{Compression, write::ZlibEncoder};
use std::io::Write as _;
use std::sync::Arc;

/// A source of the modules that children do not have.
///
/// Implementations are asked by a thread of the broker, one module at a time.
///
/// ```
/// use econtext::modules::{ModuleFinder, ModuleKind, ModuleRecord, module_record};
/// use std::collections::HashMap;
/// use std::sync::Arc;
///
/// /// Modules of one text each, by name.
/// struct Texts(HashMap<String, String>);
///
/// impl ModuleFinder for Texts {
///     fn find(&self, name: &str) -> Option<Arc<ModuleRecord>> {
///         let text = self.0.get(name)?;
///         let path = format!("{name}.py");
///         Some(Arc::new(module_record(name, ModuleKind::Module, path, Some(text.as_bytes()), Vec::new())))
///     }
/// }
/// ```
pub trait ModuleFinder: Send + Sync {
    /// The module called `name`, if there is one.
    fn find(&self, name: &str) -> Option<Arc<ModuleRecord>>;

    /// The content at `path`, below the roots as if they were one: a directory, or a piece of a
    /// file from `offset` on.
    fn read(&self, path: &str, offset: u64) -> Option<FileAnswer> {
        let _ = (path, offset);
        None
    }

    /// The modules that will be imported from `start` on, to be sent ahead of a call; none by
    /// default.
    fn foresee(&self, start: Start<'_>) -> Arc<Foresight> {
        let _ = start;
        Arc::default()
    }

    /// The result of [`foresee`](ModuleFinder::foresee), if that is known without waiting for a
    /// disk: the thread that makes a call calls this one. `None`, the default, if it is not.
    fn foreseen(&self, start: Start<'_>) -> Option<Arc<Foresight>> {
        let _ = start;
        None
    }
}

/// The answer to a child's question about a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileAnswer {
    /// The names in a directory, with whether each is a directory, and its size in bytes.
    Directory(Vec<(String, bool, u64)>),
    /// A file of `size` bytes, and the bytes from the offset asked for; no more than a chunk.
    File {
        /// The size of the whole file in bytes.
        size: u64,
        /// The bytes from the offset on.
        chunk: Vec<u8>,
    },
}

impl FileAnswer {
    /// Converts to the form that `files.py` reads.
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

/// The place where the imports begin.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Start<'a> {
    /// A function, `f` or `Class.f`, of a module.
    Function(&'a str, &'a str),
    /// A module that is imported.
    Module(&'a str),
    /// A module that is imported, with what functions of its top-level package import.
    WithFunctions(&'a str),
    /// A module that is imported, with all of its top-level package, unless that is too large.
    WholePackage(&'a str),
    /// A module or package that is run, as `python -m`.
    Main(&'a str),
    /// A program's text.
    Program(&'a [u8]),
}

/// A [`Start`] that outlives the call that it is of.
#[derive(Debug)]
pub(crate) enum OwnedStart {
    Function(String, String),
    Module(String),
    WithFunctions(String),
    WholePackage(String),
    Main(String),
    Program(Vec<u8>),
}

impl From<Start<'_>> for OwnedStart {
    fn from(start: Start<'_>) -> Self {
        match start {
            Start::Function(module, function) => OwnedStart::Function(module.to_owned(), function.to_owned()),
            Start::Module(name) => OwnedStart::Module(name.to_owned()),
            Start::WithFunctions(name) => OwnedStart::WithFunctions(name.to_owned()),
            Start::WholePackage(name) => OwnedStart::WholePackage(name.to_owned()),
            Start::Main(name) => OwnedStart::Main(name.to_owned()),
            Start::Program(source) => OwnedStart::Program(source.to_owned()),
        }
    }
}

impl OwnedStart {
    pub(crate) fn borrow(&self) -> Start<'_> {
        match self {
            OwnedStart::Function(module, function) => Start::Function(module, function),
            OwnedStart::Module(name) => Start::Module(name),
            OwnedStart::WithFunctions(name) => Start::WithFunctions(name),
            OwnedStart::WholePackage(name) => Start::WholePackage(name),
            OwnedStart::Main(name) => Start::Main(name),
            OwnedStart::Program(source) => Start::Program(source),
        }
    }
}

/// The modules that will be imported.
#[derive(Clone, Debug, Default)]
pub struct Foresight {
    /// The modules, the most certain first, each after its package.
    pub modules: Vec<PlannedModule>,
    /// The top-level names that the finder does not have.
    pub absent: Vec<String>,
    /// Whether the code will ask for files beside modules, or for metadata of distributions.
    pub files: bool,
}

/// One module that will be imported.
#[derive(Clone, Debug)]
pub struct PlannedModule {
    /// The module.
    pub module: Arc<ModuleRecord>,
    /// The module whose import of it was found first; empty for a module that the start itself
    /// names.
    pub importer: String,
}

/// The name of the child that marks a package that looks for its files. `core.py` has the same
/// constant.
pub(crate) const LOOKS_BESIDE: &str = "/";

/// Makes the record that a [`ModuleFinder`] of one's own answers with: `path` is that below a root,
/// with `/`; for kinds that cannot be sent, the reason. The source is given uncompressed.
pub fn record(
    name: &str,
    kind: ModuleKind,
    path: String,
    source: Option<&[u8]>,
    children: Vec<(String, ModuleKind)>,
) -> ModuleRecord {
    let source = source.map(|source| Arc::from(deflate(source)));
    ModuleRecord { name: name.to_owned(), kind, path, source, children }
}

/// Compresses `data` to a zlib stream, at a level that suits a LAN as well as a WAN.
pub(crate) fn deflate(data: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::with_capacity(data.len() / 3), Compression::new(6));
    // A write to a Vec does not fail.
    let _ = encoder.write_all(data);
    encoder.finish().unwrap_or_default()
}
