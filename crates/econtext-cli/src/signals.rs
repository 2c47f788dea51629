//! Signals as this process has inherited them: some supervisors, containers and schedulers ignore
//! or block a few, which a process keeps and its children inherit.

use nix::sys::signal::SigSet;
use signal_hook::consts::SIGCHLD;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Restores the delivery of signals and the exit statuses of children, independent of the inherited
/// state. It must be called before there are threads.
///
/// Programs that are started then have the usual dispositions: a signal with a handler has its
/// default in an executed program, and the standard library empties the mask there.
pub(crate) fn restore() {
    // The only error is that of a number that is no signal.
    let _ = SigSet::empty().thread_set_mask();
    // The system discards the status of each child while SIGCHLD is ignored.
    let _ = signal_hook::flag::register(SIGCHLD, Arc::new(AtomicBool::new(false)));
}
