//! The events of a child.

use crate::error::Error;
use econtext_proto::{Hello, LogRecord};

/// An event of a child.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ChildEvent {
    /// The child came up.
    Started(Hello),
    /// The child, or a program that it started, wrote to stdout (1) or stderr (2).
    Output {
        /// The file descriptor.
        fd: u8,
        /// The bytes that were written.
        data: Vec<u8>,
    },
    /// The child logged a record.
    Log(LogRecord),
    /// The child is gone, for this reason.
    Closed(Error),
}
