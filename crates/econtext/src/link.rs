//! One child as the broker sees it: a process, a bootstrap, then a session, and who waits for what.

use crate::broker::Shared;
use crate::dialog::{Dialog, Step};
use crate::error::{Error, ErrorKind};
use crate::finder::{FileAnswer, ModuleFinder, deflate};
use crate::foresight::{Foresight, Start};
use crate::process::{Process, describe_exit};
use crate::remote;
use crate::slot::Slot;
use crate::transport::{Failure, Transport};
use econtext_proto::pickle::PickleError;
use econtext_proto::session::Event as SessionEvent;
use econtext_proto::{
    Bootstrap, CallError, CallSpec, Handle, Hello, LogRecord, ModuleKind, ModuleRecord, Outcome, Session,
    Value, to_value,
};
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Something that a child did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// It came up.
    Started(Hello),
    /// It, or a program it started, wrote to stdout (1) or stderr (2).
    Output {
        /// The file descriptor.
        fd: u8,
        /// What was written.
        data: Vec<u8>,
    },
    /// It logged something.
    Log(LogRecord),
    /// It is gone, and why.
    Closed(Error),
}

pub(crate) type EventCallback = Box<dyn Fn(Event) + Send + Sync>;
pub(crate) type HandleCallback = Arc<dyn Fn(Option<Value>) + Send + Sync>;
pub(crate) type CallSlot = Slot<Result<Value, Error>>;

/// The path that stands for these files of all distributions; the same constant is in `files.py`.
const ENTRY_POINTS: &str = "*/entry_points.txt";

/// What a child asked for.
#[derive(Debug)]
pub(crate) enum Wanted {
    /// A module, by name.
    Module(Handle, String),
    /// A piece of a file, or a directory: its path and the offset.
    File(Handle, String, u64),
    /// All files below a path, within a limit.
    Tree(Handle, String, u64),
}

/// Bytes of stderr that are kept for errors.
const STDERR_TAIL: usize = 16 << 10;
/// Reads of one socket before the others have their turn.
const READS_IN_A_ROW: usize = 16;

/// What the broker is to do with a link next.
pub(crate) enum LinkEnd {
    Alive,
    WakeAt(Instant),
    Gone,
}

pub(crate) struct Link {
    pub(crate) name: String,
    transport: Box<dyn Transport>,
    finder: Option<Arc<dyn ModuleFinder>>,
    on_event: Option<EventCallback>,
    /// Bytes of modules that may go ahead of one call.
    push_budget: usize,
    index: AtomicUsize,
    state: Mutex<State>,
    /// Set once the child is up, or will never be.
    ready: Arc<Slot<Result<Hello, Error>>>,
}

struct State {
    phase: Phase,
    session: Session,
    stderr: Vec<u8>,
    calls: HashMap<Handle, Running>,
    callbacks: HashMap<Handle, HandleCallback>,
    /// When a shutdown was asked for, the time at which patience ends.
    closing: Option<Instant>,
    /// Names of modules that the child was told about.
    sent: HashSet<String>,
    /// How often the child asked for something of a top-level package.
    asked: HashMap<String, u32>,
}

struct Running {
    slot: Arc<CallSlot>,
    started: Instant,
    cancelled: bool,
}

enum Phase {
    Starting {
        process: Process,
        bootstrap: Box<Bootstrap>,
        dialog: Option<Dialog>,
        started: Instant,
        give_up: Instant,
    },
    Up {
        process: Process,
    },
    /// The stream is closed; the process is about to be.
    Ending {
        process: Process,
        why: Why,
        since: Instant,
    },
    Closed(Error),
}

/// Why a stream was closed.
enum Why {
    /// The other side closed it, before there was a child: what its bootstrap had seen.
    NoChild(String, bool),
    /// The other side closed it.
    Lost,
    /// We did.
    Given(Error),
}

/// What to do once the lock is released.
enum Action {
    Event(Event),
    Finish(Arc<CallSlot>, Result<Value, Error>),
    Deliver(HandleCallback, Option<Value>),
    LookUp(Handle, String),
    ReadFile(Handle, String, u64),
    ReadTree(Handle, String, u64),
    Ready(Result<Hello, Error>),
}

impl Link {
    pub(crate) fn new(
        name: String,
        transport: Box<dyn Transport>,
        finder: Option<Arc<dyn ModuleFinder>>,
        on_event: Option<EventCallback>,
        session: Session,
        (process, bootstrap, dialog): (Process, Bootstrap, Option<Dialog>),
        (connect_timeout, push_budget): (Duration, usize),
    ) -> Arc<Self> {
        let started = Instant::now();
        let give_up = started + connect_timeout;
        let phase = Phase::Starting { process, bootstrap: Box::new(bootstrap), dialog, started, give_up };
        Arc::new(Link {
            name,
            transport,
            finder,
            on_event,
            push_budget,
            index: AtomicUsize::new(usize::MAX),
            state: Mutex::new(State {
                phase,
                session,
                stderr: Vec::new(),
                calls: HashMap::new(),
                callbacks: HashMap::new(),
                closing: None,
                sent: HashSet::new(),
                asked: HashMap::new(),
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
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn with_files(
        &self,
        register: impl FnOnce(&OwnedFd, &OwnedFd, Option<&OwnedFd>) -> io::Result<()>,
    ) -> io::Result<()> {
        match &self.lock().phase {
            Phase::Starting { process, .. } => {
                register(&process.socket, &process.stderr, process.terminal.as_ref())
            }
            _ => Ok(()),
        }
    }

    // -- callers

    pub(crate) fn ready(&self) -> &Arc<Slot<Result<Hello, Error>>> {
        &self.ready
    }

    /// The first bytes go out before the broker knows of this link.
    pub(crate) fn start_writing(&self, shared: &Shared) {
        let mut state = self.lock();
        state.flush();
        if let Phase::Starting { give_up, .. } = state.phase {
            drop(state);
            shared.wake_at(give_up, self.index());
        }
    }

    /// What a call will import that this child has not been sent.
    fn foresee(&self, start: Start<'_>) -> Option<Arc<Foresight>> {
        if self.push_budget == 0 {
            return None;
        }
        self.finder.as_ref().map(|finder| finder.foresee(start))
    }

    /// Sends modules ahead, each once, within the budget.
    fn push(&self, state: &mut State, foresight: &Foresight) {
        let mut left = self.push_budget;
        let mut records = Vec::new();
        for record in &foresight.modules {
            let size = record.source.as_ref().map_or(0, |s| s.len()) + 64;
            if size > left && !record.name.starts_with("econtext.") {
                break;
            }
            if !state.sent.contains(&record.name) {
                left = left.saturating_sub(size);
                records.push(&**record);
            }
        }
        let absent: Vec<&str> =
            foresight.absent.iter().map(String::as_str).filter(|name| !state.sent.contains(*name)).collect();
        if records.is_empty() && absent.is_empty() {
            return;
        }
        let files = remote::find(remote::FILES).filter(|r| foresight.files && !state.sent.contains(&r.name));
        records.extend(files.as_ref());
        // What does not fit will be asked for.
        if state.session.push_modules(records.iter().copied(), &absent).is_ok() {
            state.sent.extend(records.iter().map(|r| r.name.clone()));
            state.sent.extend(absent.into_iter().map(str::to_owned));
        }
    }

    pub(crate) fn call(
        &self,
        spec: CallSpec,
        program: Option<Start<'_>>,
        shared: &Shared,
    ) -> Result<(Handle, Arc<CallSlot>), Error> {
        let slot = Slot::new();
        let function = match &spec.class {
            Some(class) => format!("{class}.{}", spec.function),
            None => spec.function.clone(),
        };
        let foresight = self.foresee(program.unwrap_or(Start::Function(&spec.module, &function)));
        let deadline = spec.deadline;
        let mut state = self.lock();
        if let Phase::Closed(error) = &state.phase {
            return Err(error.clone());
        }
        if let Some(record) = remote::find(&spec.module) {
            self.push(&mut state, &Foresight { modules: vec![Arc::new(record)], ..Foresight::default() });
        }
        if let Some(foresight) = foresight {
            self.push(&mut state, &foresight);
        }
        let handle = state.session.call(spec).map_err(|e| self.unsendable(&e))?;
        state.calls.insert(handle, Running { slot: slot.clone(), started: Instant::now(), cancelled: false });
        state.flush();
        drop(state);
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
        // The broker's thread tells who waits: no callback runs on this one.
        state.flush();
        drop(state);
        shared.wake_at(now, self.index());
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

    pub(crate) fn queued_bytes(&self) -> usize {
        self.lock().session.queued_bytes()
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
        state.callbacks.remove(&handle);
    }

    pub(crate) fn allow_class(&self, module: &str, name: &str) {
        self.lock().session.allow_class(module, name);
    }

    pub(crate) fn process_id(&self) -> Option<u32> {
        match &self.lock().phase {
            Phase::Starting { process, .. } | Phase::Up { process } | Phase::Ending { process, .. } => {
                Some(process.id())
            }
            Phase::Closed(_) => None,
        }
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

    /// Answers a child; called on the finder's thread.
    pub(crate) fn answer(&self, wanted: &Wanted) {
        match wanted {
            Wanted::Module(reply_to, name) => self.answer_module(*reply_to, name),
            Wanted::File(reply_to, path, offset) => self.answer_file(*reply_to, path, *offset),
            Wanted::Tree(reply_to, path, limit) => {
                tracing::debug!(target: "econtext", context = self.name, path, "tree");
                let mut left = if *limit == 0 { u64::MAX } else { *limit };
                if path == ENTRY_POINTS {
                    for name in self.distributions() {
                        self.answer_tree(*reply_to, &format!("{name}/entry_points.txt"), 0, &mut left);
                    }
                } else if let Some(wanted) = path.strip_prefix('@') {
                    for name in self.distributions().into_iter().filter(|name| is_distribution(name, wanted))
                    {
                        for part in ["METADATA", "PKG-INFO", "entry_points.txt", "top_level.txt"] {
                            self.answer_tree(*reply_to, &format!("{name}/{part}"), 0, &mut left);
                        }
                    }
                } else {
                    self.answer_tree(*reply_to, path, 0, &mut left);
                }
                let _ = self.send(*reply_to, &Value::None);
            }
        }
    }

    fn answer_file(&self, reply_to: Handle, path: &str, offset: u64) {
        let found = self.finder.as_ref().and_then(|finder| finder.read(path, offset));
        tracing::debug!(target: "econtext", context = self.name, path, offset, found = found.is_some(), "file");
        let answer = found.as_ref().map_or(Value::None, FileAnswer::to_value);
        let mut state = self.lock();
        // Chunks and listings are far below the limit of a frame, unless that was set very low: then there is no file.
        if state.session.send(reply_to, &answer).is_err() {
            let _ = state.session.send(reply_to, &Value::None);
        }
        state.flush();
    }

    /// Names of the metadata directories at the top of the finder's roots.
    fn distributions(&self) -> Vec<String> {
        match self.finder.as_ref().and_then(|finder| finder.read("", 0)) {
            Some(FileAnswer::Directory(entries)) => {
                let metadata = |name: &str| name.ends_with(".dist-info") || name.ends_with(".egg-info");
                entries.into_iter().map(|(name, ..)| name).filter(|name| metadata(name)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Sends the files below a path, each whole or not at all.
    fn answer_tree(&self, reply_to: Handle, path: &str, depth: usize, left: &mut u64) {
        let Some(finder) = self.finder.as_ref().filter(|_| depth < 64) else { return };
        let mut offset = 0;
        loop {
            match finder.read(path, offset) {
                Some(FileAnswer::Directory(entries)) => {
                    for (name, ..) in entries {
                        self.answer_tree(reply_to, &format!("{path}/{name}"), depth + 1, left);
                    }
                    return;
                }
                Some(FileAnswer::File { size, chunk }) => {
                    if offset == 0 {
                        match left.checked_sub(size) {
                            Some(rest) => *left = rest,
                            None => return,
                        }
                    }
                    let piece = (path, offset == 0, Value::Bytes(deflate(&chunk)));
                    let sent = to_value(&piece).is_ok_and(|piece| self.send(reply_to, &piece).is_ok());
                    offset += chunk.len() as u64;
                    if !sent || chunk.is_empty() || offset >= size {
                        return;
                    }
                }
                None => return,
            }
        }
    }

    fn answer_module(&self, reply_to: Handle, name: &str) {
        let mut found = self.finder.as_ref().and_then(|finder| finder.find(name));
        if name == "__main__" && found.is_none() {
            // Libraries look there for what may have been defined. A controller that is no Python has defined nothing.
            found = Some(Arc::new(ModuleRecord {
                name: name.to_owned(),
                kind: ModuleKind::Module,
                path: "__main__.py".to_owned(),
                source: Some(Arc::from(deflate(b""))),
                children: Vec::new(),
            }));
        }
        tracing::debug!(target: "econtext", context = self.name, module = name, found = found.is_some(), "module");
        // What it imports in turn goes ahead of the answer.
        let top = name.split('.').next().unwrap_or_default();
        let asked = {
            let mut state = self.lock();
            state.sent.insert(name.to_owned());
            let asked = state.asked.entry(top.to_owned()).or_default();
            *asked += 1;
            *asked
        };
        // Who asks a second time for what stands in functions will ask a third time.
        let start = if asked > 1 { Start::Deep(name) } else { Start::Module(name) };
        let foresight = if found.is_some() { self.foresee(start) } else { None };
        let mut state = self.lock();
        if let Some(foresight) = foresight {
            self.push(&mut state, &foresight);
        }
        if let Err(error) = state.session.provide_module(reply_to, found.as_deref()) {
            tracing::warn!(target: "econtext", context = self.name, module = name, "cannot send: {error}");
        }
        state.flush();
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
        shared: &Shared,
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
            let Some(socket) = state.socket() else { return LinkEnd::Alive };
            let more = match rustix::io::read(socket.as_fd(), &mut *buffer) {
                Ok(0) => {
                    state.lost();
                    false
                }
                Ok(n) => {
                    self.take_in(&mut state, &buffer[..n], &mut actions);
                    state.flush();
                    n == buffer.len() || closed
                }
                Err(Errno::INTR) => true,
                Err(Errno::AGAIN) => return LinkEnd::Alive,
                Err(_) => {
                    state.lost();
                    false
                }
            };
            let ending = matches!(state.phase, Phase::Ending { .. });
            drop(state);
            self.act(actions, shared);
            if ending {
                return self.on_timer(Instant::now(), shared);
            }
            if !more {
                return LinkEnd::Alive;
            }
        }
        // Edge-triggered: what is left would not be announced again.
        LinkEnd::WakeAt(Instant::now())
    }

    pub(crate) fn on_stderr(&self, buffer: &mut [u8]) -> LinkEnd {
        self.lock().read_stderr(&self.name, buffer);
        LinkEnd::Alive
    }

    pub(crate) fn on_terminal(self: &Arc<Self>, buffer: &mut [u8], shared: &Shared) -> LinkEnd {
        let mut state = self.lock();
        loop {
            let (Phase::Starting { process, .. } | Phase::Up { process }) = &state.phase else {
                return LinkEnd::Alive;
            };
            let Some(terminal) = &process.terminal else { return LinkEnd::Alive };
            let n = match rustix::io::read(terminal, &mut *buffer) {
                Ok(n @ 1..) => n,
                _ => return LinkEnd::Alive,
            };
            let Phase::Starting { dialog: Some(dialog), process, .. } = &mut state.phase else { continue };
            match dialog.handle_bytes(&buffer[..n]) {
                Step::Wait => {}
                Step::Answer(answer) => {
                    if let Some(terminal) = &process.terminal {
                        // A terminal's buffer has room for a password.
                        let _ = rustix::io::write(terminal, &answer);
                    }
                }
                Step::Fail(kind, message) => {
                    let error = self.connect_error(kind, message, &state);
                    state.end(Why::Given(error));
                    drop(state);
                    return self.on_timer(Instant::now(), shared);
                }
            }
        }
    }

    pub(crate) fn on_timer(self: &Arc<Self>, now: Instant, shared: &Shared) -> LinkEnd {
        let mut actions = Vec::new();
        let mut state = self.lock();
        let mut buffer = [0; 4096];
        // Output may be left over from the last round.
        let more = self.read_leftover(&mut state, &mut actions);
        state.session.handle_timeout(now);
        self.collect(&mut state, &mut actions);
        state.flush();
        match &state.phase {
            Phase::Starting { give_up, started, .. } if *give_up <= now => {
                let error = Error::Timeout {
                    host: self.name.clone(),
                    phase: "connecting",
                    after: give_up.duration_since(*started),
                    stderr: state.stderr_text(),
                };
                state.end(Why::Given(error));
            }
            Phase::Starting { .. } | Phase::Up { .. } if state.closing.is_some_and(|at| at <= now) => {
                let error = self.closed("it did not end in time, and was ended", &state);
                state.end(Why::Given(error));
            }
            _ => {}
        }
        state.read_stderr(&self.name, &mut buffer);
        let end = match &mut state.phase {
            Phase::Starting { give_up, .. } => {
                let next =
                    [Some(*give_up), state.closing, state.session.poll_timeout()].into_iter().flatten().min();
                next.map_or(LinkEnd::Alive, LinkEnd::WakeAt)
            }
            Phase::Up { .. } => {
                let next = [state.closing, state.session.poll_timeout()].into_iter().flatten().min();
                next.map_or(LinkEnd::Alive, LinkEnd::WakeAt)
            }
            Phase::Ending { process, why, since } => match process.exit_status() {
                None => {
                    let waited = now.saturating_duration_since(*since);
                    if matches!(why, Why::Given(_)) || waited > Duration::from_secs(1) {
                        process.kill();
                    }
                    LinkEnd::WakeAt(
                        now + (waited / 2).clamp(Duration::from_millis(1), Duration::from_millis(50)),
                    )
                }
                Some(status) => {
                    state.read_stderr(&self.name, &mut buffer);
                    self.finish(&mut state, status, &mut actions);
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

    /// Reads once more where a round of [`READS_IN_A_ROW`] ended; says whether there may be yet more.
    fn read_leftover(&self, state: &mut State, actions: &mut Vec<Action>) -> bool {
        let mut buffer = vec![0; 64 << 10];
        let Some(socket) = state.socket() else { return false };
        match rustix::io::read(socket, &mut buffer) {
            Ok(0) => {
                state.lost();
                false
            }
            Ok(n) => {
                self.take_in(state, &buffer[..n], actions);
                true
            }
            Err(_) => false,
        }
    }

    fn take_in(&self, state: &mut State, bytes: &[u8], actions: &mut Vec<Action>) {
        let result = match &mut state.phase {
            Phase::Starting { bootstrap, .. } => match bootstrap.handle_bytes(bytes) {
                Ok(None) => return,
                Ok(Some(ready)) => {
                    if let Phase::Starting { process, .. } = state.take_phase() {
                        state.phase = Phase::Up { process };
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
                SessionEvent::ModuleRequested { reply_to, name } => match remote::find(&name) {
                    Some(record) => {
                        tracing::debug!(target: "econtext", context = self.name, module = name, found = true, "module");
                        let _ = state.session.provide_module(reply_to, Some(&record));
                        continue;
                    }
                    None => Action::LookUp(reply_to, name),
                },
                SessionEvent::FileRequested { reply_to, path, offset } => {
                    Action::ReadFile(reply_to, path, offset)
                }
                SessionEvent::TreeRequested { reply_to, path, limit } => {
                    Action::ReadTree(reply_to, path, limit)
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

    fn act(self: &Arc<Self>, actions: Vec<Action>, shared: &Shared) {
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
                Action::LookUp(reply_to, name) => shared.look_up(self, Wanted::Module(reply_to, name)),
                Action::ReadFile(reply_to, path, offset) => {
                    shared.look_up(self, Wanted::File(reply_to, path, offset))
                }
                Action::ReadTree(reply_to, path, limit) => {
                    shared.look_up(self, Wanted::Tree(reply_to, path, limit))
                }
                Action::Ready(result) => self.ready.set(result),
            }
        }
    }

    fn finish(&self, state: &mut State, status: ExitStatus, actions: &mut Vec<Action>) {
        let Phase::Ending { why, .. } = state.take_phase() else { return };
        tracing::debug!(target: "econtext", context = self.name, sent = state.session.sent_bytes(), "ended");
        let error = match why {
            Why::Given(error) => error,
            Why::NoChild(stdout, marker) => {
                let stderr = state.stderr_text();
                let failure = Failure { status: Some(status), stderr: &stderr, stdout: &stdout };
                let kind = self.transport.classify(&failure);
                let mut message = match (kind, marker) {
                    (ErrorKind::Unreachable, _) => "the host could not be reached".to_owned(),
                    (ErrorKind::Auth, _) => "the login was refused".to_owned(),
                    (ErrorKind::HostKey, _) => "the host key is not the known one".to_owned(),
                    (ErrorKind::NoPython, _) => "no usable Python there".to_owned(),
                    (_, false) => "no child came up".to_owned(),
                    (_, true) => "the first stage ran, but no child came up".to_owned(),
                };
                message += &format!(" ({})", describe_exit(status));
                if !stdout.is_empty() {
                    message += &format!("; stdout: {stdout}");
                }
                Error::Connect { kind, host: self.name.clone(), message, stderr }
            }
            Why::Lost if state.closing.is_some() => self.closed("disconnected", state),
            Why::Lost => self.closed(&format!("the child ended with {}", describe_exit(status)), state),
        };
        state.phase = Phase::Closed(error.clone());
        actions.extend(state.calls.drain().map(|(_, call)| Action::Finish(call.slot, Err(error.clone()))));
        actions.extend(state.callbacks.drain().map(|(_, callback)| Action::Deliver(callback, None)));
        actions.push(Action::Ready(Err(error.clone())));
        actions.push(Action::Event(Event::Closed(error)));
    }

    fn closed(&self, message: &str, state: &State) -> Error {
        Error::Closed { host: self.name.clone(), message: message.to_owned(), stderr: state.stderr_text() }
    }

    fn connect_error(&self, kind: ErrorKind, message: String, state: &State) -> Error {
        Error::Connect { kind, host: self.name.clone(), message, stderr: state.stderr_text() }
    }
}

/// Whether a metadata directory is that of the distribution called `name`, by the rule of PEP 503.
fn is_distribution(directory: &str, name: &str) -> bool {
    let normal = |name: &str| {
        let parts: Vec<&str> = name.split(['-', '_', '.']).filter(|part| !part.is_empty()).collect();
        parts.join("-").to_lowercase()
    };
    let stem = directory.rsplit_once('.').map_or(directory, |(stem, _)| stem);
    normal(stem.split_once('-').map_or(stem, |(name, _)| name)) == normal(name)
}

impl State {
    fn socket(&self) -> Option<&OwnedFd> {
        match &self.phase {
            Phase::Starting { process, .. } | Phase::Up { process } => Some(&process.socket),
            _ => None,
        }
    }

    /// Writes what the socket has room for. An error shows up on the reading side too.
    fn flush(&mut self) {
        let (Phase::Starting { process, .. } | Phase::Up { process }) = &self.phase else { return };
        loop {
            let bytes = self.session.transmit();
            if bytes.is_empty() {
                return;
            }
            match send(&process.socket, bytes, SendFlags::NOSIGNAL) {
                Ok(n) => self.session.advance(n),
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    fn take_phase(&mut self) -> Phase {
        std::mem::replace(&mut self.phase, Phase::Closed(Error::Usage(String::new())))
    }

    /// The other side closed the stream.
    fn lost(&mut self) {
        let why = match &self.phase {
            Phase::Starting { bootstrap, .. } => Why::NoChild(bootstrap.tail(), bootstrap.saw_marker()),
            _ => Why::Lost,
        };
        self.end(why);
    }

    fn end(&mut self, why: Why) {
        self.phase = match self.take_phase() {
            Phase::Starting { process, .. } | Phase::Up { process } => {
                // The stream goes now, the process when it likes, within limits.
                let _ = rustix::net::shutdown(&process.socket, rustix::net::Shutdown::Both);
                Phase::Ending { process, why, since: Instant::now() }
            }
            other => other,
        };
    }

    fn read_stderr(&mut self, name: &str, buffer: &mut [u8]) {
        let (Phase::Starting { process, .. } | Phase::Up { process } | Phase::Ending { process, .. }) =
            &self.phase
        else {
            return;
        };
        while let Ok(n @ 1..) = rustix::io::read(&process.stderr, &mut *buffer) {
            tracing::debug!(target: "econtext", context = name, "stderr: {}", String::from_utf8_lossy(&buffer[..n]));
            self.stderr.extend_from_slice(&buffer[..n]);
            let over = self.stderr.len().saturating_sub(STDERR_TAIL);
            self.stderr.drain(..over);
        }
    }

    fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim_end().replace('\r', "")
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("name", &self.name).finish_non_exhaustive()
    }
}
