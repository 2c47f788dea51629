//! Frames: `HMAC-SHA1(key, counter || length || data)`, `length` (4 bytes, big-endian), `data`.
//!
//! The layout is that of the seed. The 64-bit counter is implicit: a frame that is dropped, repeated or moved fails its MAC.

use crate::mac::{FrameMac, MAC_LEN, PartialMac, Secret, Sender};

/// The number of bytes in front of a frame's data: MAC and length.
pub const HEADER_LEN: usize = MAC_LEN + 4;

/// The default limit of a frame's data, 128 MiB: larger things are streamed.
pub const DEFAULT_MAX_FRAME: usize = 128 << 20;

/// The reason why a frame decoder refused its input. It then refuses everything.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The peer announced more data than the limit allows. Nothing of it was buffered.
    #[error("frame {counter} announces {length} bytes, over the limit of {limit}")]
    TooLong {
        /// The number of the frame in its direction, from 0.
        counter: u64,
        /// Bytes announced.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The frame is not what the holder of the key sent next.
    #[error("frame {counter} has a bad MAC: the stream was disturbed; it reads {seen:?}")]
    BadMac {
        /// The number of the frame in its direction, from 0.
        counter: u64,
        /// The first bytes of the frame, escaped: often the text that disturbed the stream.
        seen: String,
    },
}

/// Signs and counts the frames of one direction.
#[derive(Debug)]
pub struct FrameEncoder {
    mac: FrameMac,
    counter: u64,
}

impl FrameEncoder {
    /// An encoder of the frames that `sender` sends, at the first one.
    pub fn new(secret: &Secret, sender: Sender) -> Self {
        FrameEncoder { mac: secret.direction(sender), counter: 0 }
    }

    /// The header of the next frame, whose data is `data`, of at most 4 GiB. The caller then sends both.
    pub fn header(&mut self, data: &[u8]) -> [u8; HEADER_LEN] {
        self.header_of(&[data])
    }

    /// The same as [`header`](FrameEncoder::header), for data in pieces.
    pub(crate) fn header_of(&mut self, pieces: &[&[u8]]) -> [u8; HEADER_LEN] {
        let length = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        let mut mac = self.mac.begin(self.counter, length);
        pieces.iter().for_each(|piece| mac.update(piece));
        let mut header = [0; HEADER_LEN];
        header[..MAC_LEN].copy_from_slice(&mac.sign());
        header[MAC_LEN..].copy_from_slice(&(length as u32).to_be_bytes());
        self.counter += 1;
        header
    }

    /// Appends the next frame to `out`.
    pub fn encode(&mut self, data: &[u8], out: &mut Vec<u8>) {
        let header = self.header(data);
        out.extend_from_slice(&header);
        out.extend_from_slice(data);
    }
}

/// Cuts a byte stream into frames and checks them.
///
/// ```
/// use econtext_proto::{Secret, frame::{FrameDecoder, FrameEncoder}, mac::Sender};
/// let secret = Secret::new([7; 32]);
/// let mut wire = Vec::new();
/// FrameEncoder::new(&secret, Sender::Child).encode(b"hello", &mut wire);
/// let mut decoder = FrameDecoder::new(&secret, Sender::Child, 1 << 20);
/// decoder.push(&wire[..10]);
/// assert_eq!(decoder.next_frame(), Ok(None));
/// decoder.push(&wire[10..]);
/// assert_eq!(decoder.next_frame(), Ok(Some(&b"hello"[..])));
/// ```
#[derive(Debug)]
pub struct FrameDecoder {
    mac: FrameMac,
    counter: u64,
    limit: usize,
    buffer: Vec<u8>,
    /// The start of the bytes that are not consumed yet.
    at: usize,
    /// The MAC of a long frame that is still arriving, and how much data is in it: data is digested while more arrives.
    partial: Option<(PartialMac, usize)>,
    error: Option<FrameError>,
}

/// The size in bytes from which on a frame is digested before it is whole.
const LONG: usize = 1 << 18;

impl FrameDecoder {
    /// A decoder of the frames that `sender` sends, at the first one. `limit` is in bytes of data.
    pub fn new(secret: &Secret, sender: Sender, limit: usize) -> Self {
        Self::from_counter(secret, sender, limit, 0)
    }

    pub(crate) fn from_counter(secret: &Secret, sender: Sender, limit: usize, counter: u64) -> Self {
        let mac = secret.direction(sender);
        FrameDecoder { mac, counter, limit, buffer: Vec::new(), at: 0, partial: None, error: None }
    }

    /// Takes in bytes that were read. Nothing more is buffered after an error.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.error.is_none() {
            if self.at > 0 {
                self.buffer.drain(..self.at);
                self.at = 0;
                // The memory of a long frame is not kept for ever.
                if self.buffer.capacity() > 4 << 20 && self.buffer.len() < LONG {
                    self.buffer.shrink_to(LONG);
                }
            }
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The data of the next whole frame, valid until the next call.
    ///
    /// # Errors
    /// The first error is final: it is returned from then on.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, FrameError> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        let ready = &self.buffer[self.at..];
        let Some(header) = ready.get(..HEADER_LEN) else {
            return Ok(None);
        };
        let length = length_of(header);
        if length > self.limit {
            let error = FrameError::TooLong { counter: self.counter, length, limit: self.limit };
            // Noise in place of a frame looks like a huge length: the error shows the noise.
            let error = if is_text(header) { self.bad_mac(ready) } else { error };
            return self.fail(error);
        }
        let Some(data) = ready.get(HEADER_LEN..HEADER_LEN + length) else {
            if length >= LONG {
                let data = &ready[HEADER_LEN..];
                let (mac, done) =
                    self.partial.get_or_insert_with(|| (self.mac.begin(self.counter, length), 0));
                mac.update(&data[*done..]);
                *done = data.len();
            }
            // The length is not authenticated yet, so a plausible size is reserved instead of the claimed one.
            self.buffer.reserve(length.min(1 << 20));
            return Ok(None);
        };
        let (mut mac, done) =
            self.partial.take().unwrap_or_else(|| (self.mac.begin(self.counter, length), 0));
        mac.update(&data[done..]);
        if !mac.verify(&header[..MAC_LEN]) {
            let error = self.bad_mac(ready);
            return self.fail(error);
        }
        self.counter += 1;
        let start = self.at + HEADER_LEN;
        self.at = start + length;
        Ok(Some(&self.buffer[start..start + length]))
    }

    /// The number of bytes that wait for the rest of their frame.
    pub fn buffered(&self) -> usize {
        self.buffer.len() - self.at
    }

    fn bad_mac(&self, ready: &[u8]) -> FrameError {
        FrameError::BadMac { counter: self.counter, seen: escape(&ready[..ready.len().min(160)]) }
    }

    fn fail(&mut self, error: FrameError) -> Result<Option<&[u8]>, FrameError> {
        self.error = Some(error.clone());
        self.buffer = Vec::new();
        self.at = 0;
        Err(error)
    }
}

/// The length field of a header.
pub(crate) fn length_of(header: &[u8]) -> usize {
    header[MAC_LEN..HEADER_LEN].iter().fold(0, |n, &b| n << 8 | usize::from(b))
}

fn is_text(bytes: &[u8]) -> bool {
    bytes.iter().all(|&b| matches!(b, b'\t' | b'\n' | b'\r' | 0x1b | 32..127))
}

/// Bytes as readable text on one line.
pub(crate) fn escape(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secret() -> Secret {
        Secret::new([3; 32])
    }

    fn wire(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut encoder = FrameEncoder::new(&secret(), Sender::Child);
        let mut out = Vec::new();
        messages.iter().for_each(|m| encoder.encode(m, &mut out));
        out
    }

    fn decode(chunks: &[&[u8]]) -> Result<Vec<Vec<u8>>, FrameError> {
        let mut decoder = FrameDecoder::new(&secret(), Sender::Child, 1000);
        let mut frames = Vec::new();
        for chunk in chunks {
            decoder.push(chunk);
            while let Some(data) = decoder.next_frame()? {
                frames.push(data.to_vec());
            }
        }
        Ok(frames)
    }

    #[test]
    fn frames_survive_a_split_at_every_byte() {
        let messages = vec![b"one".to_vec(), Vec::new(), vec![9; 300]];
        let bytes = wire(&messages);
        for at in 0..=bytes.len() {
            assert_eq!(decode(&[&bytes[..at], &bytes[at..]]).as_ref(), Ok(&messages), "split at {at}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(decode(&single), Ok(messages));
    }

    #[test]
    fn a_flip_of_any_bit_is_an_error_or_waits_for_more() {
        let bytes = wire(&[b"one".to_vec()]);
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&[&bad]).is_ok_and(|f| f.is_empty()) || decode(&[&bad]).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn dropped_repeated_and_swapped_frames_are_refused() {
        let (a, b) = (vec![1; 5], vec![2; 5]);
        let bytes = wire(&[a, b]);
        let (a, b) = bytes.split_at(bytes.len() / 2);
        for bad in [[b, b], [b, a], [a, a]] {
            assert!(matches!(decode(&bad), Err(FrameError::BadMac { .. })));
        }
    }

    #[test]
    fn a_long_frame_is_refused_by_its_header_and_for_ever() {
        let mut decoder = FrameDecoder::new(&secret(), Sender::Child, 1000);
        let mut header = [0; HEADER_LEN];
        header[MAC_LEN..].copy_from_slice(&1001u32.to_be_bytes());
        decoder.push(&header);
        let error = FrameError::TooLong { counter: 0, length: 1001, limit: 1000 };
        assert_eq!(decoder.next_frame(), Err(error.clone()));
        decoder.push(&wire(&[vec![1]]));
        assert_eq!(decoder.buffered(), 0);
        assert_eq!(decoder.next_frame(), Err(error));
    }

    #[test]
    fn text_in_the_stream_is_shown() {
        let error = decode(&[b"Broadcast message from root: going down for reboot NOW!\n"]).unwrap_err();
        assert!(error.to_string().contains("going down for reboot"), "{error}");
    }

    proptest! {
        #[test]
        fn any_messages_survive_any_split(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let bytes = wire(&messages);
            let mut cuts: Vec<usize> = cuts.iter().map(|c| c.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            prop_assert_eq!(decode(&chunks), Ok(messages));
        }

        #[test]
        fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            let _ = decode(&[&bytes]);
        }
    }
}
