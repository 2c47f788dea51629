//! Commands beside children.

use crate::callback_thread::CallbackThread;
use crate::errors::raise;
use crate::per_process::PerProcess;
use crate::wait::{CallBack, Waiting, deadline, wait};
use econtext::process::{CommandFuture, Output};
use econtext::{Context, Error};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::ffi::OsString;
use std::future::poll_fn;
use std::os::unix::ffi::OsStringExt as _;
use std::sync::Arc;
use std::task::Poll;

/// Variables to set, or to remove if they have no value.
pub(crate) type Env = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// A command to run.
#[derive(Clone)]
pub(crate) struct Command {
    pub(crate) argv: Vec<Vec<u8>>,
    pub(crate) input: Option<Vec<u8>>,
    pub(crate) env: Env,
    pub(crate) cwd: Option<Vec<u8>>,
    pub(crate) umask: Option<u32>,
}

impl Command {
    pub(crate) fn start(&self, context: &Context) -> Result<CommandFuture, Error> {
        let os = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let Some((program, args)) = self.argv.split_first() else {
            return Err(Error::Usage("a command has a program at least".to_owned()));
        };
        let mut command = context.command(os(program)).args(args.iter().map(|arg| os(arg)));
        for (name, value) in &self.env {
            command = match value {
                Some(value) => command.env(os(name), os(value)),
                None => command.env_remove(os(name)),
            };
        }
        if let Some(cwd) = &self.cwd {
            command = command.current_dir(os(cwd));
        }
        if let Some(mask) = self.umask {
            command = command.umask(mask);
        }
        if let Some(input) = &self.input {
            command = command.input(input.clone());
        }
        let started = command.start();
        started.process()?;
        Ok(started)
    }
}

/// A command that runs.
#[pyclass(frozen, module = "econtext._econtext")]
pub(crate) struct Process(PerProcess<CommandFuture>, Arc<CallbackThread>);

/// The exit status, negative for a signal as in `subprocess`; stdout; stderr.
pub(crate) type Finished<'py> = (i32, Bound<'py, PyBytes>, Bound<'py, PyBytes>);

pub(crate) fn finished<'py>(py: Python<'py>, ended: Result<Output, Error>) -> PyResult<Finished<'py>> {
    let Output { status, stdout, stderr } = ended.map_err(|error| raise(py, &error))?;
    let code = match (status.code, status.signal) {
        (Some(code), _) => i32::from(code),
        (None, Some(signal)) => -signal,
        // Another part of the program there collected the status.
        (None, None) => 255,
    };
    Ok((code, PyBytes::new(py, &stdout), PyBytes::new(py, &stderr)))
}

/// Ends a command, if it was started.
pub(crate) fn kill(command: &CommandFuture) {
    if let Ok(process) = command.process() {
        process.kill();
    }
}

impl Process {
    pub(crate) fn of(process: CommandFuture, callbacks: Arc<CallbackThread>) -> Self {
        Process(PerProcess::new(process), callbacks)
    }
}

#[pymethods]
impl Process {
    /// Waits for its end, at most `timeout` seconds; after that it returns `None`, and the output is kept.
    #[pyo3(signature = (timeout=None))]
    fn wait<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Option<Finished<'py>>> {
        let _waiting = Waiting::begin();
        let process = self.0.get()?;
        match wait(py, poll_fn(|cx| process.poll_wait(cx)), deadline(timeout)?) {
            Ok(ended) => ended.map(|ended| finished(py, ended)).transpose(),
            Err(interrupt) => {
                py.detach(|| kill(process));
                Err(interrupt)
            }
        }
    }

    /// The same as `wait` without waiting: if it has not ended, `callback` is called when it has.
    fn poll<'py>(&self, py: Python<'py>, callback: Py<PyAny>) -> PyResult<Option<Finished<'py>>> {
        let process = self.0.get()?;
        let waker = CallBack::waker(callback, &self.1);
        match py.detach(|| process.poll_wait(&std::task::Context::from_waker(&waker))) {
            Poll::Ready(ended) => finished(py, ended).map(Some),
            Poll::Pending => Ok(None),
        }
    }

    /// The output by now.
    fn output<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
        let process = self.0.get()?;
        let (stdout, stderr) = py.detach(|| process.so_far());
        Ok((PyBytes::new(py, &stdout), PyBytes::new(py, &stderr)))
    }

    /// Ends its process group: with SIGTERM, and a second later with SIGKILL.
    fn kill(&self, py: Python<'_>) -> PyResult<()> {
        let process = self.0.get()?;
        py.detach(|| kill(process));
        Ok(())
    }
}
