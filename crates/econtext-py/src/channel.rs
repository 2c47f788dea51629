//! Messages in both directions, beside calls.

use crate::errors::raise;
use crate::owned::Owned;
use crate::request::Request;
use crate::values::{from_value, to_value};
use crate::wait::{Waiting, deadline, wait};
use econtext::internal::{Wakers, lock};
use econtext::{Handle, Value};
use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use crate::child::Inner;

/// The values that have arrived and were not taken.
#[derive(Default)]
struct State {
    come: VecDeque<Value>,
    ended: bool,
    wakers: Wakers,
}

struct Ends {
    child: Arc<Inner>,
    handle: Handle,
    state: Arc<Mutex<State>>,
}

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.child.context.send(self.handle, &Value::Dead); // a child that is gone knows
        self.child.context.remove_handle(self.handle);
    }
}

/// The controller's end of a channel.
#[pyclass(frozen, module = "econtext._econtext")]
pub(crate) struct Channel(Owned<Ends>);

impl Channel {
    pub(crate) fn open(child: Arc<Inner>) -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let into = state.clone();
        let handle = child.context.add_handle(move |value| {
            let mut state = lock(&into);
            match value {
                Some(value) => state.come.push_back(value),
                None => state.ended = true,
            }
            let wakers = state.wakers.take();
            drop(state);
            wakers.wake();
        });
        Channel(Owned::new(Ends { child, handle, state }))
    }

    pub(crate) fn handle(&self) -> PyResult<Handle> {
        Ok(self.0.get()?.handle)
    }
}

#[pymethods]
impl Channel {
    /// The number by which it goes as an argument.
    #[getter]
    fn number(&self) -> PyResult<i64> {
        Ok(self.handle()?.0)
    }

    /// The child that it leads to.
    #[getter]
    fn owner(&self) -> PyResult<usize> {
        Ok(self.0.get()?.child.context.id())
    }

    /// Sends a plain value; returns false, and sends nothing, if it is not plain.
    fn send(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        let ends = self.0.get()?;
        let Some(value) = to_value(value)? else { return Ok(false) };
        py.detach(|| ends.child.context.send(ends.handle, &value)).map_err(|error| raise(py, &error))?;
        Ok(true)
    }

    /// Sends the value that a call would return, which is made there.
    fn send_made(&self, py: Python<'_>, request: &Request) -> PyResult<()> {
        let ends = self.0.get()?;
        let context = &ends.child.context;
        let send = || {
            request.spec.check(context)?;
            request.spec.send(context, &ends.child.sent, ends.handle)
        };
        py.detach(send).map_err(|error| raise(py, &error))
    }

    /// The next value as a tuple of one; `None` after `timeout` seconds; `StopIteration` if the other side has closed.
    #[pyo3(signature = (timeout=None))]
    fn receive<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Option<(Bound<'py, PyAny>,)>> {
        let _waiting = Waiting::begin();
        let ends = self.0.get()?;
        let next = poll_fn(|cx| {
            let mut state = lock(&ends.state);
            match state.come.pop_front() {
                Some(value) => Poll::Ready(Some(value)),
                None if state.ended => Poll::Ready(None),
                None => {
                    state.wakers.add(cx);
                    Poll::Pending
                }
            }
        });
        match wait(py, next, deadline(timeout)?)? {
            None => Ok(None),
            Some(None) => Err(PyStopIteration::new_err(())),
            Some(Some(value)) => Ok(Some((from_value(py, value, None)?,))),
        }
    }

    /// Tells the other side that no more will be sent.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let ends = self.0.get()?;
        let sent = py.detach(|| ends.child.context.send(ends.handle, &Value::Dead));
        let _ = sent; // a child that is gone knows
        Ok(())
    }
}
