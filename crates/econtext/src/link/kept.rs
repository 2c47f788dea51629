//! The pieces that a hop keeps, so that data for many children behind it crosses the link to it
//! once.
//!
//! Frames are authenticated and not encrypted: the same module is the same bytes in each child's stream. The hop is told
//! to keep such bytes under their digest and to repeat them. It can do no more with that than with the stream itself:
//! a child checks every frame.

use super::Link;
use crate::error::Error;
use econtext_proto::message::KEEP;
use econtext_proto::{Handle, Value};
use sha1::{Digest as _, Sha1};
use std::collections::{HashSet, VecDeque};

/// The most bytes that a hop keeps.
const MAX_KEPT: usize = 32 << 20;

/// The digest of a piece that is kept.
type Name = [u8; 20];

/// The pieces that one hop has, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Kept {
    names: HashSet<Name>,
    order: VecDeque<(Name, usize)>,
    bytes: usize,
}

impl Kept {
    /// Adds a piece; returns the names of those that have to go for it.
    fn add(&mut self, name: Name, size: usize) -> Vec<Name> {
        let mut gone = Vec::new();
        while self.bytes + size > MAX_KEPT
            && let Some((oldest, its_size)) = self.order.pop_front()
        {
            self.names.remove(&oldest);
            self.bytes -= its_size;
            gone.push(oldest);
        }
        self.names.insert(name);
        self.order.push_back((name, size));
        self.bytes += size;
        gone
    }
}

impl Link {
    /// Has this child repeat a piece into the input of one of its processes; it is sent the piece if it has not got it.
    ///
    /// # Errors
    /// If the child is gone.
    pub(crate) fn repeat(&self, process: Handle, kind: i64, piece: &[u8]) -> Result<(), Error> {
        let name: Name = Sha1::digest(piece).into();
        let bytes = |name: Name| Value::Bytes(name.to_vec());
        // One lock covers both steps: a piece that is added meanwhile could displace this one.
        let mut state = self.lock();
        if !state.kept.names.contains(&name) {
            let gone = state.kept.add(name, piece.len()).into_iter().map(bytes).collect();
            let message = Value::Tuple(vec![bytes(name), Value::Bytes(piece.to_vec()), Value::List(gone)]);
            state.session.send(KEEP, &message).map_err(|e| self.unsendable(&e))?;
        }
        let message = Value::Tuple(vec![Value::Int(kind), bytes(name)]);
        state.session.send(process, &message).map_err(|e| self.unsendable(&e))?;
        state.flush();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_when_there_is_no_room() {
        let mut kept = Kept::default();
        let name = |n: u8| [n; 20];
        for n in 0..4 {
            assert!(kept.add(name(n), MAX_KEPT / 4).is_empty());
        }
        assert_eq!(kept.add(name(4), MAX_KEPT / 2), [name(0), name(1)]);
        assert!(!kept.names.contains(&name(1)) && kept.names.contains(&name(2)));
        assert_eq!(kept.bytes, MAX_KEPT);
    }
}
