//! One child as the broker sees it: its state, by phase, and the data that all of it shares.

use super::carrier::Carrier;
use super::event::ChildEvent;
use super::hop_cache::HopCache;
use super::local_process::LocalProcess;
use super::requests::ModuleService;
use super::stderr::Stderr;
use crate::error::Error;
use crate::modules::finder::ModuleFinder;
use crate::sync::{Slot, lock};
use crate::transport::{Dialog, Transport};
use econtext_proto::pickle::PickleError;
use econtext_proto::{Bootstrap, Handle, Hello, Session, Value};
use rustix::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

pub(crate) type EventCallback = Box<dyn Fn(ChildEvent) + Send + Sync>;
pub(crate) type HandleCallback = Arc<dyn Fn(Option<Value>) + Send + Sync>;
pub(crate) type CallSlot = Slot<Result<Value, Error>>;

/// The number of calls under way beyond which further ones are written together.
const MANY_CALLS: usize = 4;

/// The most bytes that wait to be written together.
const DEFERRED: usize = 32 << 10;

pub(crate) struct Link {
    pub(crate) name: String,
    pub(super) transport: Box<dyn Transport>,
    pub(super) finder: Option<Arc<dyn ModuleFinder>>,
    pub(super) on_event: Option<EventCallback>,
    /// The bytes of modules that may go ahead of one call.
    pub(super) push_budget: usize,
    /// The source of `econtext.target`, unless it is the usual one.
    pub(super) target: Option<String>,
    index: AtomicUsize,
    state: Mutex<State>,
    /// The slot that is set once the child is up, or will never be.
    pub(super) ready: Arc<Slot<Result<Hello, Error>>>,
}

pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) session: Session,
    pub(super) stderr: Stderr,
    pub(super) calls: HashMap<Handle, PendingCall>,
    /// The calls that were given some time to end by themselves.
    pub(super) to_cancel: BTreeSet<(Instant, Handle)>,
    pub(super) callbacks: HashMap<Handle, HandleCallback>,
    /// The time at which patience ends, once a shutdown was asked for.
    pub(super) closing: Option<Instant>,
    /// Whether the broker will write what is queued.
    pub(super) deferred: bool,
    pub(super) back: Back,
    pub(super) served: ModuleService,
    pub(super) kept: HopCache,
}

/// The state of a link's move to a connection that the child makes.
pub(super) enum Back {
    No,
    /// The connection exists. Beyond so many bytes no more is written on the old stream.
    Ready {
        socket: OwnedFd,
        until: u64,
    },
    /// The stream has moved to the connection.
    Moved,
}

pub(super) struct PendingCall {
    pub(super) slot: Arc<CallSlot>,
    pub(super) started: Instant,
    pub(super) cancelled: bool,
}

pub(super) enum Phase {
    Starting {
        carrier: Box<dyn Carrier>,
        bootstrap: Box<Bootstrap>,
        dialog: Option<Dialog>,
        /// The time at which the text on the terminal is taken for an unknown prompt.
        silence: Option<Instant>,
        started: Instant,
        give_up: Instant,
    },
    Up {
        carrier: Box<dyn Carrier>,
    },
    /// The stream is closed; the process is about to be.
    Ending {
        carrier: Box<dyn Carrier>,
        why: Why,
        since: Instant,
    },
    Closed(Error),
}

/// The reason why a stream was closed.
pub(super) enum Why {
    /// The other side closed it, before there was a child: the output that its bootstrap had seen.
    NoChild(String, bool),
    /// The other side closed it.
    Lost,
    /// The controller closed it.
    Given(Error),
}

/// The parts of a new link.
pub(crate) struct LinkParts {
    pub(crate) name: String,
    pub(crate) transport: Box<dyn Transport>,
    pub(crate) finder: Option<Arc<dyn ModuleFinder>>,
    pub(crate) on_event: Option<EventCallback>,
    pub(crate) session: Session,
    pub(crate) carrier: Box<dyn Carrier>,
    pub(crate) bootstrap: Bootstrap,
    pub(crate) dialog: Option<Dialog>,
    pub(crate) connect_timeout: Duration,
    pub(crate) push_budget: usize,
    pub(crate) target: Option<String>,
}

impl Link {
    pub(crate) fn new(parts: LinkParts) -> Arc<Self> {
        let LinkParts {
            name,
            transport,
            finder,
            on_event,
            session,
            carrier,
            bootstrap,
            dialog,
            connect_timeout,
            push_budget,
            target,
        } = parts;
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
                served: ModuleService::default(),
                kept: HopCache::default(),
            }),
            ready: Slot::new(),
        })
    }

    pub(crate) fn set_index(&self, index: usize) {
        self.index.store(index, Ordering::Relaxed);
    }

    pub(super) fn index(&self) -> usize {
        self.index.load(Ordering::Relaxed)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(crate) fn with_files(
        &self,
        register: impl FnOnce(&OwnedFd, &OwnedFd, Option<&OwnedFd>) -> io::Result<()>,
    ) -> io::Result<()> {
        match self.lock().carrier().and_then(|carrier| carrier.local()) {
            Some(process) => register(&process.socket, &process.stderr, process.terminal.as_ref()),
            None => Ok(()),
        }
    }

    /// The descriptors of its stream and of the process that carries it.
    pub(crate) fn descriptors(&self) -> Vec<RawFd> {
        let state = self.lock();
        let Some(process) = state.carrier().and_then(|carrier| carrier.local()) else { return Vec::new() };
        let terminal = process.terminal.as_ref().map(|fd| fd.as_raw_fd());
        [process.socket.as_raw_fd(), process.stderr.as_raw_fd()].into_iter().chain(terminal).collect()
    }

    pub(crate) fn ready(&self) -> &Arc<Slot<Result<Hello, Error>>> {
        &self.ready
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

    pub(crate) fn process_id(&self) -> Option<u32> {
        self.lock().carrier().and_then(|carrier| carrier.local()).map(LocalProcess::id)
    }

    pub(crate) fn allow_class(&self, module: &str, name: &str) {
        self.lock().session.allow_class(module, name);
    }

    pub(super) fn unsendable(&self, error: &PickleError) -> Error {
        Error::Usage(format!("{}: cannot send: {error}", self.name))
    }
}

impl State {
    pub(super) fn socket(&self) -> Option<&OwnedFd> {
        match &self.phase {
            Phase::Starting { carrier, .. } | Phase::Up { carrier } => carrier.local().map(|p| &p.socket),
            _ => None,
        }
    }

    pub(super) fn carrier(&self) -> Option<&dyn Carrier> {
        match &self.phase {
            Phase::Starting { carrier, .. } | Phase::Up { carrier } | Phase::Ending { carrier, .. } => {
                Some(&**carrier)
            }
            Phase::Closed(_) => None,
        }
    }

    pub(super) fn carrier_mut(&mut self) -> Option<&mut dyn Carrier> {
        match &mut self.phase {
            Phase::Starting { carrier, .. } | Phase::Up { carrier } | Phase::Ending { carrier, .. } => {
                Some(&mut **carrier)
            }
            Phase::Closed(_) => None,
        }
    }

    /// Cancels the calls that were given some time to end by themselves.
    pub(super) fn cancel_overdue(&mut self, now: Instant) {
        while let Some((_, handle)) = self.to_cancel.first().copied().filter(|(at, _)| *at <= now) {
            self.to_cancel.pop_first();
            if let Some(call) = self.calls.get_mut(&handle) {
                call.cancelled = true;
                self.session.cancel(handle, now);
            }
        }
    }

    /// Lets a child behind a hop write more, unless too many of its questions are open.
    pub(super) fn grant(&mut self) {
        if !self.served.is_full()
            && let Some(carrier) = self.carrier_mut()
        {
            carrier.grant();
        }
    }

    /// Writes, or has the broker write this with later data: where many calls are under way, each
    /// need not be a write of its own. Returns whether the broker is to be woken.
    pub(super) fn flush_or_defer(&mut self) -> bool {
        let many = self.calls.len() > MANY_CALLS && self.session.queued_bytes() < DEFERRED;
        if !many || !matches!(self.phase, Phase::Up { .. }) {
            self.flush();
            return false;
        }
        !std::mem::replace(&mut self.deferred, true)
    }

    /// Writes as much as there is room for.
    pub(super) fn flush(&mut self) {
        self.deferred = false;
        let until = match &self.back {
            Back::Ready { until, .. } => *until,
            _ => u64::MAX,
        };
        if let Phase::Starting { carrier, .. } | Phase::Up { carrier } = &self.phase {
            carrier.flush(&mut self.session, until);
        }
    }

    pub(super) fn take_phase(&mut self) -> Phase {
        std::mem::replace(&mut self.phase, Phase::Closed(Error::Usage(String::new())))
    }

    /// Handles a stream that the other side closed.
    pub(super) fn lost(&mut self) {
        let why = match &self.phase {
            Phase::Starting { bootstrap, .. } => Why::NoChild(bootstrap.tail(), bootstrap.saw_marker()),
            _ => Why::Lost,
        };
        self.end(why);
    }

    pub(super) fn end(&mut self, why: Why) {
        self.phase = match self.take_phase() {
            Phase::Starting { carrier, .. } | Phase::Up { carrier } => {
                // The stream is closed now; the process may take some time to end.
                carrier.shutdown();
                Phase::Ending { carrier, why, since: Instant::now() }
            }
            other => other,
        };
    }

    pub(super) fn read_stderr(&mut self, link: &Link, buffer: &mut [u8]) {
        while let Some(process) = self.carrier().and_then(|carrier| carrier.local())
            && let Ok(n @ 1..) = rustix::io::read(&process.stderr, &mut *buffer)
        {
            self.keep_stderr(link, &buffer[..n]);
        }
    }

    pub(super) fn keep_stderr(&mut self, link: &Link, data: &[u8]) {
        tracing::debug!(target: "econtext", context = link.name, "stderr: {}", String::from_utf8_lossy(data));
        self.stderr.take_in(data, |line| link.transport.note(line));
    }

    pub(super) fn stderr_text(&self) -> String {
        self.stderr.text()
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("name", &self.name).finish_non_exhaustive()
    }
}
