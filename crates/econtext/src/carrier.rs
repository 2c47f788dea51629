//! The carrier of a child's stream: a process here, or one beside another child.

use crate::command::RemoteProcess;
use crate::error::Error;
use crate::process::Process;
use crate::status::Status;
use econtext_proto::Session;
use rustix::io::retry_on_intr;
use rustix::net::{SendFlags, send};

pub(crate) enum Carrier {
    Local(Process),
    Relay(Relay),
}

/// The flag that makes a lost peer an error of `send`, and no SIGPIPE. On systems without it,
/// Rust's and Python's own start-up have turned the signal off.
#[cfg(not(target_vendor = "apple"))]
const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
const NO_SIGNAL: SendFlags = SendFlags::empty();

/// A process beside a hop. Its output arrives as events.
pub(crate) struct Relay {
    pub(crate) process: RemoteProcess,
    /// The hop's name.
    pub(crate) hop: String,
    /// The bytes that were received and not granted anew: a child that asks too much is not heard
    /// for a while.
    pub(crate) owed: usize,
    /// The way it ended, once it has.
    pub(crate) ended: Option<Result<Status, Error>>,
}

impl Carrier {
    /// The local process, if it is one.
    pub(crate) fn local(&self) -> Option<&Process> {
        match self {
            Carrier::Local(process) => Some(process),
            Carrier::Relay(_) => None,
        }
    }

    /// Writes as many bytes as there is room for, up to `until` bytes in all. An error shows up on
    /// the reading side too.
    pub(crate) fn flush(&self, session: &mut Session, until: u64) {
        loop {
            let left = usize::try_from(until.saturating_sub(session.sent_bytes())).unwrap_or(usize::MAX);
            let written = match self {
                Carrier::Local(process) => match session.transmit() {
                    bytes if bytes.len() > left => match &bytes[..left] {
                        [] => None,
                        bytes => retry_on_intr(|| send(&process.socket, bytes, NO_SIGNAL)).ok(),
                    },
                    [] => None,
                    bytes => retry_on_intr(|| send(&process.socket, bytes, NO_SIGNAL)).ok(),
                },
                Carrier::Relay(relay) => match session.transmit_piece() {
                    ([], _) => None,
                    (piece, true) => relay.process.try_repeat(piece).ok(),
                    (bytes, false) => relay.process.try_write(bytes).ok(),
                },
            };
            match written {
                Some(n) if n > 0 => session.advance(n),
                _ => return,
            }
        }
    }

    /// Lets the other side write as much as was received.
    pub(crate) fn grant(&mut self) {
        if let Carrier::Relay(relay) = self {
            let owed = std::mem::take(&mut relay.owed);
            if owed > 0 {
                relay.process.grant(owed);
            }
        }
    }

    /// Answers on its terminal.
    pub(crate) fn type_text(&self, text: &[u8]) {
        // A terminal's buffer has room for a password; a lost terminal is noticed elsewhere.
        match self {
            Carrier::Local(process) => {
                let _ = process.terminal.as_ref().map(|terminal| rustix::io::write(terminal, text));
            }
            Carrier::Relay(relay) => {
                let _ = relay.process.type_text(text);
            }
        }
    }

    /// Ends the stream: a child sees that, and ends.
    pub(crate) fn shutdown(&self) {
        match self {
            Carrier::Local(process) => {
                let _ = rustix::net::shutdown(&process.socket, rustix::net::Shutdown::Both);
            }
            Carrier::Relay(relay) => relay.process.end_input(),
        }
    }

    /// Ends the process and its group.
    pub(crate) fn kill(&mut self) {
        match self {
            Carrier::Local(process) => process.kill(),
            Carrier::Relay(relay) => relay.process.kill(),
        }
    }

    /// The way it ended, if it did. The error is that of the hop.
    pub(crate) fn ended(&mut self) -> Option<Result<Status, Error>> {
        match self {
            Carrier::Local(process) => process.status().map(Ok),
            Carrier::Relay(relay) => relay.ended.clone(),
        }
    }
}
