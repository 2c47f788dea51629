//! Locks that survive a panic elsewhere, and the waiting for a change of the data behind one.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Locks a mutex. A thread of these crates that panics leaves no data half changed: the content of
/// a poisoned lock is as good as before.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a change of the data behind a lock; `None` once `until` has passed.
pub(crate) fn wait_for_change<'a, T>(
    changed: &Condvar,
    guard: MutexGuard<'a, T>,
    until: Option<Instant>,
) -> Option<MutexGuard<'a, T>> {
    Some(match until {
        None => changed.wait(guard).unwrap_or_else(PoisonError::into_inner),
        Some(until) => {
            let left = until.checked_duration_since(Instant::now())?;
            changed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0
        }
    })
}
