//! One child as the broker sees it: a process, a bootstrap, then a session, and the callers that wait.

mod caller;
mod carrier;
mod connection;
mod ending;
mod event;
mod hop_cache;
mod local_process;
mod login;
mod phase;
mod read;
mod requests;
mod scheduler;
mod serve;
mod stderr;
mod translate;

pub(crate) use carrier::Carrier;
pub use event::ChildEvent;
pub(crate) use local_process::LocalProcess;
pub(crate) use phase::{CallSlot, EventCallback, Link, LinkParts};
pub(crate) use read::LinkEnd;
pub(crate) use scheduler::Scheduler;
