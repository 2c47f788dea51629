//! The calls under way, and the times at which something is due for one.

use crate::value::Handle;
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

#[derive(Debug)]
enum Call {
    Running { deadline: Option<Instant>, grace: Duration },
    Cancelled { give_up: Instant },
}

/// An action that is due for a call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// It took too long: the child is to interrupt it, within this grace.
    Cancel(Handle, Duration),
    /// It was cancelled and has not ended.
    GiveUp(Handle),
}

/// The end of a call, as the answer to it shows.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The call ran, and its caller waits.
    Running,
    /// The call was cancelled: its caller has its outcome.
    Cancelled,
}

/// The calls under way, by the handles of their answers.
#[derive(Debug, Default)]
pub(super) struct Calls {
    calls: HashMap<Handle, Call>,
    /// Calls for which something is due, by time.
    due: BTreeSet<(Instant, i64)>,
}

impl Calls {
    /// Adds a call that was sent.
    pub(super) fn add(&mut self, handle: Handle, deadline: Option<Instant>, grace: Duration) {
        self.due.extend(deadline.map(|at| (at, handle.0)));
        self.calls.insert(handle, Call::Running { deadline, grace });
    }

    /// Sets the deadline of a call to now; returns whether it runs.
    pub(super) fn cancel(&mut self, handle: Handle, now: Instant) -> bool {
        let Some(Call::Running { deadline, .. }) = self.calls.get_mut(&handle) else { return false };
        if let Some(at) = deadline.replace(now) {
            self.due.remove(&(at, handle.0));
        }
        self.due.insert((now, handle.0));
        true
    }

    /// Takes the actions that are due by now. A call that is cancelled has its grace and two seconds more.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Due> {
        let mut found = Vec::new();
        while let Some(&(at, handle)) = self.due.first().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, handle));
            let handle = Handle(handle);
            match self.calls.get_mut(&handle) {
                Some(call @ Call::Running { .. }) => {
                    let Call::Running { grace, .. } = *call else { continue };
                    let give_up = now + grace + Duration::from_secs(2);
                    *call = Call::Cancelled { give_up };
                    self.due.insert((give_up, handle.0));
                    found.push(Due::Cancel(handle, grace));
                }
                Some(Call::Cancelled { .. }) => found.push(Due::GiveUp(handle)),
                None => {}
            }
        }
        found
    }

    /// Removes a call that was answered; `None` if the handle is not that of a call.
    pub(super) fn remove(&mut self, handle: Handle) -> Option<Ended> {
        let (at, ended) = match self.calls.remove(&handle)? {
            Call::Running { deadline, .. } => (deadline, Ended::Running),
            Call::Cancelled { give_up } => (Some(give_up), Ended::Cancelled),
        };
        if let Some(at) = at {
            self.due.remove(&(at, handle.0));
        }
        Some(ended)
    }

    /// The time of the first thing that is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }
}
