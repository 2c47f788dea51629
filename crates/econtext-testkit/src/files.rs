//! Directories of small files.

use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A directory with these files, by path and text; removed when dropped.
///
/// # Panics
/// If there is no room for them.
pub fn tree(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    write(directory.path(), files);
    directory
}

/// Writes more files into a directory.
///
/// # Panics
/// If there is no room for them.
fn write(directory: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().expect("it has one")).expect("made");
        fs::write(path, text).expect("written");
    }
}
