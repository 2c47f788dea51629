//! The econtext protocol, without IO: bytes in, bytes and events out, no clock, no thread, no file descriptor.
//!
//! ```text
//!   controller                                            child
//!   Session::call ──frames──▶ transmit() ··stdin··▶ Stream.receive ──▶ dispatch
//!   Bootstrap::handle_bytes ◀·························stdout·· OK, hello
//!   Session::handle_bytes   ◀·························stdout·· replies, logs, module requests
//! ```
//!
//! [`Bootstrap`] reads the target's output until the child's first authenticated frame, past any noise that comes
//! before, and hands over the bytes it read behind it. [`Session`] does the rest. Output needs no waiting: the
//! frames of a session may follow the payload at once.
//!
//! `docs/how-it-works.md` describes the protocol; the wire constants are in [`frame`] and [`wire`].
#![forbid(unsafe_code)]

pub mod bootstrap;
pub mod frame;
pub mod mac;
pub mod pickle;
mod serde_impl;
pub mod session;
mod value;
pub mod wire;

pub use bootstrap::{Bootstrap, BootstrapError, Hello};
pub use mac::Secret;
pub use serde_impl::{ConvertError, from_value, to_value};
pub use session::{Event, Limits, Outcome, Session, SessionError};
pub use value::{CallError, Handle, Object, SourceFrame, Value};
pub use wire::calls::{CallSpec, is_identifier, is_module_name};
pub use wire::logs::LogRecord;
pub use wire::modules::{ModuleKind, ModuleRecord};
