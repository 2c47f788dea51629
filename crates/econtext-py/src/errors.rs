//! Our errors as exceptions; the classes are in `_errors.py`.

use crate::ours::simple;
use crate::values::exception;
use econtext::Error;
use pyo3::prelude::*;

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

/// An error as an exception that is not raised yet.
pub(crate) fn instance<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    match error {
        Error::Exception { host, error } => exception(py, Some(host), error),
        _ => simple(py, error),
    }
}
