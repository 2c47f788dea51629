//! The native half of the Python package `econtext`: the broker, children and fleets of the Rust crates, for its Python half.
//!
//! Nothing here is for users: `python/econtext/` is what they see, and `_econtext.pyi` describes this. Three rules hold
//! throughout. Nothing waits, or takes a lock of the Rust crates, while it holds the interpreter. State of a process
//! is forgotten, not dropped, in a fork of it. Callbacks of the broker's thread do not outlive the interpreter.

#![forbid(unsafe_code)]

mod broker;
mod call;
mod callback_thread;
mod channel;
mod child;
mod errors;
mod events;
mod finder;
mod fleet;
mod inner;
mod ours;
mod per_process;
mod process;
mod request;
mod settings;
mod stream;
mod transfer;
mod values;
mod wait;

use pyo3::prelude::*;

/// The source as it is sent: without comments and docstrings, with its line numbers.
#[pyfunction]
fn minimize_source(source: &[u8]) -> Vec<u8> {
    econtext_pysource::minimize(source)
}

#[pymodule(gil_used = false)]
fn _econtext(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<channel::Channel>()?;
    module.add_class::<broker::Broker>()?;
    module.add_class::<child::Child>()?;
    module.add_class::<call::Call>()?;
    module.add_class::<finder::Finder>()?;
    module.add_class::<fleet::Fleet>()?;
    module.add_class::<fleet::Run>()?;
    module.add_class::<process::Process>()?;
    module.add_class::<request::Request>()?;
    module.add_class::<stream::Items>()?;
    module.add_class::<transfer::Transfer>()?;
    module.add_function(wrap_pyfunction!(minimize_source, module)?)?;
    module.add_function(wrap_pyfunction!(fleet::expand, module)?)?;
    module.add_function(wrap_pyfunction!(fleet::fold, module)?)?;
    module.add("KINDS", errors::KINDS.to_vec())?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))
}
