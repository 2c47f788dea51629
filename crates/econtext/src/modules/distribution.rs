//! Distributions, as `pip` installs them beside the modules, known by their metadata directories.

use super::finder::{FileAnswer, ModuleFinder};

/// A metadata directory at the top of a finder's roots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// The directory's name in the file system: `Foo_Bar-1.2.dist-info`.
    pub directory: String,
    /// The distribution's name in the form of PEP 503: `foo-bar`.
    pub name: String,
    /// The version; empty if the directory's name has none.
    pub version: String,
}

impl Distribution {
    /// Reads the name of a `.dist-info` or `.egg-info` directory.
    fn parse(directory: String) -> Option<Self> {
        let stem = directory.strip_suffix(".dist-info").or(directory.strip_suffix(".egg-info"))?;
        let (name, version) = stem.split_once('-').unwrap_or((stem, ""));
        let version = version.split('-').next().unwrap_or_default().to_owned();
        Some(Distribution { name: normal_name(name), version, directory })
    }
}

/// The distributions that a finder has.
///
/// ```
/// use econtext::PathFinder;
/// use econtext::modules::distributions;
/// let directory = tempfile::tempdir()?;
/// std::fs::create_dir(directory.path().join("Foo_Bar-1.2.dist-info"))?;
/// let found = distributions(&PathFinder::new().root(directory.path())?);
/// assert_eq!((&*found[0].name, &*found[0].version), ("foo-bar", "1.2"));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn distributions(finder: &dyn ModuleFinder) -> Vec<Distribution> {
    match finder.read("", 0) {
        Some(FileAnswer::Directory(entries)) => {
            let all = entries.into_iter().filter_map(|(name, ..)| Distribution::parse(name));
            // The controller's own package is left out: a child's `econtext` is another one,
            // without its entry points.
            all.filter(|distribution| distribution.name != "econtext").collect()
        }
        _ => Vec::new(),
    }
}

/// A distribution's name as PEP 503 compares it: lower case, runs of `-`, `_` and `.` as one `-`.
///
/// ```
/// assert_eq!(econtext::modules::normal_name("Foo._Bar"), "foo-bar");
/// ```
pub fn normal_name(name: &str) -> String {
    let parts: Vec<&str> = name.split(['-', '_', '.']).filter(|part| !part.is_empty()).collect();
    parts.join("-").to_lowercase()
}
