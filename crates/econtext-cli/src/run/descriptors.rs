//! The limit of open files, of which a connection to a host needs some.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;

/// The files of a connection: the stream both ways, stderr, and a terminal for passwords with its
/// two ends while it starts.
const EACH: u64 = 5;

/// Files of the process itself.
const OWN: u64 = 64;

/// Makes room for `wanted` connections at a time, by raising the soft limit no further than needed:
/// some programs look at every file that they may have. Returns the number of connections that fit.
pub(crate) fn provide(wanted: usize) -> io::Result<usize> {
    let limit = getrlimit(Resource::Nofile);
    let soft = limit.current.unwrap_or(u64::MAX);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    let needed = u64::try_from(wanted).unwrap_or(u64::MAX).saturating_mul(EACH).saturating_add(OWN);
    if needed > soft {
        let soft = needed.min(hard);
        setrlimit(Resource::Nofile, Rlimit { current: Some(soft), maximum: limit.maximum })?;
    }
    let room = hard.max(soft).saturating_sub(OWN) / EACH;
    Ok(wanted.min(usize::try_from(room).unwrap_or(usize::MAX)).max(1))
}
