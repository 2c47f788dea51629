//! The interface: a handle on a child, and the work that is done in it.

mod builder;
mod call;
mod channel;
mod context;
mod hop;
mod items;
mod process;
mod program;
mod transfer;
mod waiting;

pub use builder::ContextBuilder;
pub use call::{Call, CallBuilder};
pub use channel::Channel;
pub use context::Context;
pub use items::Items;
pub use process::{Command, CommandFuture, Output, OutputStream, RemoteProcess, Streams};
pub use program::{Input, Program};
pub use transfer::{Comparison, FileThere, Listed, Progress, Transfer, TransferOptions, Transferred};
