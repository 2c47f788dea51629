//! Values that one thread puts in order, and that readers take.

use super::mutex::{lock, wait_for_change};
use super::wakers::Wakers;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex};
use std::task::{Context, Poll};
use std::time::Instant;

/// Values in the order in which they came, until the queue is closed. Each value goes to one reader; the end goes to all.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    values: VecDeque<T>,
    closed: bool,
    wakers: Wakers,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        let state = State { values: VecDeque::new(), closed: false, wakers: Wakers::default() };
        Queue { state: Mutex::new(state), changed: Condvar::new() }
    }
}

impl<T> Queue<T> {
    /// Adds a value; `None` closes the queue.
    pub(crate) fn put(&self, value: Option<T>) {
        let mut state = lock(&self.state);
        match value {
            Some(value) => state.values.push_back(value),
            None => state.closed = true,
        }
        let wakers = state.wakers.take();
        drop(state);
        self.changed.notify_all();
        wakers.wake();
    }

    /// Waits for the next value, or for the end, which is `Some(None)`; `None` if `until` passes first.
    pub(crate) fn next(&self, until: Option<Instant>) -> Option<Option<T>> {
        let mut state = lock(&self.state);
        loop {
            match state.values.pop_front() {
                Some(value) => return Some(Some(value)),
                None if state.closed => return Some(None),
                None => state = wait_for_change(&self.changed, state, until)?,
            }
        }
    }

    /// Takes the next value, or reports the end, without waiting.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<Option<T>> {
        let mut state = lock(&self.state);
        match state.values.pop_front() {
            Some(value) => Poll::Ready(Some(value)),
            None if state.closed => Poll::Ready(None),
            None => {
                state.wakers.add(cx);
                Poll::Pending
            }
        }
    }
}
