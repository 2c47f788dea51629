//! Local processes: one socket for stdin and stdout, a pipe for stderr, and a terminal if a dialog needs one.

use crate::status::Status;
use crate::transport::{Done, InProcess, InProcessTask, Launch};
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::fs::{Mode, OFlags, fcntl_setfl, open};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::sync::{Arc, OnceLock};

/// A process that was started, and our ends of its files: all non-blocking.
pub(crate) struct LocalProcess {
    body: Body,
    pub(crate) socket: OwnedFd,
    pub(crate) stderr: OwnedFd,
    pub(crate) terminal: Option<OwnedFd>,
}

/// The running thing behind a process.
enum Body {
    Child(Child),
    /// A task in this process, and its exit status once it has ended.
    InProcess(InProcessTask, Arc<OnceLock<u8>>),
}

impl LocalProcess {
    pub(crate) fn spawn(launch: &mut Launch) -> io::Result<Self> {
        if let Some(InProcess(begin)) = launch.in_process.take() {
            return Self::begin(begin);
        }
        let (program, args) = launch.argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let (ours, theirs) = UnixStream::pair()?;
        let (stderr, their_stderr) = io::pipe()?;
        let (ours, stderr) = (OwnedFd::from(ours), OwnedFd::from(stderr));
        let theirs = OwnedFd::from(theirs);
        let mut command = Command::new(program);
        command.args(args).envs(launch.env.iter().map(|(k, v)| (k, v)));
        command.stdin(theirs.try_clone()?).stdout(theirs).stderr(their_stderr);
        let mut terminal = None;
        if launch.dialog.is_some() {
            let master = open_terminal()?;
            grantpt(&master)?;
            unlockpt(&master)?;
            let name = ptsname(&master, Vec::new())?;
            let slave = open(&name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
            // The slave is held open here as well, or the master would be at its end before the
            // child opens it.
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
        Ok(LocalProcess { body: Body::Child(child), socket: ours, stderr, terminal })
    }

    /// Begins a task in place of a process. It has no terminal: it is given what it needs.
    fn begin(begin: impl FnOnce(UnixStream, File, Done) -> io::Result<InProcessTask>) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let (stderr, their_stderr) = io::pipe()?;
        let (ours, stderr) = (OwnedFd::from(ours), OwnedFd::from(stderr));
        for fd in [&ours, &stderr] {
            fcntl_setfl(fd, OFlags::NONBLOCK)?;
        }
        let ended: Arc<OnceLock<u8>> = Arc::default();
        let status = ended.clone();
        let done = Box::new(move |code| {
            // A task that was ended from here has its status already.
            let _ = status.set(code);
        });
        let running = begin(theirs, File::from(OwnedFd::from(their_stderr)), done)?;
        Ok(LocalProcess { body: Body::InProcess(running, ended), socket: ours, stderr, terminal: None })
    }

    /// The way it ended, if it did.
    pub(crate) fn status(&mut self) -> Option<Status> {
        match &mut self.body {
            Body::Child(child) => match child.try_wait() {
                Ok(status) => status.map(Status::from),
                // It has ended, and its status is lost: this program ignores SIGCHLD, or waits for any child by itself.
                Err(_) => Some(Status { code: None, signal: None }),
            },
            Body::InProcess(_, ended) => ended.get().map(|code| Status { code: Some(*code), signal: None }),
        }
    }

    /// The process id; that of this process, if it has none of its own.
    pub(crate) fn id(&self) -> u32 {
        match &self.body {
            Body::Child(child) => child.id(),
            Body::InProcess(..) => std::process::id(),
        }
    }

    /// Ends it and the other processes of its group, if it is still there.
    pub(crate) fn kill(&mut self) {
        match &mut self.body {
            Body::Child(child) => {
                if matches!(child.try_wait(), Ok(None))
                    && let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw)
                {
                    let _ = kill_process_group(pid, Signal::KILL);
                }
            }
            Body::InProcess(running, ended) => {
                (running.0)();
                // An aborted task reports no status.
                let _ = ended.set(255);
            }
        }
    }
}

/// The side of a new terminal that controls it.
fn open_terminal() -> io::Result<OwnedFd> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
    #[cfg(not(target_vendor = "apple"))]
    let master = openpt(flags | OpenptFlags::CLOEXEC)?;
    #[cfg(target_vendor = "apple")]
    let master = {
        let master = openpt(flags)?;
        rustix::io::fcntl_setfd(&master, rustix::io::FdFlags::CLOEXEC)?;
        master
    };
    Ok(master)
}

impl Drop for LocalProcess {
    fn drop(&mut self) {
        self.kill();
        if let Body::Child(child) = &mut self.body {
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::transport::Dialog;
    use std::io::Read as _;

    /// Runs a shell script that ends by itself; returns the process, and the output of the script.
    fn run(script: &str, change: impl FnOnce(&mut Launch)) -> (LocalProcess, String) {
        let mut launch = Launch::new(vec!["sh".into(), "-c".into(), script.into()]);
        change(&mut launch);
        let process = LocalProcess::spawn(&mut launch).unwrap();
        let mut socket = UnixStream::from(process.socket.try_clone().unwrap());
        socket.set_nonblocking(false).unwrap();
        let mut out = String::new();
        socket.read_to_string(&mut out).unwrap();
        (process, out)
    }

    /// The process, process group, session and terminal of the shell: fields 1, 5, 6 and 7 of
    /// proc_pid_stat(5).
    const WHO: &str =
        "read pid _ _ _ group session terminal _ </proc/$$/stat; echo $pid $group $session $terminal";

    fn who(change: impl FnOnce(&mut Launch)) -> [i64; 4] {
        let (process, out) = run(WHO, change);
        let numbers: Vec<i64> = out.split_whitespace().map(|n| n.parse().unwrap()).collect();
        assert_eq!(numbers[0], i64::from(process.id()));
        numbers.try_into().unwrap()
    }

    #[test]
    fn a_process_leads_a_group_of_its_own_in_our_session() {
        let [pid, group, session, _] = who(|_| {});
        assert_eq!(group, pid);
        // The test does not use getsid(2): a session that began outside of our namespace is 0,
        // which rustix does not expect.
        let ours = std::fs::read_to_string("/proc/self/stat").unwrap();
        let (_, behind_name) = ours.rsplit_once(')').unwrap();
        assert_eq!(behind_name.split_whitespace().nth(3).unwrap(), session.to_string());
    }

    #[test]
    fn a_process_that_is_detached_leads_a_session_without_a_terminal() {
        let [pid, group, session, terminal] = who(|launch| launch.detach = true);
        assert_eq!((group, session, terminal), (pid, pid, 0));
    }

    #[test]
    fn a_dialog_gives_a_session_and_a_terminal_that_we_hold_the_other_end_of() {
        let dialog = |launch: &mut Launch| launch.dialog = Some(Dialog::new(ErrorKind::Auth, None));
        let [pid, group, session, terminal] = who(dialog);
        assert_eq!((group, session), (pid, pid));
        assert_ne!(terminal, 0);
        let (process, _) = run("echo asked >/dev/tty", dialog);
        let mut seen = [0; 64];
        let n = rustix::io::read(process.terminal.as_ref().unwrap(), &mut seen).unwrap();
        assert_eq!(&seen[..n], b"asked\r\n");
    }

    #[test]
    fn what_cannot_be_started_is_an_error() {
        for argv in [vec![], vec!["/no/such/program".to_owned()]] {
            let error = LocalProcess::spawn(&mut Launch::new(argv)).err().unwrap();
            assert!(matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound), "{error}");
        }
    }
}
