//! Files and directories to a child's machine and back: checked, atomic, and in flat memory.
//!
//! A file is written beside its name and gets it once its checksum is right. Files that are the
//! same already are skipped. The part of a file that a lost connection left is resumed, if its
//! checksum is that of the beginning.

mod entry;
mod get;
mod options;
mod part_file;
mod put;
mod task;

pub use options::{Comparison, FileThere, Listed, Progress, TransferOptions, Transferred};
pub use task::Transfer;
