//! The part of the broker that a link needs.

use rustix::fd::OwnedFd;
use std::io;
use std::time::Instant;

/// The broker, to a link. Links are known to it by their index.
pub(crate) trait Scheduler: Send + Sync {
    /// Makes the broker look at a link's timers at `at`.
    fn wake_at(&self, at: Instant, index: usize);

    /// Has a child's questions answered by the finder's thread.
    fn look_up(&self, index: usize);

    /// Moves a link's stream to another file.
    fn change(&self, old: &OwnedFd, new: &OwnedFd, index: usize) -> io::Result<()>;
}
