//! The header of a script: inline script metadata, PEP 723.

use crate::args::Usage;
use econtext::modules::{Distribution, ModuleFinder};
use econtext::modules::{distributions, normal_name};
use serde::Deserialize;

/// The `script` block of a script.
#[derive(Debug, Default, Deserialize, PartialEq)]
pub(crate) struct Metadata {
    /// Requirements of PEP 508.
    #[serde(default)]
    dependencies: Vec<String>,
    /// A version specifier of PEP 440.
    #[serde(default, rename = "requires-python")]
    pub(crate) requires_python: Option<String>,
}

/// Reads the block between `# /// script` and `# ///`; a script without one has empty metadata.
pub(crate) fn metadata(source: &[u8]) -> Result<Metadata, Usage> {
    let text = String::from_utf8_lossy(source);
    let mut lines = text.lines().skip_while(|line| line.trim_end() != "# /// script").skip(1);
    let mut block = String::new();
    for line in lines.by_ref() {
        match line.strip_prefix('#') {
            Some(" ///") => {
                return toml::from_str(&block)
                    .map_err(|e| Usage(format!("the script's header: {}", e.message())));
            }
            Some(line) => block = block + line.strip_prefix(' ').unwrap_or(line) + "\n",
            None => break,
        }
    }
    Ok(Metadata::default())
}

impl Metadata {
    /// Checks that all dependencies are among the modules that are served.
    pub(crate) fn check(&self, finder: &dyn ModuleFinder) -> Result<(), Usage> {
        let installed = distributions(finder);
        for requirement in &self.dependencies {
            let (name, specifier) = split(requirement);
            let wanted = normal_name(name);
            let Some(Distribution { version, .. }) = installed.iter().find(|d| d.name == wanted) else {
                return Err(Usage(format!("the script needs {requirement}, which is in no --path")));
            };
            if !matches(specifier, version) {
                return Err(Usage(format!("the script needs {requirement}, and --path has {version}")));
            }
        }
        Ok(())
    }
}

/// Splits a requirement into name and version specifier; extras and markers are left out.
fn split(requirement: &str) -> (&str, &str) {
    let requirement = requirement.split(';').next().unwrap_or_default().trim();
    let end =
        requirement.find(|c: char| !(c.is_alphanumeric() || "-_.".contains(c))).unwrap_or(requirement.len());
    let (name, rest) = requirement.split_at(end);
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('[').and_then(|r| r.split_once(']')).map_or(rest, |(_, r)| r);
    (name, rest.trim().trim_start_matches('(').trim_end_matches(')'))
}

/// Whether a release version satisfies a specifier. Only the numbers of a version count, not its
/// suffix.
pub(crate) fn matches(specifier: &str, version: &str) -> bool {
    let found = numbers(version);
    specifier.split(',').map(str::trim).filter(|clause| !clause.is_empty()).all(|clause| {
        let at = clause.find(|c: char| !"<>=!~".contains(c)).unwrap_or(clause.len());
        let (operator, wanted) = clause.split_at(at);
        let wanted = wanted.trim();
        let prefix = wanted.strip_suffix(".*");
        let wanted = numbers(prefix.unwrap_or(wanted));
        let begins = |n: usize| {
            (0..n).all(|i| found.get(i).copied().unwrap_or(0) == wanted.get(i).copied().unwrap_or(0))
        };
        let order = compare(&found, &wanted);
        match operator {
            ">=" => order.is_ge(),
            "<=" => order.is_le(),
            ">" => order.is_gt(),
            "<" => order.is_lt(),
            "!=" if prefix.is_some() => !begins(wanted.len()),
            "!=" => order.is_ne(),
            "~=" => order.is_ge() && begins(wanted.len().saturating_sub(1)),
            "==" | "===" if prefix.is_some() => begins(wanted.len()),
            "==" | "===" => order.is_eq(),
            _ => true,
        }
    })
}

fn numbers(version: &str) -> Vec<u64> {
    let digits = |part: &str| part.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    version.trim().trim_start_matches('v').split('.').map_while(digits).collect()
}

fn compare(a: &[u64], b: &[u64]) -> std::cmp::Ordering {
    let at = |v: &[u64], i| v.get(i).copied().unwrap_or(0);
    (0..a.len().max(b.len()))
        .map(|i| at(a, i).cmp(&at(b, i)))
        .find(|o| o.is_ne())
        .unwrap_or(std::cmp::Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_and_their_absence_is_no_error() {
        let script = b"#!/usr/bin/env python\n# /// script\n# requires-python = \">=3.8\"\n# dependencies = [\n#   \"six>=1.0\",\n# ]\n# ///\nimport six\n";
        let found = metadata(script).unwrap();
        assert_eq!(
            found,
            Metadata { dependencies: vec!["six>=1.0".into()], requires_python: Some(">=3.8".into()) }
        );
        assert_eq!(metadata(b"import os\n").unwrap(), Metadata::default());
        assert_eq!(metadata(b"# /// script\n# x = 1\nimport os\n").unwrap(), Metadata::default());
        assert!(metadata(b"# /// script\n# dependencies = 3 4\n# ///\n").is_err());
    }

    #[test]
    fn specifiers_are_those_of_pep_440() {
        for (specifier, version, expected) in [
            ("", "1", true),
            (">=3.8", "3.11.2", true),
            (">=3.8", "3.7.9", false),
            (">=3.8,<3.12", "3.12.1", false),
            ("==3.*", "3.6.1", true),
            ("==1.2", "1.2.0", true),
            ("!=1.2.*", "1.2.9", false),
            ("~=1.4", "1.9", true),
            ("~=1.4", "2.0", false),
            ("~=1.4.5", "1.5.0", false),
            (">1", "1.0", false),
            ("<2", "1.99.3", true),
            ("===1.0", "1.0", true),
        ] {
            assert_eq!(matches(specifier, version), expected, "{specifier} {version}");
        }
        assert_eq!(split("Foo_Bar[a,b] >=1 ; python_version<'3'"), ("Foo_Bar", ">=1"));
    }
}
