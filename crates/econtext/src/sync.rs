//! Data that threads share, and the waiting for it: blocking, or as a future of any runtime.

mod mutex;
mod queue;
mod slot;
mod wakers;

pub use mutex::lock;
pub(crate) use mutex::wait_for_change;
pub(crate) use queue::Queue;
pub(crate) use slot::Slot;
pub use wakers::Wakers;
