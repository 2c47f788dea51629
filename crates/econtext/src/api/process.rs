//! Commands beside a child, shaped like `std::process`.
//!
//! Both directions have credit: no more than a window of bytes is on its way to a reader that does
//! not read, and the process there stops when that is full. Calls of the same context continue
//! meanwhile.

use super::context::Context;
use crate::broker::check_thread;
use crate::error::Error;
use crate::status::{ProcessEvent, Status};
use crate::sync::{Slot, Wakers, lock, wait_for_change};
use econtext_proto::{Handle, Value};
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

/// The bytes in flight in each direction, unless set.
const WINDOW: usize = 256 << 10;
/// The most bytes of input in one message.
const CHUNK: usize = 64 << 10;

// The kinds of messages; the same numbers are in `process.py`.
const STARTED: i64 = 0;
const OUTPUT: i64 = 1;
const CREDIT: i64 = 2;
const EXIT: i64 = 3;
const FAILED: i64 = 4;
const INPUT: i64 = 0;
const INPUT_END: i64 = 1;
const GRANT: i64 = 2;
const SIGNAL: i64 = 3;
const RESIZE: i64 = 4;
const TYPE: i64 = 5;
const REPEAT: i64 = 6;

/// Which terminal a process gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Terminal {
    /// No terminal.
    #[default]
    None,
    /// A terminal that is its stdin, stdout and stderr.
    Stdio,
    /// A terminal beside its stdio, on which dialogs are held; its output has the number 3.
    Beside,
}

/// A command to run beside a child.
///
/// ```no_run
/// # fn f(web: &econtext::Context) -> Result<(), econtext::Error> {
/// let output = web.command("nginx").arg("-t").output()?;
/// if !output.status.success() {
///     eprintln!("{}: {}", web.name(), String::from_utf8_lossy(&output.stderr));
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Command {
    context: Context,
    argv: Vec<OsString>,
    env: Vec<(OsString, Option<OsString>)>,
    cwd: Option<OsString>,
    umask: Option<u32>,
    nice: i32,
    rlimits: Vec<(String, Option<u64>)>,
    terminal: Terminal,
    size: (u16, u16),
    window: usize,
    input: Option<Arc<[u8]>>,
    transport: bool,
}

impl Context {
    /// A command that will run beside the child, as its user: a program and its arguments, without a shell.
    ///
    /// It does not wait for calls, and calls do not wait for it. It ends with the context at the
    /// latest.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        Command {
            context: self.clone(),
            argv: vec![program.as_ref().to_owned()],
            env: Vec::new(),
            cwd: None,
            umask: None,
            nice: 0,
            rlimits: Vec::new(),
            terminal: Terminal::None,
            size: (24, 80),
            window: WINDOW,
            input: None,
            transport: false,
        }
    }

    /// A command for `/bin/sh` there.
    pub fn shell(&self, line: impl AsRef<OsStr>) -> Command {
        self.command("/bin/sh").arg("-c").arg(line)
    }
}

impl Command {
    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.argv.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.argv.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable of its environment, which otherwise is the child's.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), Some(value.as_ref().to_owned())));
        self
    }

    /// Removes a variable from its environment.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), None));
        self
    }

    /// Sets the directory in which it runs.
    pub fn current_dir(mut self, directory: impl AsRef<OsStr>) -> Self {
        self.cwd = Some(directory.as_ref().to_owned());
        self
    }

    /// Sets the mask of permissions that files it makes do not get.
    pub fn umask(mut self, mask: u32) -> Self {
        self.umask = Some(mask);
        self
    }

    /// Sets by how much it is nicer than the child.
    pub fn nice(mut self, by: i32) -> Self {
        self.nice = by;
        self
    }

    /// Sets a limit of `setrlimit`, by name: `nofile`, `as`, `cpu`; `None` for no limit.
    pub fn rlimit(mut self, name: &str, value: Option<u64>) -> Self {
        self.rlimits.push((name.to_owned(), value));
        self
    }

    /// Gives it a terminal of this size for stdin, stdout and stderr, which then are one.
    pub fn terminal(mut self, rows: u16, columns: u16) -> Self {
        (self.terminal, self.size) = (Terminal::Stdio, (rows, columns));
        self
    }

    /// Marks it as the carrier of a further child's stream: the process ends by itself when the
    /// stream does.
    pub(crate) fn transport(mut self) -> Self {
        self.transport = true;
        self
    }

    /// Gives it a terminal beside its stdio.
    pub(crate) fn terminal_beside(mut self) -> Self {
        self.terminal = Terminal::Beside;
        self
    }

    /// Sets the bytes of output on the way at a time, stdout and stderr together. The default is
    /// 256 KiB.
    pub fn window(mut self, bytes: usize) -> Self {
        self.window = bytes.max(1);
        self
    }

    /// Sets the bytes of its stdin, which otherwise is empty, for [`output`](Command::output),
    /// [`status`](Command::status) and [`start`](Command::start).
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Some(bytes.into().into());
        self
    }

    /// Runs it, and waits for its end and all of its output.
    ///
    /// # Errors
    /// If it does not start, or the child is gone.
    pub fn output(&self) -> Result<Output, Error> {
        self.start().wait()
    }

    /// Runs it and discards its output.
    ///
    /// # Errors
    /// The errors of [`output`](Command::output).
    pub fn status(&self) -> Result<Status, Error> {
        let process = self.spawn_with(|_| {})?;
        self.feed(&process);
        process.wait()
    }

    /// Starts it; the value returned can be waited for, or awaited.
    ///
    /// ```no_run
    /// # async fn f(web: &econtext::Context) -> Result<(), econtext::Error> {
    /// let sorted = web.command("sort").input("b\na\n").start().await?;
    /// assert_eq!(sorted.stdout, b"a\nb\n");
    /// # Ok(()) }
    /// ```
    pub fn start(&self) -> CommandFuture {
        let collected: Arc<Mutex<(Vec<u8>, Vec<u8>)>> = Arc::default();
        let ended = Slot::new();
        let (into, done) = (collected.clone(), ended.clone());
        let process = self.spawn_with(move |event| match event {
            ProcessEvent::Output { fd: 2, data } => lock(&into).1.extend_from_slice(&data),
            ProcessEvent::Output { data, .. } => lock(&into).0.extend_from_slice(&data),
            ProcessEvent::Ended(result) => done.set(result),
            ProcessEvent::Started(_) | ProcessEvent::InputWanted => {}
        });
        if let Ok(process) = &process {
            self.feed(process);
        }
        CommandFuture { process, collected, ended }
    }

    /// Sends the input, and its end.
    fn feed(&self, process: &RemoteProcess) {
        let Some(input) = self.input.clone() else { return process.end_input() };
        let process = process.clone();
        // The process may be slow to read it. Input that it does not read, or a child that is gone,
        // shows in how it ends.
        std::thread::spawn(move || {
            let _ = process.write(&input);
            process.end_input();
        });
    }

    /// Starts it, with its input and output as streams.
    ///
    /// # Errors
    /// If the child is gone.
    pub fn spawn(&self) -> Result<Streams, Error> {
        let pipes = Arc::new(Pipes::default());
        let into = pipes.clone();
        let process = self.launch(false, move |event| into.take_in(event))?;
        let reader = |fd| OutputStream { process: process.clone(), pipes: pipes.clone(), fd };
        Ok(Streams { stdout: reader(1), stderr: reader(2), process })
    }

    /// Starts it and calls `callback` on the broker's thread for all events. While that runs, this
    /// broker does nothing else; the process gets credit for more output when it returns.
    ///
    /// # Errors
    /// If the child is gone.
    pub fn spawn_with(
        &self,
        callback: impl Fn(ProcessEvent) + Send + Sync + 'static,
    ) -> Result<RemoteProcess, Error> {
        self.launch(true, callback)
    }

    /// Starts the command. `grants` says whether credit for output comes back by itself.
    fn launch(
        &self,
        grants: bool,
        callback: impl Fn(ProcessEvent) + Send + Sync + 'static,
    ) -> Result<RemoteProcess, Error> {
        let process = self.prepare(grants, callback);
        self.launch_prepared(&process)?;
        Ok(process)
    }

    /// Starts a process that [`prepare`](Command::prepare) made.
    pub(crate) fn launch_prepared(&self, process: &RemoteProcess) -> Result<(), Error> {
        match process.inner.handle.get() {
            Some(handle) => self.context.0.link.start_process(*handle, &self.options()),
            None => Err(self.context.closed_error()),
        }
    }

    /// Makes a process that is not started, so that no event is missed before `callback` can be
    /// called.
    pub(crate) fn prepare(
        &self,
        grants: bool,
        callback: impl Fn(ProcessEvent) + Send + Sync + 'static,
    ) -> RemoteProcess {
        let inner = Arc::new(Inner {
            context: self.context.clone(),
            handle: OnceLock::new(),
            program: self.argv[0].to_string_lossy().into_owned(),
            window: self.window,
            state: Mutex::new(State { credit: WINDOW, ..State::default() }),
            changed: Condvar::new(),
        });
        let process = Arc::downgrade(&inner);
        let handle = self.context.add_handle(move |value| {
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

    /// The options in the form that `process.py` takes.
    fn options(&self) -> Value {
        let key = |name: &str| Value::Bytes(name.as_bytes().to_vec());
        let bytes = |text: &OsStr| Value::Bytes(text.as_bytes().to_vec());
        let optional = |text: &Option<OsString>| text.as_deref().map_or(Value::None, bytes);
        let env = self.env.iter().map(|(name, value)| (bytes(name), optional(value)));
        let limit = |(name, value): &(String, Option<u64>)| {
            (key(name), value.map_or(Value::Int(-1), |value| Value::int(value.into())))
        };
        let terminal = match self.terminal {
            Terminal::None => Value::None,
            Terminal::Stdio => "stdio".into(),
            Terminal::Beside => "beside".into(),
        };
        let size = [self.size.0, self.size.1].map(|n| Value::Int(n.into()));
        Value::Dict(vec![
            (key("argv"), Value::List(self.argv.iter().map(|arg| bytes(arg)).collect())),
            (key("env"), Value::Dict(env.collect())),
            (key("cwd"), optional(&self.cwd)),
            (key("umask"), self.umask.map_or(Value::None, |mask| Value::Int(mask.into()))),
            (key("nice"), Value::Int(self.nice.into())),
            (key("rlimits"), Value::Dict(self.rlimits.iter().map(limit).collect())),
            (key("terminal"), terminal),
            (key("size"), Value::Tuple(size.into())),
            (key("transport"), Value::Bool(self.transport)),
            (key("window"), Value::int(self.window.into())),
        ])
    }
}

/// The result of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The way it ended.
    pub status: Status,
    /// The bytes that it wrote to stdout.
    pub stdout: Vec<u8>,
    /// The bytes that it wrote to stderr.
    pub stderr: Vec<u8>,
}

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
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    pid: Option<i64>,
    /// The bytes of input that may be sent.
    credit: usize,
    /// The bytes of output for which no credit was given back.
    unread: usize,
    input_ended: bool,
    ended: Option<Result<Status, Error>>,
    /// The tasks that wait for the end.
    wakers: Wakers,
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
        let mut state = lock(&self.state);
        if state.ended.is_some() {
            return None; // the channel closes behind the last message
        }
        state.ended = Some(result.clone());
        let wakers = state.wakers.take();
        drop(state);
        self.changed.notify_all();
        wakers.wake();
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
        if lock(&self.state).ended.is_none() {
            // A child that is gone has ended it.
            let _ = self.send(&Value::Dead);
        }
        if let Some(handle) = self.handle.get() {
            self.context.remove_handle(*handle);
        }
    }
}

impl RemoteProcess {
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
            let mut state = lock(&self.inner.state);
            while state.credit == 0 && !state.input_ended && state.ended.is_none() {
                state = self.inner.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.input_ended || state.ended.is_some() {
                return Ok(false);
            }
            let n = rest.len().min(state.credit).min(CHUNK);
            state.credit -= n;
            drop(state);
            self.inner.tell(vec![Value::Int(INPUT), Value::Bytes(rest[..n].to_vec())])?;
            rest = &rest[n..];
        }
        Ok(true)
    }

    /// Sends as many bytes as there is credit for, without waiting, and returns their number.
    pub(crate) fn try_write(&self, data: &[u8]) -> Result<usize, Error> {
        let n = {
            let mut state = lock(&self.inner.state);
            let n = data.len().min(state.credit).min(CHUNK);
            state.credit -= n;
            n
        };
        if n > 0 {
            self.inner.tell(vec![Value::Int(INPUT), Value::Bytes(data[..n].to_vec())])?;
        }
        Ok(n)
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
        self.wait_until(None).unwrap_or_else(|| Err(self.inner.context.closed_error()))
    }

    /// Waits for its end for some time; `None` if it still runs.
    ///
    /// # Errors
    /// The errors of [`wait`](RemoteProcess::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Result<Status, Error>> {
        self.wait_until(Instant::now().checked_add(timeout))
    }

    /// Polls for its end, without blocking. It may be polled again after the end.
    pub fn poll_wait(&self, cx: &std::task::Context<'_>) -> Poll<Result<Status, Error>> {
        let mut state = lock(&self.inner.state);
        match &state.ended {
            Some(ended) => Poll::Ready(ended.clone()),
            None => {
                state.wakers.add(cx);
                Poll::Pending
            }
        }
    }

    fn wait_until(&self, until: Option<Instant>) -> Option<Result<Status, Error>> {
        if let Err(error) = check_thread() {
            return Some(Err(error));
        }
        let mut state = lock(&self.inner.state);
        loop {
            if let Some(ended) = &state.ended {
                return Some(ended.clone());
            }
            state = wait_for_change(&self.inner.changed, state, until)?;
        }
    }
}

/// A command whose output is collected: [`wait`](CommandFuture::wait) for it, or `await` it. When
/// the last clone is dropped, the process and its group are ended.
///
/// The result is kept: it can be read any number of times.
#[derive(Clone, Debug)]
#[must_use = "a command is ended when this is dropped"]
pub struct CommandFuture {
    process: Result<RemoteProcess, Error>,
    /// The bytes of stdout and stderr.
    collected: Arc<Mutex<(Vec<u8>, Vec<u8>)>>,
    ended: Arc<Slot<Result<Status, Error>>>,
}

impl CommandFuture {
    /// Waits for its end.
    ///
    /// # Errors
    /// If it did not start, or the child is gone.
    pub fn wait(&self) -> Result<Output, Error> {
        self.process()?;
        check_thread()?;
        self.ended.wait().map(|status| self.output(status))
    }

    /// Waits for its end for some time; `None` if it still runs.
    ///
    /// # Errors
    /// The errors of [`wait`](CommandFuture::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Result<Output, Error>> {
        if let Err(error) = self.process().and_then(|_| check_thread()) {
            return Some(Err(error));
        }
        let ended = self.ended.wait_until(Instant::now().checked_add(timeout))?;
        Some(ended.map(|status| self.output(status)))
    }

    /// Polls for its end, without blocking. It may be polled again after the end.
    pub fn poll_wait(&self, cx: &std::task::Context<'_>) -> Poll<Result<Output, Error>> {
        match self.process() {
            Err(error) => Poll::Ready(Err(error)),
            Ok(_) => self.ended.poll(cx).map(|ended| ended.map(|status| self.output(status))),
        }
    }

    /// The process.
    ///
    /// # Errors
    /// If it could not be started, because the child is gone.
    pub fn process(&self) -> Result<&RemoteProcess, Error> {
        self.process.as_ref().map_err(Error::clone)
    }

    /// The bytes of stdout and of stderr that have come so far.
    pub fn so_far(&self) -> (Vec<u8>, Vec<u8>) {
        lock(&self.collected).clone()
    }

    fn output(&self, status: Status) -> Output {
        let (stdout, stderr) = self.so_far();
        Output { status, stdout, stderr }
    }
}

impl Future for CommandFuture {
    type Output = Result<Output, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        self.poll_wait(cx)
    }
}

/// The buffers between the output of a process and its readers.
#[derive(Debug, Default)]
struct Pipes {
    state: Mutex<PipesState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct PipesState {
    /// The buffers by file descriptor, stdout first.
    data: [VecDeque<u8>; 2],
    ended: bool,
}

impl Pipes {
    fn take_in(&self, event: ProcessEvent) {
        let mut state = lock(&self.state);
        match event {
            ProcessEvent::Output { fd, data } => state.data[usize::from(fd == 2)].extend(data),
            ProcessEvent::Ended(_) => state.ended = true,
            ProcessEvent::Started(_) | ProcessEvent::InputWanted => return,
        }
        drop(state);
        self.changed.notify_all();
    }
}

/// A process whose input is written and whose output is read. Reading gives the process credit for more.
#[derive(Debug)]
pub struct Streams {
    /// The process: its input is written through this.
    pub process: RemoteProcess,
    /// The stdout of the process.
    pub stdout: OutputStream,
    /// The stderr of the process.
    pub stderr: OutputStream,
}

/// A reader of the output of a process; its end is that of the process.
#[derive(Debug)]
pub struct OutputStream {
    process: RemoteProcess,
    pipes: Arc<Pipes>,
    fd: u8,
}

impl io::Read for OutputStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        check_thread().map_err(io::Error::other)?;
        let mut state = lock(&self.pipes.state);
        let index = usize::from(self.fd == 2);
        while state.data[index].is_empty() && !state.ended {
            state = self.pipes.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let n = io::Read::read(&mut state.data[index], buffer)?;
        drop(state);
        if n > 0 {
            self.process.inner.grant(n);
        }
        Ok(n)
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
