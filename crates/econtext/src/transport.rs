//! Ways to start a child: an argument vector, a dialog, and the meaning of its failures.

mod argv;
mod bootstrap_command;
mod container;
mod dialog;
mod launch;
mod privilege;
mod quote;
mod ssh;
#[cfg(feature = "native-ssh")]
mod ssh_native;

pub use argv::{Argv, Local};
pub use bootstrap_command::Python;
#[doc(hidden)]
pub use bootstrap_command::command_line;
pub(crate) use bootstrap_command::{core_range, payload};
pub use container::{Chroot, Docker, Incus, Jail, Kubectl, Lxc, Nsenter, Nspawn, Podman};
pub use dialog::Dialog;
pub(crate) use dialog::Step;
pub(crate) use launch::{Done, InProcess, InProcessTask};
pub use launch::{Failure, Launch, Note, Transport};
pub use privilege::{Doas, Su, Sudo};
pub use quote::shell_join;
pub use ssh::Ssh;
#[cfg(feature = "native-ssh")]
pub use ssh_native::NativeSsh;
