//! The carrier of a child's stream: a process here, or one beside another child.

use super::local_process::LocalProcess;
use crate::error::Error;
use crate::status::Status;
use econtext_proto::Session;
use rustix::io::retry_on_intr;
use rustix::net::{SendFlags, send};

/// The process that a child's stream goes through.
pub(crate) trait Carrier: Send {
    /// The local process, if it is one.
    fn local(&self) -> Option<&LocalProcess> {
        None
    }

    /// The local process, to be changed.
    fn local_mut(&mut self) -> Option<&mut LocalProcess> {
        None
    }

    /// The name of the hop that it is beside, if it is.
    fn hop(&self) -> &str {
        ""
    }

    /// Writes as many bytes as there is room for, up to `until` bytes in all. An error shows up on
    /// the reading side too.
    fn flush(&self, session: &mut Session, until: u64);

    /// Notes that bytes of it were received.
    fn received(&mut self, _bytes: usize) {}

    /// Lets the other side write as much as was received.
    fn grant(&mut self) {}

    /// Answers on its terminal.
    fn type_text(&self, text: &[u8]);

    /// Ends the stream: a child sees that, and ends.
    fn shutdown(&self);

    /// Ends the process and its group.
    fn kill(&mut self);

    /// Notes the way it ended; a local process is asked itself.
    fn set_ended(&mut self, _result: Result<Status, Error>) {}

    /// The way it ended, if it did. The error is that of the hop.
    fn ended(&mut self) -> Option<Result<Status, Error>>;
}

/// The flag that makes a lost peer an error of `send`, and no SIGPIPE. On systems without it,
/// Rust's and Python's own start-up have turned the signal off.
#[cfg(not(target_vendor = "apple"))]
const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
const NO_SIGNAL: SendFlags = SendFlags::empty();

impl Carrier for LocalProcess {
    fn local(&self) -> Option<&LocalProcess> {
        Some(self)
    }

    fn local_mut(&mut self) -> Option<&mut LocalProcess> {
        Some(self)
    }

    fn flush(&self, session: &mut Session, until: u64) {
        loop {
            let left = usize::try_from(until.saturating_sub(session.sent_bytes())).unwrap_or(usize::MAX);
            let bytes = session.transmit();
            let bytes = &bytes[..bytes.len().min(left)];
            if bytes.is_empty() {
                return;
            }
            match retry_on_intr(|| send(&self.socket, bytes, NO_SIGNAL)) {
                Ok(n @ 1..) => session.advance(n),
                _ => return,
            }
        }
    }

    fn type_text(&self, text: &[u8]) {
        // A terminal's buffer has room for a password; a lost terminal is noticed elsewhere.
        let _ = self.terminal.as_ref().map(|terminal| rustix::io::write(terminal, text));
    }

    fn shutdown(&self) {
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
    }

    fn kill(&mut self) {
        LocalProcess::kill(self);
    }

    fn ended(&mut self) -> Option<Result<Status, Error>> {
        self.status().map(Ok)
    }
}
