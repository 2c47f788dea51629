//! Results as they come, and their way to Python.

use crate::broker::Broker;
use crate::call::outcome;
use crate::callback_thread::CallbackThread;
use crate::errors::instance;
use crate::per_process::PerProcess;
use crate::process::{finished, kill};
use crate::wait::{CallBack, Waiting, wait};
use econtext::internal::{Wakers, lock};
use econtext::process::{CommandFuture, Output};
use econtext::transfer::Transferred;
use econtext::{Call, Error, Value};
use econtext_fleet::Stop;
use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::Poll;

/// The result of a job on one host.
pub(super) enum Done {
    Connected,
    Value(Value),
    Ended(Box<Output>),
    Transferred(Transferred),
}

/// Work that can be stopped.
pub(super) trait Stoppable: Send + Sync {
    fn stop(&self);
}

impl Stoppable for Call<Value> {
    fn stop(&self) {
        self.cancel();
    }
}

impl Stoppable for CommandFuture {
    fn stop(&self) {
        kill(self);
    }
}

impl Stoppable for std::sync::atomic::AtomicBool {
    fn stop(&self) {
        self.store(true, Ordering::Relaxed);
    }
}

/// Results that have come and were not taken.
#[derive(Default)]
pub(super) struct Results {
    state: Mutex<ResultsState>,
    pub(super) stop: Stop,
}

#[derive(Default)]
struct ResultsState {
    come: VecDeque<(usize, Result<Done, Error>)>,
    expected: usize,
    running: HashMap<usize, Arc<dyn Stoppable>>,
    wakers: Wakers,
}

impl Results {
    pub(super) fn expect(&self, more: usize) {
        lock(&self.state).expected += more;
    }

    pub(super) fn running(&self, position: usize, what: Arc<dyn Stoppable>) {
        lock(&self.state).running.insert(position, what.clone());
        if self.stop.is_stopped() {
            what.stop();
        }
    }

    pub(super) fn put(&self, position: usize, result: Result<Done, Error>) {
        let mut state = lock(&self.state);
        let done = state.running.remove(&position);
        state.come.push_back((position, result));
        let wakers = state.wakers.take();
        drop(state);
        drop(done);
        wakers.wake();
    }

    fn poll(&self, cx: &mut std::task::Context<'_>) -> Poll<Option<(usize, Result<Done, Error>)>> {
        let mut state = lock(&self.state);
        match state.come.pop_front() {
            Some(result) => {
                state.expected -= 1;
                Poll::Ready(Some(result))
            }
            None if state.expected == 0 => Poll::Ready(None),
            None => {
                state.wakers.add(cx);
                Poll::Pending
            }
        }
    }

    fn cancel(&self) {
        self.stop.stop(econtext_fleet::Reason::Interrupted);
        let running: Vec<_> = lock(&self.state).running.values().cloned().collect();
        for what in running {
            what.stop();
        }
    }
}

/// Work on hosts of any number of fleets; an iterator of (position, value or None, exception or None).
#[pyclass(frozen, module = "econtext._econtext")]
pub(crate) struct Run {
    pub(super) results: PerProcess<Arc<Results>>,
    declared: Option<Py<PyAny>>,
    callbacks: Arc<CallbackThread>,
}

type Told<'py> = (usize, Bound<'py, PyAny>, Bound<'py, PyAny>);

impl Run {
    fn told<'py>(
        &self,
        py: Python<'py>,
        (position, result): (usize, Result<Done, Error>),
    ) -> PyResult<Told<'py>> {
        let none = || py.None().into_bound(py);
        let declared = self.declared.as_ref().map(|d| d.bind(py));
        let done = match result {
            Err(error) => Err(instance(py, &error)?),
            Ok(Done::Connected) => Ok(none()),
            Ok(Done::Value(value)) => outcome(py, Ok(value), declared),
            Ok(Done::Ended(ended)) => match finished(py, Ok(*ended)) {
                Ok(finished) => Ok(finished.into_pyobject(py)?.into_any()),
                Err(error) => Err(error.into_value(py).into_bound(py).into_any()),
            },
            Ok(Done::Transferred(t)) => Ok((t.files, t.skipped, t.bytes).into_pyobject(py)?.into_any()),
        };
        Ok(match done {
            Ok(value) => (position, value, none()),
            Err(exception) => (position, none(), exception),
        })
    }
}

#[pymethods]
impl Run {
    #[new]
    #[pyo3(signature = (broker, declared=None))]
    fn new(broker: &Broker, declared: Option<Py<PyAny>>) -> PyResult<Self> {
        Ok(Run { results: PerProcess::new(Arc::default()), declared, callbacks: broker.callbacks()? })
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Told<'py>>> {
        let _waiting = Waiting::begin();
        let results = self.results.get()?;
        match wait(py, poll_fn(|cx| results.poll(cx)), None) {
            Ok(Some(Some(next))) => {
                self.callbacks.catch_up(py);
                self.told(py, next).map(Some)
            }
            Ok(_) => Ok(None),
            Err(interrupt) => {
                py.detach(|| results.cancel());
                Err(interrupt)
            }
        }
    }

    /// The next result; `None` if there is none yet, and `callback` is called once there is. `StopIteration` is the end.
    fn poll<'py>(&self, py: Python<'py>, callback: Py<PyAny>) -> PyResult<Option<Told<'py>>> {
        let results = self.results.get()?;
        let waker = CallBack::waker(callback, &self.callbacks);
        match py.detach(|| results.poll(&mut std::task::Context::from_waker(&waker))) {
            Poll::Pending => Ok(None),
            Poll::Ready(Some(next)) => self.told(py, next).map(Some),
            Poll::Ready(None) => Err(PyStopIteration::new_err(())),
        }
    }

    /// Stops the work that runs, and begins nothing more.
    fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        let results = self.results.get()?;
        py.detach(|| results.cancel());
        Ok(())
    }
}
