//! The user's settings: `$XDG_CONFIG_HOME/econtext/config.toml` and `ECONTEXT_*`. Nothing else is
//! read.
//!
//! Each setting is a flag by its long name. The environment overrides the file, and the command
//! line overrides both.

use crate::args::Settings;
use crate::usage::Usage;
use clap::ArgAction;
use clap::parser::ValueSource;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Flags that concern one run, and so cannot be configured.
const NOT_HERE: [&str; 13] = [
    "hosts",
    "exclude",
    "group",
    "exclude-group",
    "all",
    "limit",
    "pick",
    "rerun",
    "dry-run",
    "list-hosts",
    "help",
    "help-all",
    "status",
];

/// Flags of which only one can apply.
const MODES: [&str; 5] = ["output", "fold", "diff", "json", "jsonl"];

/// Flags with paths, which are relative to the file's directory; a list of them in the environment
/// has colons.
const PATHS: [&str; 5] = ["inventory", "path", "identity", "ssh-config", "outdir"];

/// The settings, by flag.
#[derive(Debug, Default)]
pub(crate) struct Config {
    file: Option<PathBuf>,
    /// Messages about variables of the environment that look like settings and are none, with the
    /// setting that was probably meant.
    unknown: Vec<String>,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    values: Vec<String>,
    origin: String,
}

impl Entry {
    fn of_environment(&self) -> bool {
        self.origin.starts_with("ECONTEXT_")
    }
}

/// The directories of the user's own files: `$XDG_CONFIG_HOME`, `$XDG_STATE_HOME`.
pub(crate) fn base_directories() -> Option<etcetera::base_strategy::Xdg> {
    etcetera::base_strategy::Xdg::new().ok()
}

impl Config {
    /// Reads the file, if there is one, and the environment.
    pub(crate) fn load() -> Result<Self, Usage> {
        use etcetera::BaseStrategy as _;
        let mut config = Config {
            file: base_directories().map(|base| base.config_dir().join("econtext/config.toml")),
            ..Config::default()
        };
        if let Some(file) = config.file.clone() {
            config.read_file(&file)?;
        }
        let known = flags();
        config.unknown = unknown(&known);
        for (flag, arg) in known {
            let variable = variable(&flag);
            let Some(value) = std::env::var_os(&variable) else { continue };
            let value = value.into_string().map_err(|_| Usage(format!("{variable}: it is not UTF-8")))?;
            let many = matches!(arg.get_action(), ArgAction::Append) && PATHS.contains(&flag.as_str());
            let values: Vec<&str> =
                if many { value.split(':').filter(|v| !v.is_empty()).collect() } else { vec![&value] };
            let values =
                values.into_iter().map(|v| words(&arg, v).map_err(|e| Usage(format!("{variable}: {e}"))));
            let values = values.collect::<Result<Vec<_>, _>>()?.concat();
            // A mode of the environment replaces one of the file: it is nearer to the command line.
            if MODES.contains(&flag.as_str()) {
                config
                    .entries
                    .retain(|known, entry| !MODES.contains(&known.as_str()) || entry.of_environment());
            }
            config.entries.insert(flag, Entry { values, origin: variable });
        }
        Ok(config)
    }

    fn read_file(&mut self, file: &Path) -> Result<(), Usage> {
        let bad = |why: String| Usage(format!("{}: {why}", file.display()));
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(bad(e.to_string())),
        };
        let table: toml::Table = toml::from_str(&text).map_err(|e| bad(e.to_string()))?;
        let known = flags();
        let directory = file.parent().unwrap_or(Path::new("/"));
        for (flag, value) in table {
            let Some(arg) = known.get(&flag) else {
                let hint = match econtext_fleet::closest(&flag, known.keys().map(String::as_str)) {
                    Some(meant) => format!("; there is {meant:?}"),
                    None => "; settings are long flags without the dashes".to_owned(),
                };
                return Err(bad(format!("no such setting as {flag:?}{hint}")));
            };
            let values = match value {
                toml::Value::Array(items) if matches!(arg.get_action(), ArgAction::Append) => items,
                toml::Value::Array(_) => {
                    return Err(bad(format!("{flag}: one value is wanted, and no list")));
                }
                one => vec![one],
            };
            let mut found = Vec::new();
            for value in values {
                let text = match value {
                    toml::Value::String(text) if PATHS.contains(&flag.as_str()) => located(directory, &text),
                    toml::Value::String(text) => text,
                    toml::Value::Integer(n) => n.to_string(),
                    toml::Value::Float(x) => x.to_string(),
                    toml::Value::Boolean(b) => b.to_string(),
                    _ => return Err(bad(format!("{flag}: no text, number or truth value"))),
                };
                found.extend(words(arg, &text).map_err(|e| bad(format!("{flag}: {e}")))?);
            }
            self.entries.insert(flag, Entry { values: found, origin: file.display().to_string() });
        }
        Ok(())
    }

    /// Messages about variables of the environment that set nothing.
    pub(crate) fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// All settings and where each comes from.
    pub(crate) fn explain(&self) -> String {
        let mut out = String::new();
        if let Some(file) = &self.file {
            let there = if file.exists() { "" } else { " (not there)" };
            let _ = writeln!(out, "# {}{there}", file.display());
        }
        let _ = writeln!(
            out,
            "# then ECONTEXT_*, as ECONTEXT_FORKS=32; then the command line. Nothing else is read."
        );
        for (flag, arg) in flags() {
            let (value, origin) = match self.entries.get(&flag) {
                Some(entry) => {
                    let value = |word: &String| word.split_once('=').map_or("yes", |(_, v)| v).to_owned();
                    let values: Vec<String> = entry.values.iter().map(value).collect();
                    (
                        if values.is_empty() { "no".to_owned() } else { values.join(", ") },
                        entry.origin.as_str(),
                    )
                }
                None => {
                    let default =
                        arg.get_default_values().iter().map(|v| v.to_string_lossy()).collect::<Vec<_>>();
                    // The defaults of switches are the parser's own words.
                    let value =
                        if arg.get_action().takes_values() { default.join(", ") } else { String::new() };
                    (if value.is_empty() { "-".to_owned() } else { value }, "default")
                }
            };
            let _ = writeln!(out, "{flag:<16} {value:<24} {origin}");
        }
        out
    }
}

impl Settings for Config {
    fn insert(&self, argv: &mut Vec<OsString>, command: &clap::Command) {
        if self.entries.is_empty() {
            return;
        }
        let mut separated = argv.clone();
        if let Some(at) = crate::args::end_of_ours(argv, command) {
            separated.insert(at, "--".into());
        }
        // An invalid line is reported as it was typed.
        let Ok(matches) = command.clone().try_get_matches_from(separated) else { return };
        let Some((verb, given)) = matches.subcommand() else { return };
        let Some(verb) = command.find_subcommand(verb) else { return };
        let on_line = |flag: &str| {
            verb.get_arguments()
                .find(|a| a.get_long() == Some(flag))
                .is_some_and(|a| given.value_source(a.get_id().as_str()) == Some(ValueSource::CommandLine))
        };
        let mode_given = MODES.iter().any(|flag| on_line(flag));
        for (flag, entry) in &self.entries {
            let takes = verb.get_arguments().any(|a| a.get_long() == Some(flag));
            let beside_the_point = match flag.as_str() {
                "password-cmd" => on_line("ask-pass"),
                "ask-pass" => on_line("password-cmd"),
                "spool-dir" => !on_line("spool") && !self.entries.contains_key("spool"),
                mode => mode_given && MODES.contains(&mode),
            };
            if takes && !on_line(flag) && !beside_the_point {
                let at = 2.min(argv.len());
                argv.splice(at..at, entry.values.iter().map(OsString::from));
            }
        }
    }

    fn origin(&self) -> String {
        let mut origins: Vec<&str> = self.entries.values().map(|entry| entry.origin.as_str()).collect();
        origins.sort_unstable();
        origins.dedup();
        origins.join(", ")
    }
}

/// The flags that can be set, by their long names.
fn flags() -> BTreeMap<String, clap::Arg> {
    let command = crate::args::command(true);
    let Some(verb) = command.find_subcommand("ping") else { return BTreeMap::new() };
    verb.get_arguments()
        .filter_map(|arg| Some((arg.get_long()?.to_owned(), arg.clone())))
        .filter(|(flag, _)| !NOT_HERE.contains(&flag.as_str()))
        .collect()
}

/// Prefixes of variables that are no settings: those for programs on hosts, and those of our own
/// tests.
const OTHERS: [&str; 2] = ["ECONTEXT_TARGET", "ECONTEXT_TEST_"];

/// Messages about variables of the environment that look like settings and are none.
fn unknown(known: &BTreeMap<String, clap::Arg>) -> Vec<String> {
    let settings: Vec<String> = known.keys().map(|flag| variable(flag)).collect();
    let mut found: Vec<String> = std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.starts_with("ECONTEXT_") && !OTHERS.iter().any(|other| name.starts_with(other)))
        .filter(|name| !settings.contains(name))
        .map(|name| match econtext_fleet::closest(&name, settings.iter().map(String::as_str)) {
            Some(meant) => format!("{name} is no setting; there is {meant}"),
            None => format!("{name} is no setting; econtext explain config shows those that are set"),
        })
        .collect();
    found.sort();
    found
}

fn variable(flag: &str) -> String {
    format!("ECONTEXT_{}", flag.to_uppercase().replace('-', "_"))
}

/// A path of the file, resolved against the home directory or the file's own.
fn located(directory: &Path, text: &str) -> String {
    let path = match (text.strip_prefix("~/"), etcetera::home_dir()) {
        (Some(rest), Ok(home)) => home.join(rest),
        _ => directory.join(text),
    };
    path.display().to_string()
}

/// The words of a command line that set a flag to a value.
fn words(arg: &clap::Arg, value: &str) -> Result<Vec<String>, String> {
    let flag = arg.get_long().unwrap_or_default();
    let truth = match value {
        "true" | "yes" | "1" => Some(true),
        "false" | "no" | "0" | "" => Some(false),
        _ => None,
    };
    match (arg.get_action(), truth) {
        (ArgAction::SetTrue, Some(true)) => Ok(vec![format!("--{flag}")]),
        (ArgAction::SetTrue, Some(false)) => Ok(Vec::new()),
        (ArgAction::SetTrue, None) => Err(format!("{value:?} is neither yes nor no")),
        (ArgAction::Count, _) => {
            let n: usize = value.parse().map_err(|_| format!("{value:?} is no number"))?;
            Ok(vec![format!("--{flag}"); n.min(9)])
        }
        (_, Some(true)) if flag == "become" => Ok(vec!["--become=sudo".to_owned()]),
        (_, Some(false)) if flag == "become" => Ok(vec!["--become=no".to_owned()]),
        _ => Ok(vec![format!("--{flag}={value}")]),
    }
}
