//! The questions of one child, and a record of the modules that it was sent.

use crate::modules::finder::OwnedStart;
use econtext_proto::Handle;
use econtext_proto::session::Gate;
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

/// The questions that a child may have open before no more is read from it.
const MAX_OPEN: usize = 1000;
/// The questions of one child that are answered before it is the turn of others.
pub(super) const IN_A_ROW: usize = 64;
/// The bytes that may wait to be written to a child before its questions wait too: it may ask
/// without reading the answers.
pub(super) const MAX_UNSENT: usize = 16 << 20;
/// The interval at which questions that wait are looked at.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A question of a child.
#[derive(Debug)]
pub(crate) enum Request {
    /// A module, by name.
    Module(Handle, String),
    /// A piece of a file, or a directory: its path and the offset.
    File(Handle, String, u64),
    /// All files below a path, within a limit.
    Tree(Handle, String, u64),
}

/// A call whose imports are to be read, so that they can go ahead of it.
#[derive(Debug)]
pub(super) struct Ahead {
    pub(super) start: OwnedStart,
    /// The function, if it is one.
    pub(super) key: Option<String>,
    /// The gate that it waits behind.
    pub(super) gate: Gate,
}

/// The modules that one child was sent, and its open questions.
#[derive(Debug, Default)]
pub(super) struct ModuleService {
    /// The names of modules that the child was told about.
    pub(super) sent: HashSet<String>,
    /// The agent's modules that it was made to run.
    pub(super) loaded: HashSet<String>,
    /// The top-level packages that the child has by itself.
    pub(super) there: HashSet<String>,
    /// The functions whose imports were all sent.
    pub(super) done: HashSet<String>,
    /// How often the child asked for a module of a top-level package.
    pub(super) asked: HashMap<String, u32>,
    /// The calls that wait for the modules that go ahead of them.
    pub(super) ahead: VecDeque<Ahead>,
    /// The questions that are not answered.
    pub(super) open: VecDeque<Request>,
    /// Whether the finder's thread is about to answer.
    pub(super) scheduled: bool,
}

/// The most packages that one child is believed to have: it says so of modules that it was sent.
const MAX_THERE: usize = 10_000;

impl ModuleService {
    /// Notes that the child has a top-level package by itself.
    pub(super) fn is_there(&mut self, name: String) {
        if self.there.len() < MAX_THERE {
            self.there.insert(name);
        }
    }

    /// Adds a question.
    pub(super) fn ask(&mut self, wanted: Request) {
        self.open.push_back(wanted);
    }

    /// Whether the child has asked so much that no more is read from it for now.
    pub(super) fn is_full(&self) -> bool {
        self.open.len() >= MAX_OPEN
    }

    /// Whether questions wait until the data on its way to the child is written.
    pub(super) fn is_waiting(&self) -> bool {
        (self.is_asked() || self.has_calls()) && !self.scheduled
    }

    /// Whether questions are open.
    pub(super) fn is_asked(&self) -> bool {
        !self.open.is_empty()
    }

    /// Whether calls wait.
    pub(super) fn has_calls(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Whether a module need not be sent.
    pub(super) fn has(&self, name: &str) -> bool {
        self.sent.contains(name) || self.there.contains(name.split('.').next().unwrap_or_default())
    }
}
