//! The controller's side of one established connection.

use crate::frame::{DEFAULT_MAX_FRAME, FrameDecoder, FrameEncoder, FrameError, HEADER_LEN};
use crate::mac::{Secret, Sender};
use crate::pickle::{AllowList, Pickle, PickleError, PickleLimits, encode_around, encode_marked, take_long};
use crate::value::{CallError, Handle, Value};
use crate::wire::calls::CallSpec;
use crate::wire::handles::{
    BACK, CALL_FUNCTION, CANCEL, FIRST_HANDLE, FORWARD_LOG, GET_FILE, GET_MODULE, GET_TREE, HAVE, LOAD,
    PUSH_MODULE, STDIO,
};
use crate::wire::logs::LogRecord;
use crate::wire::modules::ModuleRecord;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
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

/// The reason why a session ended. It then stays ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The byte stream is not what the child sent.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame holds no message.
    #[error("a frame holds no message: {0}")]
    Pickle(PickleError),
    /// A message to one of the controller's own handles has the wrong shape.
    #[error("malformed message on handle {0}")]
    Malformed(i64),
}

/// The end of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A result.
    Value(Value),
    /// An exception in the child.
    Raised(Box<CallError>),
    /// A result that was refused; nothing of it was executed.
    Refused(PickleError),
    /// The deadline passed. The child was told to stop the call.
    TimedOut,
}

/// An event of a session. Events come in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A call ended.
    Finished(Handle, Outcome),
    /// A message for a receiver that the user added; the dead sentinel closes it.
    Message(Handle, Value),
    /// The child wants a module: answer with [`Session::provide_module`].
    ModuleRequested {
        /// Where the answer goes.
        reply_to: Handle,
        /// The module's full name.
        name: String,
    },
    /// The child wants a piece of a file, or a directory: answer by [`Session::send`] to the handle.
    FileRequested {
        /// Where the answer goes.
        reply_to: Handle,
        /// The path, below no particular root.
        path: String,
        /// Where the piece begins, in bytes.
        offset: u64,
    },
    /// The child wants all files below a path: send them to the handle, then `None`.
    TreeRequested {
        /// Where the answers go.
        reply_to: Handle,
        /// The path, below no particular root.
        path: String,
        /// Bytes that all files together may have; 0 for any number.
        limit: u64,
    },
    /// The child has this top-level module by itself, although it was sent one: no more of it is needed.
    ModulePresent(String),
    /// The child has moved to its own connection, and this was the last message on the old stream; or the reason why not.
    MovedBack(Option<String>),
    /// A log record.
    Log(LogRecord),
    /// Output on file descriptor 1 or 2.
    Output(u8, Vec<u8>),
    /// A cancelled call did not end within its grace and two seconds more: the child hears nothing.
    Unresponsive(Handle),
    /// A message for a handle without a receiver.
    Stray(Handle),
}

/// The size of a piece of a large string, in bytes.
const PIECE: usize = 32 << 10;

/// Bytes to write, and where in them large strings are.
#[derive(Debug)]
struct Chunk {
    bytes: Vec<u8>,
    large: VecDeque<Range<usize>>,
}

/// A message before it is a frame: pieces that follow each other. Nearly all messages have one piece.
#[derive(Debug)]
struct Encoded {
    first: Chunk,
    rest: Vec<Chunk>,
}

impl Encoded {
    fn len(&self) -> usize {
        self.first.bytes.len() + self.rest.iter().map(|piece| piece.bytes.len()).sum::<usize>()
    }
}

/// A place in the order of messages that no message passes before the gate is [opened](Session::open).
#[derive(Debug, PartialEq, Eq)]
#[must_use = "what is behind it waits for ever"]
pub struct Gate(u64);

#[derive(Debug)]
enum Held {
    Gate(u64),
    Message(Encoded),
}

#[derive(Debug)]
enum Call {
    Running { deadline: Option<Instant>, grace: Duration },
    Cancelled { give_up: Instant },
}

/// One connection, as a state machine.
///
/// After any input or command, poll in this order: [`transmit`](Session::transmit) until it is empty,
/// [`poll_event`](Session::poll_event), [`poll_timeout`](Session::poll_timeout). Commands work before the child has
/// answered; their frames queue behind the payload.
#[derive(Debug)]
pub struct Session {
    encoder: FrameEncoder,
    decoder: Option<FrameDecoder>,
    limits: Limits,
    allowed: AllowList,
    out: VecDeque<Chunk>,
    /// Messages behind a gate, in order.
    held: VecDeque<Held>,
    /// Bytes of the held messages.
    held_bytes: usize,
    next_gate: u64,
    /// The number of bytes of the first chunk of `out` that are written.
    written: usize,
    queued: usize,
    sent: u64,
    next_handle: i64,
    calls: HashMap<Handle, Call>,
    /// Calls for which something is due, by time.
    due: BTreeSet<(Instant, i64)>,
    receivers: HashSet<Handle>,
    events: VecDeque<Event>,
    /// A module that the child is to run before a frame of megabytes comes.
    before_long: Option<ModuleRecord>,
    error: Option<SessionError>,
}

/// The size in bytes from which on a frame is long.
const LONG: usize = 1 << 20;

impl Session {
    /// A session whose first output is `payload`. `core` is the part of it that is the same for every child.
    pub fn new(secret: &Secret, limits: Limits, payload: Vec<u8>, core: Range<usize>) -> Self {
        Session {
            encoder: FrameEncoder::new(secret, Sender::Controller),
            decoder: None,
            limits,
            allowed: AllowList::default(),
            queued: payload.len(),
            out: VecDeque::from([Chunk { bytes: payload, large: VecDeque::from([core]) }]),
            held: VecDeque::new(),
            held_bytes: 0,
            next_gate: 0,
            written: 0,
            sent: 0,
            next_handle: FIRST_HANDLE.0,
            calls: HashMap::new(),
            due: BTreeSet::new(),
            receivers: HashSet::new(),
            events: VecDeque::new(),
            before_long: None,
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
        let mut over = Vec::new();
        while let Some(&(at, handle)) = self.due.first().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, handle));
            let handle = Handle(handle);
            match self.calls.get_mut(&handle) {
                Some(call @ Call::Running { .. }) => {
                    let Call::Running { grace, .. } = *call else { continue };
                    let give_up = now + grace + Duration::from_secs(2);
                    *call = Call::Cancelled { give_up };
                    self.due.insert((give_up, handle.0));
                    over.push((handle, grace));
                    self.events.push_back(Event::Finished(handle, Outcome::TimedOut));
                }
                Some(Call::Cancelled { .. }) => self.events.push_back(Event::Unresponsive(handle)),
                None => {}
            }
        }
        for (handle, grace) in over {
            self.send_cancel(handle, grace);
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
        let message = if spec.args.iter().any(long) {
            self.encode_long(CALL_FUNCTION, spec.into_payload(handle))?
        } else {
            self.encode(CALL_FUNCTION, &spec.into_payload(handle))?
        };
        self.queue(message)?;
        self.due.extend(deadline.map(|at| (at, handle.0)));
        self.calls.insert(handle, Call::Running { deadline, grace });
        Ok(handle)
    }

    /// Stops a call: the call ends as timed out at once, and the child interrupts it.
    pub fn cancel(&mut self, handle: Handle, now: Instant) {
        if let Some(Call::Running { deadline, .. }) = self.calls.get_mut(&handle) {
            if let Some(at) = deadline.replace(now) {
                self.due.remove(&(at, handle.0));
            }
            self.due.insert((now, handle.0));
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
        let records = records.into_iter().map(ModuleRecord::to_push).collect();
        self.send_ahead(PUSH_MODULE, &Value::Tuple(vec![Value::List(records), Value::Str(absent.join(" "))]))
    }

    /// Sends `value` to the child's receiver at `handle`, behind all earlier messages.
    ///
    /// # Errors
    /// Values that cannot be sent, or are over the frame limit.
    pub fn send(&mut self, handle: Handle, value: &Value) -> Result<(), PickleError> {
        let message = self.encode(handle, value)?;
        self.queue(message)
    }

    /// Sends as [`send`](Session::send) does, but past any [`Gate`]: for data that the messages behind it need, and for answers.
    ///
    /// # Errors
    /// The same as those of [`send`](Session::send).
    pub fn send_ahead(&mut self, handle: Handle, value: &Value) -> Result<(), PickleError> {
        let message = self.encode(handle, value)?;
        self.frame(message)
    }

    /// Holds back messages sent from now on until the gate is [opened](Session::open): something is to go ahead of them that is
    /// not there yet. The order of the messages stays the same.
    pub fn hold(&mut self) -> Gate {
        let number = self.next_gate;
        self.next_gate += 1;
        self.held.push_back(Held::Gate(number));
        Gate(number)
    }

    /// Releases the messages that wait behind a gate, and behind no other gate before it.
    #[expect(clippy::needless_pass_by_value, reason = "a gate is opened once")]
    pub fn open(&mut self, gate: Gate) {
        self.held.retain(|held| !matches!(held, Held::Gate(number) if *number == gate.0));
        while let Some(Held::Message(_)) = self.held.front() {
            let Some(Held::Message(message)) = self.held.pop_front() else { break };
            self.held_bytes -= message.len();
            // The length was checked when the message was encoded; a message that goes before a long one is short.
            let _ = self.frame(message);
        }
    }

    fn encode(&self, handle: Handle, value: &Value) -> Result<Encoded, PickleError> {
        let mut bytes = Vec::new();
        let large = encode_marked(handle.0, value, &self.limits.pickle, &mut bytes)?;
        self.check_length(bytes.len())?;
        Ok(Encoded { first: Chunk { bytes, large: large.into() }, rest: Vec::new() })
    }

    /// Encodes as [`encode`](Session::encode) does, for a value with strings so long that they are not to be copied.
    fn encode_long(&self, handle: Handle, value: Value) -> Result<Encoded, PickleError> {
        let mut around = Vec::new();
        let places = encode_around(handle.0, &value, LONG, &self.limits.pickle, &mut around)?;
        let mut strings = Vec::with_capacity(places.len());
        take_long(value, LONG, &mut strings);
        self.check_length(around.len() + strings.iter().map(Vec::len).sum::<usize>())?;
        let piece = |bytes: &[u8]| Chunk { bytes: bytes.to_vec(), large: VecDeque::new() };
        let mut rest = Vec::with_capacity(2 * places.len());
        let ends = places.iter().skip(1).copied().chain([around.len()]);
        for ((string, place), end) in strings.into_iter().zip(&places).zip(ends) {
            let large = std::iter::once(0..string.len()).collect();
            rest.push(Chunk { bytes: string, large });
            rest.push(piece(&around[*place..end]));
        }
        Ok(Encoded { first: piece(&around[..places.first().copied().unwrap_or(around.len())]), rest })
    }

    fn check_length(&self, length: usize) -> Result<(), PickleError> {
        match length > self.limits.frame {
            true => Err(PickleError::TooLarge { what: "bytes in one message", limit: self.limits.frame }),
            false => Ok(()),
        }
    }

    /// Makes a frame of a message, or holds it back if others are.
    fn queue(&mut self, message: Encoded) -> Result<(), PickleError> {
        if self.held.is_empty() {
            return self.frame(message);
        }
        self.held_bytes += message.len();
        self.held.push_back(Held::Message(message));
        Ok(())
    }

    /// Makes the next frame of a message.
    fn frame(&mut self, message: Encoded) -> Result<(), PickleError> {
        let length = message.len();
        if length > LONG {
            self.prepare_for_long()?;
        }
        let Encoded { first, rest } = message;
        let header = if rest.is_empty() {
            self.encoder.header(&first.bytes)
        } else {
            let pieces: Vec<&[u8]> =
                std::iter::once(&first).chain(&rest).map(|piece| &*piece.bytes).collect();
            self.encoder.header_of(&pieces)
        };
        self.queued += HEADER_LEN + length;
        if rest.is_empty() && length < 65536 {
            self.append(&header, first);
            return Ok(());
        }
        // Large strings are not copied again.
        self.out.push_back(Chunk { bytes: header.to_vec(), large: VecDeque::new() });
        self.out.extend(std::iter::once(first).chain(rest).filter(|piece| !piece.bytes.is_empty()));
        Ok(())
    }

    /// Puts a short frame behind the last one, in one piece if together they are not too long for that.
    fn append(&mut self, header: &[u8], data: Chunk) {
        let mut chunk = match self.out.pop_back() {
            Some(last) if last.bytes.len() + data.bytes.len() < 65536 => last,
            other => {
                self.out.extend(other);
                Chunk { bytes: Vec::with_capacity(HEADER_LEN + data.bytes.len()), large: VecDeque::new() }
            }
        };
        chunk.bytes.extend_from_slice(header);
        let base = chunk.bytes.len();
        chunk.large.extend(data.large.into_iter().map(|range| base + range.start..base + range.end));
        chunk.bytes.extend_from_slice(&data.bytes);
        self.out.push_back(chunk);
    }

    /// Has the child run the module that it is to have before the first long frame.
    fn prepare_for_long(&mut self) -> Result<(), PickleError> {
        let Some(module) = self.before_long.take() else { return Ok(()) };
        self.push_modules([&module], &[])?;
        self.send_ahead(LOAD, &Value::from(module.name.as_str()))
    }

    /// Names a module of ours that the child is to run before the first frame of more than a mebibyte.
    pub fn load_before_long_frames(&mut self, module: ModuleRecord) {
        self.before_long = Some(module);
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
        self.out.front().map_or(&[], |chunk| &chunk.bytes[self.written..])
    }

    /// The same as [`transmit`](Session::transmit), but at most one piece, and whether it is one that other children may be
    /// sent too: a part of a large string, cut at the same places each time. Such a piece is to be written whole.
    pub fn transmit_piece(&mut self) -> (&[u8], bool) {
        let written = self.written;
        let Some(chunk) = self.out.front_mut() else { return (&[], false) };
        while chunk.large.front().is_some_and(|range| range.end <= written) {
            chunk.large.pop_front();
        }
        match chunk.large.front() {
            Some(range) if range.start <= written => {
                let begin = written - (written - range.start) % PIECE;
                let end = range.end.min(begin + PIECE);
                (&chunk.bytes[written..end], begin == written)
            }
            Some(range) => (&chunk.bytes[written..range.start], false),
            None => (&chunk.bytes[written..], false),
        }
    }

    /// Marks the first `n` bytes of [`transmit`](Session::transmit) as written.
    pub fn advance(&mut self, n: usize) {
        self.written += n;
        self.queued -= n;
        self.sent += n as u64;
        if self.out.front().is_some_and(|chunk| chunk.bytes.len() <= self.written) {
            self.out.pop_front();
            self.written = 0;
        }
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The time at which [`handle_timeout`](Session::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    // -- views

    /// The number of bytes that wait to be written, including those behind a [`Gate`].
    pub fn queued_bytes(&self) -> usize {
        self.queued + self.held_bytes
    }

    /// The number of bytes of all frames that were made, written or not.
    pub fn framed_bytes(&self) -> u64 {
        self.sent + self.queued as u64
    }

    /// The number of bytes that were written, including the payload.
    pub fn sent_bytes(&self) -> u64 {
        self.sent
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
        let pickle = Pickle::parse(data, &self.limits.pickle).map_err(SessionError::Pickle)?;
        let Some((handle, payload)) = pickle.pair(pickle.root()) else {
            return Err(SessionError::Malformed(0));
        };
        let handle = Handle(pickle.int(handle).ok_or(SessionError::Malformed(0))?);
        let value = pickle.value(payload, &self.allowed);
        let malformed = SessionError::Malformed(handle.0);
        if let Some(call) = self.calls.remove(&handle) {
            let at = match &call {
                Call::Running { deadline, .. } => *deadline,
                Call::Cancelled { give_up } => Some(*give_up),
            };
            if let Some(at) = at {
                self.due.remove(&(at, handle.0));
            }
            if matches!(call, Call::Running { .. }) {
                let outcome = match value {
                    Ok(Value::CallError(error)) => Outcome::Raised(error),
                    Ok(value) => Outcome::Value(value),
                    Err(error) => Outcome::Refused(error),
                };
                self.events.push_back(Event::Finished(handle, outcome));
            }
            return Ok(());
        }
        let event = match handle {
            FORWARD_LOG => {
                value.ok().as_ref().and_then(LogRecord::from_value).map(Event::Log).ok_or(malformed)?
            }
            STDIO => match value {
                Ok(Value::Tuple(items)) => match <[Value; 2]>::try_from(items) {
                    Ok([Value::Int(fd @ 1..=2), Value::Bytes(b) | Value::NativeStr(b)]) => {
                        Event::Output(fd as u8, b)
                    }
                    _ => return Err(malformed),
                },
                _ => return Err(malformed),
            },
            GET_MODULE => match value.as_ref().map(Value::as_seq) {
                Ok(Some([Value::Int(reply_to), name])) => Event::ModuleRequested {
                    reply_to: Handle(*reply_to),
                    name: name.as_str().ok_or(malformed)?.to_owned(),
                },
                _ => return Err(malformed),
            },
            BACK => match value.as_ref().map(|v| (v, v.as_str())) {
                Ok((Value::None, _)) => Event::MovedBack(None),
                Ok((_, Some(reason))) => Event::MovedBack(Some(reason.to_owned())),
                _ => return Err(malformed),
            },
            HAVE => match value.as_ref().map(Value::as_str) {
                Ok(Some(name)) => Event::ModulePresent(name.to_owned()),
                _ => return Err(malformed),
            },
            GET_FILE | GET_TREE => match value.as_ref().map(Value::as_seq) {
                Ok(Some([Value::Int(reply_to), path, Value::Int(number)])) => {
                    let reply_to = Handle(*reply_to);
                    let path = path.as_str().ok_or(malformed.clone())?.to_owned();
                    let number = u64::try_from(*number).map_err(|_| malformed)?;
                    match handle {
                        GET_FILE => Event::FileRequested { reply_to, path, offset: number },
                        _ => Event::TreeRequested { reply_to, path, limit: number },
                    }
                }
                _ => return Err(malformed),
            },
            _ if self.receivers.contains(&handle) => match value {
                Ok(value) => {
                    if value == Value::Dead {
                        self.receivers.remove(&handle);
                    }
                    Event::Message(handle, value)
                }
                Err(error) => return Err(SessionError::Pickle(error)),
            },
            _ => Event::Stray(handle),
        };
        self.events.push_back(event);
        Ok(())
    }
}
