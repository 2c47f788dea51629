//! The controller's side of one established connection.

mod calls;
mod dispatch;
mod event;
mod outbox;

pub use event::{Event, Outcome, SessionError};
pub use outbox::Gate;

use crate::frame::{DEFAULT_MAX_FRAME, FrameDecoder};
use crate::mac::Secret;
use crate::pickle::{AllowList, Pickle, PickleError, PickleLimits};
use crate::value::{Handle, Value};
use crate::wire::calls::CallSpec;
use crate::wire::handles::{CALL_FUNCTION, CANCEL, FIRST_HANDLE};
use crate::wire::modules::ModuleRecord;
use calls::{Calls, Due, Ended};
use dispatch::{Decoded, decode};
use outbox::{LONG, Outbox};
use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::time::{Duration, Instant};

/// Bounds for one session.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of data in one frame, in either direction. Default 128 MiB.
    pub frame: usize,
    /// Bounds on the cost of decoding one message.
    pub pickle: PickleLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { frame: DEFAULT_MAX_FRAME, pickle: PickleLimits::default() }
    }
}

/// One connection, as a state machine.
///
/// After any input or command, poll in this order: [`transmit`](Session::transmit) until it is empty,
/// [`poll_event`](Session::poll_event), [`poll_timeout`](Session::poll_timeout). Commands work before the child has
/// answered; their frames queue behind the payload.
#[derive(Debug)]
pub struct Session {
    decoder: Option<FrameDecoder>,
    pickle_limits: PickleLimits,
    allowed: AllowList,
    outbox: Outbox,
    next_handle: i64,
    calls: Calls,
    receivers: HashSet<Handle>,
    events: VecDeque<Event>,
    error: Option<SessionError>,
}

impl Session {
    /// A session whose first output is `payload`. `core` is the part of it that is the same for every child.
    pub fn new(secret: &Secret, limits: Limits, payload: Vec<u8>, core: Range<usize>) -> Self {
        Session {
            decoder: None,
            outbox: Outbox::new(secret, limits.frame, limits.pickle.clone(), payload, core),
            pickle_limits: limits.pickle,
            allowed: AllowList::default(),
            next_handle: FIRST_HANDLE.0,
            calls: Calls::default(),
            receivers: HashSet::new(),
            events: VecDeque::new(),
            error: None,
        }
    }

    // -- inputs

    /// Continues with the bytes that the bootstrap read behind the hello.
    ///
    /// # Errors
    /// The same as those of [`Session::handle_bytes`].
    pub fn handle_ready(&mut self, decoder: FrameDecoder) -> Result<(), SessionError> {
        self.decoder = Some(decoder);
        self.handle_bytes(&[])
    }

    /// Takes in bytes from the child.
    ///
    /// # Errors
    /// The first error is final.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        let Some(mut decoder) = self.decoder.take() else { return Ok(()) };
        decoder.push(bytes);
        let result = loop {
            match decoder.next_frame() {
                Ok(Some(data)) => {
                    if let Err(error) = self.handle_message(data) {
                        break Err(error);
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.into()),
            }
        };
        self.decoder = Some(decoder);
        self.error = result.clone().err();
        result
    }

    /// Tells the session the time: deadlines that passed cancel their calls.
    pub fn handle_timeout(&mut self, now: Instant) {
        for due in self.calls.take_due(now) {
            match due {
                Due::Cancel(handle, grace) => {
                    self.events.push_back(Event::Finished(handle, Outcome::TimedOut));
                    self.send_cancel(handle, grace);
                }
                Due::GiveUp(handle) => self.events.push_back(Event::Unresponsive(handle)),
            }
        }
    }

    // -- commands

    /// Starts a call; its end is an [`Event::Finished`] for the handle returned.
    ///
    /// # Errors
    /// Arguments that cannot be sent.
    pub fn call(&mut self, spec: CallSpec) -> Result<Handle, PickleError> {
        let handle = self.allocate();
        let (deadline, grace) = (spec.deadline, spec.grace);
        let long = |arg: &Value| matches!(arg, Value::Bytes(b) | Value::NativeStr(b) if b.len() > LONG);
        let long = spec.args.iter().any(long);
        self.outbox.send_owned(CALL_FUNCTION, spec.into_payload(handle), long)?;
        self.calls.add(handle, deadline, grace);
        Ok(handle)
    }

    /// Stops a call: the call ends as timed out at once, and the child interrupts it.
    pub fn cancel(&mut self, handle: Handle, now: Instant) {
        if self.calls.cancel(handle, now) {
            self.handle_timeout(now);
        }
    }

    /// Answers a module request; no [`Gate`] holds it back.
    ///
    /// # Errors
    /// A record too large for a frame: then `None` was answered.
    pub fn provide_module(
        &mut self,
        reply_to: Handle,
        record: Option<&ModuleRecord>,
    ) -> Result<(), PickleError> {
        let reply = record.map_or(Value::None, ModuleRecord::to_reply);
        self.send_ahead(reply_to, &reply)
            .or_else(|error| self.send_ahead(reply_to, &Value::None).and(Err(error)))
    }

    /// Sends modules before they are asked for, and top-level names of which there is no module here.
    ///
    /// # Errors
    /// Records too large for a frame.
    pub fn push_modules<'a>(
        &mut self,
        records: impl IntoIterator<Item = &'a ModuleRecord>,
        absent: &[&str],
    ) -> Result<(), PickleError> {
        self.outbox.push_modules(records, absent)
    }

    /// Sends `value` to the child's receiver at `handle`, behind all earlier messages.
    ///
    /// # Errors
    /// Values that cannot be sent, or are over the frame limit.
    pub fn send(&mut self, handle: Handle, value: &Value) -> Result<(), PickleError> {
        self.outbox.send(handle, value)
    }

    /// Sends as [`send`](Session::send) does, but past any [`Gate`]: for data that the messages behind it need, and for answers.
    ///
    /// # Errors
    /// The same as those of [`send`](Session::send).
    pub fn send_ahead(&mut self, handle: Handle, value: &Value) -> Result<(), PickleError> {
        self.outbox.send_ahead(handle, value)
    }

    /// Holds back messages sent from now on until the gate is [opened](Session::open): something is to go ahead of them that is
    /// not there yet. The order of the messages stays the same.
    pub fn hold(&mut self) -> Gate {
        self.outbox.hold()
    }

    /// Releases the messages that wait behind a gate, and behind no other gate before it.
    pub fn open(&mut self, gate: Gate) {
        self.outbox.open(gate);
    }

    /// Names a module of ours that the child is to run before the first frame of more than a mebibyte.
    pub fn load_before_long_frames(&mut self, module: ModuleRecord) {
        self.outbox.load_before_long_frames(module);
    }

    /// Adds a receiver: messages to it become [`Event::Message`]s until it is removed or closed by the child.
    pub fn add_receiver(&mut self) -> Handle {
        let handle = self.allocate();
        self.receivers.insert(handle);
        handle
    }

    /// Removes a receiver.
    pub fn remove_receiver(&mut self, handle: Handle) {
        self.receivers.remove(&handle);
    }

    /// Lets results hold instances of a class, which arrive as [`Object`](crate::Object)s.
    pub fn allow_class(&mut self, module: &str, name: &str) {
        self.allowed.allow(module, name);
    }

    /// Asks the child to end once its calls are done.
    pub fn begin_shutdown(&mut self) {
        // The sentinel cannot be too large.
        let _ = self.send(CALL_FUNCTION, &Value::Dead);
    }

    // -- outputs

    /// The next bytes to write; empty when everything is written.
    pub fn transmit(&self) -> &[u8] {
        self.outbox.transmit()
    }

    /// The same as [`transmit`](Session::transmit), but at most one piece, and whether it is one that other children may be
    /// sent too: a part of a large string, cut at the same places each time. Such a piece is to be written whole.
    pub fn transmit_piece(&mut self) -> (&[u8], bool) {
        self.outbox.transmit_piece()
    }

    /// Marks the first `n` bytes of [`transmit`](Session::transmit) as written.
    pub fn advance(&mut self, n: usize) {
        self.outbox.advance(n);
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The time at which [`handle_timeout`](Session::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.calls.next_due()
    }

    // -- views

    /// The number of bytes that wait to be written, including those behind a [`Gate`].
    pub fn queued_bytes(&self) -> usize {
        self.outbox.queued_bytes()
    }

    /// The number of bytes of all frames that were made, written or not.
    pub fn framed_bytes(&self) -> u64 {
        self.outbox.framed_bytes()
    }

    /// The number of bytes that were written, including the payload.
    pub fn sent_bytes(&self) -> u64 {
        self.outbox.sent_bytes()
    }

    fn allocate(&mut self) -> Handle {
        let handle = Handle(self.next_handle);
        self.next_handle += 1;
        handle
    }

    fn send_cancel(&mut self, handle: Handle, grace: Duration) {
        let message = Value::Tuple(vec![Value::Int(handle.0), Value::Float(grace.as_secs_f64())]);
        let _ = self.send(CANCEL, &message); // a short message: it fits
    }

    fn handle_message(&mut self, data: &[u8]) -> Result<(), SessionError> {
        let pickle = Pickle::parse(data, &self.pickle_limits).map_err(SessionError::Pickle)?;
        let Some((handle, payload)) = pickle.pair(pickle.root()) else {
            return Err(SessionError::Malformed(0));
        };
        let handle = Handle(pickle.int(handle).ok_or(SessionError::Malformed(0))?);
        let value = pickle.value(payload, &self.allowed);
        match self.calls.remove(handle) {
            Some(Ended::Running) => {
                let outcome = match value {
                    Ok(Value::CallError(error)) => Outcome::Raised(error),
                    Ok(value) => Outcome::Value(value),
                    Err(error) => Outcome::Refused(error),
                };
                self.events.push_back(Event::Finished(handle, outcome));
                return Ok(());
            }
            Some(Ended::Cancelled) => return Ok(()),
            None => {}
        }
        let event = match decode(handle, value)? {
            Decoded::Event(event) => event,
            Decoded::Other(value) if self.receivers.contains(&handle) => {
                let value = value.map_err(SessionError::Pickle)?;
                if value == Value::Dead {
                    self.receivers.remove(&handle);
                }
                Event::Message(handle, value)
            }
            Decoded::Other(_) => Event::Stray(handle),
        };
        self.events.push_back(event);
        Ok(())
    }
}
