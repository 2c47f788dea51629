//! Connections of children on targets: by hops, as other users, and with retries.

use crate::gate::{Gates, Handshake, Retry, is_refused_handshake};
use crate::inventory::Inventory;
use crate::rollout::Stop;
use crate::settings::Settings;
use crate::target::Target;
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
    /// The hops, reached as `settings` say, without a switch of user.
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

/// A child and, after a switch of user, the child that it was started from.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The child.
    pub context: Context,
    login: Option<Context>,
}

/// The limits on the tries for a host.
#[derive(Clone, Copy, Debug)]
pub struct Tries {
    /// The time for all work on the host.
    pub timeout: Option<Duration>,
    /// The time for one try to connect.
    pub connect_timeout: Duration,
    /// The number of retries for a host that was not reached.
    pub retries: u32,
}

/// Connects the children of one run, which share hops, the rate of logins, and the stop.
pub struct Connector {
    broker: Arc<Broker>,
    hops: Hops,
    gates: Gates,
    stop: Arc<Stop>,
}

impl Connector {
    /// A connector whose `stop` ends all its children.
    pub fn new(broker: Arc<Broker>, hops: Hops, gates: Gates, stop: Arc<Stop>) -> Self {
        Connector { broker, hops, gates, stop }
    }

    /// The builder of a child on a target, with the settings that every child has.
    pub fn builder(&self, target: &Target, timeout: Duration) -> ContextBuilder {
        Context::builder(&target.name).python(target.settings.python()).connect_timeout(timeout)
    }

    /// The innermost hop of a target. No caller waits for it: the start of the next child is on its
    /// way already.
    fn hop(&self, target: &Target, timeout: Duration) -> Result<Option<Context>, Error> {
        let hops = self.hops.of(target)?;
        let mut connected = lock(&self.hops.connected);
        // Closed hops are connected again.
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

    /// Starts a child; for a switch of user, it starts a child of the login user first.
    ///
    /// # Errors
    /// If nothing could be started. Calls return the errors that occur later.
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

    /// Ends a connection that is not needed any more.
    pub fn let_go(&self, connection: &Connection) {
        self.end(&connection.context);
        if let Some(login) = &connection.login {
            self.end(login);
        }
    }

    /// Ends the hops. Other children may depend on them, so it is called when there are none any
    /// more.
    pub fn end_hops(&self) {
        let hops = std::mem::take(&mut *lock(&self.hops.connected));
        hops.values().for_each(|hop| self.end(hop));
    }

    fn end(&self, child: &Context) {
        self.stop.remove(child);
        child.shutdown(Duration::from_secs(2));
    }

    /// Waits at the gate of a target's handshakes: that of the host that ssh jumps over, of its
    /// last hop, or of this machine.
    fn enter(&self, target: &Target) -> Arc<Handshake> {
        let settings = &target.settings;
        let place = settings.jump.as_ref().or(settings.via.last()).map_or("", |place| place);
        Arc::new(self.gates.enter(place, &self.stop))
    }

    /// Tries until there is a result, or an error that another try does not fix. `attempt` is given
    /// the start of the host's time, the time for connecting, and the handshake to tell once that
    /// is done; `failure` returns the error in a result.
    pub fn persist<T>(
        &self,
        target: &Target,
        tries: Tries,
        attempt: impl Fn(Instant, Duration, Arc<Handshake>) -> T,
        failure: impl Fn(&T) -> Option<&Error>,
    ) -> T {
        let mut retry = Retry::new(tries.retries);
        let mut refusals = 0;
        // The wait for a turn is not the host's time. Each retry has its own time for connecting;
        // refused handshakes are part of that of their try.
        let mut handshake = self.enter(target);
        let started = Instant::now();
        let mut connect_until = started + tries.connect_timeout;
        loop {
            let left = connect_until.saturating_duration_since(Instant::now());
            let left = tries.timeout.map_or(left, |t| t.saturating_sub(started.elapsed()).min(left));
            let result = attempt(started, left, handshake.clone());
            let Some(error) = failure(&result) else { return result };
            let refused = is_refused_handshake(error);
            // A host that refuses again and again says nothing about the others.
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
