//! The waiting of a caller's thread for a result that is kept.

use crate::broker::check_thread;
use crate::error::Error;
use crate::sync::Slot;
use std::time::{Duration, Instant};

/// Waits for a result, without a time limit.
pub(super) fn wait<T: Clone>(slot: &Slot<Result<T, Error>>) -> Result<T, Error> {
    check_thread()?;
    slot.wait()
}

/// Waits for a result for some time; `None` if it is not there by then.
pub(super) fn wait_timeout<T: Clone>(
    slot: &Slot<Result<T, Error>>,
    timeout: Duration,
) -> Option<Result<T, Error>> {
    match check_thread() {
        Ok(()) => slot.wait_until(Instant::now().checked_add(timeout)),
        Err(error) => Some(Err(error)),
    }
}
