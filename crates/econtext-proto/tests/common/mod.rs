//! The parts that tests of pickles share.

use econtext_proto::Value;

/// A value in which bytes are Python 2's `str`: as the controller writes it, and as a child with Python 2 does.
pub(crate) fn with_native_strings(value: Value) -> Value {
    let all = |items: Vec<Value>| items.into_iter().map(with_native_strings).collect();
    match value {
        Value::Bytes(b) => Value::NativeStr(b),
        Value::List(v) => Value::List(all(v)),
        Value::Tuple(v) => Value::Tuple(all(v)),
        Value::Set(v) => Value::Set(all(v)),
        Value::FrozenSet(v) => Value::FrozenSet(all(v)),
        Value::Dict(v) => Value::Dict(
            v.into_iter().map(|(k, v)| (with_native_strings(k), with_native_strings(v))).collect(),
        ),
        other => other,
    }
}
