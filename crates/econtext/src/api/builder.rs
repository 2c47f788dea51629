//! The start of a child.

use super::context::{Context, Inner};
use super::hop::HopLaunch;
use crate::broker::Broker;
use crate::child::{Carrier, ChildEvent, EventCallback, Link, LinkParts, LocalProcess};
#[cfg(feature = "connect-back")]
use crate::connect_back::Listener;
use crate::error::{Error, ErrorKind};
use crate::modules::agent;
use crate::modules::finder::ModuleFinder;
use crate::status::ProcessEvent;
use crate::transport::{Local, Python, Transport, command_line, core_range, payload};
use econtext_proto::{Bootstrap, Limits, Secret, Session};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

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
            #[cfg(feature = "connect-back")]
            back: None,
            python_values: false,
            target: None,
        }
    }
}

/// A description of how a child is started.
///
/// ```no_run
/// # use econtext::{Broker, Context, PathFinder, Local};
/// # use std::sync::Arc;
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
    #[cfg(feature = "connect-back")]
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
    pub fn on_event(mut self, callback: impl Fn(ChildEvent) + Send + Sync + 'static) -> Self {
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
    /// # use econtext::{Broker, Context, Ssh};
    /// # use econtext::transport::Sudo;
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
    #[cfg(feature = "connect-back")]
    pub fn connect_back(mut self, listener: &Listener) -> Self {
        self.back = Some(listener.clone());
        self
    }

    /// Turns on values for controllers that are Python programs: dates, paths, dataclasses and the
    /// like come as [`Object`](crate::value::Object)s called `econtext.values.Rich`, of (kind, module,
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
            #[cfg(feature = "connect-back")]
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
        let relay = via.map(|hop| HopLaunch::prepare(&hop, &launch, &shared));
        let carrier: Box<dyn Carrier> = match &relay {
            Some(hop) => Box::new(hop.carrier()),
            None => Box::new(LocalProcess::spawn(&mut launch).map_err(|e| {
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
        let link = Link::new(LinkParts {
            name: name.clone(),
            transport: Box::new(transport),
            finder,
            on_event,
            session,
            carrier,
            bootstrap,
            dialog: launch.dialog.take(),
            connect_timeout,
            push_budget,
            target,
        });
        shared
            .adopt(&link)
            .map_err(|e| failed(ErrorKind::Bootstrap, format!("cannot wait for the child: {e}")))?;
        if python_values {
            link.use_python_values().map_err(|e| failed(ErrorKind::Bootstrap, e.to_string()))?;
        }
        if let Some(launch) = relay {
            let hop = launch.hop.clone();
            launch.start(&link).map_err(|error| {
                // The link does not learn of its end in any other way.
                link.on_relay(ProcessEvent::Ended(Err(error.clone())), &*shared);
                link.error_on_hop(&hop, &error, true, String::new())
            })?;
        }
        #[cfg(feature = "connect-back")]
        if let Some(listener) = back.filter(|_| link.process_id().is_some())
            && let Some(offer) = listener.offer(&link, &shared)
        {
            link.offer_back(&offer);
        }
        link.start_writing(&*shared);
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
