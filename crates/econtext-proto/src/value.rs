//! Plain Python values, and the two that are more: handles and errors of calls.

use num_bigint::BigInt;

/// A Python value of the kinds that cross the wire.
///
/// Python 2's `str` may be text or bytes; it arrives as [`Value::NativeStr`] and converts to either.
///
/// ```
/// use econtext_proto::Value;
/// assert_eq!(Value::from("x").as_str(), Some("x"));
/// assert_eq!(Value::NativeStr(b"x".to_vec()).as_str(), Some("x"));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer that fits.
    Int(i64),
    /// An integer that does not fit into [`Value::Int`].
    BigInt(BigInt),
    /// A float.
    Float(f64),
    /// A complex number: real and imaginary part.
    Complex(f64, f64),
    /// Text.
    Str(String),
    /// Text with lone surrogates (undecodable file names), in UTF-8 with the surrogates encoded like other
    /// code points, as Python's `surrogatepass` does.
    WideStr(Vec<u8>),
    /// `str` of a Python 2 child: bytes that may be text.
    NativeStr(Vec<u8>),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<Value>),
    /// A tuple.
    Tuple(Vec<Value>),
    /// A dict, in its order.
    Dict(Vec<(Value, Value)>),
    /// A set, in the order it arrived.
    Set(Vec<Value>),
    /// A frozenset, in the order it arrived.
    FrozenSet(Vec<Value>),
    /// The dead sentinel. Users meet it as a closed channel.
    Dead,
    /// An exception that was raised in the child.
    CallError(Box<CallError>),
    /// A channel of the controller, as an argument: the child's end of it is made when it arrives.
    Channel(Handle),
    /// An instance of a class that was allowed by name.
    Object(Box<Object>),
}

/// An instance of an allowed class: the call and the state that Python would have used, as plain values. Nothing was run.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// The class's module.
    pub module: String,
    /// The class's name.
    pub name: String,
    /// The arguments it would have been made with.
    pub args: Vec<Value>,
    /// The state it would have been given, or `Value::None`.
    pub state: Value,
}

impl Value {
    /// Text of the system's bytes, as of names and words. Bytes that are not UTF-8 become lone surrogates, as Python's
    /// `os.fsdecode` makes them, and are the same bytes again when Python gives the text to the system.
    ///
    /// ```
    /// # use econtext_proto::Value;
    /// assert_eq!(Value::from_os_text(b"caf\xc3\xa9"), Value::from("caf\u{e9}"));
    /// assert_eq!(Value::from_os_text(b"caf\xe9"), Value::WideStr(b"caf\xed\xb3\xa9".to_vec()));
    /// ```
    pub fn from_os_text(bytes: &[u8]) -> Self {
        if let Ok(text) = std::str::from_utf8(bytes) {
            return Value::from(text);
        }
        let mut wide = Vec::with_capacity(bytes.len() + 8);
        for chunk in bytes.utf8_chunks() {
            wide.extend_from_slice(chunk.valid().as_bytes());
            for byte in chunk.invalid() {
                // U+DC80 to U+DCFF, encoded as if they were characters.
                wide.extend_from_slice(&[0xed, 0xb0 | byte >> 6, 0x80 | byte & 0x3f]);
            }
        }
        Value::WideStr(wide)
    }

    /// The text of a text, or of a Python 2 `str` that is valid UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(s) => Some(s),
            Value::NativeStr(b) => std::str::from_utf8(b).ok(),
            _ => None,
        }
    }

    /// The bytes of a bytes value, or of a Python 2 `str`.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Bytes(b) | Value::NativeStr(b) => Some(b),
            _ => None,
        }
    }

    /// The integer, if it fits.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Int(n) => Some(*n),
            _ => None,
        }
    }

    /// The items of a list, tuple, set or frozenset.
    pub fn as_seq(&self) -> Option<&[Value]> {
        match self {
            Value::List(v) | Value::Tuple(v) | Value::Set(v) | Value::FrozenSet(v) => Some(v),
            _ => None,
        }
    }

    /// The value under a text key of a dict.
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Value::Dict(items) => items.iter().find(|(k, _)| k.as_str() == Some(key)).map(|(_, v)| v),
            _ => None,
        }
    }

    /// Python's name for its type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::None => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(_) | Value::BigInt(_) => "int",
            Value::Float(_) => "float",
            Value::Complex(..) => "complex",
            Value::Str(_) | Value::WideStr(_) | Value::NativeStr(_) => "str",
            Value::Bytes(_) => "bytes",
            Value::List(_) => "list",
            Value::Tuple(_) => "tuple",
            Value::Dict(_) => "dict",
            Value::Set(_) => "set",
            Value::FrozenSet(_) => "frozenset",
            Value::Dead => "Dead",
            Value::CallError(_) => "CallError",
            Value::Channel(_) => "Channel",
            Value::Object(_) => "object",
        }
    }

    /// An integer in its smallest form.
    pub fn int(n: BigInt) -> Value {
        i64::try_from(&n).map_or(Value::BigInt(n), Value::Int)
    }
}

impl From<&str> for Value {
    fn from(s: &str) -> Self {
        Value::Str(s.to_owned())
    }
}

impl From<String> for Value {
    fn from(s: String) -> Self {
        Value::Str(s)
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Value::Int(n)
    }
}

impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Value::Bool(b)
    }
}

/// The address of a receiver on the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle(pub i64);

/// An exception that user code raised in the child.
#[derive(Clone, Debug, PartialEq)]
pub struct CallError {
    /// The module of its type, `builtins` or (Python 2) `exceptions` for the usual ones.
    pub module: String,
    /// The qualified name of its type.
    pub type_name: String,
    /// Its text.
    pub message: String,
    /// Its arguments, if they were plain values.
    pub args: Vec<Value>,
    /// The traceback as Python prints it, with those of its causes.
    pub traceback: String,
    /// The frames, outermost first.
    pub frames: Vec<SourceFrame>,
    /// The exception that it was raised from, or while handling.
    pub cause: Option<Box<CallError>>,
    /// Its attributes, as far as they were plain values.
    pub state: Vec<(Value, Value)>,
    /// The exceptions of a group.
    pub exceptions: Vec<CallError>,
}

/// One frame of a traceback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFrame {
    /// The file; for a module that was sent, its path below the root it was found in.
    pub file: String,
    /// The line number, from 1.
    pub line: u32,
    /// The function.
    pub function: String,
    /// The text of the line, or empty.
    pub source: String,
}

/// The directory where sent modules live, according to their `__file__`. The same constant is in `core.py`.
pub(crate) const MODULE_ROOT: &str = "/<econtext>/";

impl CallError {
    /// A `ValueError` about a result that only the controller could see was none.
    pub fn value_error(message: String) -> Self {
        CallError {
            module: "builtins".to_owned(),
            type_name: "ValueError".to_owned(),
            message,
            args: Vec::new(),
            traceback: String::new(),
            frames: Vec::new(),
            cause: None,
            state: Vec::new(),
            exceptions: Vec::new(),
        }
    }

    /// The qualified type name, without `builtins`.
    pub fn qualified_type(&self) -> String {
        match self.module.as_str() {
            "builtins" | "exceptions" | "__builtin__" => self.type_name.clone(),
            module => format!("{module}.{}", self.type_name),
        }
    }

    pub(crate) fn from_args(args: Vec<Value>) -> Option<Self> {
        let [module, type_name, message, args, traceback, frames, cause, state, exceptions] =
            <[Value; 9]>::try_from(args).ok()?;
        let frames = frames.as_seq()?.iter().map(SourceFrame::from_value).collect::<Option<_>>()?;
        let cause = match cause {
            Value::None => None,
            Value::Tuple(args) => Some(Box::new(Self::from_args(args)?)),
            _ => return None,
        };
        let (Value::Tuple(args), Value::Dict(state)) = (args, state) else { return None };
        let member = |value| match value {
            Value::Tuple(args) => Self::from_args(args),
            _ => None,
        };
        let exceptions = match exceptions {
            Value::List(items) | Value::Tuple(items) => {
                items.into_iter().map(member).collect::<Option<Vec<_>>>()?
            }
            _ => return None,
        };
        Some(CallError {
            module: lossy(&module)?,
            type_name: lossy(&type_name)?,
            message: lossy(&message)?,
            args,
            traceback: lossy(&traceback)?.replace(MODULE_ROOT, ""),
            frames,
            cause,
            state,
            exceptions,
        })
    }
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.message.as_str() {
            "" => f.write_str(&self.qualified_type()),
            message => write!(f, "{}: {message}", self.qualified_type()),
        }
    }
}

impl std::error::Error for CallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|c| c as _)
    }
}

impl SourceFrame {
    fn from_value(value: &Value) -> Option<Self> {
        match value.as_seq()? {
            [file, line, function, source] => {
                let file = lossy(file)?;
                Some(SourceFrame {
                    file: file.strip_prefix(MODULE_ROOT).map(str::to_owned).unwrap_or(file),
                    line: u32::try_from(line.as_i64()?).ok()?,
                    function: lossy(function)?,
                    source: lossy(source)?,
                })
            }
            _ => None,
        }
    }
}

/// Text of any kind, with bytes that are not UTF-8 replaced.
pub(crate) fn lossy(value: &Value) -> Option<String> {
    match value {
        Value::Str(s) => Some(s.clone()),
        Value::WideStr(b) | Value::NativeStr(b) => Some(String::from_utf8_lossy(b).into_owned()),
        _ => None,
    }
}
