//! The move of a link to a connection that the child makes.

use super::phase::{Back, Link, Phase};
use super::scheduler::Scheduler;
use crate::modules::agent;
use econtext_proto::Value;
use econtext_proto::wire::handles::BACK;
use rustix::fd::OwnedFd;
use std::time::Instant;

impl Link {
    /// Offers the child to connect back.
    #[cfg_attr(not(feature = "connect-back"), expect(dead_code, reason = "the listener is left out"))]
    pub(crate) fn offer_back(&self, offer: &Value) {
        let mut state = self.lock();
        // An offer that cannot be sent is not accepted; the stream stays as it was.
        if self.load(&mut state, agent::BACK).and_then(|()| state.session.send(BACK, offer)).is_ok() {
            state.flush();
        }
    }

    /// Handles a child that has connected back: our side ends on the old stream, and the child is
    /// told so.
    #[cfg_attr(not(feature = "connect-back"), expect(dead_code, reason = "the listener is left out"))]
    pub(crate) fn on_back(&self, socket: OwnedFd, shared: &dyn Scheduler) {
        let mut state = self.lock();
        let is_local = matches!(&state.phase, Phase::Up { carrier } if carrier.local().is_some());
        if !is_local
            || !matches!(state.back, Back::No)
            || state.session.send_ahead(BACK, &Value::None).is_err()
        {
            return; // the drop hangs up
        }
        let until = state.session.framed_bytes();
        state.back = Back::Ready { socket, until };
        drop(state);
        shared.wake_at(Instant::now(), self.index());
    }

    /// Moves to the new stream once the child's end on the old one was read: the session continues
    /// without ssh.
    pub(super) fn move_back(&self, shared: &dyn Scheduler) {
        let mut state = self.lock();
        let Back::Ready { socket, .. } = std::mem::replace(&mut state.back, Back::Moved) else { return };
        if let Phase::Up { carrier } = &mut state.phase
            && let Some(process) = carrier.local_mut()
        {
            let old = std::mem::replace(&mut process.socket, socket);
            if shared.change(&old, &process.socket, self.index()).is_err() {
                state.lost();
            } else if self.transport.survives_carrier() {
                process.kill();
            }
        }
        state.flush();
        drop(state);
        shared.wake_at(Instant::now(), self.index());
    }
}
