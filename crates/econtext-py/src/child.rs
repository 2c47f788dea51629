//! One child, as the Python half holds it.

use crate::broker::Broker;
use crate::call::Call;
use crate::errors::raise;
use crate::finder::Finder;
use crate::inner::Inner;
use crate::per_process::PerProcess;
use crate::request::Request;
use crate::settings::{become_transport, settings, transport};
use crate::values::from_value;
use crate::wait::{CallBack, Waiting, deadline, duration, wait};
use crate::{channel, events, process, stream, transfer};
use econtext::Context;
use econtext::transport::{Argv, Transport};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

/// One child.
#[pyclass(frozen, module = "econtext._econtext")]
pub(crate) struct Child(PerProcess<Arc<Inner>>);

impl Child {
    pub(crate) fn of(inner: Arc<Inner>) -> Self {
        Child(PerProcess::new(inner))
    }

    pub(crate) fn inner(&self) -> PyResult<&Arc<Inner>> {
        self.0.get()
    }

    /// The child, if the request may be sent to it.
    fn inner_for(&self, py: Python<'_>, request: &Request) -> PyResult<&Arc<Inner>> {
        let inner = self.inner()?;
        request.spec.check(&inner.context).map_err(|error| raise(py, &error))?;
        Ok(inner)
    }
}

#[pymethods]
impl Child {
    /// Starts a child, without waiting for it. `word` is a target, or None to switch user on `via`; or `argv` says
    /// everything.
    #[new]
    #[pyo3(signature = (broker, name, word, argv, options, finder, via, python, log_level, connect_timeout, events))]
    #[expect(clippy::too_many_arguments, reason = "keywords, to Python")]
    fn new(
        py: Python<'_>,
        broker: &Broker,
        name: String,
        word: Option<&str>,
        argv: Option<Vec<String>>,
        options: &Bound<'_, PyDict>,
        finder: &Finder,
        via: Option<&Child>,
        python: &str,
        log_level: Option<u8>,
        connect_timeout: f64,
        events: Py<PyAny>,
    ) -> PyResult<Self> {
        let settings = settings(options)?;
        let transport: Box<dyn Transport> = match (argv, word) {
            (Some(argv), _) => Box::new(Argv(argv)),
            (None, Some(word)) => transport(word, &settings)?,
            (None, None) => become_transport(&settings)?,
        };
        let mut builder = Context::builder(&name)
            .python(python.into())
            .finder(finder.0.clone())
            .log_level(log_level)
            .python_values(true)
            .on_event(events::forward(name, events, broker.callbacks()?));
        if let Some(time) = duration(Some(connect_timeout))? {
            builder = builder.connect_timeout(time);
        }
        if let Some(hop) = via {
            builder = builder.via(&hop.inner()?.context);
        }
        let (broker, callbacks) = (broker.get()?, broker.callbacks()?);
        let context = py.detach(|| builder.connect(&broker, transport)).map_err(|error| raise(py, &error))?;
        Ok(Child::of(Inner::new(context, None, callbacks)))
    }

    #[getter]
    fn closed(&self, py: Python<'_>) -> PyResult<bool> {
        let inner = self.inner()?;
        Ok(py.detach(|| inner.context.is_closed()))
    }

    /// Waits until the child is up; returns its (Python version, process id, user).
    #[pyo3(signature = (timeout=None))]
    fn wait_ready(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<(String, i64, String)>> {
        let _waiting = Waiting::begin();
        let inner = self.inner()?;
        let hello = wait(py, poll_fn(|cx| inner.context.poll_ready(cx)), deadline(timeout)?)?;
        let hello = hello.transpose().map_err(|error| raise(py, &error))?;
        Ok(hello.map(|hello| (hello.python, hello.pid, hello.user)))
    }

    /// Calls `callback` once the child is up, or has failed.
    fn when_ready(&self, py: Python<'_>, callback: Py<PyAny>) -> PyResult<()> {
        let inner = self.inner()?.clone();
        let waker = CallBack::waker(callback, &inner.callbacks);
        py.detach(|| {
            if inner.context.poll_ready(&mut std::task::Context::from_waker(&waker)).is_ready() {
                waker.wake();
            }
        });
        Ok(())
    }

    /// Makes a call and waits for its result. An interrupt is passed on to the call.
    fn call<'py>(&self, py: Python<'py>, request: &Request) -> PyResult<Bound<'py, PyAny>> {
        let _waiting = Waiting::begin();
        let inner = self.inner_for(py, request)?;
        let call = py.detach(|| request.spec.start(&inner.context, &inner.sent));
        let result = match wait(py, poll_fn(|cx| call.poll_wait(cx)), None) {
            Ok(Some(result)) => result,
            Ok(None) => unreachable!("there is no deadline"),
            Err(interrupt) => {
                py.detach(|| call.cancel());
                return Err(interrupt);
            }
        };
        inner.callbacks.catch_up(py);
        let value = result.map_err(|error| raise(py, &error))?;
        from_value(py, value, request.declared.as_ref().map(|d| d.bind(py)))
    }

    /// Makes a call.
    fn start(&self, py: Python<'_>, request: &Request) -> PyResult<Call> {
        let inner = self.inner_for(py, request)?;
        let call = py.detach(|| request.spec.start(&inner.context, &inner.sent));
        let (declared, callbacks) = (request.declared(py), inner.callbacks.clone());
        Ok(Call { call: PerProcess::new(call), declared, callbacks })
    }

    /// Makes a call of a generator.
    fn stream(&self, py: Python<'_>, request: &Request) -> PyResult<stream::Items> {
        let inner = self.inner_for(py, request)?;
        let items = py.detach(|| request.spec.stream(&inner.context, &inner.sent));
        Ok(stream::Items::new(items, request.declared(py), inner.clone()))
    }

    /// A channel, to be given to a call.
    fn channel(&self, py: Python<'_>) -> PyResult<Py<channel::Channel>> {
        channel::Channel::open(py, self.inner()?.clone())
    }

    /// Starts a command; an `env` value of None removes the variable.
    #[pyo3(signature = (argv, input=None, env=None, cwd=None, umask=None))]
    fn run(
        &self,
        py: Python<'_>,
        argv: Vec<Vec<u8>>,
        input: Option<Vec<u8>>,
        env: Option<process::Env>,
        cwd: Option<Vec<u8>>,
        umask: Option<u32>,
    ) -> PyResult<process::Process> {
        let command = process::Command { argv, input, env: env.unwrap_or_default(), cwd, umask };
        let inner = self.inner()?;
        let process = py.detach(|| command.start(&inner.context));
        let process = process.map_err(|error| raise(py, &error))?;
        Ok(process::Process::of(process, inner.callbacks.clone()))
    }

    /// Starts copying files there.
    #[pyo3(signature = (sources, destination, wishes, timeout, progress))]
    fn put(
        &self,
        sources: Vec<std::path::PathBuf>,
        destination: std::ffi::OsString,
        wishes: transfer::Wishes,
        timeout: Option<f64>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<transfer::Transfer> {
        let options = transfer::options(wishes, timeout)?;
        Ok(transfer::Transfer::put(self.inner()?, sources, destination, options, progress))
    }

    /// Starts copying files from there.
    #[pyo3(signature = (sources, directory, wishes, timeout, progress))]
    fn get(
        &self,
        sources: Vec<std::ffi::OsString>,
        directory: std::path::PathBuf,
        wishes: transfer::Wishes,
        timeout: Option<f64>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<transfer::Transfer> {
        let options = transfer::options(wishes, timeout)?;
        Ok(transfer::Transfer::get(self.inner()?, sources, directory, options, progress))
    }

    /// Asks the child to end, and ends it after `grace` seconds.
    fn shutdown(&self, py: Python<'_>, grace: f64) -> PyResult<()> {
        let inner = self.inner()?;
        let grace = duration(Some(grace))?.unwrap_or(Duration::from_secs(2));
        py.detach(|| inner.context.shutdown(grace));
        Ok(())
    }
}
