//! Many hosts, which are connected as the command connects them, and work on all of them, with results as they come.

mod hosts;
mod results;
mod work;

use crate::broker::Broker;
use crate::child::Child;
use crate::finder::Finder;
use crate::ours::spec;
use crate::per_process::PerProcess;
use crate::process::{Command, Env};
use crate::request::Request;
use crate::settings::settings;
use crate::transfer::{self, Wishes};
use crate::wait::duration;
use econtext::internal::lock;
use econtext_fleet::{Connector, Gates, Hops, Inventory, Rollout, Selection, Stop, Tries};
use hosts::Hosts;
use pyo3::prelude::*;
use pyo3::types::PyDict;
pub(crate) use results::Run;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use work::{Job, Work};

/// The names of a set of hosts.
#[pyfunction]
#[pyo3(signature = (set, inventory))]
pub(crate) fn expand(py: Python<'_>, set: &str, inventory: Vec<PathBuf>) -> PyResult<Vec<String>> {
    py.detach(|| econtext_fleet::expand(set, &load(&inventory)?)).map_err(spec)
}

/// The shortest set of hosts with these names.
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

/// A set of hosts.
#[pyclass(frozen, module = "econtext._econtext")]
pub(crate) struct Fleet(PerProcess<Arc<Hosts>>);

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
        Ok(Fleet(PerProcess::new(Arc::new(Hosts {
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
            callbacks: broker.callbacks()?,
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

    /// Begins work on hosts, given as (index, position in the results). Without any work, they are connected.
    #[pyo3(signature = (run, hosts, request=None, command=None, put=None, get=None, timeout=None, batch=None, pause=None, fail_on=None))]
    #[expect(clippy::too_many_arguments, clippy::type_complexity, reason = "keywords, to Python")]
    fn start(
        &self,
        py: Python<'_>,
        run: &Run,
        hosts: Vec<(usize, usize)>,
        request: Option<&Request>,
        command: Option<(Vec<Vec<u8>>, Option<Vec<u8>>, Env, Option<Vec<u8>>, Option<u32>)>,
        put: Option<(Vec<PathBuf>, OsString, Wishes)>,
        get: Option<(Vec<OsString>, PathBuf, Wishes)>,
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
        } else if let Some((sources, to, wishes)) = put {
            Job::Put(sources, to, transfer::options(wishes, timeout)?)
        } else if let Some((sources, to, wishes)) = get {
            Job::Get(sources, to, transfer::options(wishes, timeout)?)
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
