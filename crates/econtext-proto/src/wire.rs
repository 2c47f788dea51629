//! The meaning of the messages: handles, and the shapes of their payloads.
//!
//! Numbers and shapes are shared with the agent and may change with every version: both ends come from one build.

pub mod calls;
pub mod handles;
pub mod logs;
pub mod modules;
pub mod process;
pub mod transfer;
