//! Modules for children: the finders, the modules sent ahead of a call, and the agent's own.

pub(crate) mod agent;
mod archive;
pub(crate) mod distribution;
pub(crate) mod finder;
mod foresight;
mod listings;
pub(crate) mod path_finder;
mod roots;
mod site;

pub use distribution::{Distribution, distributions, normal_name};
pub use econtext_proto::{ModuleKind, ModuleRecord};
pub use finder::{FileAnswer, Foresight, ModuleFinder, PlannedModule, Start, record as module_record};
pub use path_finder::PathFinder;
