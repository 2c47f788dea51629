//! Whether this process was started with stdout closed.
//!
//! Before `main`, Rust's standard library opens `/dev/null` in place of a standard descriptor that
//! is closed. Output then goes nowhere, without an error. So the descriptor has to be checked
//! earlier.
#![allow(unsafe_code, reason = "only a link section runs before the standard library's own start")]

use rustix::io::{Errno, fcntl_getfd};
use std::sync::atomic::{AtomicBool, Ordering};

static CLOSED: AtomicBool = AtomicBool::new(false);

/// Runs before `main`, with the C library initialised and the standard library not.
extern "C" fn look() {
    // SAFETY: the descriptor is only queried; the system reports an error if it is not open.
    let stdout = unsafe { rustix::fd::BorrowedFd::borrow_raw(1) };
    if fcntl_getfd(stdout) == Err(Errno::BADF) {
        CLOSED.store(true, Ordering::Relaxed);
    }
}

// SAFETY: the section is an array of such pointers, which the C library calls in turn.
#[used]
#[cfg_attr(not(target_vendor = "apple"), unsafe(link_section = ".init_array"))]
#[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__mod_init_func"))]
static LOOK: extern "C" fn() = look;

/// Whether stdout was closed when this process was started.
pub(crate) fn was_closed() -> bool {
    CLOSED.load(Ordering::Relaxed)
}
