//! The controller's handle on one child.

use crate::back::Listener;
use crate::broker::{Broker, Shared, check_thread};
use crate::carrier::{Carrier, Relay};
use crate::channel::Channel;
use crate::command::{Command, RemoteProcess};
use crate::error::{Error, ErrorKind};
use crate::link::{CallSlot, Event, EventCallback, Link};
use crate::modules::agent;
use crate::modules::finder::ModuleFinder;
use crate::modules::finder::Start;
use crate::payload::{Python, command_line, core_range, payload};
use crate::process::Process;
use crate::status::ProcessEvent;
use crate::transport::{Launch, Local, Transport};
use econtext_proto::{
    Bootstrap, CallSpec, Handle, Hello, Limits, Secret, Session, Value, from_value, to_value,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

/// A description of how a child is started.
///
/// ```no_run
/// # use econtext::{Broker, Context, PathFinder, Local};
/// # use std::sync::{Arc, OnceLock, Weak};
/// let broker = Broker::new()?;
/// let finder = PathFinder::new().source("facts", "def cpus():\n    import os\n    return os.cpu_count()\n");
/// let child = Context::builder("worker").finder(Arc::new(finder)).connect(&broker, Local)?;
/// let cpus: u32 = child.call("facts:cpus", ()).wait()?;
/// # Ok::<(), econtext::Error>(())
/// ```
pub struct ContextBuilder {
    name: String,
    python: Python,
    finder: Option<Arc<dyn ModuleFinder>>,
    on_event: Option<EventCallback>,
    log_level: Option<u8>,
    limits: Limits,
    connect_timeout: Duration,
    push_budget: usize,
    via: Option<Context>,
    back: Option<Listener>,
    python_values: bool,
    target: Option<String>,
}

impl ContextBuilder {
    /// Sets the Python to run; [`Python::Auto`] by default.
    pub fn python(mut self, python: Python) -> Self {
        self.python = python;
        self
    }

    /// Sets the finder of the modules that the child does not have.
    pub fn finder(mut self, finder: Arc<dyn ModuleFinder>) -> Self {
        self.finder = Some(finder);
        self
    }

    /// Sets a callback, called on the broker's thread for all events of the child, in order; the
    /// result of a call is there only after its output. It must not wait for this broker's
    /// contexts; while it runs, the broker does nothing else.
    pub fn on_event(mut self, callback: impl Fn(Event) + Send + Sync + 'static) -> Self {
        self.on_event = Some(Box::new(callback));
        self
    }

    /// Sets the level of the child's root logger, in Python's numbers, 30 (warning) by default.
    /// With `None` no record is forwarded and `logging` there is as in any program.
    pub fn log_level(mut self, level: Option<u8>) -> Self {
        self.log_level = level;
        self
    }

    /// Sets bounds on the data that the child may send, and on the data that is sent to it.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the bytes of modules, compressed, that may be sent ahead of a call because it will
    /// import them. The default is 4 MiB; with 0 every module waits until it is asked for.
    pub fn push_budget(mut self, bytes: usize) -> Self {
        self.push_budget = bytes;
        self
    }

    /// Starts the child from this one: a bastion, or the same host as another user. The hop passes
    /// its stream on and cannot change it unnoticed; it lives as long as the children behind it.
    ///
    /// ```no_run
    /// # use econtext::{Broker, Context, Ssh, Sudo};
    /// # fn f(broker: &Broker) -> Result<(), econtext::Error> {
    /// let bastion = Context::builder("bastion").connect(broker, Ssh::new("bastion"))?;
    /// let inner = Context::builder("inner").via(&bastion).connect(broker, Ssh::new("inner"))?;
    /// let root = Context::builder("inner as root").via(&inner).connect(broker, Sudo::new())?;
    /// assert_eq!(root.call::<u32>("os:getuid", ()).wait()?, 0);
    /// # Ok(()) }
    /// ```
    pub fn via(mut self, hop: &Context) -> Self {
        self.via = Some(hop.clone());
        self
    }

    /// Lets the child connect back to the listener once it is up, over TLS; the ssh that it began
    /// on then ends. Where it cannot reach the listener, and behind a hop, the connection stays as
    /// it is.
    pub fn connect_back(mut self, listener: &Listener) -> Self {
        self.back = Some(listener.clone());
        self
    }

    /// Turns on values for controllers that are Python programs: dates, paths, dataclasses and the
    /// like come as [`Object`](crate::Object)s called `econtext.values.Rich`, of (kind, module,
    /// class, parts), and `econtext.values:call` takes functions and arguments as Python's pickle
    /// writes them. The details are in `agent/imported/values.py`.
    pub fn python_values(mut self, wanted: bool) -> Self {
        self.python_values = wanted;
        self
    }

    /// Sets the source of `econtext.target`, a module by which code there knows which host it is
    /// on. By default it has the context's name as `name`, no `groups` and no `vars`, and is the
    /// one at `position` 1 of a `count` of 1.
    pub fn target_module(mut self, source: impl Into<String>) -> Self {
        self.target = Some(source.into());
        self
    }

    /// Sets how long it may take until the child is up. The default is 60 seconds.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Starts the child, without waiting for it: calls may follow at once, in the same round trip.
    ///
    /// # Errors
    /// If no local process could be started. Later errors are reported by every call, and by
    /// [`Context::wait_ready`].
    pub fn connect(self, broker: &Broker, transport: impl Transport + 'static) -> Result<Context, Error> {
        let ContextBuilder {
            name,
            python,
            finder,
            on_event,
            log_level,
            limits,
            connect_timeout,
            push_budget,
            via,
            back,
            python_values,
            target,
        } = self;
        let failed =
            |kind, message| Error::Connect { kind, host: name.clone(), message, stderr: String::new() };
        let mut random = [0; 32];
        getrandom::fill(&mut random)
            .map_err(|e| failed(ErrorKind::Bootstrap, format!("no random numbers for a secret: {e}")))?;
        let secret = Secret::new(random);
        let payload = payload(log_level, &name, &secret, limits.frame);
        let bootstrap = Bootstrap::new(&secret, limits.frame);
        let mut session = Session::new(&secret, limits, payload.to_vec(), core_range());
        if let Some(bulk) = agent::find(agent::BULK) {
            session.load_before_long_frames(bulk);
        }
        let command = command_line(&python, &name);
        let mut launch = transport.launch(&command);
        tracing::debug!(target: "econtext", context = name, argv = ?launch.argv, "starting");
        let shared = broker.shared().clone();
        let relay = via.map(|hop| Beside::prepare(&hop, &launch, &shared));
        let carrier = match &relay {
            Some(beside) => Carrier::Relay(beside.relay()),
            None => Carrier::Local(Process::spawn(&mut launch).map_err(|e| {
                let message = format!("cannot start {}", launch.argv.first().map_or("", |s| s));
                let is_missing =
                    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied);
                match is_missing {
                    true if launch.argv.first() == command.first() => {
                        failed(ErrorKind::NoPython, format!("{message}: {e}"))
                    }
                    // The program of a transport, as ssh, is one of this machine.
                    true => Error::local(Some(&name), format!("{message} on this machine"), e),
                    false => failed(ErrorKind::Bootstrap, format!("{message}: {e}")),
                }
            })?),
        };
        let parts = (carrier, bootstrap, launch.dialog.take());
        let link = Link::new(
            name.clone(),
            Box::new(transport),
            finder,
            on_event,
            session,
            parts,
            (connect_timeout, push_budget),
            target,
        );
        shared
            .adopt(&link)
            .map_err(|e| failed(ErrorKind::Bootstrap, format!("cannot wait for the child: {e}")))?;
        if python_values {
            link.use_python_values().map_err(|e| failed(ErrorKind::Bootstrap, e.to_string()))?;
        }
        if let Some(beside) = relay {
            let hop = beside.hop.clone();
            beside.start(&link).map_err(|error| {
                // The link does not learn of its end in any other way.
                link.on_relay(ProcessEvent::Ended(Err(error.clone())), &shared);
                link.error_on_hop(&hop, &error, true, String::new())
            })?;
        }
        if let Some(listener) = back.filter(|_| link.process_id().is_some()) {
            link.offer_back(&listener, &shared);
        }
        link.start_writing(&shared);
        Ok(Context(Arc::new(Inner { link, shared })))
    }
}

impl fmt::Debug for ContextBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextBuilder")
            .field("name", &self.name)
            .field("python", &self.python)
            .finish_non_exhaustive()
    }
}

/// A transport that is about to be started beside a hop.
struct Beside {
    command: Command,
    process: RemoteProcess,
    link: Arc<OnceLock<Weak<Link>>>,
    hop: String,
}

impl Beside {
    fn prepare(hop: &Context, launch: &Launch, shared: &Arc<Shared>) -> Self {
        let (program, args) = launch.argv.split_first().map_or(("", &[][..]), |(p, args)| (p, args));
        let mut command = hop.command(program).args(args).transport();
        for (name, value) in &launch.env {
            command = command.env(name, value);
        }
        if launch.dialog.is_some() {
            command = command.terminal_beside();
        }
        let link: Arc<OnceLock<Weak<Link>>> = Arc::default();
        let (found, shared) = (link.clone(), Arc::downgrade(shared));
        let process = command.prepare(false, move |event| {
            if let (Some(link), Some(shared)) = (found.get().and_then(Weak::upgrade), shared.upgrade()) {
                link.on_relay(event, &shared);
            }
        });
        Beside { command, process, link, hop: hop.name().to_owned() }
    }

    fn relay(&self) -> Relay {
        Relay { process: self.process.clone(), hop: self.hop.clone(), owed: 0, ended: None }
    }

    fn start(self, link: &Arc<Link>) -> Result<(), Error> {
        // The link is set only here.
        let _ = self.link.set(Arc::downgrade(link));
        self.command.launch_prepared(&self.process)
    }
}

/// The controller's handle on one child. Clones are the same child; when the last is dropped, the child is asked to
/// end, and ended two seconds later if it has not.
#[derive(Clone, Debug)]
pub struct Context(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) link: Arc<Link>,
    pub(crate) shared: Arc<Shared>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.link.disconnect(Duration::from_secs(2), &self.shared);
    }
}

impl Broker {
    /// Starts a child on this machine, with the program called python3 here.
    ///
    /// # Errors
    /// If no process could be started.
    pub fn local(&self, name: &str) -> Result<Context, Error> {
        Context::builder(name).connect(self, Local)
    }
}

impl Context {
    /// Describes a child; `name` is what errors, logs and `ps` there call it.
    pub fn builder(name: impl Into<String>) -> ContextBuilder {
        ContextBuilder {
            name: name.into(),
            python: Python::Auto,
            finder: None,
            on_event: None,
            log_level: Some(30),
            limits: Limits::default(),
            connect_timeout: Duration::from_secs(60),
            push_budget: 4 << 20,
            via: None,
            back: None,
            python_values: false,
            target: None,
        }
    }

    /// The name of the child.
    pub fn name(&self) -> &str {
        &self.0.link.name
    }

    /// Whether the child is gone, or about to be.
    pub fn is_closed(&self) -> bool {
        self.0.link.is_closed()
    }

    /// A number that no other child has while this one exists; clones have the same.
    pub fn id(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// Waits until the child is up. Any number of threads may wait, at any time: the answer stays
    /// the same.
    ///
    /// # Errors
    /// The reason why there is no child.
    pub fn wait_ready(&self) -> Result<Hello, Error> {
        check_thread()?;
        self.0.link.ready().wait()
    }

    /// Polls for the result of [`wait_ready`](Context::wait_ready), without blocking.
    pub fn poll_ready(&self, cx: &mut std::task::Context<'_>) -> Poll<Result<Hello, Error>> {
        self.0.link.ready().poll(cx)
    }

    /// Calls `module:function` or `module:Class.method` there with a tuple of arguments, or `()`.
    ///
    /// The call is on its way when this returns. Calls of one context are run in the order they were made.
    pub fn call<T: DeserializeOwned>(&self, target: &str, args: impl Serialize) -> Call<T> {
        self.prepare(target).args(args).start()
    }

    /// Prepares a call with more options than arguments.
    pub fn prepare(&self, target: &str) -> CallBuilder<'_> {
        CallBuilder { context: self, spec: CallSpec::parse(target).map_err(Error::Usage), timeout: None }
    }

    /// Opens a channel. Give it to a call as an argument: the function then has its other end.
    pub fn channel(&self) -> Channel {
        Channel::new(self)
    }

    /// Calls `callback` on the broker's thread with each message the child sends to the handle
    /// returned; with `None` after the last.
    pub fn add_handle(&self, callback: impl Fn(Option<Value>) + Send + Sync + 'static) -> Handle {
        self.0.link.add_handle(Arc::new(callback))
    }

    /// Removes a handle of [`add_handle`](Context::add_handle).
    pub fn remove_handle(&self, handle: Handle) {
        self.0.link.remove_handle(handle);
    }

    /// Sends a value to a handle of the child.
    ///
    /// # Errors
    /// If it cannot be sent, or the child is gone.
    pub fn send(&self, handle: Handle, value: &impl Serialize) -> Result<(), Error> {
        let value =
            to_value(value).map_err(|error| Error::Convert { host: self.name().to_owned(), error })?;
        self.0.link.send(handle, &value)
    }

    /// Lets results hold instances of a class; they arrive as [`Object`](crate::Object)s and none
    /// of their code is run.
    pub fn allow_class(&self, module: &str, name: &str) {
        self.0.link.allow_class(module, name);
    }

    /// The bytes that wait to be written to the child.
    pub fn queued_bytes(&self) -> usize {
        self.0.link.queued_bytes()
    }

    /// The bytes that were written to the child, including the payload and the data for children
    /// behind it.
    pub fn sent_bytes(&self) -> u64 {
        self.0.link.sent_bytes()
    }

    /// The id of the local process that carries the stream: the child itself, or its ssh.
    pub fn process_id(&self) -> Option<u32> {
        self.0.link.process_id()
    }

    /// Asks the child to end when its calls are done, and ends it after `grace`. Returns at once.
    pub fn shutdown(&self, grace: Duration) {
        self.0.link.disconnect(grace, &self.0.shared);
    }

    /// The error that says why the child is gone, or only that it is.
    pub(crate) fn closed_error(&self) -> Error {
        self.0.link.closed_error()
    }
}

/// One call that is not made yet.
#[derive(Debug)]
#[must_use = "nothing is called before `start`"]
pub struct CallBuilder<'a> {
    context: &'a Context,
    spec: Result<CallSpec, Error>,
    timeout: Option<Duration>,
}

impl CallBuilder<'_> {
    /// Sets the positional arguments: a tuple, a sequence, or `()`.
    pub fn args(mut self, args: impl Serialize) -> Self {
        let host = self.context.name().to_owned();
        if let Ok(spec) = &mut self.spec {
            match to_value(&args) {
                Ok(Value::Tuple(args) | Value::List(args)) => spec.args = args,
                Ok(Value::None) => spec.args = Vec::new(),
                Ok(other) => {
                    let message =
                        format!("{host}: arguments are a tuple, and this is a {}", other.type_name());
                    self.spec = Err(Error::Usage(message));
                }
                Err(error) => self.spec = Err(Error::Convert { host, error }),
            }
        }
        self
    }

    /// Adds a keyword argument.
    pub fn kwarg(mut self, name: &str, value: impl Serialize) -> Self {
        let host = self.context.name().to_owned();
        if let Ok(spec) = &mut self.spec {
            match to_value(&value) {
                Ok(value) => spec.kwargs.push((Value::from(name), value)),
                Err(error) => self.spec = Err(Error::Convert { host, error }),
            }
        }
        self
    }

    /// Sets the arguments as values that are converted already.
    pub fn values(mut self, args: Vec<Value>, kwargs: Vec<(Value, Value)>) -> Self {
        if let Ok(spec) = &mut self.spec {
            (spec.args, spec.kwargs) = (args, kwargs);
        }
        self
    }

    /// Gives the function the child's own context as its first argument, to send to the controller with.
    pub fn with_context(mut self) -> Self {
        if let Ok(spec) = &mut self.spec {
            spec.with_context = true;
        }
        self
    }

    /// Sets how long the call may take, in its queue and running. It is then interrupted as by
    /// Ctrl-C.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets how long an interrupted call may take to end before its process group is killed. The
    /// default is 2 seconds.
    pub fn grace(mut self, grace: Duration) -> Self {
        if let Ok(spec) = &mut self.spec {
            spec.grace = grace;
        }
        self
    }

    /// Makes the call.
    pub fn start<T: DeserializeOwned>(self) -> Call<T> {
        self.start_program(None)
    }

    /// Makes a call whose imports are those of `start`: these modules go ahead.
    pub fn start_ahead<T: DeserializeOwned>(self, start: Start<'_>) -> Call<T> {
        self.start_program(Some(start))
    }

    pub(crate) fn context(&self) -> &Context {
        self.context
    }

    /// Makes the call through another one: `wrap` returns that, and the module and function whose
    /// imports go ahead.
    pub(crate) fn wrapped<T>(
        mut self,
        wrap: impl FnOnce(CallSpec) -> (CallSpec, (String, String)),
    ) -> Call<T> {
        let inner = match self.spec {
            Ok(spec) => {
                let (outer, inner) = wrap(spec);
                self.spec = Ok(outer);
                inner
            }
            Err(error) => {
                return Call { context: self.context.clone(), state: Err(error), result: PhantomData };
            }
        };
        self.start_program(Some(Start::Function(&inner.0, &inner.1)))
    }

    /// Makes a call that will run `program`.
    pub(crate) fn start_program<T>(self, program: Option<Start<'_>>) -> Call<T> {
        let context = self.context.clone();
        let started = self.spec.and_then(|mut spec| {
            spec.deadline = self.timeout.and_then(|t| Instant::now().checked_add(t));
            context.0.link.call(spec, program, &context.0.shared)
        });
        Call { context, state: started, result: PhantomData }
    }
}

/// A call on its way: [`wait`](Call::wait) for it, or `await` it. Dropping it leaves it running.
///
/// The result is kept: any number of threads and tasks may wait for it, before and after it is
/// there. Clones are the same call.
///
/// ```no_run
/// # fn f(child: &econtext::Context) -> Result<(), econtext::Error> {
/// let call = child.call::<f64>("time:time", ());
/// let other = call.clone();
/// let waiting = std::thread::spawn(move || other.wait());
/// assert_eq!(call.wait()?, call.wait()?);
/// # drop(waiting); Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a call has a result or an error"]
pub struct Call<T> {
    context: Context,
    state: Result<(Handle, Arc<CallSlot>), Error>,
    result: PhantomData<fn() -> T>,
}

impl<T> Clone for Call<T> {
    fn clone(&self) -> Self {
        Call { context: self.context.clone(), state: self.state.clone(), result: PhantomData }
    }
}

impl<T: DeserializeOwned> Call<T> {
    /// Waits for the result.
    ///
    /// # Errors
    /// The exception of the function, the end of the child, or a result that is no `T`.
    pub fn wait(&self) -> Result<T, Error> {
        let (_, slot) = self.state.as_ref().map_err(Error::clone)?;
        check_thread()?;
        self.convert(slot.wait())
    }

    /// Waits for the result for some time; `None` if it is not there by then. The call continues.
    ///
    /// # Errors
    /// The errors of [`wait`](Call::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Result<T, Error>> {
        let (_, slot) = match &self.state {
            Ok(started) => started,
            Err(error) => return Some(Err(error.clone())),
        };
        if let Err(error) = check_thread() {
            return Some(Err(error));
        }
        slot.wait_until(Instant::now().checked_add(timeout)).map(|result| self.convert(result))
    }

    /// Polls for the result, without blocking. It may be polled again after it was there.
    pub fn poll_wait(&self, cx: &std::task::Context<'_>) -> Poll<Result<T, Error>> {
        self.poll_result(cx).map(|result| self.convert(result))
    }

    fn convert(&self, result: Result<Value, Error>) -> Result<T, Error> {
        from_value(result?).map_err(|error| Error::Convert { host: self.context.name().to_owned(), error })
    }
}

impl<T> Call<T> {
    /// Stops the call: it ends as cancelled at once, and the function is interrupted there.
    pub fn cancel(&self) {
        if let Ok((handle, _)) = &self.state {
            self.context.0.link.cancel(*handle, &self.context.0.shared);
        }
    }

    /// Stops the call as [`cancel`](Call::cancel) does, if it has not ended by itself after
    /// `grace`. Returns at once.
    pub(crate) fn cancel_after(&self, grace: Duration) {
        if let Ok((handle, _)) = &self.state {
            self.context.0.link.cancel_after(*handle, grace, &self.context.0.shared);
        }
    }

    /// Waits for the outcome, which stays here; `None` if `until` passes first.
    pub(crate) fn result(&self, until: Option<Instant>) -> Option<Result<Value, Error>> {
        match &self.state {
            Ok((_, slot)) => slot.wait_until(until),
            Err(error) => Some(Err(error.clone())),
        }
    }

    /// Polls for the outcome as [`result`](Call::result) does, without blocking.
    pub(crate) fn poll_result(&self, cx: &std::task::Context<'_>) -> Poll<Result<Value, Error>> {
        match &self.state {
            Ok((_, slot)) => slot.poll(cx),
            Err(error) => Poll::Ready(Err(error.clone())),
        }
    }
}

impl<T: DeserializeOwned> Future for Call<T> {
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        self.poll_wait(cx)
    }
}
