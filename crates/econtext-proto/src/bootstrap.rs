//! The wait for a child: reads what the target prints until the child's first authenticated frame.
//!
//! Banners, motd and the noise of shell start-up files may come first, at any length. Neither the marker `OK\n` of
//! the first stage nor any other text is trusted to end it: only a frame whose MAC is right, at any offset.

use crate::frame::{FrameDecoder, HEADER_LEN, escape, length_of};
use crate::mac::{FrameMac, MAC_LEN, Secret, Sender};
use crate::pickle::{AllowList, Pickle, PickleLimits};
use crate::value::{Value, lossy};
use crate::wire::handles::HELLO;

/// A hello is short: a longer frame is noise.
const MAX_HELLO: usize = 4096;
/// Bytes of output kept for the error message.
const TAIL: usize = 8192;

/// The child's description of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Its Python version, as `3.11.2`.
    pub python: String,
    /// Its process id there.
    pub pid: i64,
    /// The user it runs as.
    pub user: String,
}

/// Why no child appeared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BootstrapError {
    /// The child's first frame is not one that this version's child sends.
    #[error("the child's first message is malformed")]
    BadHello,
}

/// The machine that waits for the child.
#[derive(Debug)]
pub struct Bootstrap {
    mac: FrameMac,
    secret: Secret,
    limit: usize,
    /// Output not yet known to be noise.
    pending: Vec<u8>,
    tail: Vec<u8>,
    marker: bool,
}

/// The end of a bootstrap: the child's hello, and the decoder that has what was read behind it.
#[derive(Debug)]
pub struct Ready {
    /// The child's description of itself.
    pub hello: Hello,
    /// Decodes the child's further frames; holds the bytes already read.
    pub decoder: FrameDecoder,
}

impl Bootstrap {
    /// A bootstrap with the context's secret. `limit` is the session's limit for one frame, in bytes.
    pub fn new(secret: &Secret, limit: usize) -> Self {
        Bootstrap {
            mac: secret.direction(Sender::Child),
            secret: secret.clone(),
            limit,
            pending: Vec::new(),
            tail: Vec::new(),
            marker: false,
        }
    }

    /// Takes in output of the target, and returns the child's hello once it is there.
    ///
    /// # Errors
    /// [`BootstrapError::BadHello`] if an authenticated frame makes no sense.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<Option<Ready>, BootstrapError> {
        self.pending.extend_from_slice(bytes);
        let mut keep = None;
        for at in 0..self.pending.len() {
            let rest = &self.pending[at..];
            let Some(header) = rest.get(..HEADER_LEN) else {
                keep = keep.or(Some(at));
                break;
            };
            let length = length_of(header);
            if !(8..=MAX_HELLO).contains(&length) {
                continue;
            }
            let Some(data) = rest.get(HEADER_LEN..HEADER_LEN + length) else {
                keep = keep.or(Some(at));
                continue;
            };
            if self.mac.verify(0, data, &header[..MAC_LEN]) {
                let hello = parse_hello(data).ok_or(BootstrapError::BadHello)?;
                let mut decoder = FrameDecoder::from_counter(&self.secret, Sender::Child, self.limit, 1);
                decoder.push(&rest[HEADER_LEN + length..]);
                return Ok(Some(Ready { hello, decoder }));
            }
        }
        let noise: Vec<u8> = self.pending.drain(..keep.unwrap_or(self.pending.len())).collect();
        self.tail.extend_from_slice(&noise);
        self.marker |= self.tail.windows(3).any(|w| w == b"OK\n");
        let over = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..over);
        Ok(None)
    }

    /// Whether the first stage's marker was in the output. If so, the payload had arrived there.
    pub fn saw_marker(&self) -> bool {
        self.marker || self.pending.windows(3).any(|w| w == b"OK\n")
    }

    /// The last of the output so far, escaped for an error message.
    pub fn tail(&self) -> String {
        let mut all = self.tail.clone();
        all.extend_from_slice(&self.pending);
        let from = all.len().saturating_sub(600);
        escape(all[from..].strip_suffix(b"\n").unwrap_or(&all[from..]))
    }
}

fn parse_hello(data: &[u8]) -> Option<Hello> {
    let pickle = Pickle::parse(data, &PickleLimits::default()).ok()?;
    let (handle, payload) = pickle.pair(pickle.root())?;
    if pickle.int(handle) != Some(HELLO.0) {
        return None;
    }
    match pickle.value(payload, &AllowList::default()).ok()? {
        Value::Tuple(items) => match items.as_slice() {
            [python, pid, user] => {
                Some(Hello { python: lossy(python)?, pid: pid.as_i64()?, user: lossy(user)? })
            }
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::FrameEncoder;
    use crate::pickle::encode;

    fn hello_wire() -> (Secret, Vec<u8>) {
        let secret = Secret::new([5; 32]);
        let mut encoder = FrameEncoder::new(&secret, Sender::Child);
        let (mut data, mut wire) = (Vec::new(), Vec::new());
        let payload = Value::Tuple(vec!["3.11.2".into(), Value::Int(42), "root".into()]);
        encode(HELLO.0, &payload, &PickleLimits::default(), &mut data).expect("encodes");
        encoder.encode(&data, &mut wire);
        encoder.encode(b"next", &mut wire);
        (secret, wire)
    }

    fn run(secret: &Secret, chunks: &[&[u8]]) -> Option<Ready> {
        let mut bootstrap = Bootstrap::new(secret, 1 << 20);
        let mut chunks = chunks.iter();
        for chunk in chunks.by_ref() {
            if let Some(mut ready) = bootstrap.handle_bytes(chunk).expect("no bad hello") {
                chunks.for_each(|c| ready.decoder.push(c));
                return Some(ready);
            }
        }
        None
    }

    #[test]
    fn the_hello_is_found_behind_noise_split_at_every_byte() {
        let (secret, wire) = hello_wire();
        let mut bytes = b"Last login\nOK\npassword: OK\n\0\0\0\x10OK\n".to_vec();
        bytes.extend_from_slice(&wire);
        for at in 0..=bytes.len() {
            let mut ready = run(&secret, &[&bytes[..at], &bytes[at..]]).expect("ready");
            assert_eq!(ready.hello, Hello { python: "3.11.2".into(), pid: 42, user: "root".into() });
            assert_eq!(ready.decoder.next_frame(), Ok(Some(&b"next"[..])), "split at {at}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert!(run(&secret, &single).is_some());
    }

    #[test]
    fn a_frame_with_another_key_is_noise() {
        let (_, wire) = hello_wire();
        assert!(run(&Secret::new([6; 32]), &[&wire]).is_none());
    }

    #[test]
    fn megabytes_of_noise_are_not_kept() {
        let (secret, wire) = hello_wire();
        let mut bootstrap = Bootstrap::new(&secret, 1 << 20);
        for _ in 0..100 {
            assert!(bootstrap.handle_bytes(&[b'x'; 10_000]).expect("noise").is_none());
            assert!(bootstrap.pending.len() + bootstrap.tail.len() < 20_000);
        }
        assert!(bootstrap.handle_bytes(&wire).expect("hello").is_some());
    }
}
