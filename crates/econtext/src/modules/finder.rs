//! What a finder of modules is: the question of a child, and the answers to it.

use econtext_proto::{ModuleKind, ModuleRecord, Value};
use flate2::{Compression, write::ZlibEncoder};
use std::io::Write as _;
use std::sync::Arc;

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

    /// As [`foresee`](ModuleFinder::foresee), if that is known without waiting for a disk: this one is called by whichever
    /// thread makes a call. `None`, the default, if it is not.
    fn foreseen(&self, start: Start<'_>) -> Option<Arc<Foresight>> {
        let _ = start;
        None
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

/// Where the imports begin.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Start<'a> {
    /// A function, `f` or `Class.f`, of a module.
    Function(&'a str, &'a str),
    /// A module that is imported.
    Module(&'a str),
    /// A module that is imported, with what functions of its top-level package import.
    Deep(&'a str),
    /// A module that is imported, with all of its top-level package that is not too much.
    Package(&'a str),
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
    Deep(String),
    Package(String),
    Main(String),
    Program(Vec<u8>),
}

impl From<Start<'_>> for OwnedStart {
    fn from(start: Start<'_>) -> Self {
        match start {
            Start::Function(module, function) => OwnedStart::Function(module.to_owned(), function.to_owned()),
            Start::Module(name) => OwnedStart::Module(name.to_owned()),
            Start::Deep(name) => OwnedStart::Deep(name.to_owned()),
            Start::Package(name) => OwnedStart::Package(name.to_owned()),
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
            OwnedStart::Deep(name) => Start::Deep(name),
            OwnedStart::Package(name) => Start::Package(name),
            OwnedStart::Main(name) => Start::Main(name),
            OwnedStart::Program(source) => Start::Program(source),
        }
    }
}

/// What will be imported.
#[derive(Clone, Debug, Default)]
pub struct Foresight {
    /// Modules, the most certain first, each after its package.
    pub modules: Vec<Foreseen>,
    /// Top-level names that the finder does not have.
    pub absent: Vec<String>,
    /// Whether something will ask for files beside modules, or for metadata of distributions.
    pub files: bool,
}

/// One module that will be imported.
#[derive(Clone, Debug)]
pub struct Foreseen {
    /// The module.
    pub module: Arc<ModuleRecord>,
    /// The one whose import of it was found first; empty for what the start itself names.
    pub importer: String,
}

/// The child of a package that stands for its files: it looks for them. `core.py` has the same constant.
pub(crate) const LOOKS_BESIDE: &str = "/";

/// What a [`ModuleFinder`] of one's own answers with: `path` is that below a root, with `/`; for kinds that cannot be sent,
/// the reason. The source is given as it is.
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

/// `data` as a zlib stream, at a level that suits a LAN as well as a WAN.
pub(crate) fn deflate(data: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::with_capacity(data.len() / 3), Compression::new(6));
    // Writing to a Vec does not fail.
    let _ = encoder.write_all(data);
    encoder.finish().unwrap_or_default()
}
