//! Commands beside a child, shaped like `std::process`.
//!
//! Both directions have credit: no more than a window of bytes is on its way to a reader that does
//! not read, and the process there stops when that is full. Calls of the same context continue
//! meanwhile.

mod command;
mod remote;
mod streams;

pub use command::{Command, CommandFuture, Output};
pub use remote::RemoteProcess;
pub use streams::{OutputStream, Streams};
