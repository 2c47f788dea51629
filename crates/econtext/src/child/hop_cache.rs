//! The pieces that a hop keeps, so that data for many children behind it crosses the link to it
//! once.
//!
//! Frames are authenticated and not encrypted: the same module is the same bytes in each child's stream. The hop is told
//! to keep such bytes under their digest and to repeat them. It can do no more with that than with the stream itself:
//! a child checks every frame.

use std::collections::{HashSet, VecDeque};

/// The most bytes that a hop keeps.
const MAX_KEPT: usize = 32 << 20;

/// The digest of a piece that is kept.
pub(super) type Name = [u8; 20];

/// The pieces that one hop has, the oldest first.
#[derive(Debug, Default)]
pub(super) struct HopCache {
    pub(super) names: HashSet<Name>,
    order: VecDeque<(Name, usize)>,
    bytes: usize,
}

impl HopCache {
    /// Adds a piece; returns the names of those that have to go for it.
    pub(super) fn add(&mut self, name: Name, size: usize) -> Vec<Name> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_when_there_is_no_room() {
        let mut kept = HopCache::default();
        let name = |n: u8| [n; 20];
        for n in 0..4 {
            assert!(kept.add(name(n), MAX_KEPT / 4).is_empty());
        }
        assert_eq!(kept.add(name(4), MAX_KEPT / 2), [name(0), name(1)]);
        assert!(!kept.names.contains(&name(1)) && kept.names.contains(&name(2)));
        assert_eq!(kept.bytes, MAX_KEPT);
    }
}
