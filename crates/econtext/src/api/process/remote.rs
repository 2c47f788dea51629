//! A process that runs beside a child: its messages, and the credit in both directions.

use crate::api::context::Context;
use crate::api::waiting;
use crate::broker::check_thread;
use crate::error::Error;
use crate::status::{ProcessEvent, Status};
use crate::sync::{Slot, lock, wait_for_change};
use econtext_proto::wire::process::{
    CREDIT, EXIT, FAILED, GRANT, INPUT, INPUT_END, OUTPUT, REPEAT, RESIZE, SIGNAL, STARTED, TYPE,
};
use econtext_proto::{Handle, Value};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::task::Poll;
use std::time::{Duration, Instant};

/// The bytes in flight in each direction, unless set.
pub(super) const WINDOW: usize = 256 << 10;
/// The interval at which a thread with input looks whether its process is wanted.
const LOOK: Duration = Duration::from_millis(100);
/// The most bytes of input in one message.
const CHUNK: usize = 64 << 10;

/// A process beside a child. When the last clone is dropped, the process and its group are ended.
#[derive(Clone, Debug)]
pub struct RemoteProcess {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    context: Context,
    /// The handle, set before this is shared.
    handle: OnceLock<Handle>,
    program: String,
    window: usize,
    state: Mutex<State>,
    /// Announces a change of the state, and the end.
    changed: Condvar,
    ended: Arc<Slot<Result<Status, Error>>>,
}

#[derive(Debug, Default)]
struct State {
    pid: Option<i64>,
    /// The bytes of input that may be sent.
    credit: usize,
    /// The bytes of output for which no credit was given back.
    unread: usize,
    input_ended: bool,
}

impl Inner {
    /// The events that a message of the child stands for.
    fn take_in(&self, value: Option<&Value>) -> Vec<ProcessEvent> {
        let host = || self.context.name().to_owned();
        let Some(value) = value else {
            let error = self.context.closed_error();
            return self.end(Err(error)).into_iter().collect();
        };
        match value.as_seq() {
            Some([Value::Int(STARTED), pid]) => {
                let pid = pid.as_i64().unwrap_or_default();
                lock(&self.state).pid = Some(pid);
                self.changed.notify_all();
                vec![ProcessEvent::Started(pid)]
            }
            Some([Value::Int(OUTPUT), Value::Int(fd @ 1..=3), data]) => {
                let data = data.as_bytes().unwrap_or_default().to_vec();
                let mut state = lock(&self.state);
                state.unread += data.len();
                if state.unread > self.window {
                    drop(state);
                    let message = format!("more output of {} than there was credit for", self.program);
                    return self.end(Err(Error::Protocol { host: host(), message })).into_iter().collect();
                }
                vec![ProcessEvent::Output { fd: *fd as u8, data }]
            }
            Some([Value::Int(CREDIT), n]) => {
                let mut state = lock(&self.state);
                match n.as_i64().map(usize::try_from) {
                    Some(Ok(n)) => state.credit = state.credit.saturating_add(n).min(WINDOW),
                    _ => state.input_ended = true,
                }
                drop(state);
                self.changed.notify_all();
                vec![ProcessEvent::InputWanted]
            }
            Some([Value::Int(EXIT), status]) => {
                self.end(Ok(Status::from_value(status))).into_iter().collect()
            }
            Some([Value::Int(FAILED), number, why]) => {
                let message = why.as_str().unwrap_or_default().to_owned();
                let number = number.as_i64().and_then(|n| i32::try_from(n).ok()).unwrap_or_default();
                let error =
                    Error::NotStarted { host: host(), program: self.program.clone(), errno: number, message };
                self.end(Err(error)).into_iter().collect()
            }
            _ => {
                let message = format!("a malformed message about {}", self.program);
                self.end(Err(Error::Protocol { host: host(), message })).into_iter().collect()
            }
        }
    }

    fn end(&self, result: Result<Status, Error>) -> Option<ProcessEvent> {
        if !self.ended.set(result.clone()) {
            return None; // the channel closes behind the last message
        }
        // A thread that is about to wait for credit holds the lock, and has looked for the end in it.
        drop(lock(&self.state));
        self.changed.notify_all();
        Some(ProcessEvent::Ended(result))
    }

    /// Lets the process write more.
    fn grant(&self, bytes: usize) {
        let mut state = lock(&self.state);
        state.unread = state.unread.saturating_sub(bytes);
        drop(state);
        // A child that is gone needs no credit.
        let _ = self.tell(vec![Value::Int(GRANT), Value::int(bytes.into())]);
    }

    fn tell(&self, message: Vec<Value>) -> Result<(), Error> {
        self.send(&Value::Tuple(message))
    }

    fn send(&self, message: &Value) -> Result<(), Error> {
        match self.handle.get() {
            Some(handle) => self.context.0.link.send(*handle, message),
            None => Ok(()),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !self.ended.is_set() {
            // A child that is gone has ended it.
            let _ = self.send(&Value::Dead);
        }
        if let Some(handle) = self.handle.get() {
            self.context.remove_handle(*handle);
        }
    }
}

impl RemoteProcess {
    /// Makes a process that is not started, so that no event is missed before `callback` can be
    /// called. `grants` says whether credit for output comes back by itself.
    pub(super) fn prepare(
        context: &Context,
        program: String,
        window: usize,
        grants: bool,
        callback: impl Fn(ProcessEvent) + Send + Sync + 'static,
    ) -> Self {
        let inner = Arc::new(Inner {
            context: context.clone(),
            handle: OnceLock::new(),
            program,
            window,
            state: Mutex::new(State { credit: WINDOW, ..State::default() }),
            changed: Condvar::new(),
            ended: Slot::new(),
        });
        let process = Arc::downgrade(&inner);
        let handle = context.add_handle(move |value| {
            let Some(process) = process.upgrade() else { return };
            for event in process.take_in(value.as_ref()) {
                let used = match &event {
                    ProcessEvent::Output { data, .. } => data.len(),
                    _ => 0,
                };
                callback(event);
                if grants && used > 0 {
                    process.grant(used);
                }
            }
        });
        // The handle is set only here.
        let _ = inner.handle.set(handle);
        RemoteProcess { inner }
    }

    /// The handle of its messages.
    pub(super) fn handle(&self) -> Option<Handle> {
        self.inner.handle.get().copied()
    }

    /// The process id there, once it has one.
    pub fn id(&self) -> Option<i64> {
        lock(&self.inner.state).pid
    }

    /// Sends input, waiting while the process is slower. `Ok(false)` if it does not read any more.
    ///
    /// # Errors
    /// If the child is gone.
    pub fn write(&self, data: &[u8]) -> Result<bool, Error> {
        check_thread()?;
        let mut rest = data;
        while !rest.is_empty() {
            match self.write_some(rest, None)? {
                Some(n) => rest = &rest[n..],
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Sends as much input as there is credit for, waiting for some until `until`; returns the
    /// number of bytes, or `None` if the process does not read any more.
    fn write_some(&self, data: &[u8], until: Option<Instant>) -> Result<Option<usize>, Error> {
        let mut state = lock(&self.inner.state);
        while state.credit == 0 && !state.input_ended && !self.inner.ended.is_set() {
            match wait_for_change(&self.inner.changed, state, until) {
                Some(changed) => state = changed,
                None => return Ok(Some(0)),
            }
        }
        if state.input_ended || self.inner.ended.is_set() {
            return Ok(None);
        }
        self.send_input(state, data).map(Some)
    }

    /// Sends as many bytes as there is credit for, and returns their number.
    fn send_input(&self, mut state: MutexGuard<'_, State>, data: &[u8]) -> Result<usize, Error> {
        let n = data.len().min(state.credit).min(CHUNK);
        state.credit -= n;
        drop(state);
        if n > 0 {
            self.inner.tell(vec![Value::Int(INPUT), Value::Bytes(data[..n].to_vec())])?;
        }
        Ok(n)
    }

    /// Sends input and its end, on a thread of its own, as long as there is another reference to
    /// the process.
    pub(super) fn feed(&self, input: Arc<[u8]>) {
        let process = Arc::downgrade(&self.inner);
        std::thread::spawn(move || {
            let mut rest = &input[..];
            while let Some(inner) = process.upgrade() {
                let process = RemoteProcess { inner };
                match process.write_some(rest, Instant::now().checked_add(LOOK)) {
                    Ok(Some(n)) if n < rest.len() => rest = &rest[n..],
                    // Input that it does not read, or a child that is gone, shows in how it ends.
                    _ => return process.end_input(),
                }
            }
        });
    }

    /// Sends as many bytes as there is credit for, without waiting, and returns their number.
    pub(crate) fn try_write(&self, data: &[u8]) -> Result<usize, Error> {
        self.send_input(lock(&self.inner.state), data)
    }

    /// Lets it write that many bytes more.
    pub(crate) fn grant(&self, bytes: usize) {
        self.inner.grant(bytes);
    }

    /// Has the child, a hop, write a piece that it keeps, or is sent for this; 0 if there is no
    /// credit for all of it.
    pub(crate) fn try_repeat(&self, piece: &[u8]) -> Result<usize, Error> {
        {
            let mut state = lock(&self.inner.state);
            let Some(left) = state.credit.checked_sub(piece.len()) else { return Ok(0) };
            state.credit = left;
        }
        if let Some(handle) = self.inner.handle.get() {
            self.inner.context.0.link.repeat(*handle, REPEAT, piece)?;
        }
        Ok(piece.len())
    }

    /// Writes to the terminal that it has beside its stdio.
    pub(crate) fn type_text(&self, text: &[u8]) -> Result<(), Error> {
        self.inner.tell(vec![Value::Int(TYPE), Value::Bytes(text.to_vec())])
    }

    /// Ends the input.
    pub fn close_input(self) -> Self {
        self.end_input();
        self
    }

    /// Ends the input.
    pub fn end_input(&self) {
        // A child that is gone needs no end of input.
        let _ = self.inner.tell(vec![Value::Int(INPUT_END)]);
    }

    /// Sends a signal to its process group.
    ///
    /// # Errors
    /// If the child is gone.
    pub fn signal(&self, signal: i32) -> Result<(), Error> {
        self.inner.tell(vec![Value::Int(SIGNAL), Value::Int(signal.into())])
    }

    /// Sets a new size of its terminal.
    ///
    /// # Errors
    /// If the child is gone.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<(), Error> {
        self.inner.tell(vec![Value::Int(RESIZE), Value::Int(rows.into()), Value::Int(columns.into())])
    }

    /// Ends its process group: with SIGTERM, and a second later with SIGKILL. Returns at once.
    pub fn kill(&self) {
        // A child that is gone has ended it.
        let _ = self.inner.send(&Value::Dead);
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If it did not start, or the child is gone.
    pub fn wait(&self) -> Result<Status, Error> {
        waiting::wait(&self.inner.ended)
    }

    /// Waits for its end for some time; `None` if it still runs.
    ///
    /// # Errors
    /// The errors of [`wait`](RemoteProcess::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Result<Status, Error>> {
        waiting::wait_timeout(&self.inner.ended, timeout)
    }

    /// Polls for its end, without blocking. It may be polled again after the end.
    pub fn poll_wait(&self, cx: &std::task::Context<'_>) -> Poll<Result<Status, Error>> {
        self.inner.ended.poll(cx)
    }
}

impl io::Write for RemoteProcess {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match RemoteProcess::write(self, data).map_err(io::Error::other)? {
            true => Ok(data.len()),
            false => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
