//! The description of a command, and its collected output.

use super::remote::{RemoteProcess, WINDOW};
use super::streams::{OutputStream, Pipes, Streams};
use crate::api::context::Context;
use crate::error::Error;
use crate::status::{ProcessEvent, Status};
use crate::sync::lock;
use econtext_proto::Value;
use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::os::unix::ffi::OsStrExt as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

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
        let into = collected.clone();
        let process = self.spawn_with(move |event| match event {
            ProcessEvent::Output { fd: 2, data } => lock(&into).1.extend_from_slice(&data),
            ProcessEvent::Output { data, .. } => lock(&into).0.extend_from_slice(&data),
            ProcessEvent::Started(_) | ProcessEvent::InputWanted | ProcessEvent::Ended(_) => {}
        });
        if let Ok(process) = &process {
            self.feed(process);
        }
        CommandFuture { process, collected }
    }

    /// Sends the input, and its end.
    fn feed(&self, process: &RemoteProcess) {
        match self.input.clone() {
            Some(input) => process.feed(input),
            None => process.end_input(),
        }
    }

    /// Starts it, with its input and output as streams.
    ///
    /// ```no_run
    /// # fn f(web: &econtext::Context) -> Result<(), econtext::Error> {
    /// use std::io::{BufRead as _, BufReader};
    /// let mut tail = web.command("tail").args(["-F", "/var/log/syslog"]).spawn()?;
    /// for line in BufReader::new(&mut tail.stdout).lines().map_while(Result::ok) {
    ///     println!("{line}");
    /// }
    /// # Ok(()) }
    /// ```
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
    /// ```no_run
    /// # fn f(web: &econtext::Context) -> Result<(), econtext::Error> {
    /// use econtext::process::ProcessEvent;
    /// let make = web.command("make").spawn_with(|event| {
    ///     if let ProcessEvent::Output { data, .. } = event {
    ///         print!("{}", String::from_utf8_lossy(&data));
    ///     }
    /// })?;
    /// println!("{}", make.wait()?);
    /// # Ok(()) }
    /// ```
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
        match process.handle() {
            Some(handle) => self.context.0.link.start_process(handle, &self.options()),
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
        let program = self.argv[0].to_string_lossy().into_owned();
        RemoteProcess::prepare(&self.context, program, self.window, grants, callback)
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
}

impl CommandFuture {
    /// Waits for its end.
    ///
    /// # Errors
    /// If it did not start, or the child is gone.
    pub fn wait(&self) -> Result<Output, Error> {
        self.process()?.wait().map(|status| self.output(status))
    }

    /// Waits for its end for some time; `None` if it still runs.
    ///
    /// # Errors
    /// The errors of [`wait`](CommandFuture::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Result<Output, Error>> {
        let ended = match self.process() {
            Ok(process) => process.wait_timeout(timeout)?,
            Err(error) => Err(error),
        };
        Some(ended.map(|status| self.output(status)))
    }

    /// Polls for its end, without blocking. It may be polled again after the end.
    pub fn poll_wait(&self, cx: &std::task::Context<'_>) -> Poll<Result<Output, Error>> {
        match self.process() {
            Err(error) => Poll::Ready(Err(error)),
            Ok(process) => process.poll_wait(cx).map(|ended| ended.map(|status| self.output(status))),
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
