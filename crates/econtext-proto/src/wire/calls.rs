//! Calls of functions, and the names of classes in their results.

use crate::value::{Handle, Value};
use std::time::{Duration, Instant};

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
