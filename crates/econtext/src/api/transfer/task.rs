//! A transfer on a thread of its own.

use super::options::{TransferOptions, Transferred};
use crate::api::waiting;
use crate::error::Error;
use crate::sync::Slot;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

/// A transfer on its way: [`wait`](Transfer::wait) for it, or `await` it. Dropping it leaves it
/// running.
///
/// The result is kept: it can be read any number of times. Clones are the same transfer.
#[derive(Clone, Debug)]
#[must_use = "a transfer has a result or an error"]
pub struct Transfer {
    stop: Arc<AtomicBool>,
    result: Arc<Slot<Result<Transferred, Error>>>,
}

impl Transfer {
    /// Starts a transfer on a thread of its own.
    pub(super) fn start(
        mut options: TransferOptions,
        run: impl FnOnce(&TransferOptions) -> Result<Transferred, Error> + Send + 'static,
    ) -> Self {
        let stop = options.stop.get_or_insert_default().clone();
        let result = Slot::new();
        let into = result.clone();
        let started = std::thread::Builder::new()
            .name("econtext-transfer".into())
            .spawn(move || into.set(run(&options)));
        if let Err(error) = started {
            result.set(Err(Error::local(None, "cannot start a thread", error)));
        }
        Transfer { stop, result }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// The errors of [`Context::put`](crate::Context::put).
    pub fn wait(&self) -> Result<Transferred, Error> {
        waiting::wait(&self.result)
    }

    /// Waits for its end for some time; `None` if it still runs.
    ///
    /// # Errors
    /// The errors of [`wait`](Transfer::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Result<Transferred, Error>> {
        waiting::wait_timeout(&self.result, timeout)
    }

    /// Polls for its end, without blocking. It may be polled again after the end.
    pub fn poll_wait(&self, cx: &Context<'_>) -> Poll<Result<Transferred, Error>> {
        self.result.poll(cx)
    }

    /// Stops it at the next piece of a file: it ends as cancelled.
    pub fn cancel(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Future for Transfer {
    type Output = Result<Transferred, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_wait(cx)
    }
}
