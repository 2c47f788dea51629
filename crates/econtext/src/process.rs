//! Local processes: one socket for stdin and stdout, a pipe for stderr, and a terminal if a dialog needs one.

use crate::transport::Launch;
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::fs::{Mode, OFlags, fcntl_setfl, open};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};

/// A process that was started, and our ends of its files: all non-blocking.
pub(crate) struct Process {
    child: Child,
    pub(crate) socket: OwnedFd,
    pub(crate) stderr: OwnedFd,
    pub(crate) terminal: Option<OwnedFd>,
}

impl Process {
    pub(crate) fn spawn(launch: &Launch) -> io::Result<Self> {
        let (program, args) = launch.argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        let (stderr, their_stderr) = pipe_with(PipeFlags::CLOEXEC)?;
        let mut command = Command::new(program);
        command.args(args).envs(launch.env.iter().map(|(k, v)| (k, v)));
        command.stdin(theirs.try_clone()?).stdout(theirs).stderr(their_stderr);
        let mut terminal = None;
        if launch.dialog.is_some() {
            let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
            grantpt(&master)?;
            unlockpt(&master)?;
            let name = ptsname(&master, Vec::new())?;
            let slave = open(&name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
            // Held open here as well, or the master would be at its end before the child opens its side.
            let slave_fd = slave.try_clone()?;
            // SAFETY: setsid and ioctl are async-signal-safe, and nothing is allocated between fork and exec.
            unsafe {
                command.pre_exec(move || {
                    rustix::process::setsid()?;
                    rustix::process::ioctl_tiocsctty(slave_fd.as_fd())?;
                    Ok(())
                });
            }
            terminal = Some((master, slave));
        } else if launch.detach {
            // SAFETY: setsid is async-signal-safe.
            unsafe {
                command.pre_exec(|| {
                    rustix::process::setsid()?;
                    Ok(())
                });
            }
        } else {
            command.process_group(0);
        }
        let child = command.spawn()?;
        let terminal = terminal.map(|(master, _slave)| master);
        for fd in [Some(&ours), Some(&stderr), terminal.as_ref()].into_iter().flatten() {
            fcntl_setfl(fd, OFlags::NONBLOCK)?;
        }
        Ok(Process { child, socket: ours, stderr, terminal })
    }

    /// How it ended, if it did.
    pub(crate) fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it and what it started in its group, if it is still there.
    pub(crate) fn kill(&mut self) {
        if matches!(self.child.try_wait(), Ok(None))
            && let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let _ = self.child.wait();
    }
}
