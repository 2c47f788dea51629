//! Output and log records of children, on their way to Python.

use crate::callback_thread::CallbackThread;
use crate::values::from_value;
use econtext::{ChildEvent, Value};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::sync::Arc;

/// Calls `callback` as (host, "output", descriptor, bytes) or (host, "log", logger, level, message, time, traceback or None, fields);
/// the call that caused it ends after that.
pub(crate) fn forward(
    host: String,
    callback: Py<PyAny>,
    callbacks: Arc<CallbackThread>,
) -> impl Fn(ChildEvent) + Send + Sync + 'static {
    let shared = Arc::new((host, callback));
    move |event| {
        if !matches!(event, ChildEvent::Output { .. } | ChildEvent::Log(_)) {
            return;
        }
        let shared = shared.clone();
        callbacks.tell(move |py| {
            let (host, callback) = (&shared.0, shared.1.bind(py));
            let told = match event {
                ChildEvent::Output { fd, data } => {
                    callback.call1((host, "output", fd, PyBytes::new(py, &data)))
                }
                ChildEvent::Log(r) => {
                    let fields = from_value(py, Value::Dict(r.fields), None)
                        .unwrap_or_else(|_| PyDict::new(py).into_any());
                    callback.call1((host, "log", r.logger, r.level, r.message, r.time, r.traceback, fields))
                }
                _ => return,
            };
            if let Err(error) = told {
                error.write_unraisable(py, Some(callback));
            }
        });
    }
}
