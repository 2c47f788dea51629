//! Children on targets: from their hops, as other users, and as often as it takes.

use crate::{Gates, Handshake, Inventory, Retry, Settings, Stop, Target, is_refused_handshake};
use econtext::internal::lock;
use econtext::{Broker, Context, ContextBuilder, Error};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The targets that others are started from, each connected once.
pub struct Hops {
    inventory: Arc<Inventory>,
    settings: Settings,
    connected: Mutex<HashMap<Vec<String>, Context>>,
}

impl Hops {
    /// Hops are reached as `settings` say; nobody else is become there.
    pub fn new(inventory: Arc<Inventory>, settings: &Settings) -> Self {
        let mut settings = Settings { via: Vec::new(), ..settings.clone() };
        settings.r#become = Some(None);
        Hops { inventory, settings, connected: Mutex::default() }
    }

    /// The hops on the way to a target.
    ///
    /// # Errors
    /// If one of them is no target.
    pub fn of(&self, target: &Target) -> Result<Vec<Target>, Error> {
        let hop = |name: &String| self.inventory.target(name, &self.settings);
        target.settings.via.iter().map(|name| hop(name).map_err(|e| Error::Usage(e.0))).collect()
    }
}

/// A child, and where another user was become, the one that it was started from.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The child.
    pub context: Context,
    login: Option<Context>,
}

/// How long and how often a host is tried.
#[derive(Clone, Copy, Debug)]
pub struct Tries {
    /// How long all that is done with it may take.
    pub timeout: Option<Duration>,
    /// How long one connecting may take.
    pub connect_timeout: Duration,
    /// How often what was not reached is tried again.
    pub retries: u32,
}

/// Connects children of one run: they share hops, the rate of logins, and the end.
pub struct Connector {
    broker: Arc<Broker>,
    hops: Hops,
    gates: Gates,
    stop: Arc<Stop>,
}

impl Connector {
    /// With a stop that ends all that is connected.
    pub fn new(broker: Arc<Broker>, hops: Hops, gates: Gates, stop: Arc<Stop>) -> Self {
        Connector { broker, hops, gates, stop }
    }

    /// What a child on a target is like at the least.
    pub fn builder(&self, target: &Target, timeout: Duration) -> ContextBuilder {
        Context::builder(&target.name).python(target.settings.python()).connect_timeout(timeout)
    }

    /// The innermost hop of a target. Nobody waits for it: what is to start there is on its way already.
    fn hop(&self, target: &Target, timeout: Duration) -> Result<Option<Context>, Error> {
        let hops = self.hops.of(target)?;
        let mut connected = lock(&self.hops.connected);
        // Those that are gone are connected anew.
        connected.retain(|_, context| !context.is_closed());
        let mut hop: Option<Context> = None;
        let mut way = Vec::new();
        for target in &hops {
            way.push(target.name.clone());
            let next = match connected.get(&way) {
                Some(known) => known.clone(),
                None => {
                    let builder = via(self.builder(target, timeout), hop.as_ref());
                    let next = builder.connect(&self.broker, target.transport())?;
                    self.stop.add(&next);
                    connected.insert(way.clone(), next.clone());
                    next
                }
            };
            hop = Some(next);
        }
        Ok(hop)
    }

    /// Starts a child, and if another user is to be become, one for that first.
    ///
    /// # Errors
    /// If nothing could be started. What goes wrong later is told to calls.
    pub fn connect(
        &self,
        builder: ContextBuilder,
        target: &Target,
        timeout: Duration,
    ) -> Result<Connection, Error> {
        let hop = self.hop(target, timeout)?;
        let connection = match target.settings.become_transport() {
            None => {
                let context = via(builder, hop.as_ref()).connect(&self.broker, target.transport())?;
                Connection { context, login: None }
            }
            Some(other) => {
                let login = via(self.builder(target, timeout), hop.as_ref());
                let login = login.connect(&self.broker, target.transport())?;
                self.stop.add(&login);
                let context =
                    builder.via(&login).connect(&self.broker, other).inspect_err(|_| self.end(&login))?;
                Connection { context, login: Some(login) }
            }
        };
        self.stop.add(&connection.context);
        Ok(connection)
    }

    /// Ends what is not needed any more.
    pub fn let_go(&self, connection: &Connection) {
        self.end(&connection.context);
        if let Some(login) = &connection.login {
            self.end(login);
        }
    }

    /// Ends the hops, which others may still hang on: when there are no others any more.
    pub fn end_hops(&self) {
        let hops = std::mem::take(&mut *lock(&self.hops.connected));
        hops.values().for_each(|hop| self.end(hop));
    }

    fn end(&self, child: &Context) {
        self.stop.remove(child);
        child.shutdown(Duration::from_secs(2));
    }

    /// Waits where a target's handshakes are counted: at the host that ssh jumps over, at its last hop, or here.
    fn enter(&self, target: &Target) -> Arc<Handshake> {
        let settings = &target.settings;
        let place = settings.jump.as_ref().or(settings.via.last()).map_or("", |place| place);
        Arc::new(self.gates.enter(place, &self.stop))
    }

    /// Tries until there is a result, or an error that trying again does not mend. `attempt` is given when the host's time
    /// began, how long connecting may take, and what is to be told once that is done; `failure` is the error in what it returns.
    pub fn persist<T>(
        &self,
        target: &Target,
        tries: Tries,
        attempt: impl Fn(Instant, Duration, Arc<Handshake>) -> T,
        failure: impl Fn(&T) -> Option<&Error>,
    ) -> T {
        let mut retry = Retry::new(tries.retries);
        let mut refusals = 0;
        // Waiting for a turn is not the host's time. With retries each try has its own; without, refusals are part of the one.
        let mut handshake = self.enter(target);
        let started = Instant::now();
        let mut connect_until = started + tries.connect_timeout;
        loop {
            let left = connect_until.saturating_duration_since(Instant::now());
            let left = tries.timeout.map_or(left, |t| t.saturating_sub(started.elapsed()).min(left));
            let result = attempt(started, left, handshake.clone());
            let Some(error) = failure(&result) else { return result };
            let refused = is_refused_handshake(error);
            // Who refuses again and again says nothing about the others.
            refusals += u32::from(refused);
            if refused && refusals <= 2 {
                handshake.refused();
            }
            drop(handshake);
            let Some(wait) = retry.after(error) else { return result };
            if !refused {
                connect_until = Instant::now() + wait + tries.connect_timeout;
            }
            let over = tries.timeout.is_some_and(|t| started.elapsed() + wait >= t);
            if self.stop.is_stopped() || over || Instant::now() + wait >= connect_until {
                return result;
            }
            tracing::info!(host = target.name, %error, "trying again in {:.1} s", wait.as_secs_f64());
            self.stop.sleep(wait);
            let turn = Instant::now();
            handshake = self.enter(target);
            connect_until += turn.elapsed();
        }
    }
}

fn via(builder: ContextBuilder, hop: Option<&Context>) -> ContextBuilder {
    match hop {
        Some(hop) => builder.via(hop),
        None => builder,
    }
}
