//! Our own Python that is sent on first use.

use econtext_proto::{ModuleKind, ModuleRecord};
use std::sync::Arc;

/// Runs programs as `python FILE`, `-c` and `-m` would.
pub(crate) const RUNNER: &str = "econtext.runner";

/// Reads files beside served modules.
pub(crate) const FILES: &str = "econtext.files";

/// Makes files of packages that look for them.
pub(crate) const SPOOL: &str = "econtext.spool";

/// Processes beside the child, with handlers of their own.
pub(crate) const PROCESS: &str = "econtext.process";

/// Connects back.
pub(crate) const BACK: &str = "econtext.back";

/// Reads frames of megabytes.
pub(crate) const BULK: &str = "econtext.bulk";

/// Results for controllers that are Python programs.
pub(crate) const RICH: &str = "econtext.rich";

/// Sends what generators yield.
pub(crate) const STREAM: &str = "econtext.stream";

const MODULES: [(&str, &str, &[u8]); 13] = [
    (BACK, "econtext/back.py", include_bytes!(concat!(env!("OUT_DIR"), "/back.z"))),
    (BULK, "econtext/bulk.py", include_bytes!(concat!(env!("OUT_DIR"), "/bulk.z"))),
    ("econtext.transfer", "econtext/transfer.py", include_bytes!(concat!(env!("OUT_DIR"), "/transfer.z"))),
    (PROCESS, "econtext/process.py", include_bytes!(concat!(env!("OUT_DIR"), "/process.z"))),
    ("econtext.core", "econtext/core.py", include_bytes!(concat!(env!("OUT_DIR"), "/core.z"))),
    ("econtext.spawn", "econtext/spawn.py", include_bytes!(concat!(env!("OUT_DIR"), "/spawn.z"))),
    (RUNNER, "econtext/runner.py", include_bytes!(concat!(env!("OUT_DIR"), "/runner.z"))),
    ("econtext.repl", "econtext/repl.py", include_bytes!(concat!(env!("OUT_DIR"), "/repl.z"))),
    (RICH, "econtext/rich.py", include_bytes!(concat!(env!("OUT_DIR"), "/rich.z"))),
    ("econtext.values", "econtext/values.py", include_bytes!(concat!(env!("OUT_DIR"), "/values.z"))),
    (STREAM, "econtext/stream.py", include_bytes!(concat!(env!("OUT_DIR"), "/stream.z"))),
    (FILES, "econtext/files.py", include_bytes!(concat!(env!("OUT_DIR"), "/files.z"))),
    (SPOOL, "econtext/spool.py", include_bytes!(concat!(env!("OUT_DIR"), "/spool.z"))),
];

/// Our own module called `name`.
pub(crate) fn find(name: &str) -> Option<ModuleRecord> {
    MODULES.iter().find(|(known, ..)| *known == name).map(|(name, path, source)| ModuleRecord {
        name: (*name).to_owned(),
        kind: ModuleKind::Module,
        path: (*path).to_owned(),
        source: Some(Arc::from(*source)),
        children: Vec::new(),
    })
}
