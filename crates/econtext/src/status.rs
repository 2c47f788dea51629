//! The end of a process, here or beside a child, and its events before.

use crate::error::Error;
use econtext_proto::Value;
use std::fmt;

/// The way a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The exit status.
    pub code: Option<u8>,
    /// The signal that ended it. With neither this nor a code, another process there has collected the status.
    pub signal: Option<i32>,
}

impl Status {
    /// Whether it ended with 0.
    pub fn success(self) -> bool {
        self.code == Some(0)
    }

    pub(crate) fn from_value(value: &Value) -> Self {
        match value.as_i64() {
            Some(code @ 0..=255) => Status { code: Some(code as u8), signal: None },
            Some(signal @ -255..0) => Status { code: None, signal: Some(-signal as i32) },
            _ => Status { code: None, signal: None },
        }
    }
}

impl From<std::process::ExitStatus> for Status {
    fn from(status: std::process::ExitStatus) -> Self {
        use std::os::unix::process::ExitStatusExt as _;
        Status { code: status.code().and_then(|code| u8::try_from(code).ok()), signal: status.signal() }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "status {code}"),
            (_, Some(signal)) => write!(f, "signal {signal}"),
            _ => f.write_str("an unknown status"),
        }
    }
}

/// An event of a process.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ProcessEvent {
    /// It was started, with this process id there.
    Started(i64),
    /// It wrote to stdout (1) or stderr (2).
    Output {
        /// The file descriptor.
        fd: u8,
        /// The bytes that were written.
        data: Vec<u8>,
    },
    /// It read some of its input: there is room for more.
    InputWanted,
    /// It is gone, and all of its output has come. This is the last event.
    Ended(Result<Status, Error>),
}
