//! Children on this machine, and behind any argument vector.

use super::launch::{Launch, Transport};

/// A child on this machine, started directly.
#[derive(Clone, Debug, Default)]
pub struct Local;

impl Transport for Local {
    fn launch(&self, child: &[String]) -> Launch {
        Launch::new(child.to_vec())
    }
}

/// A child behind any argument vector that forwards its stdin and stdout: `["chroot",
/// "/srv/root"]`.
#[derive(Clone, Debug)]
pub struct Argv(pub Vec<String>);

impl Transport for Argv {
    fn launch(&self, child: &[String]) -> Launch {
        Launch::new(self.0.iter().chain(child).cloned().collect())
    }
}
