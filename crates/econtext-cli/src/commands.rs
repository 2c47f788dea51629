//! The verbs of the command line.

pub(crate) mod call;
mod complete;
pub(crate) mod copy;
pub(crate) mod exec;
pub(crate) mod explain;
pub(crate) mod man;
pub(crate) mod repl;
pub(crate) mod run;
mod script;
