//! The output of a run: results, progress, and all of the output of its hosts.

mod collected;
pub(crate) mod console;
pub(crate) mod counts;
mod events;
mod files;
pub(crate) mod json;
pub(crate) mod progress;
pub(crate) mod report;
mod stdout;
