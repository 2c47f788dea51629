//! The shared parts of econtext's tests: the machine's Pythons, real packages, a private sshd, guards against leftovers.
//!
//! A test whose component is missing says so and passes, unless `ECONTEXT_TEST_ALL` is set: then it fails.

mod component;
pub mod containers;
pub mod files;
pub mod processes;
pub mod pythons;
pub mod sshd;
pub mod terminal;
pub mod tools;

pub use component::*;
