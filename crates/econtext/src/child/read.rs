//! The broker's thread at a link: what is readable, what the carrier says, and the timers.

use super::event::ChildEvent;
use super::phase::{Link, Phase, State, Why};
use super::requests::LOOK_AGAIN;
use super::scheduler::Scheduler;
use super::translate::Action;
use crate::error::{Error, ErrorKind};
use crate::status::ProcessEvent;
use crate::transport::Step;
use rustix::io::{Errno, retry_on_intr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The number of calls under way whose answers are read together.
const TRICKLE: usize = 16;

/// The time that a child whose stream was closed may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(2);
/// The reads of one socket before the others have their turn.
const READS_IN_A_ROW: usize = 16;

/// The next step of the broker for a link.
pub(crate) enum LinkEnd {
    Alive,
    /// Answers trickle in to many calls: a moment later there will be several.
    Trickling,
    WakeAt(Instant),
    Gone,
}

impl Link {
    pub(crate) fn on_socket(
        self: &Arc<Self>,
        readable: bool,
        writable: bool,
        closed: bool,
        buffer: &mut [u8],
        shared: &dyn Scheduler,
    ) -> LinkEnd {
        if writable {
            self.lock().flush();
        }
        if !readable {
            return LinkEnd::Alive;
        }
        for _ in 0..READS_IN_A_ROW {
            let mut actions = Vec::new();
            let mut state = self.lock();
            let full = self.read_once(&mut state, buffer, &mut actions);
            state.flush();
            let ending = matches!(state.phase, Phase::Ending { .. });
            let trickling = state.calls.len() > TRICKLE && actions.len() < TRICKLE;
            drop(state);
            self.act(actions, shared);
            if ending {
                return self.on_timer(Instant::now(), buffer, shared);
            }
            // A closed stream is read to its end.
            if full.is_none() || full == Some(false) && !closed {
                return if trickling { LinkEnd::Trickling } else { LinkEnd::Alive };
            }
        }
        // Polling is edge-triggered: the remaining data would not be announced again.
        LinkEnd::WakeAt(Instant::now())
    }

    pub(crate) fn on_stderr(&self, buffer: &mut [u8]) -> LinkEnd {
        self.lock().read_stderr(self, buffer);
        LinkEnd::Alive
    }

    /// Handles an event of the process that carries this child beside a hop.
    pub(crate) fn on_relay(self: &Arc<Self>, event: ProcessEvent, shared: &dyn Scheduler) {
        let mut actions = Vec::new();
        let mut wake = None;
        let mut state = self.lock();
        if let (ProcessEvent::Output { data, .. }, Some(carrier)) = (&event, state.carrier_mut()) {
            carrier.received(data.len());
        }
        match event {
            ProcessEvent::Output { fd: 1, data } => self.take_in(&mut state, &data, &mut actions),
            ProcessEvent::Output { fd: 2, data } => state.keep_stderr(self, &data),
            ProcessEvent::Output { data, .. } => wake = self.converse(&mut state, &data),
            ProcessEvent::Ended(result) => {
                if let Some(carrier) = state.carrier_mut() {
                    carrier.set_ended(result);
                }
                state.lost();
                wake = Some(Instant::now());
            }
            ProcessEvent::Started(_) | ProcessEvent::InputWanted => {}
        }
        state.grant();
        state.flush();
        if matches!(state.phase, Phase::Ending { .. }) {
            wake = wake.or(Some(Instant::now()));
        }
        drop(state);
        self.act(actions, shared);
        if let Some(at) = wake {
            shared.wake_at(at, self.index());
        }
    }

    pub(crate) fn on_timer(
        self: &Arc<Self>,
        now: Instant,
        buffer: &mut [u8],
        shared: &dyn Scheduler,
    ) -> LinkEnd {
        let mut actions = Vec::new();
        let mut state = self.lock();
        // Some output may be left over from a round of READS_IN_A_ROW.
        let more = self.read_once(&mut state, buffer, &mut actions).is_some();
        state.grant();
        state.cancel_overdue(now);
        state.session.handle_timeout(now);
        self.collect(&mut state, &mut actions);
        state.flush();
        if let Phase::Starting { dialog: Some(dialog), silence, .. } = &mut state.phase
            && silence.is_some_and(|at| at <= now)
        {
            *silence = None;
            if let Step::Fail(kind, message) = dialog.handle_silence() {
                let error = self.connect_error(kind, message, &state);
                state.end(Why::Given(error));
            }
        }
        match &state.phase {
            Phase::Starting { give_up, started, .. } if *give_up <= now => {
                // A host that was not reached in time was not reached: no code ran there.
                let after = (give_up.duration_since(*started).as_secs_f64() * 1e3).round() / 1e3;
                let mut message = format!("connecting took more than {after} s");
                if let Some(phase) = state.stderr.phase {
                    message += &format!("; it waited for {phase}");
                }
                let error = self.connect_error(ErrorKind::Unreachable, message, &state);
                state.end(Why::Given(error));
                // The time is over: the process has no more work to do.
                if let Phase::Ending { carrier, .. } = &mut state.phase {
                    carrier.kill();
                }
            }
            Phase::Starting { .. } | Phase::Up { .. } if state.closing.is_some_and(|at| at <= now) => {
                let error = self.closed("it did not end in time, and was ended", &state);
                state.end(Why::Given(error));
            }
            _ => {}
        }
        state.read_stderr(self, buffer);
        let look_again = state.served.is_waiting().then(|| now + LOOK_AGAIN);
        let end = match &mut state.phase {
            phase @ (Phase::Starting { .. } | Phase::Up { .. }) => {
                let (give_up, silence) = match phase {
                    Phase::Starting { give_up, silence, .. } => (Some(*give_up), *silence),
                    _ => (None, None),
                };
                let cancel_at = state.to_cancel.first().map(|(at, _)| *at);
                let times =
                    [give_up, silence, look_again, cancel_at, state.closing, state.session.poll_timeout()];
                times.into_iter().flatten().min().map_or(LinkEnd::Alive, LinkEnd::WakeAt)
            }
            Phase::Ending { carrier, since, .. } => match carrier.ended() {
                None => {
                    let waited = now.saturating_duration_since(*since);
                    // The child has seen the end of its stream, and ends the processes that it
                    // started.
                    if waited > PATIENCE {
                        carrier.kill();
                    }
                    LinkEnd::WakeAt(
                        now + (waited / 2).clamp(Duration::from_millis(1), Duration::from_millis(50)),
                    )
                }
                Some(ended) => {
                    state.read_stderr(self, buffer);
                    self.finish(&mut state, ended, &mut actions);
                    LinkEnd::Gone
                }
            },
            Phase::Closed(_) => LinkEnd::Gone,
        };
        drop(state);
        self.act(actions, shared);
        match end {
            LinkEnd::Alive | LinkEnd::WakeAt(_) if more => LinkEnd::WakeAt(now),
            end => end,
        }
    }

    /// Reads once; returns whether the data filled the buffer, or `None` if there was none.
    fn read_once(&self, state: &mut State, buffer: &mut [u8], actions: &mut Vec<Action>) -> Option<bool> {
        if state.served.is_full() {
            return None; // once answers are out, the broker looks here again
        }
        let socket = state.socket()?;
        match retry_on_intr(|| rustix::io::read(socket, &mut *buffer)) {
            Ok(n @ 1..) => {
                self.take_in(state, &buffer[..n], actions);
                Some(n == buffer.len())
            }
            Err(Errno::AGAIN) => None,
            Ok(_) | Err(_) => {
                state.lost();
                None
            }
        }
    }

    fn take_in(&self, state: &mut State, bytes: &[u8], actions: &mut Vec<Action>) {
        let result = match &mut state.phase {
            Phase::Starting { bootstrap, .. } => match bootstrap.handle_bytes(bytes) {
                Ok(None) => return,
                Ok(Some(ready)) => {
                    if let Phase::Starting { carrier, .. } = state.take_phase() {
                        state.phase = Phase::Up { carrier };
                    }
                    actions.push(Action::Ready(Ok(ready.hello.clone())));
                    actions.push(Action::Event(ChildEvent::Started(ready.hello)));
                    state.session.handle_ready(ready.decoder).map_err(|e| e.to_string())
                }
                Err(error) => Err(error.to_string()),
            },
            Phase::Up { .. } => state.session.handle_bytes(bytes).map_err(|e| e.to_string()),
            Phase::Ending { .. } | Phase::Closed(_) => return,
        };
        self.collect(state, actions);
        if let Err(message) = result {
            state.end(Why::Given(Error::Protocol { host: self.name.clone(), message }));
        }
    }
}
