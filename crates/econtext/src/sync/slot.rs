//! One value that one thread sets, and that any number of readers wait for.

use super::mutex::{lock, wait_for_change};
use super::wakers::Wakers;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll};
use std::time::Instant;

/// A value that is set once and then kept: each reader gets a copy, at any time.
#[derive(Debug)]
pub(crate) struct Slot<T> {
    state: Mutex<State<T>>,
    set: Condvar,
}

#[derive(Debug)]
enum State<T> {
    Empty(Wakers),
    Full(T),
}

impl<T: Clone> Slot<T> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Slot { state: Mutex::new(State::Empty(Wakers::default())), set: Condvar::new() })
    }

    /// Sets the value; the first one stays. Returns whether this was the first.
    pub(crate) fn set(&self, value: T) -> bool {
        let mut state = lock(&self.state);
        let State::Empty(wakers) = &mut *state else { return false };
        let wakers = wakers.take();
        *state = State::Full(value);
        drop(state);
        self.set.notify_all();
        wakers.wake();
        true
    }

    /// Whether the value is there.
    pub(crate) fn is_set(&self) -> bool {
        matches!(*lock(&self.state), State::Full(_))
    }

    /// Waits for the value, without a time limit.
    pub(crate) fn wait(&self) -> T {
        loop {
            if let Some(value) = self.wait_until(None) {
                return value;
            }
        }
    }

    /// Waits for the value; `None` if `until` passes first.
    pub(crate) fn wait_until(&self, until: Option<Instant>) -> Option<T> {
        let mut state = lock(&self.state);
        loop {
            if let State::Full(value) = &*state {
                return Some(value.clone());
            }
            state = wait_for_change(&self.set, state, until)?;
        }
    }

    /// Reads the value without waiting.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<T> {
        match &mut *lock(&self.state) {
            State::Full(value) => Poll::Ready(value.clone()),
            State::Empty(wakers) => {
                wakers.add(cx);
                Poll::Pending
            }
        }
    }
}
