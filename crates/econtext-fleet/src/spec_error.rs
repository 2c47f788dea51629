//! The error of what is said about hosts.

/// The error of an invalid set of hosts, inventory or limit. No host was contacted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SpecError(pub String);
