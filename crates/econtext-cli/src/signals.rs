//! Signals as this process has inherited them: some supervisors, containers and schedulers ignore or block a few, which a
//! process keeps and its children inherit.

use nix::sys::signal::SigSet;
use signal_hook::consts::SIGCHLD;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Makes signals arrive, and processes of ours be waited for, whatever was inherited. To be called before there are threads.
///
/// What is started has the usual dispositions then: a signal with a handler has its default in a program that is executed, and
/// the standard library empties the mask there.
pub(crate) fn restore() {
    // The only error is that of a number that is no signal.
    let _ = SigSet::empty().thread_set_mask();
    // With SIGCHLD ignored, the system throws the status of each child away.
    let _ = signal_hook::flag::register(SIGCHLD, Arc::new(AtomicBool::new(false)));
}
