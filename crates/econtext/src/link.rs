//! One child as the broker sees it: a process, a bootstrap, then a session, and the callers that
//! wait.

mod kept;
mod serve;

use crate::back::Listener;
use crate::broker::Shared;
use crate::carrier::Carrier;
use crate::dialog::{Dialog, Step};
use crate::error::{Error, ErrorKind};
use crate::modules::agent;
use crate::modules::finder::ModuleFinder;
use crate::modules::finder::Start;
use crate::process::Process;
use crate::status::{ProcessEvent, Status};
use crate::sync::{Slot, lock};
use crate::transport::{Failure, Note, Transport};
use econtext_proto::message::{BACK, START_PROCESS};
use econtext_proto::pickle::PickleError;
use econtext_proto::session::Event as SessionEvent;
use econtext_proto::{Bootstrap, CallError, CallSpec, Handle, Hello, LogRecord, Outcome, Session, Value};
use kept::Kept;
use rustix::fd::{AsRawFd as _, OwnedFd, RawFd};
use rustix::io::{Errno, retry_on_intr};
use serve::{LOOK_AGAIN, Served, Wanted};
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// An event of a child.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The child came up.
    Started(Hello),
    /// The child, or a program that it started, wrote to stdout (1) or stderr (2).
    Output {
        /// The file descriptor.
        fd: u8,
        /// The bytes that were written.
        data: Vec<u8>,
    },
    /// The child logged a record.
    Log(LogRecord),
    /// The child is gone, for this reason.
    Closed(Error),
}

pub(crate) type EventCallback = Box<dyn Fn(Event) + Send + Sync>;
pub(crate) type HandleCallback = Arc<dyn Fn(Option<Value>) + Send + Sync>;
pub(crate) type CallSlot = Slot<Result<Value, Error>>;

/// The bytes of stderr that are kept for errors.
const STDERR_TAIL: usize = 16 << 10;
/// The number of calls under way beyond which further ones are written together.
const MANY_CALLS: usize = 4;

/// The number of calls under way whose answers are read together.
const TRICKLE: usize = 16;

/// The most bytes that wait to be written together.
const DEFERRED: usize = 32 << 10;

/// The time that a child whose stream was closed may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(2);
/// The time that a line that ends like a prompt may stand before it is taken for one.
const SILENCE: Duration = Duration::from_secs(1);
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

pub(crate) struct Link {
    pub(crate) name: String,
    transport: Box<dyn Transport>,
    finder: Option<Arc<dyn ModuleFinder>>,
    on_event: Option<EventCallback>,
    /// The bytes of modules that may go ahead of one call.
    push_budget: usize,
    /// The source of `econtext.target`, unless it is the usual one.
    target: Option<String>,
    index: AtomicUsize,
    state: Mutex<State>,
    /// The slot that is set once the child is up, or will never be.
    ready: Arc<Slot<Result<Hello, Error>>>,
}

struct State {
    phase: Phase,
    session: Session,
    stderr: Stderr,
    calls: HashMap<Handle, Running>,
    /// The calls that were given some time to end by themselves.
    to_cancel: BTreeSet<(Instant, Handle)>,
    callbacks: HashMap<Handle, HandleCallback>,
    /// The time at which patience ends, once a shutdown was asked for.
    closing: Option<Instant>,
    /// Whether the broker will write what is queued.
    deferred: bool,
    back: Back,
    served: Served,
    kept: Kept,
}

/// The state of a link's move to a connection that the child makes.
enum Back {
    No,
    /// The connection exists. Beyond so many bytes no more is written on the old stream.
    Ready {
        socket: OwnedFd,
        until: u64,
    },
    /// The stream has moved to the connection.
    Moved,
}

struct Running {
    slot: Arc<CallSlot>,
    started: Instant,
    cancelled: bool,
}

enum Phase {
    Starting {
        carrier: Carrier,
        bootstrap: Box<Bootstrap>,
        dialog: Option<Dialog>,
        /// The time at which the text on the terminal is taken for an unknown prompt.
        silence: Option<Instant>,
        started: Instant,
        give_up: Instant,
    },
    Up {
        carrier: Carrier,
    },
    /// The stream is closed; the process is about to be.
    Ending {
        carrier: Carrier,
        why: Why,
        since: Instant,
    },
    Closed(Error),
}

/// The reason why a stream was closed.
enum Why {
    /// The other side closed it, before there was a child: the output that its bootstrap had seen.
    NoChild(String, bool),
    /// The other side closed it.
    Lost,
    /// The controller closed it.
    Given(Error),
}

/// An action for the time after the lock is released.
enum Action {
    Event(Event),
    Finish(Arc<CallSlot>, Result<Value, Error>),
    Deliver(HandleCallback, Option<Value>),
    Answer,
    /// Read and write on the connection that the child has made.
    Move,
    Ready(Result<Hello, Error>),
}

impl Link {
    #[expect(clippy::too_many_arguments, reason = "it is called in one place")]
    pub(crate) fn new(
        name: String,
        transport: Box<dyn Transport>,
        finder: Option<Arc<dyn ModuleFinder>>,
        on_event: Option<EventCallback>,
        session: Session,
        (carrier, bootstrap, dialog): (Carrier, Bootstrap, Option<Dialog>),
        (connect_timeout, push_budget): (Duration, usize),
        target: Option<String>,
    ) -> Arc<Self> {
        let started = Instant::now();
        let give_up = started + connect_timeout;
        let phase = Phase::Starting {
            carrier,
            bootstrap: Box::new(bootstrap),
            dialog,
            silence: None,
            started,
            give_up,
        };
        Arc::new(Link {
            name,
            transport,
            finder,
            on_event,
            push_budget,
            target,
            index: AtomicUsize::new(usize::MAX),
            state: Mutex::new(State {
                phase,
                session,
                stderr: Stderr::default(),
                calls: HashMap::new(),
                to_cancel: BTreeSet::new(),
                callbacks: HashMap::new(),
                closing: None,
                deferred: false,
                back: Back::No,
                served: Served::default(),
                kept: Kept::default(),
            }),
            ready: Slot::new(),
        })
    }

    pub(crate) fn set_index(&self, index: usize) {
        self.index.store(index, Ordering::Relaxed);
    }

    fn index(&self) -> usize {
        self.index.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(crate) fn with_files(
        &self,
        register: impl FnOnce(&OwnedFd, &OwnedFd, Option<&OwnedFd>) -> io::Result<()>,
    ) -> io::Result<()> {
        match &self.lock().phase {
            Phase::Starting { carrier: Carrier::Local(process), .. } => {
                register(&process.socket, &process.stderr, process.terminal.as_ref())
            }
            _ => Ok(()),
        }
    }

    // -- callers

    /// The descriptors of its stream and of the process that carries it.
    pub(crate) fn descriptors(&self) -> Vec<RawFd> {
        let state = self.lock();
        let Some(process) = state.carrier().and_then(Carrier::local) else { return Vec::new() };
        let terminal = process.terminal.as_ref().map(|fd| fd.as_raw_fd());
        [process.socket.as_raw_fd(), process.stderr.as_raw_fd()].into_iter().chain(terminal).collect()
    }

    pub(crate) fn ready(&self) -> &Arc<Slot<Result<Hello, Error>>> {
        &self.ready
    }

    /// Writes the first bytes, before the broker knows of this link.
    pub(crate) fn start_writing(&self, shared: &Shared) {
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
        shared: &Arc<Shared>,
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
            let running = Running { slot: slot.clone(), started: Instant::now(), cancelled: false };
            state.calls.insert(handle, running);
        }
        let wake = state.flush_or_defer();
        let read = Self::schedule(&mut state);
        drop(state);
        if read {
            shared.look_up(self);
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

    pub(crate) fn cancel(&self, handle: Handle, shared: &Arc<Shared>) {
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
    pub(crate) fn cancel_after(&self, handle: Handle, grace: Duration, shared: &Shared) {
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

    /// Offers the child to connect back.
    pub(crate) fn offer_back(self: &Arc<Self>, listener: &Listener, shared: &Arc<Shared>) {
        let mut state = self.lock();
        let Some(offer) = listener.offer(self, shared) else { return };
        // An offer that cannot be sent is not accepted; the stream stays as it was.
        if self.load(&mut state, agent::BACK).and_then(|()| state.session.send(BACK, &offer)).is_ok() {
            state.flush();
        }
    }

    /// Handles a child that has connected back: our side ends on the old stream, and the child is
    /// told so.
    pub(crate) fn on_back(&self, socket: OwnedFd, shared: &Shared) {
        let mut state = self.lock();
        if !matches!((&state.phase, &state.back), (Phase::Up { carrier: Carrier::Local(_) }, Back::No))
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
    fn move_back(&self, shared: &Shared) {
        let mut state = self.lock();
        let Back::Ready { socket, .. } = std::mem::replace(&mut state.back, Back::Moved) else { return };
        if let Phase::Up { carrier: Carrier::Local(process) } = &mut state.phase {
            let old = std::mem::replace(&mut process.socket, socket);
            if shared.change(&old, &process.socket, self.index()).is_err() {
                state.lost();
            } else if self.transport.is_only_a_way() {
                process.kill();
            }
        }
        state.flush();
        drop(state);
        shared.wake_at(Instant::now(), self.index());
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.lock().phase, Phase::Closed(_) | Phase::Ending { .. })
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        self.lock().session.queued_bytes()
    }

    pub(crate) fn sent_bytes(&self) -> u64 {
        self.lock().session.sent_bytes()
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

    pub(crate) fn allow_class(&self, module: &str, name: &str) {
        self.lock().session.allow_class(module, name);
    }

    pub(crate) fn process_id(&self) -> Option<u32> {
        self.lock().carrier().and_then(Carrier::local).map(Process::id)
    }

    /// Asks the child to end, and ends it after `grace`.
    pub(crate) fn disconnect(&self, grace: Duration, shared: &Shared) {
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

    fn unsendable(&self, error: &PickleError) -> Error {
        Error::Usage(format!("{}: cannot send: {error}", self.name))
    }

    // -- the broker's thread

    pub(crate) fn on_socket(
        self: &Arc<Self>,
        readable: bool,
        writable: bool,
        closed: bool,
        buffer: &mut [u8],
        shared: &Arc<Shared>,
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

    pub(crate) fn on_terminal(&self, buffer: &mut [u8], shared: &Shared) -> LinkEnd {
        loop {
            let mut state = self.lock();
            let Some(terminal) = state.carrier().and_then(Carrier::local).and_then(|p| p.terminal.as_ref())
            else {
                return LinkEnd::Alive;
            };
            let Ok(n @ 1..) = rustix::io::read(terminal, &mut *buffer) else { return LinkEnd::Alive };
            let wake = self.converse(&mut state, &buffer[..n]);
            drop(state);
            if let Some(at) = wake {
                shared.wake_at(at, self.index());
            }
        }
    }

    /// Handles the output of a tool on its terminal; returns the time at which the broker is to
    /// look at this link.
    fn converse(&self, state: &mut State, text: &[u8]) -> Option<Instant> {
        let now = Instant::now();
        let Phase::Starting { dialog: Some(dialog), silence, .. } = &mut state.phase else {
            return None;
        };
        *silence = None;
        // The echo behind an answer, up to the end of the line, is private.
        let from =
            if dialog.is_muted() { text.iter().position(|&b| b == b'\n').unwrap_or(text.len()) } else { 0 };
        let shown = dialog.without_nonce(&text[from..]);
        let step = dialog.handle_bytes(text);
        state.keep_stderr(self, shown.as_bytes());
        let Phase::Starting { carrier, silence, .. } = &mut state.phase else { return None };
        match step {
            Step::Wait => None,
            Step::WaitBriefly => {
                *silence = Some(now + SILENCE);
                *silence
            }
            Step::Answer(answer) => {
                carrier.type_text(&answer);
                None
            }
            Step::Fail(kind, message) => {
                let error = self.connect_error(kind, message, state);
                state.end(Why::Given(error));
                Some(now)
            }
        }
    }

    /// Handles an event of the process that carries this child beside a hop.
    pub(crate) fn on_relay(self: &Arc<Self>, event: ProcessEvent, shared: &Arc<Shared>) {
        let mut actions = Vec::new();
        let mut wake = None;
        let mut state = self.lock();
        if let (ProcessEvent::Output { data, .. }, Some(Carrier::Relay(relay))) =
            (&event, state.carrier_mut())
        {
            relay.owed += data.len();
        }
        match event {
            ProcessEvent::Output { fd: 1, data } => self.take_in(&mut state, &data, &mut actions),
            ProcessEvent::Output { fd: 2, data } => state.keep_stderr(self, &data),
            ProcessEvent::Output { data, .. } => wake = self.converse(&mut state, &data),
            ProcessEvent::Ended(result) => {
                if let Some(Carrier::Relay(relay)) = state.carrier_mut() {
                    relay.ended = Some(result);
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
        shared: &Arc<Shared>,
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
                    actions.push(Action::Event(Event::Started(ready.hello)));
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

    /// Turns the session's events into actions.
    fn collect(&self, state: &mut State, actions: &mut Vec<Action>) {
        while let Some(event) = state.session.poll_event() {
            let action = match event {
                SessionEvent::Finished(handle, outcome) => {
                    let Some(call) = state.calls.remove(&handle) else { continue };
                    let result = self.result(outcome, &call);
                    Action::Finish(call.slot, result)
                }
                SessionEvent::Message(handle, Value::Dead) => match state.callbacks.remove(&handle) {
                    Some(callback) => Action::Deliver(callback, None),
                    None => continue,
                },
                SessionEvent::Message(handle, value) => match state.callbacks.get(&handle) {
                    Some(callback) => Action::Deliver(callback.clone(), Some(value)),
                    None => continue,
                },
                SessionEvent::ModuleRequested { reply_to, name } => {
                    state.served.ask(Wanted::Module(reply_to, name));
                    continue;
                }
                SessionEvent::FileRequested { reply_to, path, offset } => {
                    state.served.ask(Wanted::File(reply_to, path, offset));
                    continue;
                }
                SessionEvent::TreeRequested { reply_to, path, limit } => {
                    state.served.ask(Wanted::Tree(reply_to, path, limit));
                    continue;
                }
                SessionEvent::MovedBack(Some(reason)) => {
                    tracing::info!(target: "econtext", context = self.name, reason, "it cannot connect back");
                    continue;
                }
                SessionEvent::MovedBack(None) => Action::Move,
                SessionEvent::ModulePresent(name) => {
                    tracing::debug!(target: "econtext", context = self.name, module = name, "is there already");
                    state.served.is_there(name);
                    continue;
                }
                SessionEvent::Log(record) => Action::Event(Event::Log(record)),
                SessionEvent::Output(fd, data) => Action::Event(Event::Output { fd, data }),
                SessionEvent::Unresponsive(_) => {
                    let error = self.closed("it did not react to an interrupt, and was ended", state);
                    state.end(Why::Given(error));
                    return;
                }
                SessionEvent::Stray(handle) => {
                    tracing::debug!(target: "econtext", context = self.name, handle = handle.0, "message for nobody");
                    continue;
                }
            };
            actions.push(action);
        }
        if Self::schedule(state) {
            actions.push(Action::Answer);
        }
    }

    fn result(&self, outcome: Outcome, call: &Running) -> Result<Value, Error> {
        let host = || self.name.clone();
        match outcome {
            Outcome::Value(value) => Ok(value),
            Outcome::Raised(error) => Err(Error::Exception { host: host(), error }),
            Outcome::Refused(PickleError::Unpermitted { module, name }) => {
                Err(Error::Unpermitted { host: host(), class: format!("{module}.{name}") })
            }
            Outcome::Refused(error @ (PickleError::TooDeep { .. } | PickleError::TooLarge { .. })) => {
                let message = format!("the result cannot be sent: {error}");
                Err(Error::Exception { host: host(), error: Box::new(CallError::value_error(message)) })
            }
            Outcome::Refused(error) => {
                Err(Error::Protocol { host: host(), message: format!("the result cannot be taken: {error}") })
            }
            Outcome::TimedOut if call.cancelled => Err(Error::Cancelled { host: host() }),
            Outcome::TimedOut => Err(Error::Timeout {
                host: host(),
                phase: "the call",
                after: call.started.elapsed(),
                stderr: String::new(),
            }),
        }
    }

    fn act(self: &Arc<Self>, actions: Vec<Action>, shared: &Arc<Shared>) {
        for action in actions {
            match action {
                Action::Event(event) => {
                    if let Event::Log(record) = &event {
                        crate::log::forward(&self.name, record);
                    }
                    if let Some(on_event) = &self.on_event {
                        on_event(event);
                    }
                }
                Action::Finish(slot, result) => slot.set(result),
                Action::Deliver(callback, value) => callback(value),
                Action::Answer => shared.look_up(self),
                Action::Move => self.move_back(shared),
                Action::Ready(result) => self.ready.set(result),
            }
        }
    }

    fn finish(&self, state: &mut State, ended: Result<Status, Error>, actions: &mut Vec<Action>) {
        let Phase::Ending { why, carrier, .. } = state.take_phase() else { return };
        tracing::debug!(target: "econtext", context = self.name, sent = state.session.sent_bytes(), "ended");
        let error = match (why, ended) {
            (Why::Given(error), _) => error,
            (why, Err(error)) => self.hop_error(&carrier, &error, matches!(why, Why::NoChild(..)), state),
            (Why::NoChild(stdout, marker), Ok(status)) => {
                let stderr = state.stderr_text();
                let failure = Failure { status: Some(status), stderr: &stderr, stdout: &stdout };
                let kind = self.transport.classify(&failure);
                let described = self.transport.describe(kind, &failure);
                let mut message = described.unwrap_or_else(|| match (kind, marker) {
                    (ErrorKind::Unreachable, _) => "the host could not be reached".to_owned(),
                    (ErrorKind::Auth, _) => "the login was refused".to_owned(),
                    (ErrorKind::HostKey, _) => "the host key is not the known one".to_owned(),
                    (ErrorKind::NoPython, _) => "no usable Python there".to_owned(),
                    (ErrorKind::Become, _) => "cannot become another user".to_owned(),
                    (_, false) => "no child came up".to_owned(),
                    (_, true) => "the first stage ran, but no child came up".to_owned(),
                });
                message += &format!(" ({status})");
                if !stdout.is_empty() {
                    message += &format!("; stdout: {stdout}");
                }
                Error::Connect { kind, host: self.name.clone(), message, stderr }
            }
            (Why::Lost, _) if state.closing.is_some() => self.closed("disconnected", state),
            (Why::Lost, _) if matches!(state.back, Back::Moved) => {
                self.closed("the connection that the child had made was lost", state)
            }
            (Why::Lost, Ok(status)) => self.closed(&format!("the child ended with {status}"), state),
        };
        state.phase = Phase::Closed(error.clone());
        actions.extend(state.calls.drain().map(|(_, call)| Action::Finish(call.slot, Err(error.clone()))));
        actions.extend(state.callbacks.drain().map(|(_, callback)| Action::Deliver(callback, None)));
        actions.push(Action::Ready(Err(error.clone())));
        actions.push(Action::Event(Event::Closed(error)));
    }

    /// The error of a child behind a hop, when the hop is gone or could not start the transport.
    fn hop_error(&self, carrier: &Carrier, error: &Error, starting: bool, state: &State) -> Error {
        let hop = if let Carrier::Relay(relay) = carrier { relay.hop.as_str() } else { "" };
        self.error_on_hop(hop, error, starting, state.stderr_text())
    }

    /// The error of a child behind `hop`. `stderr` is that of the transport; the one in the hop's
    /// own error is preferred.
    pub(crate) fn error_on_hop(&self, hop: &str, error: &Error, starting: bool, stderr: String) -> Error {
        let message = format!("on the hop {hop}: {}", error.message());
        let stderr = if error.stderr().is_empty() { stderr } else { error.stderr().to_owned() };
        let kind = match error.kind() {
            kind if kind.is_connect() => kind,
            // The transport's own program is missing there, or cannot be run.
            ErrorKind::Exception => ErrorKind::Bootstrap,
            _ => ErrorKind::Unreachable,
        };
        match starting {
            true => Error::Connect { kind, host: self.name.clone(), message, stderr },
            false => Error::Closed { host: self.name.clone(), message, stderr },
        }
    }

    fn closed(&self, message: &str, state: &State) -> Error {
        Error::Closed { host: self.name.clone(), message: message.to_owned(), stderr: state.stderr_text() }
    }

    fn connect_error(&self, kind: ErrorKind, message: String, state: &State) -> Error {
        Error::Connect { kind, host: self.name.clone(), message, stderr: state.stderr_text() }
    }
}

impl State {
    fn socket(&self) -> Option<&OwnedFd> {
        match &self.phase {
            Phase::Starting { carrier, .. } | Phase::Up { carrier } => carrier.local().map(|p| &p.socket),
            _ => None,
        }
    }

    fn carrier(&self) -> Option<&Carrier> {
        match &self.phase {
            Phase::Starting { carrier, .. } | Phase::Up { carrier } | Phase::Ending { carrier, .. } => {
                Some(carrier)
            }
            Phase::Closed(_) => None,
        }
    }

    fn carrier_mut(&mut self) -> Option<&mut Carrier> {
        match &mut self.phase {
            Phase::Starting { carrier, .. } | Phase::Up { carrier } | Phase::Ending { carrier, .. } => {
                Some(carrier)
            }
            Phase::Closed(_) => None,
        }
    }

    /// Cancels the calls that were given some time to end by themselves.
    fn cancel_overdue(&mut self, now: Instant) {
        while let Some((_, handle)) = self.to_cancel.first().copied().filter(|(at, _)| *at <= now) {
            self.to_cancel.pop_first();
            if let Some(call) = self.calls.get_mut(&handle) {
                call.cancelled = true;
                self.session.cancel(handle, now);
            }
        }
    }

    /// Lets a child behind a hop write more, unless too many of its questions are open.
    fn grant(&mut self) {
        if !self.served.is_full()
            && let Some(carrier) = self.carrier_mut()
        {
            carrier.grant();
        }
    }

    /// Writes, or has the broker write this with later data: where many calls are under way, each
    /// need not be a write of its own. Returns whether the broker is to be woken.
    fn flush_or_defer(&mut self) -> bool {
        let many = self.calls.len() > MANY_CALLS && self.session.queued_bytes() < DEFERRED;
        if !many || !matches!(self.phase, Phase::Up { .. }) {
            self.flush();
            return false;
        }
        !std::mem::replace(&mut self.deferred, true)
    }

    /// Writes as much as there is room for.
    fn flush(&mut self) {
        self.deferred = false;
        let until = match &self.back {
            Back::Ready { until, .. } => *until,
            _ => u64::MAX,
        };
        if let Phase::Starting { carrier, .. } | Phase::Up { carrier } = &self.phase {
            carrier.flush(&mut self.session, until);
        }
    }

    fn take_phase(&mut self) -> Phase {
        std::mem::replace(&mut self.phase, Phase::Closed(Error::Usage(String::new())))
    }

    /// Handles a stream that the other side closed.
    fn lost(&mut self) {
        let why = match &self.phase {
            Phase::Starting { bootstrap, .. } => Why::NoChild(bootstrap.tail(), bootstrap.saw_marker()),
            _ => Why::Lost,
        };
        self.end(why);
    }

    fn end(&mut self, why: Why) {
        self.phase = match self.take_phase() {
            Phase::Starting { carrier, .. } | Phase::Up { carrier } => {
                // The stream is closed now; the process may take some time to end.
                carrier.shutdown();
                Phase::Ending { carrier, why, since: Instant::now() }
            }
            other => other,
        };
    }

    fn read_stderr(&mut self, link: &Link, buffer: &mut [u8]) {
        while let Some(process) = self.carrier().and_then(Carrier::local)
            && let Ok(n @ 1..) = rustix::io::read(&process.stderr, &mut *buffer)
        {
            self.keep_stderr(link, &buffer[..n]);
        }
    }

    fn keep_stderr(&mut self, link: &Link, data: &[u8]) {
        tracing::debug!(target: "econtext", context = link.name, "stderr: {}", String::from_utf8_lossy(data));
        self.stderr.take_in(data, |line| link.transport.note(line));
    }

    fn stderr_text(&self) -> String {
        self.stderr.text()
    }
}

/// The last output of a transport on its stderr, and the progress that it reports.
#[derive(Default)]
struct Stderr {
    kept: Vec<u8>,
    /// A line whose end has not come.
    line: Vec<u8>,
    phase: Option<&'static str>,
}

impl Stderr {
    fn take_in(&mut self, data: &[u8], note: impl Fn(&str) -> Note) {
        for part in data.split_inclusive(|&b| b == b'\n') {
            self.line.extend_from_slice(part);
            if !part.ends_with(b"\n") && self.line.len() < STDERR_TAIL {
                continue;
            }
            let line = std::mem::take(&mut self.line);
            match note(&String::from_utf8_lossy(&line)) {
                Note::Text => self.kept.extend_from_slice(&line),
                Note::Noise => {}
                Note::Phase(phase) => self.phase = Some(phase),
            }
            let over = self.kept.len().saturating_sub(STDERR_TAIL);
            self.kept.drain(..over);
        }
    }

    fn text(&self) -> String {
        let text = [self.kept.as_slice(), &self.line].concat();
        String::from_utf8_lossy(&text).trim_end().replace('\r', "")
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("name", &self.name).finish_non_exhaustive()
    }
}
