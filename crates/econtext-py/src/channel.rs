//! Messages in both directions, beside calls.

use crate::errors::raise;
use crate::inner::Inner;
use crate::per_process::PerProcess;
use crate::request::Request;
use crate::values::{ChannelHandle, from_value, to_value};
use crate::wait::{Waiting, deadline, wait};
use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;
use std::future::poll_fn;
use std::sync::Arc;

/// The controller's end of a channel.
#[pyclass(frozen, extends = ChannelHandle, module = "econtext._econtext")]
pub(crate) struct Channel(PerProcess<Ends>);

struct Ends {
    child: Arc<Inner>,
    channel: econtext::Channel,
}

impl Channel {
    pub(crate) fn open(py: Python<'_>, child: Arc<Inner>) -> PyResult<Py<Self>> {
        let channel = py.detach(|| child.context.channel());
        let handle = ChannelHandle(PerProcess::new(channel.handle()));
        Py::new(
            py,
            PyClassInitializer::from(handle).add_subclass(Channel(PerProcess::new(Ends { child, channel }))),
        )
    }
}

#[pymethods]
impl Channel {
    /// The number by which it goes as an argument.
    #[getter]
    fn number(&self) -> PyResult<i64> {
        Ok(self.0.get()?.channel.handle().0)
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
        py.detach(|| ends.channel.send(&value)).map_err(|error| raise(py, &error))?;
        Ok(true)
    }

    /// Sends the value that a call would return, which is made there.
    fn send_made(&self, py: Python<'_>, request: &Request) -> PyResult<()> {
        let ends = self.0.get()?;
        let context = &ends.child.context;
        let send = || {
            request.spec.check(context)?;
            request.spec.send(context, &ends.child.sent, ends.channel.handle())
        };
        py.detach(send).map_err(|error| raise(py, &error))
    }

    /// The next value as a tuple of one; `None` after `timeout` seconds; `StopIteration` if the other side has closed.
    #[pyo3(signature = (timeout=None))]
    fn receive<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Option<(Bound<'py, PyAny>,)>> {
        let _waiting = Waiting::begin();
        let ends = self.0.get()?;
        match wait(py, poll_fn(|cx| ends.channel.poll_recv(cx)), deadline(timeout)?)? {
            None => Ok(None),
            Some(Ok(None)) => Err(PyStopIteration::new_err(())),
            Some(Ok(Some(value))) => Ok(Some((from_value(py, value, None)?,))),
            Some(Err(error)) => Err(raise(py, &error)),
        }
    }

    /// Tells the other side that no more will be sent.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let ends = self.0.get()?;
        py.detach(|| ends.channel.close());
        Ok(())
    }
}
