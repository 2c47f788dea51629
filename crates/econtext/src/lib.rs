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

mod api;
mod broker;
mod child;
mod connect_back;
mod error;
mod log;
mod modules;
mod status;
mod sync;
mod transport;

pub use api::{
    Call, CallBuilder, Channel, Command, CommandFuture, Comparison, Context, ContextBuilder, FileThere,
    Input, Items, Listed, Output, OutputStream, Program, Progress, RemoteProcess, Streams, Transfer,
    TransferOptions, Transferred,
};
pub use broker::Broker;
pub use child::ChildEvent;
pub use connect_back::Listener;
pub use econtext_proto::message::DEFINE;
pub use econtext_proto::{
    CallError, ConvertError, Handle, Hello, Limits, LogRecord, ModuleKind, ModuleRecord, Object, SourceFrame,
    Value, from_value, is_identifier, is_module_name, to_value,
};
pub use error::{Error, ErrorKind};
pub use modules::distribution::{Distribution, distributions, normal_name};
pub use modules::finder::{
    FileAnswer, Foresight, ModuleFinder, PlannedModule, Start, record as module_record,
};
pub use modules::path_finder::PathFinder;
pub use status::{ProcessEvent, Status};
#[cfg(feature = "native-ssh")]
pub use transport::NativeSsh;
pub use transport::{
    Argv, Chroot, Dialog, Doas, Docker, Failure, Incus, Jail, Kubectl, Launch, Local, Lxc, Note, Nsenter,
    Nspawn, Podman, Python, Ssh, Su, Sudo, Transport, command_line, shell_join,
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
