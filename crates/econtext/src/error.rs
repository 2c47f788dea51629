//! The one error type.

use econtext_proto::{CallError, ConvertError};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The kind of an error: a closed set, as the command line prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request makes no sense; no host was contacted.
    Usage,
    /// The system here refused: a file, a socket or a thread of this machine.
    Local,
    /// The host could not be reached.
    Unreachable,
    /// The login was refused.
    Auth,
    /// The host's key is unknown, or differs from the known one.
    HostKey,
    /// Becoming another user failed there.
    Become,
    /// There is no Python there.
    NoPython,
    /// The child did not come up.
    Bootstrap,
    /// The child sent data that is not valid.
    Protocol,
    /// The function's module could not be imported there.
    Import,
    /// The function raised.
    Exception,
    /// The child sent a class that was not allowed.
    Unpermitted,
    /// The operation took too long.
    Timeout,
    /// The call was stopped.
    Cancelled,
    /// The child is gone.
    Closed,
}

impl ErrorKind {
    /// The name in output: `host_key`, `no_python`.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorKind::Usage => "usage",
            ErrorKind::Local => "local",
            ErrorKind::Unreachable => "unreachable",
            ErrorKind::Auth => "auth",
            ErrorKind::HostKey => "host_key",
            ErrorKind::Become => "become",
            ErrorKind::NoPython => "no_python",
            ErrorKind::Bootstrap => "bootstrap",
            ErrorKind::Protocol => "protocol",
            ErrorKind::Import => "import",
            ErrorKind::Exception => "exception",
            ErrorKind::Unpermitted => "unpermitted",
            ErrorKind::Timeout => "timeout",
            ErrorKind::Cancelled => "cancelled",
            ErrorKind::Closed => "closed",
        }
    }

    /// Whether the host was never reached: no call can have run there.
    pub fn is_connect(self) -> bool {
        use ErrorKind::*;
        matches!(self, Unreachable | Auth | HostKey | Become | NoPython | Bootstrap)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error. It is cheap enough to clone: every call that waited gets its own.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The request makes no sense; no host was contacted.
    Usage(String),
    /// The system here refused a request: a file that was to be read or written, a socket, a
    /// thread.
    Local {
        /// The context's name, if this was for one.
        host: Option<String>,
        /// The path, or the operation that was attempted.
        what: String,
        /// The error of the system; it is the [source](std::error::Error::source).
        error: Arc<io::Error>,
    },
    /// No child came up. `kind` is one of those for which [`ErrorKind::is_connect`] holds.
    Connect {
        /// The kind of the failure.
        kind: ErrorKind,
        /// The context's name.
        host: String,
        /// A description of the failure.
        message: String,
        /// The last output of the transport on stderr.
        stderr: String,
    },
    /// The child sent data that is not valid. The connection is closed.
    Protocol {
        /// The context's name.
        host: String,
        /// A description of the failure.
        message: String,
    },
    /// The function raised, or its result could not be sent.
    Exception {
        /// The context's name.
        host: String,
        /// The exception.
        error: Box<CallError>,
    },
    /// The result holds a class that was not allowed. Nothing was executed.
    Unpermitted {
        /// The context's name.
        host: String,
        /// The class, as `module.name`.
        class: String,
    },
    /// The operation took too long.
    Timeout {
        /// The context's name.
        host: String,
        /// The phase that was waited for.
        phase: &'static str,
        /// The time that was allowed.
        after: Duration,
        /// The last output of the transport on stderr.
        stderr: String,
    },
    /// The call was stopped.
    Cancelled {
        /// The context's name.
        host: String,
    },
    /// The child is gone.
    Closed {
        /// The context's name.
        host: String,
        /// The way it ended, as far as is known.
        message: String,
        /// The last of its output on stderr.
        stderr: String,
    },
    /// A command could not be started there.
    NotStarted {
        /// The context's name.
        host: String,
        /// The program.
        program: String,
        /// The number of the reason on the system there; 0 if the reason is not the system's.
        errno: i32,
        /// The reason.
        message: String,
    },
    /// The value does not fit the Rust type that was asked for.
    Convert {
        /// The context's name.
        host: String,
        /// Both sides of the mismatch.
        error: ConvertError,
    },
}

impl Error {
    /// Makes the error of an operation that the system here refused.
    pub(crate) fn local(host: Option<&str>, what: impl fmt::Display, error: io::Error) -> Self {
        Error::Local { host: host.map(str::to_owned), what: what.to_string(), error: Arc::new(error) }
    }

    /// The kind of the error.
    ///
    /// ```no_run
    /// # fn f(web: &econtext::Context) -> Result<(), econtext::Error> {
    /// use econtext::ErrorKind;
    /// match web.call::<u32>("os:getuid", ()).wait() {
    ///     Ok(uid) => println!("{uid}"),
    ///     Err(error) if error.kind().is_connect() => println!("not reached: {error}"),
    ///     Err(error) if error.kind() == ErrorKind::Timeout => println!("too slow"),
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok(()) }
    /// ```
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Usage(_) | Error::Convert { .. } => ErrorKind::Usage,
            Error::Local { .. } => ErrorKind::Local,
            Error::Connect { kind, .. } => *kind,
            Error::Protocol { .. } => ErrorKind::Protocol,
            Error::Exception { error, .. } if is_import_error(error) => ErrorKind::Import,
            Error::Exception { .. } | Error::NotStarted { .. } => ErrorKind::Exception,
            Error::Unpermitted { .. } => ErrorKind::Unpermitted,
            Error::Timeout { .. } => ErrorKind::Timeout,
            Error::Cancelled { .. } => ErrorKind::Cancelled,
            Error::Closed { .. } => ErrorKind::Closed,
        }
    }

    /// The exception of the function, if that is the error.
    pub fn call_error(&self) -> Option<&CallError> {
        match self {
            Error::Exception { error, .. } => Some(error),
            _ => None,
        }
    }

    /// The last output of the transport or the child on its own stderr, if that matters here.
    pub fn stderr(&self) -> &str {
        match self {
            Error::Connect { stderr, .. } | Error::Closed { stderr, .. } | Error::Timeout { stderr, .. } => {
                stderr
            }
            _ => "",
        }
    }

    /// The context's name.
    pub fn host(&self) -> Option<&str> {
        match self {
            Error::Usage(_) => None,
            Error::Local { host, .. } => host.as_deref(),
            Error::Connect { host, .. }
            | Error::Protocol { host, .. }
            | Error::Exception { host, .. }
            | Error::Unpermitted { host, .. }
            | Error::Timeout { host, .. }
            | Error::Cancelled { host }
            | Error::Closed { host, .. }
            | Error::NotStarted { host, .. }
            | Error::Convert { host, .. } => Some(host),
        }
    }

    /// The message, without the host's name and stderr: for output that shows those by itself.
    pub fn message(&self) -> String {
        match self {
            Error::Usage(message)
            | Error::Connect { message, .. }
            | Error::Protocol { message, .. }
            | Error::Closed { message, .. } => message.clone(),
            Error::Local { what, error, .. } => format!("{what}: {error}"),
            Error::Exception { error, .. } => error.to_string(),
            Error::Unpermitted { class, .. } => {
                format!(
                    "the result holds the class {class}, which was not allowed; nothing of it was executed"
                )
            }
            Error::Timeout { phase, after, .. } => {
                format!("{phase} took more than {} s", (after.as_secs_f64() * 1e3).round() / 1e3)
            }
            Error::Cancelled { .. } => "stopped".to_owned(),
            Error::NotStarted { program, message, .. } => format!("cannot start {program}: {message}"),
            Error::Convert { error, .. } => error.to_string(),
        }
    }
}

fn is_import_error(error: &CallError) -> bool {
    matches!(error.type_name.as_str(), "ImportError" | "ModuleNotFoundError")
        && matches!(error.module.as_str(), "builtins" | "exceptions")
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(host) = self.host() {
            write!(f, "{host}: ")?;
        }
        if let Error::Connect { kind, .. } = self {
            write!(f, "{kind}: ")?;
        }
        f.write_str(&self.message())?;
        match self.stderr() {
            "" => Ok(()),
            stderr => write!(f, "; stderr: {}", stderr.trim_end()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Exception { error, .. } => Some(error),
            Error::Convert { error, .. } => Some(error),
            Error::Local { error, .. } => Some(&**error),
            _ => None,
        }
    }
}
