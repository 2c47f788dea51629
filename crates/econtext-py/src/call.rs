//! Calls on their way, and their results.

use crate::callback_thread::CallbackThread;
use crate::errors::instance;
use crate::per_process::PerProcess;
use crate::values::from_value;
use econtext::internal::lock;
use econtext::{Error, Value};
use pyo3::prelude::*;
use std::sync::{Arc, Mutex};
use std::task::Poll;

/// A call on its way.
#[pyclass(frozen, module = "econtext._econtext")]
pub(crate) struct Call {
    pub(crate) call: PerProcess<econtext::Call<Value>>,
    pub(crate) declared: Option<Py<PyAny>>,
    pub(crate) callbacks: Arc<CallbackThread>,
}

#[pymethods]
impl Call {
    /// Calls `callback(result, exception)`, one of which is None, on the thread for callbacks when the call is done.
    fn when_done(&self, py: Python<'_>, callback: Py<PyAny>) -> PyResult<()> {
        let tell = (self.declared.as_ref().map(|d| d.clone_ref(py)), callback);
        let done = Arc::new(Done {
            call: self.call.get()?.clone(),
            tell: Mutex::new(Some(tell)),
            callbacks: self.callbacks.clone(),
        });
        py.detach(|| done.look());
        Ok(())
    }

    /// Stops the call: it ends as cancelled, and the function is interrupted there.
    fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        let call = self.call.get()?;
        py.detach(|| call.cancel());
        Ok(())
    }
}

/// Classes that are declared, and the callback.
type Tell = (Option<Py<PyAny>>, Py<PyAny>);

/// Tells Python of the end of a call.
struct Done {
    call: econtext::Call<Value>,
    tell: Mutex<Option<Tell>>,
    callbacks: Arc<CallbackThread>,
}

impl Done {
    fn look(self: &Arc<Self>) {
        let waker = self.clone().into();
        let Poll::Ready(result) = self.call.poll_wait(&std::task::Context::from_waker(&waker)) else {
            return;
        };
        let Some((declared, callback)) = lock(&self.tell).take() else { return };
        self.callbacks.tell(move |py| {
            let declared = declared.as_ref().map(|d| d.bind(py));
            let callback = callback.bind(py);
            let told = match outcome(py, result, declared) {
                Ok(value) => callback.call1((value, py.None())),
                Err(exception) => callback.call1((py.None(), exception)),
            };
            if let Err(error) = told {
                error.write_unraisable(py, Some(callback));
            }
        });
    }
}

impl std::task::Wake for Done {
    fn wake(self: Arc<Self>) {
        self.look();
    }
}

/// A result as a value, or an exception that is not raised yet.
pub(crate) fn outcome<'py>(
    py: Python<'py>,
    result: Result<Value, Error>,
    declared: Option<&Bound<'py, PyAny>>,
) -> Result<Bound<'py, PyAny>, Bound<'py, PyAny>> {
    match result {
        Ok(value) => {
            from_value(py, value, declared).map_err(|error| error.into_value(py).into_bound(py).into_any())
        }
        Err(error) => {
            Err(instance(py, &error).unwrap_or_else(|e| e.into_value(py).into_bound(py).into_any()))
        }
    }
}
