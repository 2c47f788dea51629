//! Work on many hosts at a time, what came of it, and the exit status that this makes.

use crate::args::Common;
use crate::report::Report;
use crate::surroundings::Surroundings;
use crate::target::{Passwords, Target, become_transport};
use econtext::{Broker, Context, ContextBuilder, Error, ErrorKind, Event, ModuleFinder, Python, Value};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The content of a mutex. Nothing here is left half changed by a thread that panics.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What came of one host.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// A value.
    Value(Value),
    /// A program's exit status.
    Exit(u8),
    /// The signal that ended a program.
    Signal(i32),
    /// Neither.
    Failed(Error),
}

impl From<Result<Value, Error>> for Outcome {
    fn from(result: Result<Value, Error>) -> Self {
        result.map_or_else(Outcome::Failed, Outcome::Value)
    }
}

impl Outcome {
    pub(crate) fn is_ok(&self) -> bool {
        matches!(self, Outcome::Value(_) | Outcome::Exit(0))
    }

    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Outcome::Failed(error) if error.kind().is_connect())
    }

    pub(crate) fn is_timeout(&self) -> bool {
        matches!(self, Outcome::Failed(error) if error.kind() == ErrorKind::Timeout)
    }

    /// The exit status of a run with this host alone.
    fn status(&self) -> u8 {
        match self {
            Outcome::Value(_) | Outcome::Exit(0) => 0,
            Outcome::Exit(_) => 5,
            Outcome::Signal(_) => 3,
            Outcome::Failed(error) => match error.kind() {
                kind if kind.is_connect() => 4,
                ErrorKind::Timeout | ErrorKind::Closed | ErrorKind::Cancelled => 3,
                ErrorKind::Usage => 2,
                _ => 5,
            },
        }
    }
}

/// The highest class present wins: 4, then 3, then 5.
pub(crate) fn exit_status(outcomes: &[Outcome]) -> u8 {
    let present = |status| outcomes.iter().any(|o| o.status() == status);
    [4, 3, 5, 2].into_iter().find(|&status| present(status)).unwrap_or(0)
}

/// What all hosts of a run share.
pub(crate) struct Job<'a> {
    pub(crate) common: &'a Common,
    pub(crate) report: Arc<Report>,
    pub(crate) finder: Arc<dyn ModuleFinder>,
    pub(crate) passwords: Passwords,
    /// What the children are started from, the outermost first.
    pub(crate) hops: Vec<Target>,
    pub(crate) surroundings: Surroundings,
    pub(crate) log_level: Option<u8>,
    pub(crate) stop: Arc<Stop>,
}

/// Ends a run early.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    stopped: AtomicBool,
    running: Mutex<Vec<Context>>,
}

impl Stop {
    /// Ends every child, now and to come.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        for context in self.lock().iter() {
            context.shutdown(Duration::ZERO);
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Context>> {
        lock(&self.running)
    }

    fn add(&self, context: &Context) {
        self.lock().push(context.clone());
        if self.is_stopped() {
            context.shutdown(Duration::ZERO);
        }
    }

    fn remove(&self, context: &Context) {
        self.lock().retain(|c| c.name() != context.name());
    }
}

/// One host's part in a job.
pub(crate) struct Host<'a> {
    pub(crate) context: Context,
    pub(crate) started: Instant,
    index: usize,
    job: &'a Job<'a>,
}

impl Host<'_> {
    /// Shows output of the host, from any thread.
    pub(crate) fn show(&self) -> impl Fn(u8, &[u8]) + Send + Sync + use<> {
        let (report, stop) = (self.job.report.clone(), self.job.stop.clone());
        let (index, name) = (self.index, self.context.name().to_owned());
        move |fd, data| {
            report.output(index, &name, fd, data);
            if report.broken() && !stop.is_stopped() {
                stop.stop();
            }
        }
    }

    /// What is left of the host's time.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        self.job.common.timeout.map(|t| t.saturating_sub(self.started.elapsed()))
    }
}

/// Does something for every target, no more than `--forks` at a time; the outcomes are in the order of the targets.
pub(crate) fn pool(
    common: &Common,
    report: &Report,
    stop: &Stop,
    targets: &[Target],
    one: impl Fn(usize, &Target) -> Outcome + Sync,
) -> Vec<Outcome> {
    let queue: Mutex<VecDeque<usize>> = Mutex::new((0..targets.len()).collect());
    let outcomes: Mutex<Vec<Option<Outcome>>> = Mutex::new(targets.iter().map(|_| None).collect());
    std::thread::scope(|scope| {
        for _ in 0..common.forks.get().min(targets.len()) {
            scope.spawn(|| {
                loop {
                    let next = lock(&queue).pop_front();
                    let Some(index) = next else { return };
                    let started = Instant::now();
                    let target = &targets[index];
                    let outcome = if stop.is_stopped() {
                        Outcome::Failed(Error::Cancelled { host: target.name.clone() })
                    } else {
                        one(index, target)
                    };
                    report.result(index, &target.name, &outcome, started.elapsed());
                    lock(&outcomes)[index] = Some(outcome);
                    if report.broken() {
                        stop.stop();
                    }
                }
            });
        }
    });
    outcomes.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().flatten().collect()
}

fn via(builder: ContextBuilder, hop: Option<&Context>) -> ContextBuilder {
    match hop {
        Some(hop) => builder.via(hop),
        None => builder,
    }
}

impl Job<'_> {
    /// Runs `work` on every target, no more than `--forks` at a time; the outcomes are in the order of the targets.
    pub(crate) fn run(
        &self,
        targets: &[Target],
        work: impl Fn(&Host<'_>) -> Outcome + Sync,
    ) -> Result<Vec<Outcome>, Error> {
        let broker = Broker::new()?;
        let hop = self.hop(&broker)?;
        Ok(pool(self.common, &self.report, &self.stop, targets, |index, target| {
            self.one(index, target, (&broker, hop.as_ref()), &work)
        }))
    }

    fn builder(&self, target: &Target) -> ContextBuilder {
        let timeout = self.common.timeout.unwrap_or(Duration::MAX).min(self.common.connect_timeout);
        Context::builder(&target.name)
            .python(Python::from(self.common.python.as_str()))
            .connect_timeout(timeout)
    }

    /// The hop that all targets are started from. Nobody waits for it: what is to start there is on its way already.
    fn hop(&self, broker: &Broker) -> Result<Option<Context>, Error> {
        let mut hop = None;
        for target in &self.hops {
            let builder = via(self.builder(target), hop.as_ref());
            let next = builder.connect(broker, target.transport(self.common, &self.passwords))?;
            self.stop.add(&next);
            hop = Some(next);
        }
        Ok(hop)
    }

    /// Starts the child, and if another user is to be become, one for that first.
    fn connect(
        &self,
        builder: ContextBuilder,
        target: &Target,
        broker: &Broker,
        hop: Option<&Context>,
    ) -> Result<Context, Error> {
        let transport = target.transport(self.common, &self.passwords);
        match become_transport(self.common, &self.passwords) {
            None => via(builder, hop).connect(broker, transport),
            Some(other) => {
                let login = via(self.builder(target), hop).connect(broker, transport)?;
                self.stop.add(&login);
                builder.via(&login).connect(broker, other)
            }
        }
    }

    fn one(
        &self,
        index: usize,
        target: &Target,
        (broker, hop): (&Broker, Option<&Context>),
        work: &(impl Fn(&Host<'_>) -> Outcome + Sync),
    ) -> Outcome {
        let started = Instant::now();
        let (report, name, stop) = (self.report.clone(), target.name.clone(), self.stop.clone());
        let on_event = move |event| {
            match event {
                Event::Started(hello) => report.started(&name, &hello, started.elapsed()),
                Event::Output { fd, data } => report.output(index, &name, fd, &data),
                Event::Log(record) => report.log(index, &name, &record),
                _ => {}
            }
            if report.broken() && !stop.is_stopped() {
                stop.stop();
            }
        };
        let builder =
            self.builder(target).finder(self.finder.clone()).log_level(self.log_level).on_event(on_event);
        // What will be files there need not go ahead as modules.
        let builder =
            if self.common.spool.iter().any(|s| s == "all") { builder.push_budget(0) } else { builder };
        let context = match self.connect(builder, target, broker, hop) {
            Ok(context) => context,
            Err(error) => return Outcome::Failed(error),
        };
        self.stop.add(&context);
        // Nobody waits for it: it runs before what follows.
        let spool = (!self.common.spool.is_empty()).then(|| {
            context.call::<Value>("econtext.spool:start", (&self.common.spool, &self.common.spool_dir))
        });
        let host = Host { context: context.clone(), started, index, job: self };
        let outcome = match self.surroundings.set_up(&context, host.time_left()) {
            Ok(()) => work(&host),
            Err(error) => Outcome::Failed(error),
        };
        let spool = spool.and_then(|call| match host.time_left() {
            None => Some(call.wait()),
            Some(left) => call.wait_timeout(left),
        });
        self.stop.remove(&context);
        // Whoever still feeds it input must not keep it.
        context.shutdown(Duration::from_secs(2));
        if let Some(Err(error)) = spool {
            return Outcome::Failed(error);
        }
        match outcome {
            Outcome::Failed(_) if self.stop.is_stopped() => {
                Outcome::Failed(Error::Cancelled { host: target.name.clone() })
            }
            outcome => outcome,
        }
    }
}
