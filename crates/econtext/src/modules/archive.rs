//! Wheels, eggs, zipapps and other zip files, unpacked so that they can be looked into like directories.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;
use tempfile::TempDir;

/// Bytes that one archive may unpack to.
const MAX_UNPACKED: u64 = 1 << 30;
/// Files that one archive may hold.
const MAX_FILES: usize = 200_000;

/// Unpacks a zip file into a directory that is removed when it is dropped. Entries that would lie
/// outside of it, and symbolic links, are left out.
///
/// # Errors
/// If the file is no zip file, or is too large.
pub(crate) fn unpack(path: &Path) -> io::Result<TempDir> {
    let mut archive =
        zip::ZipArchive::new(io::BufReader::new(File::open(path)?)).map_err(io::Error::other)?;
    let too_large =
        || io::Error::other(format!("it unpacks to more than {MAX_FILES} files or {MAX_UNPACKED} bytes"));
    if archive.len() > MAX_FILES {
        return Err(too_large());
    }
    let directory = tempfile::Builder::new().prefix("econtext-").tempdir()?;
    let mut left = MAX_UNPACKED;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(io::Error::other)?;
        let Some(name) = entry.enclosed_name().filter(|_| entry.is_file() && !entry.is_symlink()) else {
            continue;
        };
        let target = directory.path().join(name);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        // The size in the directory of the archive may be a lie.
        let written = io::copy(&mut entry.by_ref().take(left + 1), &mut File::create(target)?)?;
        left = left.checked_sub(written).ok_or_else(too_large)?;
    }
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use zip::write::SimpleFileOptions;

    #[test]
    fn entries_stay_inside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.whl");
        let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
        for name in ["pkg/__init__.py", "../outside.py", "/absolute.py", "pkg/../../up.py"] {
            zip.start_file(name, SimpleFileOptions::default()).unwrap();
            zip.write_all(b"x = 1").unwrap();
        }
        zip.add_symlink("link.py", "/etc/passwd", SimpleFileOptions::default()).unwrap();
        zip.finish().unwrap();
        let unpacked = unpack(&path).unwrap();
        assert!(unpacked.path().join("pkg/__init__.py").is_file());
        assert!(!unpacked.path().join("link.py").exists());
        assert!(!unpacked.path().parent().unwrap().join("outside.py").exists());
        fs::write(&path, "no zip").unwrap();
        assert!(unpack(&path).is_err());
    }
}
