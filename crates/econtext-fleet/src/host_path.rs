//! Files and directories here that are named after hosts.

use std::path::{Path, PathBuf};

/// The name of a host's file or directory: a single component for any name of a host.
///
/// ```
/// # use econtext_fleet::file_name;
/// assert_eq!(file_name("web01"), "web01");
/// assert_eq!(file_name("kubectl:ns/pod"), "kubectl:ns_pod");
/// assert_eq!(file_name(".."), "_..");
/// ```
pub fn file_name(host: &str) -> String {
    let name = host.replace(['/', '\0'], "_");
    // The name of a host must not place its files elsewhere.
    if name.is_empty() || name.starts_with('.') { format!("_{name}") } else { name }
}

/// The path of a host's files below a directory.
///
/// ```
/// # use econtext_fleet::below;
/// # use std::path::Path;
/// assert_eq!(below(Path::new("/tmp/d"), ".."), Path::new("/tmp/d/_.."));
/// ```
pub fn below(directory: &Path, host: &str) -> PathBuf {
    directory.join(file_name(host))
}
