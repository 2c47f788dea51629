//! The broker, as the Python half holds it.

use crate::callback_thread::CallbackThread;
use crate::errors::raise;
use crate::per_process::PerProcess;
use crate::wait::{exit, settle};
use econtext::internal::lock;
use pyo3::prelude::*;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The thread that owns all IO.
#[pyclass(frozen, module = "econtext._econtext")]
pub(crate) struct Broker(PerProcess<Parts>);

struct Parts {
    broker: Mutex<Option<Arc<econtext::Broker>>>,
    callbacks: Arc<CallbackThread>,
}

impl Broker {
    pub(crate) fn get(&self) -> PyResult<Arc<econtext::Broker>> {
        lock(&self.0.get()?.broker)
            .clone()
            .ok_or_else(|| crate::ours::usage("the broker was shut down".to_owned()))
    }

    pub(crate) fn callbacks(&self) -> PyResult<Arc<CallbackThread>> {
        Ok(self.0.get()?.callbacks.clone())
    }
}

#[pymethods]
impl Broker {
    #[new]
    fn new(py: Python<'_>) -> PyResult<Self> {
        let broker = py.detach(econtext::Broker::new).map_err(|error| raise(py, &error))?;
        let broker = Mutex::new(Some(Arc::new(broker)));
        Ok(Broker(PerProcess::new(Parts { broker, callbacks: CallbackThread::start()? })))
    }

    /// File descriptors that a fork is to close.
    fn descriptors(&self, py: Python<'_>) -> PyResult<Vec<i32>> {
        let broker = self.get()?;
        Ok(py.detach(|| broker.descriptors()))
    }

    /// Ends all children within two seconds, when the interpreter ends.
    fn shutdown(&self, py: Python<'_>) -> PyResult<()> {
        let parts = self.0.get()?;
        py.detach(|| {
            exit();
            let broker = lock(&parts.broker).take();
            if let Some(broker) = broker {
                broker.shutdown();
            }
            parts.callbacks.settle(Duration::from_secs(2));
            settle();
        });
        Ok(())
    }
}
