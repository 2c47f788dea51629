//! The session's events as actions, for the time after the lock is released.

use super::event::ChildEvent;
use super::phase::{CallSlot, HandleCallback, Link, PendingCall, State, Why};
use super::requests::Request;
use super::scheduler::Scheduler;
use crate::error::Error;
use econtext_proto::pickle::PickleError;
use econtext_proto::session::Event as SessionEvent;
use econtext_proto::{CallError, Hello, Outcome, Value};
use std::sync::Arc;

/// An action for the time after the lock is released.
pub(super) enum Action {
    Event(ChildEvent),
    Finish(Arc<CallSlot>, Result<Value, Error>),
    Deliver(HandleCallback, Option<Value>),
    Answer,
    /// Read and write on the connection that the child has made.
    Move,
    Ready(Result<Hello, Error>),
}

impl Link {
    /// Turns the session's events into actions.
    pub(super) fn collect(&self, state: &mut State, actions: &mut Vec<Action>) {
        while let Some(event) = state.session.poll_event() {
            let action = match event {
                SessionEvent::Finished(handle, outcome) => {
                    let Some(call) = state.calls.remove(&handle) else { continue };
                    let result = self.result(outcome, &call);
                    Action::Finish(call.slot, result)
                }
                SessionEvent::Message(handle, Value::Dead) => match state.callbacks.remove(&handle) {
                    Some(callback) => Action::Deliver(callback, None),
                    None => continue,
                },
                SessionEvent::Message(handle, value) => match state.callbacks.get(&handle) {
                    Some(callback) => Action::Deliver(callback.clone(), Some(value)),
                    None => continue,
                },
                SessionEvent::ModuleRequested { reply_to, name } => {
                    state.served.ask(Request::Module(reply_to, name));
                    continue;
                }
                SessionEvent::FileRequested { reply_to, path, offset } => {
                    state.served.ask(Request::File(reply_to, path, offset));
                    continue;
                }
                SessionEvent::TreeRequested { reply_to, path, limit } => {
                    state.served.ask(Request::Tree(reply_to, path, limit));
                    continue;
                }
                SessionEvent::MovedBack(Some(reason)) => {
                    tracing::info!(target: "econtext", context = self.name, reason, "it cannot connect back");
                    continue;
                }
                SessionEvent::MovedBack(None) => Action::Move,
                SessionEvent::ModulePresent(name) => {
                    tracing::debug!(target: "econtext", context = self.name, module = name, "is there already");
                    state.served.is_there(name);
                    continue;
                }
                SessionEvent::Log(record) => Action::Event(ChildEvent::Log(record)),
                SessionEvent::Output(fd, data) => Action::Event(ChildEvent::Output { fd, data }),
                SessionEvent::Unresponsive(_) => {
                    let error = self.closed("it did not react to an interrupt, and was ended", state);
                    state.end(Why::Given(error));
                    return;
                }
                SessionEvent::Stray(handle) => {
                    tracing::debug!(target: "econtext", context = self.name, handle = handle.0, "message for an unknown handle");
                    continue;
                }
            };
            actions.push(action);
        }
        if Self::schedule(state) {
            actions.push(Action::Answer);
        }
    }

    fn result(&self, outcome: Outcome, call: &PendingCall) -> Result<Value, Error> {
        let host = || self.name.clone();
        match outcome {
            Outcome::Value(value) => Ok(value),
            Outcome::Raised(error) => Err(Error::Exception { host: host(), error }),
            Outcome::Refused(PickleError::Unpermitted { module, name }) => {
                Err(Error::Unpermitted { host: host(), class: format!("{module}.{name}") })
            }
            Outcome::Refused(error @ (PickleError::TooDeep { .. } | PickleError::TooLarge { .. })) => {
                let message = format!("the result cannot be sent: {error}");
                Err(Error::Exception { host: host(), error: Box::new(CallError::value_error(message)) })
            }
            Outcome::Refused(error) => {
                Err(Error::Protocol { host: host(), message: format!("the result cannot be taken: {error}") })
            }
            Outcome::TimedOut if call.cancelled => Err(Error::Cancelled { host: host() }),
            Outcome::TimedOut => Err(Error::Timeout {
                host: host(),
                phase: "the call",
                after: call.started.elapsed(),
                stderr: String::new(),
            }),
        }
    }

    pub(super) fn act(self: &Arc<Self>, actions: Vec<Action>, shared: &dyn Scheduler) {
        for action in actions {
            match action {
                Action::Event(event) => {
                    if let ChildEvent::Log(record) = &event {
                        crate::log::forward(&self.name, record);
                    }
                    if let Some(on_event) = &self.on_event {
                        on_event(event);
                    }
                }
                Action::Finish(slot, result) => {
                    slot.set(result);
                }
                Action::Deliver(callback, value) => callback(value),
                Action::Answer => shared.look_up(self.index()),
                Action::Move => self.move_back(shared),
                Action::Ready(result) => {
                    self.ready.set(result);
                }
            }
        }
    }
}
