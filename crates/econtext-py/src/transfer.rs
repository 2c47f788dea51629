//! Transfers of files to children and back.

use crate::child::Inner;
use crate::errors::raise;
use crate::owned::Owned;
use crate::teller::Teller;
use crate::wait::{CallBack, Waiting, duration, wait};
use econtext::internal::{Wakers, lock};
use econtext::{Error, Progress, TransferOptions, Transferred};
use pyo3::prelude::*;
use std::ffi::OsString;
use std::future::poll_fn;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

/// The options of a transfer, from Python: whether to preserve metadata, whether to copy links as such, mode, owner as for chown,
/// whether to keep backups.
pub(crate) type Wishes = (bool, bool, Option<u32>, Option<String>, bool);

pub(crate) fn options(
    (preserve, links, mode, owner, backup): Wishes,
    timeout: Option<f64>,
) -> PyResult<TransferOptions> {
    let options = TransferOptions {
        preserve,
        links,
        mode,
        backup,
        timeout: duration(timeout)?,
        stop: Some(Arc::default()),
        ..TransferOptions::default()
    };
    Ok(match owner {
        Some(owner) => options.owned_by(&owner),
        None => options,
    })
}

/// A function that calls `progress(name, done, size)`, and not again before that has returned.
pub(crate) fn report(progress: &Option<Py<PyAny>>) -> impl Fn(Progress<'_>) {
    move |now| {
        let Some(progress) = progress else { return };
        // When the interpreter ends, there is no receiver.
        Python::try_attach(|py| {
            let progress = progress.bind(py);
            if let Err(error) = progress.call1((now.name, now.done, now.size)) {
                error.write_unraisable(py, Some(progress));
            }
        });
    }
}

#[derive(Default)]
struct State {
    result: Option<Result<Transferred, Error>>,
    wakers: Wakers,
}

struct Running {
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
}

/// A transfer on its way, on a thread of its own.
#[pyclass(frozen, module = "econtext._econtext")]
pub(crate) struct Transfer(Owned<Running>, Arc<Teller>);

/// Counts of files that were written, files that were there already, and bytes that were sent.
type Counts = (u64, u64, u64);

impl Transfer {
    pub(crate) fn put(
        child: Arc<Inner>,
        sources: Vec<PathBuf>,
        destination: OsString,
        options: TransferOptions,
        progress: Option<Py<PyAny>>,
    ) -> Self {
        Self::start(child.teller.clone(), options, move |options| {
            child.context.put(&sources, &destination, options, report(&progress))
        })
    }

    pub(crate) fn get(
        child: Arc<Inner>,
        sources: Vec<OsString>,
        directory: PathBuf,
        options: TransferOptions,
        progress: Option<Py<PyAny>>,
    ) -> Self {
        Self::start(child.teller.clone(), options, move |options| {
            child.context.get(&sources, &directory, options, report(&progress))
        })
    }

    fn start(
        teller: Arc<Teller>,
        options: TransferOptions,
        run: impl FnOnce(&TransferOptions) -> Result<Transferred, Error> + Send + 'static,
    ) -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let (into, stop) = (state.clone(), options.stop.clone().unwrap_or_default());
        std::thread::spawn(move || {
            let result = run(&options);
            let mut state = lock(&into);
            state.result = Some(result);
            let wakers = state.wakers.take();
            drop(state);
            wakers.wake();
        });
        Transfer(Owned::new(Running { state, stop }), teller)
    }
}

impl Running {
    fn poll(&self, cx: &mut std::task::Context<'_>) -> Poll<Result<Transferred, Error>> {
        let mut state = lock(&self.state);
        match &state.result {
            Some(result) => Poll::Ready(result.clone()),
            None => {
                state.wakers.add(cx);
                Poll::Pending
            }
        }
    }
}

fn counts(py: Python<'_>, result: Result<Transferred, Error>) -> PyResult<Counts> {
    let done = result.map_err(|error| raise(py, &error))?;
    Ok((done.files, done.skipped, done.bytes))
}

#[pymethods]
impl Transfer {
    /// Waits for the end of the transfer. An interrupt stops it at the next piece.
    fn wait(&self, py: Python<'_>) -> PyResult<Counts> {
        let _waiting = Waiting::begin();
        let running = self.0.get()?;
        match wait(py, poll_fn(|cx| running.poll(cx)), None) {
            Ok(Some(result)) => counts(py, result),
            Ok(None) => unreachable!("there is no deadline"),
            Err(interrupt) => {
                running.stop.store(true, Ordering::Relaxed);
                Err(interrupt)
            }
        }
    }

    /// The same as `wait` without waiting: if it has not ended, `callback` is called when it has.
    fn poll(&self, py: Python<'_>, callback: Py<PyAny>) -> PyResult<Option<Counts>> {
        let running = self.0.get()?;
        let waker = CallBack::waker(callback, &self.1);
        match py.detach(|| running.poll(&mut std::task::Context::from_waker(&waker))) {
            Poll::Ready(result) => counts(py, result).map(Some),
            Poll::Pending => Ok(None),
        }
    }

    /// Stops the transfer at the next piece.
    fn cancel(&self) -> PyResult<()> {
        self.0.get()?.stop.store(true, Ordering::Relaxed);
        Ok(())
    }
}
