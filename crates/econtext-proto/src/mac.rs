//! The secret of a context, and the MACs made with it.

use hmac::{Hmac, KeyInit, Mac as _};
use sha1::Sha1;
use zeroize::Zeroizing;

/// Bytes of a MAC: the length of a SHA-1 digest (RFC 2104, FIPS 180-4).
pub const MAC_LEN: usize = 20;

/// The random secret that the controller and the child share. It is never printed, and is wiped when dropped.
///
/// It is text, so that it can stand in the line of Python that starts the child: 64 hexadecimal digits, which is
/// one block of SHA-1 and carries 256 bits.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The secret made of 32 random bytes.
    pub fn new(random: [u8; 32]) -> Self {
        let random = Zeroizing::new(random);
        let mut text = Zeroizing::new(String::with_capacity(64));
        for byte in random.iter() {
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
            }
        }
        Secret(text)
    }

    /// The secret as the child is given it. It must stay out of logs and argument vectors.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The key of the frames that go in one direction: HMAC-SHA1 of `controller` or `child` under the secret.
    pub(crate) fn direction(&self, sender: Sender) -> FrameMac {
        let name: &[u8] = match sender {
            Sender::Controller => b"controller",
            Sender::Child => b"child",
        };
        let key = keyed(self.0.as_bytes()).chain_update(name).finalize().into_bytes();
        FrameMac { keyed: keyed(&key) }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The side that sends the frames that a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The controller.
    Controller,
    /// The child.
    Child,
}

/// The keyed state for one direction, cloned for every frame.
#[derive(Clone)]
pub(crate) struct FrameMac {
    keyed: Hmac<Sha1>,
}

impl FrameMac {
    /// Begins the MAC of a frame, whose data may come in pieces.
    pub(crate) fn begin(&self, counter: u64, length: usize) -> PartialMac {
        let mut mac = self.keyed.clone();
        mac.update(&counter.to_be_bytes());
        mac.update(&(length as u32).to_be_bytes());
        PartialMac(mac)
    }

    /// Compares the MACs in constant time.
    pub(crate) fn verify(&self, counter: u64, data: &[u8], mac: &[u8]) -> bool {
        let mut partial = self.begin(counter, data.len());
        partial.update(data);
        partial.verify(mac)
    }
}

/// The MAC of a frame, as far as it has come.
#[derive(Clone)]
pub(crate) struct PartialMac(Hmac<Sha1>);

impl PartialMac {
    pub(crate) fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    pub(crate) fn sign(self) -> [u8; MAC_LEN] {
        self.0.finalize().into_bytes().into()
    }

    /// Compares the MACs in constant time.
    pub(crate) fn verify(self, mac: &[u8]) -> bool {
        self.0.verify_slice(mac).is_ok()
    }
}

impl std::fmt::Debug for PartialMac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PartialMac(..)")
    }
}

impl std::fmt::Debug for FrameMac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FrameMac(..)")
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha1> {
    Hmac::<Sha1>::new_from_slice(key).expect("HMAC takes a key of any length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_does_not_show_the_secret() {
        let secret = Secret::new([0xab; 32]);
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        assert_eq!(secret.expose(), "ab".repeat(32));
    }

    #[test]
    fn directions_and_counters_change_the_mac() {
        let secret = Secret::new([1; 32]);
        let (up, down) = (secret.direction(Sender::Child), secret.direction(Sender::Controller));
        let mut partial = up.begin(0, 4);
        partial.update(b"data");
        let mac = partial.sign();
        assert!(up.verify(0, b"data", &mac));
        assert!(!down.verify(0, b"data", &mac), "a reflected frame");
        assert!(!up.verify(1, b"data", &mac), "a replayed frame");
        assert!(!up.verify(0, b"datb", &mac));
        assert!(!up.verify(0, b"data", &mac[..19]));
    }
}
