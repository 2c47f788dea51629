//! Plain Python values.

use crate::message::{CallError, Handle};
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

/// An instance of an allowed class: what Python would have called and set, as plain values. Nothing was run.
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
    /// Text of bytes as the system has them, of names and words: what is no UTF-8 becomes lone surrogates, as Python's
    /// `os.fsdecode` makes them, and is the same bytes again in what Python gives to the system.
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

    /// The text, of text or of a Python 2 `str` that is valid UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(s) => Some(s),
            Value::NativeStr(b) => std::str::from_utf8(b).ok(),
            _ => None,
        }
    }

    /// The bytes, of bytes or of a Python 2 `str`.
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
