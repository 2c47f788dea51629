//! Messages on their way out: encoded, held back behind gates, made frames, and written.

use crate::frame::{FrameEncoder, HEADER_LEN};
use crate::mac::{Secret, Sender};
use crate::pickle::{PickleError, PickleLimits, encode_around, encode_marked, take_long};
use crate::value::{Handle, Value};
use crate::wire::handles::{LOAD, PUSH_MODULE};
use crate::wire::modules::ModuleRecord;
use std::collections::VecDeque;
use std::ops::Range;

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

/// A place in the order of messages that no message passes before the gate is [opened](crate::Session::open).
#[derive(Debug, PartialEq, Eq)]
#[must_use = "what is behind it waits for ever"]
pub struct Gate(u64);

#[derive(Debug)]
enum Held {
    Gate(u64),
    Message(Encoded),
}

/// The size in bytes from which on a frame is long.
pub(super) const LONG: usize = 1 << 20;

/// The queue of one connection.
#[derive(Debug)]
pub(super) struct Outbox {
    encoder: FrameEncoder,
    /// The most bytes of data in one frame.
    frame_limit: usize,
    pickle_limits: PickleLimits,
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
    /// A module that the child is to run before a frame of megabytes comes.
    before_long: Option<ModuleRecord>,
}

impl Outbox {
    /// A queue that begins with `payload`, of which `core` is the same for every child.
    pub(super) fn new(
        secret: &Secret,
        frame_limit: usize,
        pickle_limits: PickleLimits,
        payload: Vec<u8>,
        core: Range<usize>,
    ) -> Self {
        Outbox {
            encoder: FrameEncoder::new(secret, Sender::Controller),
            frame_limit,
            pickle_limits,
            queued: payload.len(),
            out: VecDeque::from([Chunk { bytes: payload, large: VecDeque::from([core]) }]),
            held: VecDeque::new(),
            held_bytes: 0,
            next_gate: 0,
            written: 0,
            sent: 0,
            before_long: None,
        }
    }

    /// Sends a message behind all earlier ones.
    pub(super) fn send(&mut self, handle: Handle, value: &Value) -> Result<(), PickleError> {
        let message = self.encode(handle, value)?;
        self.queue(message)
    }

    /// Sends as [`send`](Outbox::send) does; strings that are long are not copied.
    pub(super) fn send_owned(&mut self, handle: Handle, value: Value, long: bool) -> Result<(), PickleError> {
        let message = if long { self.encode_long(handle, value)? } else { self.encode(handle, &value)? };
        self.queue(message)
    }

    /// Sends past any gate.
    pub(super) fn send_ahead(&mut self, handle: Handle, value: &Value) -> Result<(), PickleError> {
        let message = self.encode(handle, value)?;
        self.frame(message)
    }

    /// Sends modules past any gate, and the names of those that do not exist.
    pub(super) fn push_modules<'a>(
        &mut self,
        records: impl IntoIterator<Item = &'a ModuleRecord>,
        absent: &[&str],
    ) -> Result<(), PickleError> {
        let records = records.into_iter().map(ModuleRecord::to_push).collect();
        self.send_ahead(PUSH_MODULE, &Value::Tuple(vec![Value::List(records), Value::Str(absent.join(" "))]))
    }

    /// Sets the module that the child is to run before the first long frame.
    pub(super) fn load_before_long_frames(&mut self, module: ModuleRecord) {
        self.before_long = Some(module);
    }

    /// Holds back messages sent from now on until the gate is [opened](crate::Session::open): something is to go ahead of them that is
    /// not there yet. The order of the messages stays the same.
    pub(super) fn hold(&mut self) -> Gate {
        let number = self.next_gate;
        self.next_gate += 1;
        self.held.push_back(Held::Gate(number));
        Gate(number)
    }

    /// Releases the messages that wait behind a gate, and behind no other gate before it.
    #[expect(clippy::needless_pass_by_value, reason = "a gate is opened once")]
    pub(super) fn open(&mut self, gate: Gate) {
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
        let large = encode_marked(handle.0, value, &self.pickle_limits, &mut bytes)?;
        self.check_length(bytes.len())?;
        Ok(Encoded { first: Chunk { bytes, large: large.into() }, rest: Vec::new() })
    }

    /// Encodes as [`encode`](Outbox::encode) does, for a value with strings so long that they are not to be copied.
    fn encode_long(&self, handle: Handle, value: Value) -> Result<Encoded, PickleError> {
        let mut around = Vec::new();
        let places = encode_around(handle.0, &value, LONG, &self.pickle_limits, &mut around)?;
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
        match length > self.frame_limit {
            true => Err(PickleError::TooLarge { what: "bytes in one message", limit: self.frame_limit }),
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

    /// The next bytes to write; empty when everything is written.
    pub(super) fn transmit(&self) -> &[u8] {
        self.out.front().map_or(&[], |chunk| &chunk.bytes[self.written..])
    }

    /// The same as [`transmit`](Outbox::transmit), but at most one piece, and whether it is one that other children may be
    /// sent too: a part of a large string, cut at the same places each time. Such a piece is to be written whole.
    pub(super) fn transmit_piece(&mut self) -> (&[u8], bool) {
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

    /// Marks the first `n` bytes of [`transmit`](Outbox::transmit) as written.
    pub(super) fn advance(&mut self, n: usize) {
        self.written += n;
        self.queued -= n;
        self.sent += n as u64;
        if self.out.front().is_some_and(|chunk| chunk.bytes.len() <= self.written) {
            self.out.pop_front();
            self.written = 0;
        }
    }

    /// The number of bytes that wait to be written, including those behind a [`Gate`].
    pub(super) fn queued_bytes(&self) -> usize {
        self.queued + self.held_bytes
    }

    /// The number of bytes of all frames that were made, written or not.
    pub(super) fn framed_bytes(&self) -> u64 {
        self.sent + self.queued as u64
    }

    /// The number of bytes that were written, including the payload.
    pub(super) fn sent_bytes(&self) -> u64 {
        self.sent
    }
}
