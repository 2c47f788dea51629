//! The tasks that wait for one change.

use std::task::{Context, Waker};

/// The wakers of tasks that wait for a change, each once.
#[derive(Debug, Default)]
pub struct Wakers(Vec<Waker>);

impl Wakers {
    /// Adds the waker of a task, unless it is there.
    pub fn add(&mut self, cx: &Context<'_>) {
        if !self.0.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.0.push(cx.waker().clone());
        }
    }

    /// Takes all of them, to be woken without the lock that they are behind.
    pub fn take(&mut self) -> Wakers {
        std::mem::take(self)
    }

    /// Wakes all of them.
    pub fn wake(self) {
        self.0.into_iter().for_each(Waker::wake);
    }
}
