//! The outcome of a host, and the exit status that it makes.

use econtext::{Error, ErrorKind, Value};

/// The outcome of one host.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// A value.
    Value(Value),
    /// A program that ended with 0, and the value of code that ends in an expression.
    Done(Value),
    /// A program's exit status.
    Exit(u8),
    /// The signal that ended a program.
    Signal(i32),
    /// An error in place of a result.
    Failed(Error),
    /// The reason why the host was not begun.
    NotBegun(String),
}

impl From<Result<Value, Error>> for Outcome {
    fn from(result: Result<Value, Error>) -> Self {
        result.map_or_else(Outcome::Failed, Outcome::Value)
    }
}

impl Outcome {
    pub(crate) fn is_ok(&self) -> bool {
        matches!(self, Outcome::Value(_) | Outcome::Done(_) | Outcome::Exit(0))
    }

    /// The value, if there is one.
    pub(crate) fn value(&self) -> Option<&Value> {
        match self {
            Outcome::Value(value) | Outcome::Done(value) => Some(value),
            _ => None,
        }
    }

    /// The name of the outcome for `--rerun` and the summary.
    pub(crate) fn class(&self) -> &'static str {
        match self {
            outcome if outcome.is_ok() => "ok",
            Outcome::Failed(error) if error.kind().is_connect() => "unreachable",
            Outcome::Failed(error) if error.kind() == ErrorKind::Timeout => "timeout",
            _ => "failed",
        }
    }

    /// The exit status of a run with this host alone.
    fn status(&self) -> u8 {
        match self {
            Outcome::Value(_) | Outcome::Done(_) | Outcome::Exit(0) => 0,
            // A host that was not begun follows failures of others or a stop, which set the status.
            Outcome::Exit(_) | Outcome::NotBegun(_) => 5,
            Outcome::Signal(_) => 3,
            Outcome::Failed(error) => match error.kind() {
                kind if kind.is_connect() => 4,
                ErrorKind::Timeout | ErrorKind::Closed | ErrorKind::Cancelled => 3,
                ErrorKind::Usage => 2,
                ErrorKind::Local => 1,
                _ => 5,
            },
        }
    }
}

/// The exit status of a run. The first class present wins: 4, then 3, then 5; then errors of this
/// machine.
pub(crate) fn exit_status(outcomes: &[Outcome]) -> u8 {
    let present = |status| outcomes.iter().any(|o| o.status() == status);
    [4, 3, 5, 1, 2].into_iter().find(|&status| present(status)).unwrap_or(0)
}
