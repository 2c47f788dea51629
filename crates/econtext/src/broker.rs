//! The one thread that owns all IO.
//!
//! Callers write to sockets that have room by themselves, which saves a hand-off for every call;
//! data that does not fit, all reading, and all timers are the broker's.

use crate::child::{Link, LinkEnd, Scheduler};
use crate::error::Error;
use crate::sync::lock;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use rustix::fd::OwnedFd;
use rustix::fd::{AsRawFd as _, RawFd};
use slab::Slab;
use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The next times at which links are to be looked at, by index.
type Timers = BinaryHeap<Reverse<(Instant, usize)>>;

const WAKER: Token = Token(usize::MAX);

thread_local! {
    static IS_BROKER: Cell<bool> = const { Cell::new(false) };
}

/// Owns all IO of any number of contexts, on one thread.
///
/// When it is dropped, every child is asked to end; after two seconds those that have not are ended.
///
/// ```no_run
/// let broker = econtext::Broker::new()?;
/// let child = broker.local("worker")?;
/// let (total, used, free) = child.call::<(u64, u64, u64)>("shutil:disk_usage", ("/",)).wait()?;
/// # Ok::<(), econtext::Error>(())
/// ```
#[derive(Debug)]
pub struct Broker {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The state that the broker's thread shares with the callers' threads.
#[derive(Debug)]
pub(crate) struct Shared {
    registry: mio::Registry,
    waker: Waker,
    links: Mutex<Slab<Arc<Link>>>,
    /// The times at which other threads want the broker to wake up, by link.
    timers: Mutex<Vec<(Instant, usize)>>,
    stopping: AtomicBool,
    finder: mpsc::Sender<(Weak<Shared>, usize)>,
    own: Weak<Shared>,
}

impl Broker {
    /// Starts the broker's thread.
    ///
    /// # Errors
    /// If the system has no thread or file descriptor left.
    pub fn new() -> Result<Self, Error> {
        Self::start().map_err(|e| Error::local(None, "cannot start the broker", e))
    }

    fn start() -> io::Result<Self> {
        let poll = Poll::new()?;
        let (finder, requests) = mpsc::channel::<(Weak<Shared>, usize)>();
        // Sources may take a while to read, and IO continues meanwhile.
        std::thread::Builder::new().name("econtext-finder".into()).spawn(move || {
            for (shared, index) in requests {
                if let Some(shared) = shared.upgrade()
                    && let Some(link) = shared.link(index)
                    && link.answer(&*shared)
                {
                    shared.look_up(index);
                }
            }
        })?;
        let (registry, waker) = (poll.registry().try_clone()?, Waker::new(poll.registry(), WAKER)?);
        let shared = Arc::new_cyclic(|own| Shared {
            registry,
            waker,
            links: Mutex::default(),
            timers: Mutex::default(),
            stopping: AtomicBool::new(false),
            finder,
            own: own.clone(),
        });
        let thread = {
            let shared = shared.clone();
            // The decoder recurses as deep as values may be nested.
            let thread = std::thread::Builder::new().name("econtext-broker".into()).stack_size(8 << 20);
            thread.spawn(move || run(poll, &shared))?
        };
        Ok(Broker { shared, thread: Mutex::new(Some(thread)) })
    }

    /// The file descriptors of the streams of all children. A process that forks without an exec
    /// closes them in the copy, or children would not see the end of the original.
    pub fn descriptors(&self) -> Vec<RawFd> {
        self.shared.all().iter().flat_map(|link| link.descriptors()).collect()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Broker {
    /// Ends the broker as a drop does, even if it is shared: every child is asked to end, and after
    /// two seconds those that have not are ended. Calls that are under way have an error then, and
    /// no further children come up.
    pub fn shutdown(&self) {
        for link in self.shared.all() {
            link.disconnect(Duration::from_secs(2), &*self.shared);
        }
        self.shared.stopping.store(true, Ordering::Release);
        let _ = self.shared.waker.wake();
        let thread = lock(&self.thread).take();
        if !IS_BROKER.get()
            && let Some(thread) = thread
        {
            let _ = thread.join();
        }
    }
}

/// Refuses to wait on the broker's own thread: that would be for ever.
pub(crate) fn check_thread() -> Result<(), Error> {
    match IS_BROKER.get() {
        true => Err(Error::Usage("a callback of the broker cannot wait for what the broker does".to_owned())),
        false => Ok(()),
    }
}

impl Shared {
    /// Takes over the IO of a link whose process runs.
    pub(crate) fn adopt(&self, link: &Arc<Link>) -> io::Result<()> {
        let index = self.lock_links().insert(link.clone());
        link.set_index(index);
        let result = link.with_files(|socket, stderr, terminal| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.registry.register(&mut SourceFd(&socket.as_raw_fd()), Token(index * 3), interest)?;
            self.registry.register(
                &mut SourceFd(&stderr.as_raw_fd()),
                Token(index * 3 + 1),
                Interest::READABLE,
            )?;
            if let Some(terminal) = terminal {
                let token = Token(index * 3 + 2);
                self.registry.register(&mut SourceFd(&terminal.as_raw_fd()), token, Interest::READABLE)?;
            }
            Ok(())
        });
        if result.is_err() {
            self.lock_links().remove(index);
        }
        result
    }

    /// Does the next step that a link asks for.
    fn settle(&self, end: LinkEnd, index: usize, timers: &mut Timers) {
        match end {
            LinkEnd::Gone => drop(self.lock_links().try_remove(index)),
            LinkEnd::WakeAt(at) => timers.push(Reverse((at, index))),
            LinkEnd::Alive | LinkEnd::Trickling => {}
        }
    }

    fn link(&self, index: usize) -> Option<Arc<Link>> {
        self.lock_links().get(index).cloned()
    }

    fn all(&self) -> Vec<Arc<Link>> {
        self.lock_links().iter().map(|(_, link)| link.clone()).collect()
    }

    fn lock_links(&self) -> std::sync::MutexGuard<'_, Slab<Arc<Link>>> {
        lock(&self.links)
    }
}

impl Scheduler for Shared {
    fn wake_at(&self, at: Instant, index: usize) {
        lock(&self.timers).push((at, index));
        let _ = self.waker.wake();
    }

    fn look_up(&self, index: usize) {
        // The thread exists as long as there is a sender to it.
        let _ = self.finder.send((self.own.clone(), index));
    }

    fn change(&self, old: &OwnedFd, new: &OwnedFd, index: usize) -> io::Result<()> {
        let _ = self.registry.deregister(&mut SourceFd(&old.as_raw_fd()));
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.registry.register(&mut SourceFd(&new.as_raw_fd()), Token(index * 3), interest)
    }
}

fn run(mut poll: Poll, shared: &Arc<Shared>) {
    IS_BROKER.set(true);
    let mut events = Events::with_capacity(1024);
    let mut timers = Timers::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let new = std::mem::take(&mut *lock(&shared.timers));
        timers.extend(new.into_iter().map(Reverse));
        let now = Instant::now();
        while timers.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            let Some(Reverse((_, index))) = timers.pop() else { break };
            let link = shared.link(index);
            if let Some(link) = link {
                let end = link.on_timer(now, &mut buffer, &**shared);
                shared.settle(end, index, &mut timers);
            }
        }
        if shared.stopping.load(Ordering::Acquire) && shared.lock_links().is_empty() {
            return;
        }
        let timeout = timers.peek().map(|Reverse((at, _))| at.saturating_duration_since(Instant::now()));
        // The timeout is rounded up: a millisecond early would be a busy loop.
        let timeout = timeout.map(|t| if t.is_zero() { t } else { t + Duration::from_millis(1) });
        match poll.poll(&mut events, timeout) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => {
                tracing::error!(target: "econtext", "the broker cannot wait for IO: {e}");
                return;
            }
        }
        let mut trickling = false;
        for event in &events {
            if event.token() == WAKER {
                continue;
            }
            let index = event.token().0 / 3;
            let Some(link) = shared.link(index) else { continue };
            let closed = event.is_read_closed() || event.is_error();
            let end = match event.token().0 % 3 {
                0 => link.on_socket(
                    event.is_readable() || closed,
                    event.is_writable(),
                    closed,
                    &mut buffer,
                    &**shared,
                ),
                1 => link.on_stderr(&mut buffer),
                _ => link.on_terminal(&mut buffer, &**shared),
            };
            trickling |= matches!(end, LinkEnd::Trickling);
            shared.settle(end, index, &mut timers);
        }
        if trickling {
            // A wake-up of this thread, and of a caller, for each answer costs more than the
            // answer.
            std::thread::sleep(PAUSE);
        }
    }
}

/// A moment in which answers to pipelined calls gather: less than a round trip takes.
const PAUSE: Duration = Duration::from_micros(20);
