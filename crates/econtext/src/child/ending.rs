//! The end of a link, in words: why there is no child, or none any more.

use super::carrier::Carrier;
use super::event::ChildEvent;
use super::phase::{Back, Link, Phase, State, Why};
use super::translate::Action;
use crate::error::{Error, ErrorKind};
use crate::status::Status;
use crate::transport::Failure;

impl Link {
    pub(super) fn finish(&self, state: &mut State, ended: Result<Status, Error>, actions: &mut Vec<Action>) {
        let Phase::Ending { why, carrier, .. } = state.take_phase() else { return };
        tracing::debug!(target: "econtext", context = self.name, sent = state.session.sent_bytes(), "ended");
        let error = match (why, ended) {
            (Why::Given(error), _) => error,
            (why, Err(error)) => self.hop_error(&*carrier, &error, matches!(why, Why::NoChild(..)), state),
            (Why::NoChild(stdout, marker), Ok(status)) => {
                let stderr = state.stderr_text();
                let failure = Failure { status: Some(status), stderr: &stderr, stdout: &stdout };
                let kind = self.transport.classify(&failure);
                let described = self.transport.describe(kind, &failure);
                let mut message = described.unwrap_or_else(|| match (kind, marker) {
                    (ErrorKind::Unreachable, _) => "the host could not be reached".to_owned(),
                    (ErrorKind::Auth, _) => "the login was refused".to_owned(),
                    (ErrorKind::HostKey, _) => "the host key is not the known one".to_owned(),
                    (ErrorKind::NoPython, _) => "no usable Python there".to_owned(),
                    (ErrorKind::Become, _) => "cannot become another user".to_owned(),
                    (_, false) => "no child came up".to_owned(),
                    (_, true) => "the first stage ran, but no child came up".to_owned(),
                });
                message += &format!(" ({status})");
                if !stdout.is_empty() {
                    message += &format!("; stdout: {stdout}");
                }
                Error::Connect { kind, host: self.name.clone(), message, stderr }
            }
            (Why::Lost, _) if state.closing.is_some() => self.closed("disconnected", state),
            (Why::Lost, _) if matches!(state.back, Back::Moved) => {
                self.closed("the connection that the child had made was lost", state)
            }
            (Why::Lost, Ok(status)) => self.closed(&format!("the child ended with {status}"), state),
        };
        state.phase = Phase::Closed(error.clone());
        actions.extend(state.calls.drain().map(|(_, call)| Action::Finish(call.slot, Err(error.clone()))));
        actions.extend(state.callbacks.drain().map(|(_, callback)| Action::Deliver(callback, None)));
        actions.push(Action::Ready(Err(error.clone())));
        actions.push(Action::Event(ChildEvent::Closed(error)));
    }

    /// The error of a child behind a hop, when the hop is gone or could not start the transport.
    pub(super) fn hop_error(
        &self,
        carrier: &dyn Carrier,
        error: &Error,
        starting: bool,
        state: &State,
    ) -> Error {
        self.error_on_hop(carrier.hop(), error, starting, state.stderr_text())
    }

    /// The error of a child behind `hop`. `stderr` is that of the transport; the one in the hop's
    /// own error is preferred.
    pub(crate) fn error_on_hop(&self, hop: &str, error: &Error, starting: bool, stderr: String) -> Error {
        let message = format!("on the hop {hop}: {}", error.message());
        let stderr = if error.stderr().is_empty() { stderr } else { error.stderr().to_owned() };
        let kind = match error.kind() {
            kind if kind.is_connect() => kind,
            // The transport's own program is missing there, or cannot be run.
            ErrorKind::Exception => ErrorKind::Bootstrap,
            _ => ErrorKind::Unreachable,
        };
        match starting {
            true => Error::Connect { kind, host: self.name.clone(), message, stderr },
            false => Error::Closed { host: self.name.clone(), message, stderr },
        }
    }

    pub(super) fn closed(&self, message: &str, state: &State) -> Error {
        Error::Closed { host: self.name.clone(), message: message.to_owned(), stderr: state.stderr_text() }
    }

    pub(super) fn connect_error(&self, kind: ErrorKind, message: String, state: &State) -> Error {
        Error::Connect { kind, host: self.name.clone(), message, stderr: state.stderr_text() }
    }
}
