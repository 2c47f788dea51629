//! The events of a session, and the reasons for which it ends.

use crate::frame::FrameError;
use crate::pickle::PickleError;
use crate::value::{CallError, Handle, Value};
use crate::wire::logs::LogRecord;

/// The reason why a session ended. It then stays ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The byte stream is not what the child sent.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame holds no message.
    #[error("a frame holds no message: {0}")]
    Pickle(PickleError),
    /// A message to one of the controller's own handles has the wrong shape.
    #[error("malformed message on handle {0}")]
    Malformed(i64),
}

/// The end of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A result.
    Value(Value),
    /// An exception in the child.
    Raised(Box<CallError>),
    /// A result that was refused; nothing of it was executed.
    Refused(PickleError),
    /// The deadline passed. The child was told to stop the call.
    TimedOut,
}

/// An event of a session. Events come in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A call ended.
    Finished(Handle, Outcome),
    /// A message for a receiver that the user added; the dead sentinel closes it.
    Message(Handle, Value),
    /// The child wants a module: answer with [`crate::Session::provide_module`].
    ModuleRequested {
        /// Where the answer goes.
        reply_to: Handle,
        /// The module's full name.
        name: String,
    },
    /// The child wants a piece of a file, or a directory: answer by [`crate::Session::send`] to the handle.
    FileRequested {
        /// Where the answer goes.
        reply_to: Handle,
        /// The path, below no particular root.
        path: String,
        /// Where the piece begins, in bytes.
        offset: u64,
    },
    /// The child wants all files below a path: send them to the handle, then `None`.
    TreeRequested {
        /// Where the answers go.
        reply_to: Handle,
        /// The path, below no particular root.
        path: String,
        /// Bytes that all files together may have; 0 for any number.
        limit: u64,
    },
    /// The child has this top-level module by itself, although it was sent one: no more of it is needed.
    ModulePresent(String),
    /// The child has moved to its own connection, and this was the last message on the old stream; or the reason why not.
    MovedBack(Option<String>),
    /// A log record.
    Log(LogRecord),
    /// Output on file descriptor 1 or 2.
    Output(u8, Vec<u8>),
    /// A cancelled call did not end within its grace and two seconds more: the child hears nothing.
    Unresponsive(Handle),
    /// A message for a handle without a receiver.
    Stray(Handle),
}
