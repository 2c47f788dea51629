//! Values that belong to one process, and are forgotten in its forks.

use pyo3::prelude::*;
use std::process::id;

/// A value of this process. In a fork it cannot be used, and is not dropped: the children, sockets and threads behind it are
/// those of the original.
pub(crate) struct PerProcess<T> {
    process: u32,
    value: Option<T>,
}

impl<T> PerProcess<T> {
    pub(crate) fn new(value: T) -> Self {
        PerProcess { process: id(), value: Some(value) }
    }

    /// The value.
    pub(crate) fn get(&self) -> PyResult<&T> {
        match &self.value {
            Some(value) if self.process == id() => Ok(value),
            _ => Err(crate::ours::usage(format!(
                "this belongs to process {}, and the process {} is a fork of it; connect anew here",
                self.process,
                id()
            ))),
        }
    }
}

impl<T> Drop for PerProcess<T> {
    fn drop(&mut self) {
        if self.process != id() {
            std::mem::forget(self.value.take());
        }
    }
}
