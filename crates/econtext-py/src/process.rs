//! Commands beside children.

use crate::errors::raise;
use crate::owned::Owned;
use crate::teller::Teller;
use crate::wait::{CallBack, Waiting, deadline, wait};
use econtext::internal::{Wakers, lock};
use econtext::{Context, Error, ProcessEvent, RemoteProcess, Status};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::ffi::OsString;
use std::future::poll_fn;
use std::os::unix::ffi::OsStringExt as _;
use std::sync::{Arc, Mutex};
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

/// The output so far, and how the command ended.
#[derive(Default)]
struct State {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    ended: Option<Result<Status, Error>>,
    wakers: Wakers,
}

/// A command that runs, and whose output is collected.
pub(crate) struct Collected {
    process: RemoteProcess,
    state: Arc<Mutex<State>>,
}

/// The stdout and stderr of a command, and how it ended.
pub(crate) type Ended = (Vec<u8>, Vec<u8>, Result<Status, Error>);

impl Command {
    pub(crate) fn start(&self, context: &Context) -> Result<Collected, Error> {
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
        let state: Arc<Mutex<State>> = Arc::default();
        let into = state.clone();
        let process = command.spawn_with(move |event| {
            let mut state = lock(&into);
            match event {
                ProcessEvent::Output { fd: 2, data } => state.stderr.extend_from_slice(&data),
                ProcessEvent::Output { data, .. } => state.stdout.extend_from_slice(&data),
                ProcessEvent::Ended(result) => {
                    state.ended = Some(result);
                    let wakers = state.wakers.take();
                    drop(state);
                    wakers.wake();
                }
                _ => {}
            }
        })?;
        match self.input.clone() {
            None => process.end_input(),
            Some(input) => {
                let process = process.clone();
                // The process may be slow to read it. Input that it does not read, or a child that is gone, shows in how it ends.
                std::thread::spawn(move || {
                    let _ = process.write(&input);
                    process.end_input();
                });
            }
        }
        Ok(Collected { process, state })
    }
}

impl Collected {
    pub(crate) fn poll(&self, cx: &mut std::task::Context<'_>) -> Poll<Ended> {
        let mut state = lock(&self.state);
        match state.ended.take() {
            None => {
                state.wakers.add(cx);
                Poll::Pending
            }
            Some(result) => {
                state.ended = Some(result.clone());
                Poll::Ready((std::mem::take(&mut state.stdout), std::mem::take(&mut state.stderr), result))
            }
        }
    }

    pub(crate) fn kill(&self) {
        self.process.kill();
    }
}

/// A command that runs.
#[pyclass(frozen, module = "econtext._econtext")]
pub(crate) struct Process(Owned<Collected>, Arc<Teller>);

/// The exit status, negative for a signal as in `subprocess`; stdout; stderr.
pub(crate) type Finished<'py> = (i32, Bound<'py, PyBytes>, Bound<'py, PyBytes>);

pub(crate) fn finished<'py>(py: Python<'py>, (stdout, stderr, result): Ended) -> PyResult<Finished<'py>> {
    let status = result.map_err(|error| raise(py, &error))?;
    let code = match (status.code, status.signal) {
        (Some(code), _) => i32::from(code),
        (None, Some(signal)) => -signal,
        // Another part of the program there collected the status.
        (None, None) => 255,
    };
    Ok((code, PyBytes::new(py, &stdout), PyBytes::new(py, &stderr)))
}

impl Process {
    pub(crate) fn of(process: Collected, teller: Arc<Teller>) -> Self {
        Process(Owned::new(process), teller)
    }
}

#[pymethods]
impl Process {
    /// Waits for its end, at most `timeout` seconds; after that it returns `None`, and the output is kept.
    #[pyo3(signature = (timeout=None))]
    fn wait<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Option<Finished<'py>>> {
        let _waiting = Waiting::begin();
        let process = self.0.get()?;
        match wait(py, poll_fn(|cx| process.poll(cx)), deadline(timeout)?) {
            Ok(ended) => ended.map(|ended| finished(py, ended)).transpose(),
            Err(interrupt) => {
                py.detach(|| process.kill());
                Err(interrupt)
            }
        }
    }

    /// The same as `wait` without waiting: if it has not ended, `callback` is called when it has.
    fn poll<'py>(&self, py: Python<'py>, callback: Py<PyAny>) -> PyResult<Option<Finished<'py>>> {
        let process = self.0.get()?;
        let waker = CallBack::waker(callback, &self.1);
        match py.detach(|| process.poll(&mut std::task::Context::from_waker(&waker))) {
            Poll::Ready(ended) => finished(py, ended).map(Some),
            Poll::Pending => Ok(None),
        }
    }

    /// The output by now.
    fn output<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
        let process = self.0.get()?;
        let (stdout, stderr) = py.detach(|| {
            let state = lock(&process.state);
            (state.stdout.clone(), state.stderr.clone())
        });
        Ok((PyBytes::new(py, &stdout), PyBytes::new(py, &stderr)))
    }

    /// Ends its process group: with SIGTERM, and a second later with SIGKILL.
    fn kill(&self, py: Python<'_>) -> PyResult<()> {
        let process = self.0.get()?;
        py.detach(|| process.kill());
        Ok(())
    }
}
