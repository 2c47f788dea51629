//! Transfers of files to children and back.

use crate::callback_thread::CallbackThread;
use crate::errors::raise;
use crate::inner::Inner;
use crate::per_process::PerProcess;
use crate::wait::{CallBack, Waiting, duration, wait};
use econtext::Error;
use econtext::transfer::{Progress, TransferOptions, Transferred};
use pyo3::prelude::*;
use std::ffi::OsString;
use std::future::poll_fn;
use std::path::PathBuf;
use std::sync::Arc;
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
fn report(progress: Option<Py<PyAny>>) -> impl Fn(Progress<'_>) + Send + 'static {
    move |now| {
        let Some(progress) = &progress else { return };
        // When the interpreter ends, there is no receiver.
        Python::try_attach(|py| {
            let progress = progress.bind(py);
            if let Err(error) = progress.call1((now.name, now.done, now.size)) {
                error.write_unraisable(py, Some(progress));
            }
        });
    }
}

/// A transfer on its way, on a thread of its own.
#[pyclass(frozen, module = "econtext._econtext")]
pub(crate) struct Transfer(PerProcess<econtext::transfer::Transfer>, Arc<CallbackThread>);

/// Counts of files that were written, files that were there already, and bytes that were sent.
type Counts = (u64, u64, u64);

impl Transfer {
    pub(crate) fn put(
        child: &Inner,
        sources: Vec<PathBuf>,
        destination: OsString,
        options: TransferOptions,
        progress: Option<Py<PyAny>>,
    ) -> Self {
        let transfer = child.context.start_put(sources, destination, options, report(progress));
        Transfer(PerProcess::new(transfer), child.callbacks.clone())
    }

    pub(crate) fn get(
        child: &Inner,
        sources: Vec<OsString>,
        directory: PathBuf,
        options: TransferOptions,
        progress: Option<Py<PyAny>>,
    ) -> Self {
        let transfer = child.context.start_get(sources, directory, options, report(progress));
        Transfer(PerProcess::new(transfer), child.callbacks.clone())
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
        match wait(py, poll_fn(|cx| running.poll_wait(cx)), None) {
            Ok(Some(result)) => counts(py, result),
            Ok(None) => unreachable!("there is no deadline"),
            Err(interrupt) => {
                running.cancel();
                Err(interrupt)
            }
        }
    }

    /// The same as `wait` without waiting: if it has not ended, `callback` is called when it has.
    fn poll(&self, py: Python<'_>, callback: Py<PyAny>) -> PyResult<Option<Counts>> {
        let running = self.0.get()?;
        let waker = CallBack::waker(callback, &self.1);
        match py.detach(|| running.poll_wait(&std::task::Context::from_waker(&waker))) {
            Poll::Ready(result) => counts(py, result).map(Some),
            Poll::Pending => Ok(None),
        }
    }

    /// Stops the transfer at the next piece.
    fn cancel(&self) -> PyResult<()> {
        self.0.get()?.cancel();
        Ok(())
    }
}
