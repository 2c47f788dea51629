//! One value that one thread sets and another waits for, blocking or as a future.

use crate::sync::{Wakers, lock};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

/// A value that is set once. It can be read any number of times, and taken by the last reader.
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

    /// Waits for the value and takes it; `None` if it was taken before.
    pub(crate) fn take(&self) -> Option<T> {
        take(&mut *self.filled(None)?)
    }

    /// Takes the value as [`take`](Slot::take) does, without waiting.
    pub(crate) fn poll_take(&self, cx: &Context<'_>) -> Poll<Option<T>> {
        self.poll_filled(cx).map(|mut state| take(&mut state))
    }

    /// Waits for the value and leaves it here; `None` if `until` passes first, or if it was taken before.
    pub(crate) fn get(&self, until: Option<Instant>) -> Option<T>
    where
        T: Clone,
    {
        copy(&*self.filled(until)?)
    }

    /// Reads the value as [`get`](Slot::get) does, without waiting.
    pub(crate) fn poll_get(&self, cx: &Context<'_>) -> Poll<Option<T>>
    where
        T: Clone,
    {
        self.poll_filled(cx).map(|state| copy(&state))
    }

    fn filled(&self, until: Option<Instant>) -> Option<MutexGuard<'_, State<T>>> {
        let mut state = lock(&self.state);
        while matches!(*state, State::Empty(_)) {
            state = match until {
                None => self.set.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.checked_duration_since(Instant::now())?;
                    self.set.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        Some(state)
    }

    fn poll_filled(&self, cx: &Context<'_>) -> Poll<MutexGuard<'_, State<T>>> {
        let mut state = lock(&self.state);
        match &mut *state {
            State::Empty(wakers) => {
                wakers.add(cx);
                Poll::Pending
            }
            _ => Poll::Ready(state),
        }
    }
}

fn copy<T: Clone>(state: &State<T>) -> Option<T> {
    match state {
        State::Full(value) => Some(value.clone()),
        _ => None,
    }
}

fn take<T>(state: &mut State<T>) -> Option<T> {
    match std::mem::replace(state, State::Taken) {
        State::Full(value) => Some(value),
        _ => None,
    }
}
