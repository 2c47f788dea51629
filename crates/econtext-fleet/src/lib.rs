//! Many hosts at a time: which ones, how each is reached, and in what order and at what rate.
//!
//! A [`Selection`] of host sets and groups names hosts; an [`Inventory`] knows more about some of
//! them; a [`Target`] says how one is reached; a [`Rollout`] runs work on all of them.
//!
//! ```
//! use econtext_fleet::{Inventory, Selection, Settings};
//!
//! let inventory = Inventory::default();
//! let selection = Selection { specs: vec!["web[01-03]!web02".into()], ..Selection::default() };
//! let targets = selection.targets(&inventory, &Settings::default())?;
//! assert_eq!(targets.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["web01", "web03"]);
//! # Ok::<(), econtext_fleet::SpecError>(())
//! ```

#![forbid(unsafe_code)]

mod connector;
mod gate;
mod host_path;
mod hostset;
mod identity;
mod inventory;
mod range;
mod rollout;
mod select;
mod settings;
mod similar;
mod spec_error;
mod target;

pub use connector::{Connection, Connector, Hops, Tries};
pub use gate::{Gates, Handshake, Retry, is_refused_handshake};
pub use host_path::{below, file_name};
pub use hostset::{expand, fold};
pub use identity::Identity;
pub use inventory::Inventory;
pub use rollout::{FailOn, Reason, Rollout, Share, Stop};
pub use select::Selection;
pub use settings::{Become, Passwords, Settings};
pub use similar::closest;
pub use spec_error::SpecError;
pub use target::{SCHEMES, Target};
