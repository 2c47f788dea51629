//! The meaning of the messages: handles, and the shapes of their payloads.
//!
//! Numbers and shapes are shared with `core.py` and may change with every version: both ends come from one build.

pub use crate::value::{CallError, Handle, MODULE_ROOT, SourceFrame};
use crate::value::{Value, lossy};
use std::time::{Duration, Instant};

/// Controller: (logger, level, message, seconds since 1970), and the text of a traceback or `None`.
pub const FORWARD_LOG: Handle = Handle(100);
/// Controller: (reply handle, module name); answered with a module record or `None`.
pub const GET_MODULE: Handle = Handle(101);
/// Child: (reply handle, with context, module, class or `None`, function, args, kwargs); the dead sentinel shuts down.
pub const CALL_FUNCTION: Handle = Handle(102);
/// Child: a list of (name, kind, path, source in zlib or `None`, children or `None`), and names that are nowhere.
pub const PUSH_MODULE: Handle = Handle(103);
/// Controller: (1 or 2, bytes), the output that was written to that file descriptor in the child.
pub const STDIO: Handle = Handle(104);
/// Child: (reply handle of the call, seconds of grace before its process group is killed).
pub const CANCEL: Handle = Handle(105);
/// Controller: the child's first message: (Python version, pid, user).
pub const HELLO: Handle = Handle(106);
/// Controller: (reply handle, path, offset); answered with a directory, a piece of a file, or `None`.
pub const GET_FILE: Handle = Handle(107);
/// Controller: (reply handle, path, limit in bytes or 0); answered with (path, whether it begins, piece) for all files
/// below that fit, then `None`.
pub const GET_TREE: Handle = Handle(108);
/// Controller: the name of a top-level module that was pushed although the target has it too.
pub const HAVE: Handle = Handle(109);
/// Connecting back: the offer for the child; `None`, from each side, as the last on the old stream.
pub const BACK: Handle = Handle(113);
/// Child: the name of a module of ours with handlers of its own, which was pushed: it is run at once.
pub const LOAD: Handle = Handle(110);
/// Child: (handle, options): starts a process, whose messages go both ways on the handle. See `process.py`.
pub const START_PROCESS: Handle = Handle(111);
/// Child: (name, bytes, names): keeps the bytes under the name for its processes' input, and forgets the names listed.
pub const KEEP: Handle = Handle(112);
/// Child of a controller that is a Python program: a dict of definitions by their keys, kept for calls. See `values.py`.
pub const DEFINE: Handle = Handle(114);
/// All of them by name, as the agent and docs/protocol.md have them too.
pub const HANDLES: [(&str, Handle); 15] = [
    ("FORWARD_LOG", FORWARD_LOG),
    ("GET_MODULE", GET_MODULE),
    ("CALL_FUNCTION", CALL_FUNCTION),
    ("STDIO", STDIO),
    ("HELLO", HELLO),
    ("PUSH_MODULE", PUSH_MODULE),
    ("CANCEL", CANCEL),
    ("GET_FILE", GET_FILE),
    ("GET_TREE", GET_TREE),
    ("HAVE", HAVE),
    ("LOAD", LOAD),
    ("START_PROCESS", START_PROCESS),
    ("KEEP", KEEP),
    ("BACK", BACK),
    ("DEFINE", DEFINE),
];
/// The first handle that the controller allocates.
pub const FIRST_HANDLE: Handle = Handle(1000);
/// The first handle that the child allocates.
pub const FIRST_CHILD_HANDLE: Handle = Handle(1 << 30);

/// The module of the child's core, in pickles.
pub(crate) const CORE_MODULE: &[u8] = b"econtext.core";
pub(crate) const CALL_ERROR_CLASS: &[u8] = b"CallError";
pub(crate) const DEAD_NAME: &[u8] = b"_DEAD";

/// One call: the function to run in the child, with its arguments.
#[derive(Clone, Debug)]
pub struct CallSpec {
    /// The module to import.
    pub module: String,
    /// The class in it whose method is meant.
    pub class: Option<String>,
    /// The function.
    pub function: String,
    /// Positional arguments.
    pub args: Vec<Value>,
    /// Keyword arguments, by text keys.
    pub kwargs: Vec<(Value, Value)>,
    /// Whether the function gets the child's own `Context` as its first argument.
    pub with_context: bool,
    /// The time at which the call is interrupted.
    pub deadline: Option<Instant>,
    /// How long an interrupted call may take to end before its process group is killed. Default 2 seconds.
    pub grace: Duration,
}

impl CallSpec {
    /// A call of `module:function` or `module:Class.method`, without arguments.
    ///
    /// # Errors
    /// The text, if it is not such a name.
    ///
    /// ```
    /// let spec = econtext_proto::CallSpec::parse("shutil:disk_usage").unwrap();
    /// assert_eq!((&*spec.module, &*spec.function), ("shutil", "disk_usage"));
    /// assert!(econtext_proto::CallSpec::parse("shutil").is_err());
    /// ```
    pub fn parse(target: &str) -> Result<Self, String> {
        let valid = |name: &str| name.split('.').all(is_identifier);
        let Some((module, function)) = target.split_once(':').filter(|(m, f)| is_module_name(m) && valid(f))
        else {
            return Err(format!("{target:?} is not of the form module:function"));
        };
        let (class, function) = match function.rsplit_once('.') {
            Some((class, function)) => (Some(class.to_owned()), function),
            None => (None, function),
        };
        Ok(CallSpec {
            module: module.to_owned(),
            class,
            function: function.to_owned(),
            args: Vec::new(),
            kwargs: Vec::new(),
            with_context: false,
            deadline: None,
            grace: Duration::from_secs(2),
        })
    }

    pub(crate) fn into_payload(self, reply_to: Handle) -> Value {
        Value::Tuple(vec![
            Value::Int(reply_to.0),
            Value::Bool(self.with_context),
            Value::Str(self.module),
            self.class.map_or(Value::None, Value::Str),
            Value::Str(self.function),
            Value::Tuple(self.args),
            Value::Dict(self.kwargs),
        ])
    }
}

/// Whether `name` may be the name of a variable or module in Python.
///
/// ```
/// assert!(econtext_proto::is_identifier("_größe2"));
/// assert!(!econtext_proto::is_identifier("2nd") && !econtext_proto::is_identifier("a.b"));
/// ```
pub fn is_identifier(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c == '_' || c.is_alphanumeric())
}

/// Whether Python's importer takes `name` as the name of a module: parts with dots between them, each of which may be a
/// file's. An `import` statement takes identifiers only; `importlib.import_module` takes all of these.
///
/// ```
/// assert!(econtext_proto::is_module_name("pkg.data-17-0") && econtext_proto::is_module_name("2nd"));
/// assert!(!econtext_proto::is_module_name("a..b") && !econtext_proto::is_module_name("a/b"));
/// ```
pub fn is_module_name(name: &str) -> bool {
    name.split('.').all(|part| !part.is_empty() && !part.contains(['/', '\\', ':', '\0']))
}

/// The kind of thing that a module name stands for on the controller. The numbers are `core.py`'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ModuleKind {
    /// A module with source.
    Module = 0,
    /// A package with an `__init__`.
    Package = 1,
    /// A namespace package (PEP 420): no source of its own.
    Namespace = 2,
    /// A compiled module: it exists and cannot be sent.
    Compiled = 3,
    /// A module that exists and is not sent, for the reason in the record's path.
    Refused = 4,
}

/// A record of one module, as the controller sends it to a child.
#[derive(Clone, Debug, PartialEq)]
pub struct ModuleRecord {
    /// Its full name.
    pub name: String,
    /// Its kind.
    pub kind: ModuleKind,
    /// Its path below its root, with `/`; for kinds that cannot be sent, the reason.
    pub path: String,
    /// The source as a zlib stream; `None` for a module without source.
    pub source: Option<std::sync::Arc<[u8]>>,
    /// For a package: the last part of the name of each module in it, and its kind.
    pub children: Vec<(String, ModuleKind)>,
}

impl ModuleRecord {
    /// The size of its source as it is sent, in bytes.
    pub fn size(&self) -> usize {
        self.source.as_ref().map_or(0, |source| source.len())
    }

    fn fields(&self) -> [Value; 4] {
        let children = match self.kind {
            ModuleKind::Package | ModuleKind::Namespace => {
                let child = |(name, kind): &(String, ModuleKind)| {
                    (Value::Str(name.clone()), Value::Int(*kind as i64))
                };
                Value::Dict(self.children.iter().map(child).collect())
            }
            _ => Value::None,
        };
        let source = self.source.as_ref().map_or(Value::None, |s| Value::Bytes(s.to_vec()));
        [Value::Int(self.kind as i64), Value::Str(self.path.clone()), source, children]
    }

    pub(crate) fn to_reply(&self) -> Value {
        Value::Tuple(self.fields().into())
    }

    pub(crate) fn to_push(&self) -> Value {
        let mut items = vec![Value::Str(self.name.clone())];
        items.extend(self.fields());
        Value::Tuple(items)
    }
}

/// A log record of the child's `logging`.
#[derive(Clone, Debug, PartialEq)]
pub struct LogRecord {
    /// The logger's name.
    pub logger: String,
    /// Python's level: 10 debug, 20 info, 30 warning, 40 error, 50 critical.
    pub level: i64,
    /// The formatted message.
    pub message: String,
    /// Seconds since 1970 by the child's clock.
    pub time: f64,
    /// The traceback that was logged with it.
    pub traceback: Option<String>,
    /// The record's other fields, by the names of Python's attributes: `pathname`, `lineno`, `funcName`, `stack_info`, `threadName`,
    /// `process`, and those of `extra`.
    pub fields: Vec<(Value, Value)>,
}

impl LogRecord {
    /// One of its fields.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.fields.iter().find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value)
    }

    /// The message, with the traceback below it if there is one.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        match &self.traceback {
            Some(traceback) => format!("{}\n{traceback}", self.message).into(),
            None => self.message.as_str().into(),
        }
    }

    pub(crate) fn from_value(value: &Value) -> Option<Self> {
        match value.as_seq()? {
            [logger, level, message, time, rest @ ..] if rest.len() < 3 => Some(LogRecord {
                logger: lossy(logger)?,
                level: level.as_i64()?,
                message: lossy(message)?,
                time: match time {
                    Value::Float(t) => *t,
                    other => other.as_i64()? as f64,
                },
                traceback: rest.first().and_then(lossy).map(|text| text.replace(MODULE_ROOT, "")),
                fields: match rest.get(1) {
                    Some(Value::Dict(fields)) => fields.clone(),
                    _ => Vec::new(),
                },
            }),
            _ => None,
        }
    }
}
