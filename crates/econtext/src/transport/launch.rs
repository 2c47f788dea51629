//! A way to start a Python, and what it needs for that.

use super::dialog::Dialog;
use crate::error::ErrorKind;
use crate::status::Status;
use std::fmt;

/// A local process to start.
#[derive(Debug)]
#[non_exhaustive]
pub struct Launch {
    /// The program, looked for in `PATH`, and its arguments.
    pub argv: Vec<String>,
    /// The variables to set in its environment. They are never secret.
    pub env: Vec<(String, String)>,
    /// The dialog that answers questions on its terminal; without one it gets no terminal.
    pub dialog: Option<Dialog>,
    /// Whether it must not see the controller's terminal.
    pub detach: bool,
    /// The task that does the same in this process, where there is one.
    pub(crate) in_process: Option<InProcess>,
}

/// The function by which a task in this process says that it has ended, and with which status.
pub(crate) type Done = Box<dyn FnOnce(u8) + Send>;

/// The function that begins a task in place of a process: it is given the other end of the stream,
/// its stderr, and the function to call at its end.
pub(crate) struct InProcess(
    #[allow(clippy::type_complexity, reason = "it is called in one place")]
    pub(crate)  Box<
        dyn FnOnce(std::os::unix::net::UnixStream, std::fs::File, Done) -> std::io::Result<InProcessTask>
            + Send,
    >,
);

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InProcess(..)")
    }
}

/// A task that runs in this process, as the function that ends it.
pub(crate) struct InProcessTask(pub(crate) Box<dyn Fn() + Send + Sync>);

impl Launch {
    /// Makes a launch of `argv` as it is.
    pub fn new(argv: Vec<String>) -> Self {
        Launch { argv, env: Vec::new(), dialog: None, detach: false, in_process: None }
    }
}

/// The traces of a transport that ended before a child came up.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// The way the local process ended.
    pub status: Option<Status>,
    /// The last of its output on stderr.
    pub stderr: &'a str,
    /// The last of its output on stdout, escaped.
    pub stdout: &'a str,
}

/// A way to start a Python.
///
/// ```
/// use econtext::transport::{Launch, Transport};
///
/// /// Children in a container of some runtime.
/// struct InContainer(String);
///
/// impl Transport for InContainer {
///     fn launch(&self, child: &[String]) -> Launch {
///         let words = ["runtime", "exec", "-i", &self.0].map(String::from);
///         Launch::new(words.iter().chain(child).cloned().collect())
///     }
/// }
/// ```
pub trait Transport: Send + Sync {
    /// The local process that leads to the argument vector `child`, with its stdin and stdout.
    fn launch(&self, child: &[String]) -> Launch;

    /// The kind of error when this process ended without a child.
    fn classify(&self, failure: &Failure<'_>) -> ErrorKind {
        classify_python(failure)
    }

    /// The meaning of a failure of this kind, in words that say more than the kind.
    fn describe(&self, kind: ErrorKind, failure: &Failure<'_>) -> Option<String> {
        let _ = (kind, failure);
        None
    }

    /// The kind of a line that the process writes to its stderr. All lines are a part of an error,
    /// unless this says otherwise.
    fn note(&self, line: &str) -> Note {
        let _ = line;
        Note::Text
    }

    /// Whether a child that has a connection of its own survives the end of the process that began
    /// it.
    fn survives_carrier(&self) -> bool {
        false
    }
}

/// The kind of a line on a transport's stderr.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// A text to be shown with an error.
    Text,
    /// A line of no interest.
    Noise,
    /// The progress: `key exchange`. If it gets no further, the error says so.
    Phase(&'static str),
}

impl Transport for Box<dyn Transport> {
    fn launch(&self, child: &[String]) -> Launch {
        (**self).launch(child)
    }

    fn classify(&self, failure: &Failure<'_>) -> ErrorKind {
        (**self).classify(failure)
    }

    fn describe(&self, kind: ErrorKind, failure: &Failure<'_>) -> Option<String> {
        (**self).describe(kind, failure)
    }

    fn note(&self, line: &str) -> Note {
        (**self).note(line)
    }

    fn survives_carrier(&self) -> bool {
        (**self).survives_carrier()
    }
}

/// The kind of error by the message of a shell or `exec`: there is no Python, or else it did not
/// come up.
pub(crate) fn classify_python(failure: &Failure<'_>) -> ErrorKind {
    let says = |text: &str| failure.stderr.contains(text) || failure.stdout.contains(text);
    let not_found = ["not found", "No such file", "Unknown command", "no Python here"].into_iter().any(says);
    match failure.status.and_then(|s| s.code) {
        Some(126 | 127) => ErrorKind::NoPython,
        Some(code) if code != 0 && not_found && !says("Traceback") => ErrorKind::NoPython,
        _ => ErrorKind::Bootstrap,
    }
}

impl fmt::Debug for dyn Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}
