//! Locks that outlive a panic.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The content of a mutex. Nothing here is left half changed by a thread that panics.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
