//! Functions of the Python half, and the exceptions that need no more than those.

use econtext::Error;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// A function of the Python half, looked up once.
pub(crate) fn ours<'py>(
    py: Python<'py>,
    cell: &'static PyOnceLock<Py<PyAny>>,
    module: &str,
    name: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let found = cell.get_or_try_init(py, || py.import(module)?.getattr(name).map(Bound::unbind))?;
    Ok(found.bind(py).clone())
}

/// An error as an exception; one that was raised there is more than that.
pub(crate) fn simple<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
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

/// The exception of a request that makes no sense.
pub(crate) fn usage(message: String) -> PyErr {
    Python::attach(|py| simple(py, &Error::Usage(message)).map_or_else(|other| other, PyErr::from_value))
}

/// The exception of a set of hosts or an inventory that makes no sense.
pub(crate) fn spec(error: econtext_fleet::SpecError) -> PyErr {
    usage(error.0)
}
