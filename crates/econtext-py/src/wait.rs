//! Waiting without the interpreter, until something is there or the user interrupts it.

use crate::callback_thread::CallbackThread;
use econtext::internal::lock;
use pyo3::prelude::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{OFlags, fcntl_setfl};
use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// The longest time after which a signal is seen that comes between looking for one and waiting.
const LOOK: Duration = Duration::from_millis(500);

/// Wakes a thread that signals do not go to.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Wakes the main thread, which waits in a system call that signals interrupt: a pipe.
struct PipeWaker {
    read: OwnedFd,
    write: OwnedFd,
}

impl PipeWaker {
    fn new() -> std::io::Result<Self> {
        let (read, write) = std::io::pipe()?;
        let pipe = PipeWaker { read: read.into(), write: write.into() };
        for end in [&pipe.read, &pipe.write] {
            fcntl_setfl(end, OFlags::NONBLOCK)?;
        }
        Ok(pipe)
    }
}

impl Wake for PipeWaker {
    fn wake(self: Arc<Self>) {
        // A full pipe wakes too.
        let _ = rustix::io::write(&self.write, &[0]);
    }
}

thread_local! {
    /// The main thread's pipe, and the process that it belongs to: a fork must not share it.
    static PIPE_WAKER: RefCell<Option<(u32, Arc<PipeWaker>)>> = const { RefCell::new(None) };
}

fn waker_pipe() -> PyResult<Arc<PipeWaker>> {
    PIPE_WAKER.with_borrow_mut(|pipe| match pipe {
        Some((process, pipe)) if *process == std::process::id() => Ok(pipe.clone()),
        _ => Ok(pipe.insert((std::process::id(), Arc::new(PipeWaker::new()?))).1.clone()),
    })
}

/// The number of threads that are in a method of ours which waits.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// One such thread, as long as the method runs, which includes making an exception of the result.
pub(crate) struct Waiting;

impl Waiting {
    pub(crate) fn begin() -> Self {
        WAITING.fetch_add(1, Ordering::AcqRel);
        Waiting
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A flag that is set when the interpreter is about to end.
static EXITING: AtomicBool = AtomicBool::new(false);

/// Makes threads that wait from now on wait for ever, as daemon threads do when the interpreter ends: others have ended by then.
pub(crate) fn exit() {
    EXITING.store(true, Ordering::Release);
}

/// Lets threads that are in our methods return to Python. When the interpreter is finalized, a thread that asks for it is
/// ended where it is; in the middle of our frames, not every Python survives that.
pub(crate) fn settle() {
    let until = Instant::now() + Duration::from_secs(2);
    while WAITING.load(Ordering::Acquire) > 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(target_os = "linux")]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere Python is asked")]
fn is_main_thread(_: Python<'_>) -> PyResult<bool> {
    Ok(rustix::thread::gettid() == rustix::process::getpid())
}

#[cfg(not(target_os = "linux"))]
fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    let threading = py.import("threading")?;
    let main = threading.call_method0("main_thread")?.getattr("ident")?;
    threading.call_method0("get_ident")?.eq(main)
}

/// Waits for a future, at most until `until`; then `None`. An exception of a signal handler, as of Ctrl-C, ends the waiting.
pub(crate) fn wait<F: Future + Send>(
    py: Python<'_>,
    future: F,
    until: Option<Instant>,
) -> PyResult<Option<F::Output>>
where
    F::Output: Send,
{
    let mut future = pin!(future);
    let main = is_main_thread(py)?;
    let pipe = if main { Some(waker_pipe()?) } else { None };
    let waker: Waker = match &pipe {
        Some(pipe) => pipe.clone().into(),
        None => Arc::new(Unpark(std::thread::current())).into(),
    };
    loop {
        // The wait ends when the result is there, the time is over, or there may be a signal.
        let turn = py.detach(|| {
            let mut cx = Context::from_waker(&waker);
            loop {
                let polled = future.as_mut().poll(&mut cx);
                if !main && EXITING.load(Ordering::Acquire) {
                    WAITING.fetch_sub(1, Ordering::AcqRel);
                    loop {
                        std::thread::park();
                    }
                }
                if let Poll::Ready(value) = polled {
                    return Some(Some(value));
                }
                let left = until.map(|until| until.saturating_duration_since(Instant::now()));
                if left == Some(Duration::ZERO) {
                    return Some(None);
                }
                match &pipe {
                    Some(pipe) => {
                        if !sleep(&pipe.read, left.map_or(LOOK, |left| left.min(LOOK))) {
                            return None;
                        }
                    }
                    None => match left {
                        Some(left) => std::thread::park_timeout(left),
                        None => std::thread::park(),
                    },
                }
            }
        });
        match turn {
            Some(value) => return Ok(value),
            None => py.check_signals()?,
        }
    }
}

/// Sleeps; whether the pipe ended the sleep, and not the time or a signal.
fn sleep(fd: &OwnedFd, time: Duration) -> bool {
    let timeout = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) as _ };
    match poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)) {
        Ok(1..) => {
            let mut rings = [0; 64];
            let _ = rustix::io::read(fd, &mut rings);
            true
        }
        _ => false,
    }
}

/// The time so many seconds from now; none stands for ever.
pub(crate) fn deadline(seconds: Option<f64>) -> PyResult<Option<Instant>> {
    Ok(duration(seconds)?.and_then(|time| Instant::now().checked_add(time)))
}

/// A duration of so many seconds; none stands for ever.
pub(crate) fn duration(seconds: Option<f64>) -> PyResult<Option<Duration>> {
    let Some(seconds) = seconds else { return Ok(None) };
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) => Ok(Some(time)),
        // It is too long for a duration: nearly for ever.
        Err(_) if seconds > 0.0 => Ok(None),
        Err(_) => Err(crate::ours::usage(format!("{seconds} is no time in seconds"))),
    }
}

/// A waker that has a Python function called once something happened; an exception of it is shown as unraisable.
pub(crate) struct CallBack {
    function: Mutex<Option<Py<PyAny>>>,
    callbacks: Arc<CallbackThread>,
}

impl CallBack {
    pub(crate) fn waker(function: Py<PyAny>, callbacks: &Arc<CallbackThread>) -> Waker {
        Arc::new(CallBack { function: Mutex::new(Some(function)), callbacks: callbacks.clone() }).into()
    }
}

impl Wake for CallBack {
    fn wake(self: Arc<Self>) {
        // The function is called once, even if it is woken more often.
        let Some(function) = lock(&self.function).take() else { return };
        self.callbacks.tell(move |py| {
            if let Err(error) = function.bind(py).call0() {
                error.write_unraisable(py, Some(function.bind(py)));
            }
        });
    }
}
