//! The number of hosts by outcome.

use crate::outcome::Outcome;

/// The number of hosts by outcome.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(super) ok: usize,
    pub(super) failed: usize,
    pub(super) unreachable: usize,
    pub(super) timeout: usize,
}

impl Counts {
    pub(crate) fn of(outcomes: &[Outcome]) -> Self {
        let count = |class| outcomes.iter().filter(|o| o.class() == class).count();
        Counts {
            ok: count("ok"),
            failed: count("failed"),
            unreachable: count("unreachable"),
            timeout: count("timeout"),
        }
    }

    /// The kinds of hosts for a rerun: `failed,unreachable`.
    pub(crate) fn undone(self) -> String {
        let counts = [(self.failed, "failed"), (self.unreachable, "unreachable"), (self.timeout, "timeout")];
        counts.iter().filter(|(n, _)| *n > 0).map(|(_, kind)| *kind).collect::<Vec<_>>().join(",")
    }
}
