//! Work on many hosts at a time.

use crate::args::Common;
use crate::outcome::Outcome;
use crate::output::report::Report;
use crate::run::child_environment::ChildEnvironment;
use econtext::modules::ModuleFinder;
use econtext::{Broker, ChildEvent, Context, ContextBuilder, Error, Listener, Value};
use econtext_fleet::{
    Connector, Gates, Handshake, Hops, Identity, Passwords, Reason, Rollout, Settings, Stop, Target, Tries,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The state that all hosts of a run share, for every verb.
pub(crate) struct Job<'a> {
    pub(crate) common: &'a Common,
    pub(crate) report: Arc<Report>,
    pub(crate) stop: Arc<Stop>,
    /// The number of hosts at a time.
    pub(crate) forks: usize,
    /// Whether a connected host is not reported as a result.
    pub(crate) connects_only: bool,
    /// The identities of the hosts, one for each child.
    pub(crate) identities: Vec<Identity>,
}

/// A job with all that its children need.
pub(crate) struct Children<'a> {
    pub(crate) job: &'a Job<'a>,
    pub(crate) finder: Arc<dyn ModuleFinder>,
    pub(crate) surroundings: ChildEnvironment,
    pub(crate) log_level: Option<u8>,
    /// Whether children stay up when the work is done.
    pub(crate) keep: bool,
    connector: Connector,
    listener: Option<Listener>,
}

/// One host's part in a job.
pub(crate) struct Host<'a> {
    pub(crate) context: Context,
    pub(crate) started: Instant,
    pub(crate) index: usize,
    pub(crate) job: &'a Job<'a>,
}

impl Host<'_> {
    /// Shows output of the host, from any thread.
    pub(crate) fn show(&self) -> impl Fn(u8, &[u8]) + Send + Sync + use<> {
        let (report, stop) = (self.job.report.clone(), self.job.stop.clone());
        let (index, name) = (self.index, self.context.name().to_owned());
        move |fd, data| {
            report.output(index, &name, fd, data);
            if report.broken() && !stop.is_stopped() {
                stop.stop(Reason::Interrupted);
            }
        }
    }

    /// Shows an item of a generator, from any thread.
    pub(crate) fn show_item(&self) -> impl Fn(Value) + Send + Sync + use<> {
        let (report, stop) = (self.job.report.clone(), self.job.stop.clone());
        let (index, name) = (self.index, self.context.name().to_owned());
        move |item| {
            report.item(index, &name, &item);
            if report.broken() && !stop.is_stopped() {
                stop.stop(Reason::Interrupted);
            }
        }
    }

    /// The identity of the host.
    pub(crate) fn identity(&self) -> &Identity {
        &self.job.identities[self.index]
    }

    /// The time that the host has left.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        self.job.common.timeout.map(|t| t.saturating_sub(self.started.elapsed()))
    }
}

impl Job<'_> {
    /// Calls `one` for every target, as `--forks`, `--batch` and `--fail-on` say; the outcomes are
    /// in the order of the targets.
    pub(crate) fn pool(
        &self,
        targets: &[Target],
        one: impl Fn(usize, &Target) -> Outcome + Sync,
    ) -> Vec<Outcome> {
        let common = self.common;
        let rollout =
            Rollout { forks: self.forks, batch: common.batch, pause: common.pause, fail_on: common.fail_on };
        let done = |index: usize, outcome: Outcome, elapsed| {
            if !(self.connects_only && outcome.is_ok()) {
                self.report.result(index, &targets[index].name, &outcome, elapsed);
            }
            if self.report.broken() {
                self.stop.stop(Reason::Interrupted);
            }
            outcome
        };
        rollout.run(
            targets.len(),
            &self.stop,
            |index| {
                let started = Instant::now();
                self.report.begun(index, &targets[index].name);
                let outcome = one(index, &targets[index]);
                done(index, self.of_stop(outcome, &targets[index]), started.elapsed())
            },
            |outcome| !outcome.is_ok(),
            |index, failures| {
                let outcome = match failures {
                    Some(n) => {
                        Outcome::NotBegun(format!("not begun: {n} had failed, and --fail-on says to stop"))
                    }
                    None => self.of_stop(
                        Outcome::NotBegun("not begun: the run was stopped".to_owned()),
                        &targets[index],
                    ),
                };
                done(index, outcome, Duration::ZERO)
            },
        )
    }

    /// Replaces a failure by the error of the stop, if the run was stopped.
    fn of_stop(&self, outcome: Outcome, target: &Target) -> Outcome {
        match (self.stop.reason(), outcome) {
            (None, outcome) => outcome,
            (_, outcome) if outcome.is_ok() => outcome,
            (Some(Reason::Deadline), Outcome::Failed(_) | Outcome::NotBegun(_)) => {
                Outcome::Failed(Error::Timeout {
                    host: target.name.clone(),
                    phase: "the run",
                    after: self.common.deadline.unwrap_or_default(),
                    stderr: String::new(),
                })
            }
            (Some(Reason::Interrupted), Outcome::Failed(_)) => {
                Outcome::Failed(Error::Cancelled { host: target.name.clone() })
            }
            (_, outcome) => outcome,
        }
    }
}

/// Listens for children that connect back: to an address and port, to an address, or to the address
/// that their ssh came from.
fn listen(address: &str) -> Result<Listener, Error> {
    let (name, port) = match address.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => (name, port),
        _ => (address, "0"),
    };
    let names: Vec<&str> = if name.is_empty() { Vec::new() } else { vec![name.trim_matches(['[', ']'])] };
    // The socket takes both address families, where the system has both.
    Listener::bind(&format!("[::]:{port}"), &names)
        .or_else(|_| Listener::bind(&format!("0.0.0.0:{port}"), &names))
}

impl<'a> Children<'a> {
    pub(crate) fn new(
        job: &'a Job<'a>,
        finder: Arc<dyn ModuleFinder>,
        log_level: Option<u8>,
        hops: Hops,
    ) -> anyhow::Result<Self> {
        Ok(Children {
            job,
            finder,
            surroundings: ChildEnvironment::new(job.common)?,
            log_level,
            keep: false,
            connector: Connector::new(
                Arc::new(Broker::new()?),
                hops,
                Gates::new(job.common.connect_rate),
                job.stop.clone(),
            ),
            listener: job.common.connect_back.as_deref().map(listen).transpose()?,
        })
    }

    /// Runs `work` in a child on every target; the outcomes are in the order of the targets.
    pub(crate) fn run(&self, targets: &[Target], work: impl Fn(&Host<'_>) -> Outcome + Sync) -> Vec<Outcome> {
        self.job.pool(targets, |index, target| self.one(index, target, &work))
    }

    /// The builder of a child of a run, which is the same for all work.
    fn child(
        &self,
        index: usize,
        target: &Target,
        timeout: Duration,
        handshake: Arc<Handshake>,
    ) -> ContextBuilder {
        let started = Instant::now();
        let (report, name, stop) = (self.job.report.clone(), target.name.clone(), self.job.stop.clone());
        let on_event = move |event| {
            match event {
                ChildEvent::Started(hello) => {
                    handshake.succeeded();
                    report.started(index, &name, &hello, started.elapsed());
                }
                ChildEvent::Output { fd, data } => report.output(index, &name, fd, &data),
                ChildEvent::Log(record) => report.log(index, &name, &record),
                _ => {}
            }
            if report.broken() && !stop.is_stopped() {
                stop.stop(Reason::Interrupted);
            }
        };
        let identity = self.job.identities.get(index).map(Identity::source);
        let builder = self.connector.builder(target, timeout);
        let builder = match identity {
            Some(source) => builder.target_module(source),
            None => builder,
        };
        let builder = builder.finder(self.finder.clone()).log_level(self.log_level).on_event(on_event);
        let builder = match &self.listener {
            Some(listener) => builder.connect_back(listener),
            None => builder,
        };
        // Modules that will be files on the host need not be sent ahead.
        if self.job.common.spool.iter().any(|s| s == "all") { builder.push_budget(0) } else { builder }
    }

    /// Tries until there is a result, or an error that another try does not fix.
    pub(crate) fn one(
        &self,
        index: usize,
        target: &Target,
        work: &(impl Fn(&Host<'_>) -> Outcome + Sync),
    ) -> Outcome {
        let common = self.job.common;
        let tries = Tries {
            timeout: common.timeout,
            connect_timeout: common.connect_timeout,
            retries: common.retries,
        };
        self.connector.persist(
            target,
            tries,
            |started, left, handshake| self.attempt((index, target), started, (left, handshake), work),
            |outcome| match outcome {
                Outcome::Failed(error) => Some(error),
                _ => None,
            },
        )
    }

    fn attempt(
        &self,
        (index, target): (usize, &Target),
        started: Instant,
        (timeout, handshake): (Duration, Arc<Handshake>),
        work: &(impl Fn(&Host<'_>) -> Outcome + Sync),
    ) -> Outcome {
        let common = self.job.common;
        let builder = self.child(index, target, timeout, handshake);
        let connection = match self.connector.connect(builder, target, timeout) {
            Ok(connection) => connection,
            Err(error) => return Outcome::Failed(error),
        };
        let context = connection.context.clone();
        // No caller waits for it yet: it runs before the calls that follow.
        let spooled: Vec<&String> = common.spool.iter().filter(|package| *package != "none").collect();
        let spool = (!spooled.is_empty())
            .then(|| context.call::<Value>("econtext.spool:start", (&spooled, &common.spool_dir)));
        let host = Host { context: context.clone(), started, index, job: self.job };
        let outcome = match self.surroundings.set_up(&context, host.time_left()) {
            Ok(()) => work(&host),
            Err(error) => Outcome::Failed(error),
        };
        let spool = spool.and_then(|call| match host.time_left() {
            None => Some(call.wait()),
            Some(left) => call.wait_timeout(left),
        });
        if self.keep && outcome.is_ok() {
            return outcome;
        }
        // A thread that still feeds input to the child must not keep it.
        self.connector.let_go(&connection);
        match spool {
            Some(Err(error)) => Outcome::Failed(error),
            _ => outcome,
        }
    }
}

/// The settings of all targets, with the secrets that were asked for.
pub(crate) fn with_passwords(settings: Settings, passwords: Passwords) -> Settings {
    Settings { passwords, ..settings }
}
