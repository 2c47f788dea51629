//! Bounds on pickles, and the reasons for which one is refused.

use std::collections::HashSet;

/// Bounds on what decoding one message may cost.
#[derive(Clone, Debug)]
pub struct PickleLimits {
    /// Nodes read from one pickle, and values made from them. The default of 16 million costs at most some 600 MB.
    pub nodes: usize,
    /// How deep values may be nested, 256 by default: conversion, serde and drop recurse this deep.
    pub depth: usize,
    /// Bytes of text, bytes and integers that sharing may expand to. Default 512 MiB.
    pub expanded: usize,
    /// Decimal digits of an integer in text form; converting costs the square of it. Default 100,000.
    pub digits: usize,
}

impl Default for PickleLimits {
    fn default() -> Self {
        PickleLimits { nodes: 16 << 20, depth: 256, expanded: 512 << 20, digits: 100_000 }
    }
}

/// Classes whose instances may be decoded, beside `CallError` and `_DEAD`: (module, name).
///
/// Allowing one runs nothing: instances arrive as [`Object`](crate::Object)s.
#[derive(Clone, Debug, Default)]
pub struct AllowList(HashSet<(String, String)>);

impl AllowList {
    /// Allows the class `name` of `module`.
    pub fn allow(&mut self, module: &str, name: &str) {
        self.0.insert((module.to_owned(), name.to_owned()));
    }

    pub(crate) fn permits(&self, module: &str, name: &str) -> bool {
        !self.0.is_empty() && self.0.contains(&(module.to_owned(), name.to_owned()))
    }
}

/// Why a pickle was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PickleError {
    /// The data is not a pickle, or one that CPython would not write for plain values.
    #[error("bad pickle at byte {at}: {what}")]
    Malformed {
        /// Offset of the opcode.
        at: usize,
        /// The reason why it is refused.
        what: &'static str,
    },
    /// The pickle names a class or function that was not allowed. Nothing was executed.
    #[error("unpermitted class {module}.{name}")]
    Unpermitted {
        /// The module named.
        module: String,
        /// The name in it.
        name: String,
    },
    /// A limit of [`PickleLimits`] was reached.
    #[error("the value has more than {limit} {what}")]
    TooLarge {
        /// The unit that is over its limit.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The value is nested deeper than allowed, or contains itself.
    #[error("the value is nested more than {limit} deep, or contains itself")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
}
