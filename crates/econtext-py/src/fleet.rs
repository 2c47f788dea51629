//! Many hosts: connected as the command connects them, and work on all of them, results as they come.

use crate::child::{Broker, Child, Inner, lock, outcome};
use crate::errors::{instance, spec};
use crate::finder::Finder;
use crate::owned::Owned;
use crate::process::{Collected, Command, Ended, Env, finished};
use crate::request::{Request, Spec};
use crate::settings::settings;
use crate::teller::Teller;
use crate::wait::{CallBack, Waiting, Wakers, block_on, duration, wait};
use crate::{events, transfer};
use econtext::{Error, Event, ModuleFinder, TransferOptions, Transferred, Value};
use econtext_fleet::{Connector, Gates, Handshake, Hops, Inventory, Rollout, Selection, Stop, Target, Tries};
use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::future::{Future as _, poll_fn};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// The names of a set of hosts.
#[pyfunction]
#[pyo3(signature = (set, inventory))]
pub(crate) fn expand(py: Python<'_>, set: &str, inventory: Vec<PathBuf>) -> PyResult<Vec<String>> {
    py.detach(|| econtext_fleet::expand(set, &load(&inventory)?)).map_err(spec)
}

/// Names as a set of hosts, as short as it gets.
#[pyfunction]
pub(crate) fn fold(names: Vec<String>) -> String {
    econtext_fleet::fold(&names)
}

fn load(paths: &[PathBuf]) -> Result<Inventory, econtext_fleet::SpecError> {
    let mut inventory = Inventory::default();
    for path in paths {
        inventory.load(path)?;
    }
    Ok(inventory)
}

/// Hosts, and the children on those that are connected.
struct Hosts {
    inventory: Arc<Inventory>,
    targets: Vec<Target>,
    children: Vec<Mutex<Option<Arc<Inner>>>>,
    /// Held while a child is started, so that there is one.
    connecting: Vec<Mutex<()>>,
    connector: Connector,
    forks: usize,
    tries: Tries,
    finder: Arc<dyn ModuleFinder>,
    log_level: Option<u8>,
    events: Py<PyAny>,
    teller: Arc<Teller>,
}

/// A set of hosts.
#[pyclass(frozen, module = "econtext._econtext")]
pub(crate) struct Fleet(Owned<Arc<Hosts>>);

#[pymethods]
impl Fleet {
    #[new]
    #[pyo3(signature = (broker, sets, inventory, options, finder, limit, retries, connect_timeout, connect_rate, log_level, events))]
    #[expect(clippy::too_many_arguments, reason = "keywords, to Python")]
    fn new(
        py: Python<'_>,
        broker: &Broker,
        sets: Vec<String>,
        inventory: Vec<PathBuf>,
        options: &Bound<'_, PyDict>,
        finder: &Finder,
        limit: usize,
        retries: u32,
        connect_timeout: f64,
        connect_rate: Option<f64>,
        log_level: Option<u8>,
        events: Py<PyAny>,
    ) -> PyResult<Self> {
        let settings = settings(options)?;
        let connect_timeout = duration(Some(connect_timeout))?.unwrap_or(Duration::MAX);
        let selected = py.detach(|| {
            let inventory = load(&inventory)?;
            let selection = Selection { specs: sets, ..Selection::default() };
            let targets = selection.targets(&inventory, &settings)?;
            Ok((Arc::new(inventory), targets))
        });
        let (inventory, targets) = selected.map_err(spec)?;
        let hops = Hops::new(inventory.clone(), &settings);
        let connector =
            Connector::new(broker.get()?, hops, Gates::new(connect_rate), Arc::new(Stop::default()));
        Ok(Fleet(Owned::new(Arc::new(Hosts {
            inventory,
            children: targets.iter().map(|_| Mutex::default()).collect(),
            connecting: targets.iter().map(|_| Mutex::default()).collect(),
            targets,
            connector,
            forks: limit.max(1),
            tries: Tries { timeout: None, connect_timeout, retries },
            finder: finder.0.clone(),
            log_level,
            events,
            teller: broker.teller()?,
        }))))
    }

    /// The names of its hosts.
    fn names(&self) -> PyResult<Vec<String>> {
        Ok(self.0.get()?.targets.iter().map(|target| target.name.clone()).collect())
    }

    /// The variables that the inventory has for a host, as JSON.
    fn variables(&self, name: &str) -> PyResult<String> {
        let variables = self.0.get()?.inventory.variables(name);
        Ok(serde_json::Value::Object(variables).to_string())
    }

    /// The groups that a host is in.
    fn groups(&self, name: &str) -> PyResult<Vec<String>> {
        Ok(self.0.get()?.inventory.groups_of(name))
    }

    /// The child on a host, if it is connected.
    fn child(&self, py: Python<'_>, index: usize) -> PyResult<Option<Child>> {
        let hosts = self.0.get()?;
        Ok(py.detach(|| hosts.connected(index)).map(Child::of))
    }

    /// Ends the children on these hosts.
    fn close(&self, py: Python<'_>, indices: Vec<usize>) -> PyResult<()> {
        let hosts = self.0.get()?;
        py.detach(|| {
            for index in indices {
                let child = hosts.children.get(index).and_then(|child| lock(child).take());
                if let Some(connection) = child.as_ref().and_then(|child| child.connection()) {
                    hosts.connector.let_go(connection);
                }
            }
            if hosts.children.iter().all(|child| lock(child).is_none()) {
                hosts.connector.end_hops();
            }
        });
        Ok(())
    }

    /// Begins work on hosts, given as (index, position in the results). With nothing to do, they are connected.
    #[pyo3(signature = (run, hosts, request=None, command=None, put=None, get=None, timeout=None, batch=None, pause=None, fail_on=None))]
    #[expect(clippy::too_many_arguments, clippy::type_complexity, reason = "keywords, to Python")]
    fn start(
        &self,
        py: Python<'_>,
        run: &Run,
        hosts: Vec<(usize, usize)>,
        request: Option<&Request>,
        command: Option<(Vec<Vec<u8>>, Option<Vec<u8>>, Env, Option<Vec<u8>>, Option<u32>)>,
        put: Option<(Vec<PathBuf>, String, bool, bool)>,
        get: Option<(Vec<OsString>, PathBuf, bool, bool)>,
        timeout: Option<f64>,
        batch: Option<&str>,
        pause: Option<f64>,
        fail_on: Option<&str>,
    ) -> PyResult<()> {
        let of = self.0.get()?.clone();
        let results = run.results.get()?.clone();
        let job = if let Some(request) = request {
            Job::Call(request.spec.clone())
        } else if let Some((argv, input, env, cwd, umask)) = command {
            Job::Run(Command { argv, input, env, cwd, umask })
        } else if let Some((sources, to, preserve, links)) = put {
            Job::Put(sources, to, transfer::options(preserve, links, timeout)?)
        } else if let Some((sources, to, preserve, links)) = get {
            Job::Get(sources, to, transfer::options(preserve, links, timeout)?)
        } else {
            Job::Connect
        };
        let rollout = Rollout {
            forks: of.forks,
            batch: batch.map(str::parse).transpose().map_err(spec)?,
            pause: duration(pause)?.unwrap_or_default(),
            fail_on: fail_on.map(str::parse).transpose().map_err(spec)?,
        };
        let work = Arc::new(Work { of, job, timeout: duration(timeout)?, results });
        py.detach(|| work.begin(hosts, rollout));
        Ok(())
    }
}

/// What is done on each host.
enum Job {
    Connect,
    Call(Arc<Spec>),
    Run(Command),
    Put(Vec<PathBuf>, String, TransferOptions),
    Get(Vec<OsString>, PathBuf, TransferOptions),
}

/// What came of it.
enum Done {
    Connected,
    Value(Value),
    Ended(Box<Ended>),
    Transferred(Transferred),
}

impl Hosts {
    fn connected(&self, index: usize) -> Option<Arc<Inner>> {
        let child = lock(self.children.get(index)?).clone();
        child.filter(|child| !child.context.is_closed())
    }

    /// The child on a host: the one that is there, or a new one.
    fn child(&self, index: usize, left: Duration, handshake: Arc<Handshake>) -> Result<Arc<Inner>, Error> {
        let _turn = lock(&self.connecting[index]);
        if let Some(child) = self.connected(index) {
            return Ok(child);
        }
        let child = self.connect(index, left, handshake)?;
        let old = lock(&self.children[index]).replace(child.clone());
        if let Some(connection) = old.as_ref().and_then(|old| old.connection()) {
            self.connector.let_go(connection);
        }
        Ok(child)
    }

    /// Starts the child on a host.
    fn connect(&self, index: usize, left: Duration, handshake: Arc<Handshake>) -> Result<Arc<Inner>, Error> {
        let target = &self.targets[index];
        let forward = Python::try_attach(|py| self.events.clone_ref(py))
            .map(|callback| events::forward(target.name.clone(), callback, self.teller.clone()));
        let builder = self
            .connector
            .builder(target, left)
            .finder(self.finder.clone())
            .log_level(self.log_level)
            .python_values(true)
            .on_event(move |event| {
                if let Event::Started(_) = &event {
                    handshake.succeeded();
                }
                if let Some(forward) = &forward {
                    forward(event);
                }
            });
        let connection = self.connector.connect(builder, target, left)?;
        Ok(Inner::new(connection.context.clone(), Some(connection), self.teller.clone()))
    }
}

/// A job on some hosts.
struct Work {
    of: Arc<Hosts>,
    job: Job,
    timeout: Option<Duration>,
    results: Arc<Results>,
}

impl Work {
    /// Calls on children that are there need no threads; all else has `limit` of them.
    fn begin(self: &Arc<Self>, hosts: Vec<(usize, usize)>, rollout: Rollout) {
        self.results.expect(hosts.len());
        let at_once = rollout.batch.is_none() && rollout.fail_on.is_none();
        let (there, others): (Vec<_>, Vec<_>) = hosts.into_iter().partition(|(index, _)| {
            at_once && matches!(self.job, Job::Call(_)) && self.of.connected(*index).is_some()
        });
        if !there.is_empty() {
            let window = rollout.forks.min(there.len());
            let queue = Arc::new(Mutex::new(there.into()));
            for _ in 0..window {
                self.next(&queue);
            }
        }
        if others.is_empty() {
            return;
        }
        let work = self.clone();
        std::thread::spawn(move || {
            let refused = |host: &Target| Err(Error::Cancelled { host: host.name.clone() });
            rollout.run(
                others.len(),
                &work.results.stop,
                |i| {
                    let (index, position) = others[i];
                    let result = work.one(index, position);
                    let failed = result.is_err();
                    work.results.put(position, result);
                    failed
                },
                |failed| *failed,
                |i, _| {
                    let (index, position) = others[i];
                    work.results.put(position, refused(&work.of.targets[index]));
                    true
                },
            );
        });
    }

    /// Makes the next call; when it is done, the one after it.
    fn next(self: &Arc<Self>, queue: &Arc<Mutex<VecDeque<(usize, usize)>>>) {
        loop {
            let next = lock(queue).pop_front();
            let Some((index, position)) = next else { return };
            let host = || self.of.targets[index].name.clone();
            let error = match (&self.job, self.of.connected(index)) {
                _ if self.results.stop.is_stopped() => Error::Cancelled { host: host() },
                (Job::Call(spec), Some(child)) => match spec.check(&child.context) {
                    Ok(()) => {
                        let call = Arc::new(Mutex::new(Some(spec.start(&child.context, &child.sent))));
                        self.results.running(position, call.clone());
                        let running = Pumped { work: self.clone(), queue: queue.clone(), position, call };
                        return Arc::new(running).look();
                    }
                    Err(error) => error,
                },
                _ => {
                    // It went in the meantime.
                    let message = "the child is gone".to_owned();
                    Error::Closed { host: host(), message, stderr: String::new() }
                }
            };
            self.results.put(position, Err(error));
        }
    }

    /// Does the job on one host, connecting it if need be.
    fn one(&self, index: usize, position: usize) -> Result<Done, Error> {
        let of = &self.of;
        if let Some(child) = of.connected(index) {
            return self.on(&child, index, position);
        }
        let tries = Tries { timeout: self.timeout, ..of.tries };
        of.connector.persist(
            &of.targets[index],
            tries,
            |_, left, handshake| {
                let child = of.child(index, left, handshake)?;
                let result = self.on(&child, index, position);
                if result.as_ref().is_err_and(|error| error.kind().is_connect()) {
                    let mut known = lock(&of.children[index]);
                    if known.as_ref().is_some_and(|known| Arc::ptr_eq(known, &child)) {
                        *known = None;
                    }
                    drop(known);
                    child.connection().into_iter().for_each(|connection| of.connector.let_go(connection));
                }
                result
            },
            |result| result.as_ref().err(),
        )
    }

    fn on(&self, child: &Arc<Inner>, index: usize, position: usize) -> Result<Done, Error> {
        match &self.job {
            Job::Connect => {
                block_on(|cx| child.poll_ready(cx))?;
                Ok(Done::Connected)
            }
            Job::Call(spec) => {
                spec.check(&child.context)?;
                let call = Arc::new(Mutex::new(Some(spec.start(&child.context, &child.sent))));
                self.results.running(position, call.clone());
                block_on(|cx| poll_call(&call, cx)).map(Done::Value)
            }
            Job::Run(command) => {
                let until = self.timeout.and_then(|time| Instant::now().checked_add(time));
                let collected = Arc::new(command.start(&child.context)?);
                self.results.running(position, collected.clone());
                let host = child.context.name();
                self.of_command(&collected, until, host).map(|ended| Done::Ended(Box::new(ended)))
            }
            Job::Put(sources, to, options) => {
                self.results.running(position, options.stop.clone().unwrap_or_default());
                child.context.put(sources, to, options, |_| {}).map(Done::Transferred)
            }
            Job::Get(sources, to, options) => {
                self.results.running(position, options.stop.clone().unwrap_or_default());
                let directory = to.join(self.of.targets[index].name.replace('/', "_"));
                child.context.get(sources, &directory, options, |_| {}).map(Done::Transferred)
            }
        }
    }

    fn of_command(&self, collected: &Collected, until: Option<Instant>, host: &str) -> Result<Ended, Error> {
        let late = || match (self.timeout, until) {
            (Some(after), Some(until)) if Instant::now() >= until => Some(Error::Timeout {
                host: host.to_owned(),
                phase: "the command",
                after,
                stderr: String::new(),
            }),
            _ => None,
        };
        let alarm = until.map(|until| {
            let thread = std::thread::current();
            let (cancel, cancelled) = crossbeam_channel::bounded::<()>(0);
            std::thread::spawn(move || {
                let left = until.saturating_duration_since(Instant::now());
                if cancelled.recv_timeout(left).is_err() {
                    thread.unpark();
                }
            });
            cancel
        });
        let ended = block_on(|cx| match (collected.poll(cx), late()) {
            (Poll::Ready(ended), _) => Poll::Ready(Ok(ended)),
            (Poll::Pending, Some(error)) => Poll::Ready(Err(error)),
            (Poll::Pending, None) => Poll::Pending,
        });
        drop(alarm);
        if ended.is_err() {
            collected.kill();
        }
        ended
    }
}

type SharedCall = Arc<Mutex<Option<econtext::Call<Value>>>>;

/// The result of a call that others may cancel meanwhile.
fn poll_call(call: &SharedCall, cx: &mut std::task::Context<'_>) -> Poll<Result<Value, Error>> {
    match &mut *lock(call) {
        Some(running) => Pin::new(running).poll(cx),
        None => Poll::Pending,
    }
}

/// A call without a thread that waits for it.
struct Pumped {
    work: Arc<Work>,
    queue: Arc<Mutex<VecDeque<(usize, usize)>>>,
    position: usize,
    call: SharedCall,
}

impl Pumped {
    fn look(self: Arc<Self>) {
        let waker: Waker = self.clone().into();
        if let Poll::Ready(result) = poll_call(&self.call, &mut std::task::Context::from_waker(&waker)) {
            *lock(&self.call) = None;
            self.work.results.put(self.position, result.map(Done::Value));
            // Not here: what the next one imports may be asked of Python, and this may be the broker's thread.
            let (work, queue) = (self.work.clone(), self.queue.clone());
            self.work.of.teller.tell(move |py| py.detach(|| work.next(&queue)));
        }
    }
}

impl Wake for Pumped {
    fn wake(self: Arc<Self>) {
        self.look();
    }
}

/// What can be stopped.
trait Stoppable: Send + Sync {
    fn stop(&self);
}

impl Stoppable for Mutex<Option<econtext::Call<Value>>> {
    fn stop(&self) {
        if let Some(call) = &*lock(self) {
            call.cancel();
        }
    }
}

impl Stoppable for Collected {
    fn stop(&self) {
        self.kill();
    }
}

impl Stoppable for std::sync::atomic::AtomicBool {
    fn stop(&self) {
        self.store(true, Ordering::Relaxed);
    }
}

/// Results that have come and were not taken.
#[derive(Default)]
struct Results {
    state: Mutex<ResultsState>,
    stop: Stop,
}

#[derive(Default)]
struct ResultsState {
    come: VecDeque<(usize, Result<Done, Error>)>,
    expected: usize,
    running: HashMap<usize, Arc<dyn Stoppable>>,
    wakers: Wakers,
}

impl Results {
    fn expect(&self, more: usize) {
        lock(&self.state).expected += more;
    }

    fn running(&self, position: usize, what: Arc<dyn Stoppable>) {
        lock(&self.state).running.insert(position, what.clone());
        if self.stop.is_stopped() {
            what.stop();
        }
    }

    fn put(&self, position: usize, result: Result<Done, Error>) {
        let mut state = lock(&self.state);
        let done = state.running.remove(&position);
        state.come.push_back((position, result));
        let wakers = state.wakers.take();
        drop(state);
        drop(done);
        wakers.wake();
    }

    fn poll(&self, cx: &mut std::task::Context<'_>) -> Poll<Option<(usize, Result<Done, Error>)>> {
        let mut state = lock(&self.state);
        match state.come.pop_front() {
            Some(result) => {
                state.expected -= 1;
                Poll::Ready(Some(result))
            }
            None if state.expected == 0 => Poll::Ready(None),
            None => {
                state.wakers.add(cx);
                Poll::Pending
            }
        }
    }

    fn cancel(&self) {
        self.stop.stop(econtext_fleet::Reason::Interrupted);
        let running: Vec<_> = lock(&self.state).running.values().cloned().collect();
        for what in running {
            what.stop();
        }
    }
}

/// Work on hosts of any number of fleets; an iterator of (position, value or None, exception or None).
#[pyclass(frozen, module = "econtext._econtext")]
pub(crate) struct Run {
    results: Owned<Arc<Results>>,
    declared: Option<Py<PyAny>>,
    teller: Arc<Teller>,
}

type Told<'py> = (usize, Bound<'py, PyAny>, Bound<'py, PyAny>);

impl Run {
    fn told<'py>(
        &self,
        py: Python<'py>,
        (position, result): (usize, Result<Done, Error>),
    ) -> PyResult<Told<'py>> {
        let none = || py.None().into_bound(py);
        let declared = self.declared.as_ref().map(|d| d.bind(py));
        let done = match result {
            Err(error) => Err(instance(py, &error)?),
            Ok(Done::Connected) => Ok(none()),
            Ok(Done::Value(value)) => outcome(py, Ok(value), declared),
            Ok(Done::Ended(ended)) => match finished(py, *ended) {
                Ok(finished) => Ok(finished.into_pyobject(py)?.into_any()),
                Err(error) => Err(error.into_value(py).into_bound(py).into_any()),
            },
            Ok(Done::Transferred(t)) => Ok((t.files, t.skipped, t.bytes).into_pyobject(py)?.into_any()),
        };
        Ok(match done {
            Ok(value) => (position, value, none()),
            Err(exception) => (position, none(), exception),
        })
    }
}

#[pymethods]
impl Run {
    #[new]
    #[pyo3(signature = (broker, declared=None))]
    fn new(broker: &Broker, declared: Option<Py<PyAny>>) -> PyResult<Self> {
        Ok(Run { results: Owned::new(Arc::default()), declared, teller: broker.teller()? })
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Told<'py>>> {
        let _waiting = Waiting::begin();
        let results = self.results.get()?;
        match wait(py, poll_fn(|cx| results.poll(cx)), None) {
            Ok(Some(Some(next))) => {
                // What the host printed is shown before its result.
                if !self.teller.is_idle() {
                    py.detach(|| self.teller.settle(Duration::from_secs(1)));
                }
                self.told(py, next).map(Some)
            }
            Ok(_) => Ok(None),
            Err(interrupt) => {
                py.detach(|| results.cancel());
                Err(interrupt)
            }
        }
    }

    /// The next result; `None` if there is none yet: `callback` is called once there is. `StopIteration` is the end.
    fn poll<'py>(&self, py: Python<'py>, callback: Py<PyAny>) -> PyResult<Option<Told<'py>>> {
        let results = self.results.get()?;
        let waker = CallBack::waker(callback, &self.teller);
        match py.detach(|| results.poll(&mut std::task::Context::from_waker(&waker))) {
            Poll::Pending => Ok(None),
            Poll::Ready(Some(next)) => self.told(py, next).map(Some),
            Poll::Ready(None) => Err(PyStopIteration::new_err(())),
        }
    }

    /// Stops what runs, and begins nothing more.
    fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        let results = self.results.get()?;
        py.detach(|| results.cancel());
        Ok(())
    }
}
