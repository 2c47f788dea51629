//! Directories of small files.

use std::fs;
use std::path::{Path, PathBuf};
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

/// All files below a directory, at any depth; without those whose name, or the name of a directory above them, is left out.
///
/// # Panics
/// If a directory cannot be read.
pub fn below(directory: &Path, is_left_out: &dyn Fn(&str) -> bool) -> Vec<PathBuf> {
    let (mut found, mut directories) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("a directory").flatten() {
            if is_left_out(&entry.file_name().to_string_lossy()) {
                continue;
            }
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_directory { &mut directories } else { &mut found }.push(entry.path());
        }
    }
    found
}
