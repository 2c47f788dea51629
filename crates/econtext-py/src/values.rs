//! Conversion between Python's values and ours.

use crate::ours::{ours, usage};
use crate::per_process::PerProcess;
use econtext::Value;
use econtext::value::{CallError, Handle, Object};
use num_bigint::BigInt;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{
    IntoPyDict as _, PyBool, PyBytes, PyComplex, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet,
    PyString, PyTuple,
};

/// The base of channels: the handle by which one goes as a value.
#[pyclass(frozen, subclass, module = "econtext._econtext")]
pub(crate) struct ChannelHandle(pub(crate) PerProcess<Handle>);

/// The depth to which values may be nested on the wire.
const DEPTH: usize = 250;

/// A value of plain types only, or `None` if it is more than that and is sent as a pickle. An instance of a subclass is more.
pub(crate) fn to_value(object: &Bound<'_, PyAny>) -> PyResult<Option<Value>> {
    convert(object, 0)
}

/// The items of a sequence.
pub(crate) fn to_values<'py>(
    items: impl Iterator<Item = Bound<'py, PyAny>>,
    depth: usize,
) -> PyResult<Option<Vec<Value>>> {
    let mut values = Vec::with_capacity(items.size_hint().0);
    for item in items {
        match convert(&item, depth)? {
            Some(value) => values.push(value),
            None => return Ok(None),
        }
    }
    Ok(Some(values))
}

/// The entries of a dict.
pub(crate) fn to_entries(dict: &Bound<'_, PyDict>, depth: usize) -> PyResult<Option<Vec<(Value, Value)>>> {
    let mut entries = Vec::with_capacity(dict.len());
    for (key, value) in dict.iter() {
        match (convert(&key, depth)?, convert(&value, depth)?) {
            (Some(key), Some(value)) => entries.push((key, value)),
            _ => return Ok(None),
        }
    }
    Ok(Some(entries))
}

fn convert(object: &Bound<'_, PyAny>, depth: usize) -> PyResult<Option<Value>> {
    if depth > DEPTH {
        return Ok(None);
    }
    let deeper = depth + 1;
    Ok(Some(if let Ok(text) = object.cast_exact::<PyString>() {
        match text.to_cow() {
            Ok(text) => Value::Str(text.into_owned()),
            Err(_) => {
                // The text has lone surrogates, as of file names that are not UTF-8.
                let bytes = text.call_method1("encode", ("utf-8", "surrogatepass"))?;
                Value::WideStr(bytes.extract()?)
            }
        }
    } else if object.is_none() {
        Value::None
    } else if let Ok(truth) = object.cast_exact::<PyBool>() {
        Value::Bool(truth.is_true())
    } else if let Ok(number) = object.cast_exact::<PyInt>() {
        match number.extract::<i64>() {
            Ok(number) => Value::Int(number),
            Err(_) => Value::int(big(number)?),
        }
    } else if let Ok(number) = object.cast_exact::<PyFloat>() {
        Value::Float(number.extract()?)
    } else if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        Value::Bytes(bytes.as_bytes().to_vec())
    } else if let Ok(list) = object.cast_exact::<PyList>() {
        return Ok(to_values(list.iter(), deeper)?.map(Value::List));
    } else if let Ok(tuple) = object.cast_exact::<PyTuple>() {
        return Ok(to_values(tuple.iter(), deeper)?.map(Value::Tuple));
    } else if let Ok(dict) = object.cast_exact::<PyDict>() {
        return Ok(to_entries(dict, deeper)?.map(Value::Dict));
    } else if let Ok(set) = object.cast_exact::<PySet>() {
        return Ok(to_values(set.iter(), deeper)?.map(Value::Set));
    } else if let Ok(set) = object.cast_exact::<PyFrozenSet>() {
        return Ok(to_values(set.iter(), deeper)?.map(Value::FrozenSet));
    } else if let Ok(channel) = object.cast::<ChannelHandle>() {
        Value::Channel(*channel.get().0.get()?)
    } else if let Ok(number) = object.cast_exact::<PyComplex>() {
        Value::Complex(number.real(), number.imag())
    } else {
        return Ok(None);
    }))
}

/// An integer that does not fit into 64 bits.
fn big(number: &Bound<'_, PyInt>) -> PyResult<BigInt> {
    let bits: usize = number.call_method0("bit_length")?.extract()?;
    let signed = [("signed", true)].into_py_dict(number.py())?;
    let bytes = number.call_method("to_bytes", (bits / 8 + 1, "little"), Some(&signed))?;
    Ok(BigInt::from_signed_bytes_le(bytes.cast::<PyBytes>()?.as_bytes()))
}

/// A value as Python's. Instances of classes are rebuilt by `_values.py`, which is given those that this call declared.
pub(crate) fn from_value<'py>(
    py: Python<'py>,
    value: Value,
    declared: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let all = |items: Vec<Value>| -> PyResult<Vec<Bound<'py, PyAny>>> {
        items.into_iter().map(|item| from_value(py, item, declared)).collect()
    };
    Ok(match value {
        Value::None => py.None().into_bound(py),
        Value::Bool(truth) => PyBool::new(py, truth).to_owned().into_any(),
        Value::Int(number) => number.into_pyobject(py)?.into_any(),
        Value::BigInt(number) => {
            let bytes = PyBytes::new(py, &number.to_signed_bytes_le());
            let signed = [("signed", true)].into_py_dict(py)?;
            py.get_type::<PyInt>().call_method("from_bytes", (bytes, "little"), Some(&signed))?
        }
        Value::Float(number) => PyFloat::new(py, number).into_any(),
        Value::Complex(real, imaginary) => PyComplex::from_doubles(py, real, imaginary).into_any(),
        Value::Str(text) => PyString::new(py, &text).into_any(),
        Value::WideStr(bytes) => {
            PyBytes::new(py, &bytes).call_method1("decode", ("utf-8", "surrogatepass"))?
        }
        // A str of Python 2 is text if it can be.
        Value::NativeStr(bytes) => match std::str::from_utf8(&bytes) {
            Ok(text) => PyString::new(py, text).into_any(),
            Err(_) => PyBytes::new(py, &bytes).into_any(),
        },
        Value::Bytes(bytes) => PyBytes::new(py, &bytes).into_any(),
        Value::List(items) => PyList::new(py, all(items)?)?.into_any(),
        Value::Tuple(items) => PyTuple::new(py, all(items)?)?.into_any(),
        Value::Dict(entries) => {
            let dict = PyDict::new(py);
            for (key, value) in entries {
                dict.set_item(from_value(py, key, declared)?, from_value(py, value, declared)?)?;
            }
            dict.into_any()
        }
        Value::Set(items) => PySet::new(py, all(items)?)?.into_any(),
        Value::FrozenSet(items) => PyFrozenSet::new(py, all(items)?)?.into_any(),
        Value::CallError(error) => exception(py, None, &error)?,
        Value::Object(object) => rebuilt(py, *object, declared)?,
        other => {
            return Err(usage(format!("a {} is no value in Python", other.type_name())));
        }
    })
}

fn rebuilt<'py>(
    py: Python<'py>,
    object: Object,
    declared: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    static REBUILD: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let mut parts = Vec::new();
    for part in object.args {
        parts.push(from_value(py, part, declared)?);
    }
    ours(py, &REBUILD, "econtext._values", "rebuild")?.call1((PyTuple::new(py, parts)?, declared))
}

/// The exception that was raised there, as one of here.
pub(crate) fn exception<'py>(
    py: Python<'py>,
    host: Option<&str>,
    error: &CallError,
) -> PyResult<Bound<'py, PyAny>> {
    static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let mut args = Vec::new();
    for arg in &error.args {
        // An argument that cannot be made here is left as None: the exception stays the same one.
        args.push(from_value(py, arg.clone(), None).unwrap_or_else(|_| py.None().into_bound(py)));
    }
    let frames: Vec<_> = error.frames.iter().map(|f| (&f.file, f.line, &f.function, &f.source)).collect();
    let cause = match &error.cause {
        Some(cause) => Some(exception(py, host, cause)?),
        None => None,
    };
    let state = PyDict::new(py);
    for (name, value) in &error.state {
        if let (Some(name), Ok(value)) = (name.as_str(), from_value(py, value.clone(), None)) {
            state.set_item(name, value)?;
        }
    }
    let members = error.exceptions.iter().map(|e| exception(py, host, e)).collect::<PyResult<Vec<_>>>()?;
    let make = ours(py, &MAKE, "econtext._errors", "remote")?;
    make.call1((
        host,
        &error.module,
        &error.type_name,
        &error.message,
        PyTuple::new(py, args)?,
        &error.traceback,
        frames,
        cause,
        state,
        members,
    ))
}
