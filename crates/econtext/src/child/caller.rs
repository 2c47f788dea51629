//! The side of the threads that call: each writes what has room by itself.

use super::hop_cache::Name;
use super::phase::{CallSlot, HandleCallback, Link, PendingCall, Phase};
use super::scheduler::Scheduler;
use crate::error::Error;
use crate::modules::agent;
use crate::modules::finder::Start;
use crate::sync::Slot;
use econtext_proto::pickle::PickleError;
use econtext_proto::wire::handles::{KEEP, START_PROCESS};
use econtext_proto::{CallSpec, Handle, Value};
use sha1::{Digest as _, Sha1};
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Link {
    /// Writes the first bytes, before the broker knows of this link.
    pub(crate) fn start_writing(&self, shared: &dyn Scheduler) {
        let mut state = self.lock();
        state.flush();
        if let Phase::Starting { give_up, .. } = state.phase {
            drop(state);
            shared.wake_at(give_up, self.index());
        }
    }

    pub(crate) fn call(
        self: &Arc<Self>,
        spec: CallSpec,
        program: Option<Start<'_>>,
        shared: &dyn Scheduler,
    ) -> Result<(Handle, Arc<CallSlot>), Error> {
        let slot = Slot::new();
        let deadline = spec.deadline;
        let mut state = self.lock();
        if let Phase::Closed(error) = &state.phase {
            return Err(error.clone());
        }
        self.push_for_call(&mut state, &spec, program);
        let made = state.session.call(spec).map_err(|e| self.unsendable(&e));
        if let Ok(handle) = made {
            let running = PendingCall { slot: slot.clone(), started: Instant::now(), cancelled: false };
            state.calls.insert(handle, running);
        }
        let wake = state.flush_or_defer();
        let read = Self::schedule(&mut state);
        drop(state);
        if read {
            shared.look_up(self.index());
        }
        let handle = made?;
        if wake {
            shared.wake_at(Instant::now(), self.index());
        }
        if let Some(deadline) = deadline {
            shared.wake_at(deadline, self.index());
        }
        Ok((handle, slot))
    }

    pub(crate) fn cancel(&self, handle: Handle, shared: &dyn Scheduler) {
        let mut state = self.lock();
        let Some(call) = state.calls.get_mut(&handle) else { return };
        call.cancelled = true;
        let now = Instant::now();
        state.session.cancel(handle, now);
        // The broker's thread tells the callers that wait: no callback runs on this thread.
        state.flush();
        drop(state);
        shared.wake_at(now, self.index());
    }

    /// Cancels as [`cancel`](Link::cancel) does, if the call has not ended by itself after `grace`.
    pub(crate) fn cancel_after(&self, handle: Handle, grace: Duration, shared: &dyn Scheduler) {
        let mut state = self.lock();
        if !state.calls.contains_key(&handle) {
            return;
        }
        let at = Instant::now() + grace;
        state.to_cancel.insert((at, handle));
        drop(state);
        shared.wake_at(at, self.index());
    }

    pub(crate) fn send(&self, handle: Handle, value: &Value) -> Result<(), Error> {
        let mut state = self.lock();
        if let Phase::Closed(error) = &state.phase {
            return Err(error.clone());
        }
        state.session.send(handle, value).map_err(|e| self.unsendable(&e))?;
        state.flush();
        Ok(())
    }

    /// Makes the child send more than plain values, and accepts them.
    pub(crate) fn use_python_values(&self) -> Result<(), PickleError> {
        let mut state = self.lock();
        state.session.allow_class("econtext.values", "Rich");
        self.load(&mut state, agent::RICH)
    }

    /// Starts a process beside the child, whose messages come on `handle`.
    pub(crate) fn start_process(&self, handle: Handle, options: &Value) -> Result<(), Error> {
        let mut state = self.lock();
        if let Phase::Closed(error) = &state.phase {
            return Err(error.clone());
        }
        self.load(&mut state, agent::PROCESS).map_err(|e| self.unsendable(&e))?;
        let message = Value::Tuple(vec![Value::Int(handle.0), options.clone()]);
        state.session.send(START_PROCESS, &message).map_err(|e| self.unsendable(&e))?;
        state.flush();
        Ok(())
    }

    /// The error that says why the child is gone, or only that it is.
    pub(crate) fn closed_error(&self) -> Error {
        let state = self.lock();
        match &state.phase {
            Phase::Closed(error) => error.clone(),
            _ => self.closed("the child is gone", &state),
        }
    }

    pub(crate) fn add_handle(&self, callback: HandleCallback) -> Handle {
        let mut state = self.lock();
        let handle = state.session.add_receiver();
        if matches!(state.phase, Phase::Closed(_)) {
            drop(state);
            callback(None);
            return handle;
        }
        state.callbacks.insert(handle, callback);
        handle
    }

    pub(crate) fn remove_handle(&self, handle: Handle) {
        let mut state = self.lock();
        state.session.remove_receiver(handle);
        let gone = state.callbacks.remove(&handle);
        drop(state);
        // The callback may own a value that locks this link when dropped.
        drop(gone);
    }

    /// Asks the child to end, and ends it after `grace`.
    pub(crate) fn disconnect(&self, grace: Duration, shared: &dyn Scheduler) {
        let mut state = self.lock();
        let at = Instant::now() + grace;
        if state.closing.is_none() {
            state.session.begin_shutdown();
            state.flush();
        }
        state.closing = Some(state.closing.map_or(at, |before| before.min(at)));
        drop(state);
        shared.wake_at(at, self.index());
    }

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
