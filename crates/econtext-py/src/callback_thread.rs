//! The thread that tells Python what happened: results of calls that no thread waits for, output, log records.
//!
//! The broker's thread must not wait for the interpreter: a holder of it would hold up the IO of all children. Messages that
//! came in the meantime are told in one go, in order, which also saves a hand-over of the interpreter for each of many results.

use econtext::internal::lock;
use pyo3::prelude::*;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

type Message = Box<dyn FnOnce(Python<'_>) + Send>;

/// The number of waiting messages from which on the broker slows down, as a full pipe would make it.
const MANY: u64 = 10_000;
/// The time for which the broker pauses at once: a callback may be waiting for it.
const SLOW: Duration = Duration::from_millis(50);

thread_local! {
    static IS_CALLBACK_THREAD: Cell<bool> = const { Cell::new(false) };
}

pub(crate) struct CallbackThread {
    messages: crossbeam_channel::Sender<Message>,
    /// The number of messages that were given to the thread. That of those told is in `told`.
    given: AtomicU64,
    told: Arc<(AtomicU64, Mutex<()>, Condvar)>,
}

impl CallbackThread {
    /// Starts the thread. It ends when its last sender is gone.
    pub(crate) fn start() -> std::io::Result<Arc<Self>> {
        let (messages, waiting) = crossbeam_channel::unbounded::<Message>();
        let told: Arc<(AtomicU64, Mutex<()>, Condvar)> = Arc::default();
        let count = told.clone();
        std::thread::Builder::new().name("econtext-callbacks".into()).spawn(move || {
            IS_CALLBACK_THREAD.set(true);
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
                    return; // the interpreter ends: no receiver is left
                }
                drop(lock(&count.1));
                count.2.notify_all();
            }
        })?;
        Ok(Arc::new(CallbackThread { messages, given: AtomicU64::new(0), told }))
    }

    /// Has something told, after all earlier messages.
    pub(crate) fn tell(&self, message: impl FnOnce(Python<'_>) + Send + 'static) {
        let given = self.given.fetch_add(1, Ordering::AcqRel) + 1;
        // Without an interpreter there is no receiver.
        let _ = self.messages.send(Box::new(message));
        if given - self.told.0.load(Ordering::Acquire) > MANY {
            self.wait(given - MANY / 2, SLOW);
        }
    }

    /// Waits until all messages given by now are told. The caller must not hold the interpreter. The callbacks's own thread never
    /// waits.
    pub(crate) fn settle(&self, patience: Duration) {
        let given = self.given.load(Ordering::Acquire);
        if self.told.0.load(Ordering::Acquire) < given && !IS_CALLBACK_THREAD.get() {
            self.wait(given, patience);
        }
    }

    /// Waits until the output of a result's function has been shown, before the result is. The thread that shows it may be
    /// waiting too.
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
            // The notification comes once a batch is told, and a batch may be long.
            let turn = left.min(Duration::from_millis(5));
            guard = changed.wait_timeout(guard, turn).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
