//! One value that one thread sets and another waits for, blocking or as a future.

use crate::sync::{Wakers, lock};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

/// Set once; taken once.
#[derive(Debug)]
pub(crate) struct Slot<T> {
    state: Mutex<State<T>>,
    set: Condvar,
}

#[derive(Debug)]
enum State<T> {
    Empty(Wakers),
    Full(T),
    Taken,
}

impl<T> Slot<T> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Slot { state: Mutex::new(State::Empty(Wakers::default())), set: Condvar::new() })
    }

    /// Sets the value; the first one stays.
    pub(crate) fn set(&self, value: T) {
        let mut state = lock(&self.state);
        if let State::Empty(wakers) = &mut *state {
            let wakers = std::mem::take(wakers);
            *state = State::Full(value);
            drop(state);
            self.set.notify_all();
            wakers.wake();
        }
    }

    /// Waits for the value; `None` if `until` passes first, or if it was taken before.
    pub(crate) fn wait(&self, until: Option<Instant>) -> Option<T> {
        let mut state = lock(&self.state);
        loop {
            if !matches!(*state, State::Empty(_)) {
                return take(&mut state);
            }
            state = match until {
                None => self.set.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.checked_duration_since(Instant::now())?;
                    self.set.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<Option<T>> {
        let mut state = lock(&self.state);
        match &mut *state {
            State::Empty(wakers) => {
                wakers.add(cx);
                Poll::Pending
            }
            _ => Poll::Ready(take(&mut state)),
        }
    }
}

fn take<T>(state: &mut State<T>) -> Option<T> {
    match std::mem::replace(state, State::Taken) {
        State::Full(value) => Some(value),
        _ => None,
    }
}
