//! The items that generators there yield.

use crate::errors::raise;
use crate::inner::Inner;
use crate::per_process::PerProcess;
use crate::values::from_value;
use crate::wait::{CallBack, Waiting, wait};
use econtext::Value;
use econtext::internal::lock;
use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

/// An iterator over the items; closing it closes the generator.
#[pyclass(frozen, module = "econtext._econtext")]
pub(crate) struct Items {
    items: PerProcess<Mutex<Option<econtext::Items<Value>>>>,
    declared: Option<Py<PyAny>>,
    child: Arc<Inner>,
}

type Next = Option<Result<Value, econtext::Error>>;

impl Items {
    pub(crate) fn new(items: econtext::Items<Value>, declared: Option<Py<PyAny>>, child: Arc<Inner>) -> Self {
        Items { items: PerProcess::new(Mutex::new(Some(items))), declared, child }
    }

    fn poll_next(&self, cx: &mut Context<'_>) -> PyResult<Poll<Next>> {
        let mut items = lock(self.items.get()?);
        let Some(running) = &mut *items else { return Ok(Poll::Ready(None)) };
        Ok(running.poll_next(cx))
    }

    /// An item as a Python object. The end is `StopIteration`, with the generator's return value.
    fn taken<'py>(&self, py: Python<'py>, next: Next) -> PyResult<Bound<'py, PyAny>> {
        let declared = self.declared.as_ref().map(|d| d.bind(py));
        match next {
            Some(Ok(value)) => from_value(py, value, declared),
            Some(Err(error)) => Err(raise(py, &error)),
            None => {
                let returned = lock(self.items.get()?).as_ref().and_then(econtext::Items::returned::<Value>);
                let value = returned.and_then(Result::ok).unwrap_or(Value::None);
                Err(PyStopIteration::new_err((from_value(py, value, declared)?.unbind(),)))
            }
        }
    }
}

#[pymethods]
impl Items {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let _waiting = Waiting::begin();
        let next = poll_fn(|cx| match self.poll_next(cx) {
            Ok(next) => next.map(Ok),
            Err(error) => Poll::Ready(Err(error)),
        });
        match wait(py, next, None) {
            Ok(Some(next)) => {
                self.child.callbacks.catch_up(py);
                self.taken(py, next?)
            }
            Ok(None) => self.taken(py, None),
            Err(interrupt) => {
                self.close(py)?;
                Err(interrupt)
            }
        }
    }

    /// The next item as a tuple of one; `None` if there is none yet, and `callback` is called once there may be. `StopIteration`
    /// is the end.
    fn poll<'py>(&self, py: Python<'py>, callback: Py<PyAny>) -> PyResult<Option<(Bound<'py, PyAny>,)>> {
        let waker = CallBack::waker(callback, &self.child.callbacks);
        match py.detach(|| self.poll_next(&mut Context::from_waker(&waker)))? {
            Poll::Pending => Ok(None),
            Poll::Ready(next) => self.taken(py, next).map(|item| Some((item,))),
        }
    }

    /// Ends the iterator, and the generator there.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let items = self.items.get()?;
        py.detach(|| {
            let gone = lock(items).take();
            drop(gone);
        });
        Ok(())
    }
}
