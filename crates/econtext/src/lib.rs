//! Runs local Python on remote machines that have nothing but Python.
//!
//! A [`Broker`] owns all IO. A [`Context`] is one child: a Python process here or behind ssh,
//! started with nothing written to its disk. Functions are called in it by name; modules that it
//! does not have come from a [`ModuleFinder`](modules::ModuleFinder).
//!
//! ```
//! use econtext::Broker;
//!
//! let broker = Broker::new()?;
//! let child = broker.local("worker")?;
//! let (total, used, free) = child.call::<(u64, u64, u64)>("shutil:disk_usage", ("/",)).wait()?;
//! assert!(used + free <= total);
//! # Ok::<(), econtext::Error>(())
//! ```
//!
//! Every [`Call`] is also a future, of no particular runtime. `docs/how-it-works.md` explains the
//! design.

mod api;
mod broker;
mod child;
#[cfg(feature = "connect-back")]
mod connect_back;
mod error;
mod log;
pub mod modules;
mod status;
mod sync;
pub mod transport;

pub use api::{Call, CallBuilder, Channel, Context, ContextBuilder, Input, Items, Program};
pub use broker::Broker;
pub use child::ChildEvent;
#[cfg(feature = "connect-back")]
pub use connect_back::Listener;
pub use econtext_proto::{Hello, Limits, LogRecord, Value, from_value, to_value};
pub use error::{Error, ErrorKind};
pub use modules::PathFinder;
pub use transport::{Local, Python, Ssh};

/// Commands beside a child, shaped like `std::process`.
pub mod process {
    pub use crate::api::{Command, CommandFuture, Output, OutputStream, RemoteProcess, Streams};
    pub use crate::status::{ProcessEvent, Status};
}

/// Files and directories to a child's machine and back.
pub mod transfer {
    pub use crate::api::{Comparison, FileThere, Listed, Progress, Transfer, TransferOptions, Transferred};
}

/// The values that calls take and return, beside [`Value`].
pub mod value {
    pub use econtext_proto::{
        CallError, ConvertError, Handle, Object, SourceFrame, Value, from_value, to_value,
    };
}

/// Items for the crates of this repository only. They may change with any version.
#[doc(hidden)]
pub mod internal {
    pub use crate::sync::{Wakers, lock};
    pub use crate::transport::command_line;
    pub use econtext_proto::wire::handles::DEFINE;
    pub use econtext_proto::{is_identifier, is_module_name};

    /// Checks that `target` has the form `module:function` or `module:Class.method`.
    ///
    /// # Errors
    /// A text that says what is wrong with the target.
    pub fn check_target(target: &str) -> Result<(), String> {
        econtext_proto::CallSpec::parse(target).map(drop)
    }
}
