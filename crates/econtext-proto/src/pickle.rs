//! The part of Python's pickle format that carries plain values, read and written without running anything.
//!
//! The encoder writes protocol 2, which every supported Python reads; bytes become `BINSTRING`, which Python 2 reads
//! as `str` and the child's `loads(encoding='bytes')` on Python 3 as `bytes`. The decoder reads what CPython's 2.7
//! and 3 picklers write at protocols 2 and 3. The opcodes are those of CPython's `Lib/pickletools.py`.
//!
//! Decoding has two steps. [`Pickle::parse`] turns the bytes into a flat arena of nodes, without recursion and without
//! looking up any name. [`Pickle::value`] turns a node into a [`Value`](crate::Value) and refuses every class but those allowed.
//! Both are bounded by [`PickleLimits`].

mod decode;
mod encode;
mod limits;

pub use decode::{NodeId, Pickle};
pub use encode::encode;
pub(crate) use encode::{encode_around, encode_marked, take_long};
pub use limits::{AllowList, PickleError, PickleLimits};
