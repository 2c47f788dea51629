//! Runs local Python on remote machines that have nothing but Python.
//!
//! A [`Broker`] owns all IO. A [`Context`] is one child: a Python process here or behind ssh,
//! started with nothing written to its disk. Functions are called in it by name; modules that it
//! does not have come from a [`ModuleFinder`].
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

mod back;
mod broker;
mod carrier;
mod channel;
mod command;
mod context;
mod dialog;
mod error;
mod link;
mod log;
mod modules;
mod payload;
mod process;
mod program;
mod status;
mod stream;
mod sync;
mod transfer;
mod transport;

pub use back::Listener;
pub use broker::Broker;
pub use channel::Channel;
pub use command::{Command, CommandFuture, Output, OutputStream, RemoteProcess, Streams};
pub use context::{Call, CallBuilder, Context, ContextBuilder};
pub use dialog::Dialog;
pub use econtext_proto::message::DEFINE;
pub use econtext_proto::{
    CallError, ConvertError, Handle, Hello, Limits, LogRecord, ModuleKind, ModuleRecord, Object, SourceFrame,
    Value, from_value, is_identifier, is_module_name, to_value,
};
pub use error::{Error, ErrorKind};
pub use link::Event;
pub use modules::distribution::{Distribution, distributions, normal_name};
pub use modules::finder::{FileAnswer, Foreseen, Foresight, ModuleFinder, Start, record as module_record};
pub use modules::path_finder::PathFinder;
pub use payload::{Python, command_line, shell_join};
pub use program::{Input, Program};
pub use status::{ProcessEvent, Status};
pub use stream::Items;
pub use transfer::{Comparison, FileThere, Listed, Progress, Transfer, TransferOptions, Transferred};
#[cfg(feature = "native-ssh")]
pub use transport::NativeSsh;
pub use transport::{
    Argv, Chroot, Doas, Docker, Failure, Incus, Jail, Kubectl, Launch, Local, Lxc, Note, Nsenter, Nspawn,
    Podman, Ssh, Su, Sudo, Transport,
};

/// Items for the crates of this repository only. They may change with any version.
#[doc(hidden)]
pub mod internal {
    pub use crate::sync::{Wakers, lock};
}

/// Checks that `target` has the form `module:function` or `module:Class.method`.
///
/// # Errors
/// A text that says what is wrong with the target.
pub fn check_target(target: &str) -> Result<(), String> {
    econtext_proto::CallSpec::parse(target).map(drop)
}
