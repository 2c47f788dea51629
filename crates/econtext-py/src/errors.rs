//! Our errors as exceptions; the classes are in `_errors.py`.

use crate::values::{from_value, ours};
use econtext::{CallError, Error};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};

/// All kinds of errors. `_errors.py` has a class for each; a test compares them.
pub(crate) const KINDS: [&str; 15] = [
    "usage",
    "local",
    "unreachable",
    "auth",
    "host_key",
    "become",
    "no_python",
    "bootstrap",
    "protocol",
    "import",
    "exception",
    "unpermitted",
    "timeout",
    "cancelled",
    "closed",
];

/// An error as an exception. If it cannot be made, the exception that says why.
pub(crate) fn raise(py: Python<'_>, error: &Error) -> PyErr {
    match instance(py, error) {
        Ok(exception) => PyErr::from_value(exception),
        Err(other) => other,
    }
}

/// The exception of a request that makes no sense.
pub(crate) fn usage(message: String) -> PyErr {
    Python::attach(|py| raise(py, &Error::Usage(message)))
}

/// The exception of a set of hosts or an inventory that makes no sense.
pub(crate) fn spec(error: econtext_fleet::SpecError) -> PyErr {
    usage(error.0)
}

pub(crate) fn instance<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    if let Error::Exception { host, error } = error {
        return exception(py, Some(host), error);
    }
    let errno = match error {
        Error::NotStarted { errno, .. } => Some(*errno),
        Error::Local { error, .. } => error.raw_os_error(),
        _ => None,
    };
    let class = match error {
        Error::Unpermitted { class, .. } => Some(class),
        _ => None,
    };
    let make = ours(py, &MAKE, "econtext._errors", "make")?;
    make.call1((error.kind().as_str(), error.host(), error.message(), error.stderr(), errno, class))
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
