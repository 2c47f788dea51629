//! The thread that tells Python what happened: results of calls nobody waits in, output, log records.
//!
//! The broker's thread must not wait for the interpreter: whoever holds that would hold up the IO of all children. What
//! came in the meantime is told in one go, in order, which also saves a hand-over of the interpreter for each of many results.

use econtext::internal::lock;
use pyo3::prelude::*;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

type Message = Box<dyn FnOnce(Python<'_>) + Send>;

/// Messages that wait. Beyond so many the broker slows down, as a pipe that is full would make it.
const MANY: u64 = 10_000;
/// For how long it does at a time: it may be what a callback waits for.
const SLOW: Duration = Duration::from_millis(50);

thread_local! {
    static IS_TELLER: Cell<bool> = const { Cell::new(false) };
}

pub(crate) struct Teller {
    messages: crossbeam_channel::Sender<Message>,
    /// Messages that were given to it, and that were told.
    given: AtomicU64,
    told: Arc<(AtomicU64, Mutex<()>, Condvar)>,
}

impl Teller {
    /// Starts the thread. It ends when nobody can tell it anything any more.
    pub(crate) fn start() -> std::io::Result<Arc<Self>> {
        let (messages, waiting) = crossbeam_channel::unbounded::<Message>();
        let told: Arc<(AtomicU64, Mutex<()>, Condvar)> = Arc::default();
        let count = told.clone();
        std::thread::Builder::new().name("econtext-callbacks".into()).spawn(move || {
            IS_TELLER.set(true);
            while let Ok(first) = waiting.recv() {
                let mut next = Some(first);
                let attached = Python::try_attach(|py| {
                    while let Some(message) = next.take() {
                        message(py);
                        count.0.fetch_add(1, Ordering::AcqRel);
                        next = waiting.try_recv().ok();
                    }
                });
                if attached.is_none() {
                    return; // the interpreter ends: there is nobody to tell
                }
                drop(lock(&count.1));
                count.2.notify_all();
            }
        })?;
        Ok(Arc::new(Teller { messages, given: AtomicU64::new(0), told }))
    }

    /// Has something told, after all that was before.
    pub(crate) fn tell(&self, message: impl FnOnce(Python<'_>) + Send + 'static) {
        let given = self.given.fetch_add(1, Ordering::AcqRel) + 1;
        // Without an interpreter there is nobody to tell.
        let _ = self.messages.send(Box::new(message));
        if given - self.told.0.load(Ordering::Acquire) > MANY {
            self.wait(given - MANY / 2, SLOW);
        }
    }

    /// Waits until all is told that was to be by now. Not with the interpreter. On the teller's own thread there is no such time.
    pub(crate) fn settle(&self, patience: Duration) {
        let given = self.given.load(Ordering::Acquire);
        if self.told.0.load(Ordering::Acquire) < given && !IS_TELLER.get() {
            self.wait(given, patience);
        }
    }

    /// Waits until what a result's function printed has been shown, before the result is. Who shows it may itself be waiting.
    pub(crate) fn catch_up(&self, py: Python<'_>) {
        if self.told.0.load(Ordering::Acquire) < self.given.load(Ordering::Acquire) {
            py.detach(|| self.settle(Duration::from_secs(1)));
        }
    }

    fn wait(&self, number: u64, patience: Duration) {
        let until = Instant::now() + patience;
        let (told, mutex, changed) = &*self.told;
        let mut guard = lock(mutex);
        while told.load(Ordering::Acquire) < number {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            // It is notified once a batch is told, which may be long.
            let turn = left.min(Duration::from_millis(5));
            guard = changed.wait_timeout(guard, turn).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
