//! Our own Python that is sent on first use.

use econtext_proto::{ModuleKind, ModuleRecord};
use std::sync::Arc;

/// Runs programs as `python FILE`, `-c` and `-m` would.
pub(crate) const RUNNER: &str = "econtext.runner";

/// The record of [`RUNNER`].
pub(crate) fn runner() -> ModuleRecord {
    ModuleRecord {
        name: RUNNER.to_owned(),
        kind: ModuleKind::Module,
        path: "econtext/runner.py".to_owned(),
        source: Some(Arc::from(&include_bytes!(concat!(env!("OUT_DIR"), "/runner.z"))[..])),
        children: Vec::new(),
    }
}

/// Our own module called `name`.
pub(crate) fn find(name: &str) -> Option<ModuleRecord> {
    (name == RUNNER).then(runner)
}
