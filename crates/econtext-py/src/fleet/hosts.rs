//! Hosts, and the children on those that are connected.

use crate::callback_thread::CallbackThread;
use crate::events;
use crate::inner::Inner;
use econtext::internal::lock;
use econtext::modules::ModuleFinder;
use econtext::{ChildEvent, Error};
use econtext_fleet::{Connector, Handshake, Inventory, Target, Tries};
use pyo3::prelude::*;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Hosts, and the children on those that are connected.
pub(super) struct Hosts {
    pub(super) inventory: Arc<Inventory>,
    pub(super) targets: Vec<Target>,
    pub(super) children: Vec<Mutex<Option<Arc<Inner>>>>,
    /// Locks that are held while a child is started, so that there is only one.
    pub(super) connecting: Vec<Mutex<()>>,
    pub(super) connector: Connector,
    pub(super) forks: usize,
    pub(super) tries: Tries,
    pub(super) finder: Arc<dyn ModuleFinder>,
    pub(super) log_level: Option<u8>,
    pub(super) events: Py<PyAny>,
    pub(super) callbacks: Arc<CallbackThread>,
}

impl Hosts {
    pub(super) fn connected(&self, index: usize) -> Option<Arc<Inner>> {
        let child = lock(self.children.get(index)?).clone();
        child.filter(|child| !child.context.is_closed())
    }

    /// The child on a host: the one that is there, or a new one.
    pub(super) fn child(
        &self,
        index: usize,
        left: Duration,
        handshake: Arc<Handshake>,
    ) -> Result<Arc<Inner>, Error> {
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
            .map(|callback| events::forward(target.name.clone(), callback, self.callbacks.clone()));
        let builder = self
            .connector
            .builder(target, left)
            .finder(self.finder.clone())
            .log_level(self.log_level)
            .python_values(true)
            .on_event(move |event| {
                if let ChildEvent::Started(_) = &event {
                    handshake.succeeded();
                }
                if let Some(forward) = &forward {
                    forward(event);
                }
            });
        let connection = self.connector.connect(builder, target, left)?;
        Ok(Inner::new(connection.context.clone(), Some(connection), self.callbacks.clone()))
    }
}
