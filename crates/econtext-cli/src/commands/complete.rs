//! Completion of a word of a command line: verbs and flags, hosts and groups of the inventory and
//! of ssh's configuration, modules and functions here, files on the hosts.

use crate::args::{Cli, Settings as _, end_of_ours};
use crate::config::Config;
use clap::builder::StyledStr;
use clap::{CommandFactory as _, ValueHint};
use clap_complete::engine::{
    ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter, complete,
};
use econtext_fleet::Inventory;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The number of candidates that are shown.
const LIMIT: usize = 1000;
/// The depth to which configuration files of ssh may include each other, as in ssh.
const MAX_INCLUDES: usize = 16;

/// The candidates for the last of the words, which begin with the program's own; each with a
/// description, if there is one.
pub(crate) fn candidates(words: &[OsString], config: &Config) -> Vec<(OsString, Option<String>)> {
    let mut words = words.to_vec();
    if words.get(1).is_some_and(|word| word == "explain") && words.len() > 2 {
        words.remove(1);
    }
    let line = Line::of(&words, config);
    let mut command = command(&line);
    let at = words.len().saturating_sub(1);
    let mut at = at;
    // The words of the program to run are not ours: they are like those after a `--`.
    if let Some(end) = end_of_ours(&words, &command).filter(|end| *end <= at) {
        words.insert(end, "--".into());
        at += 1;
    }
    let found =
        complete(&mut command, words, at, std::env::current_dir().ok().as_deref()).unwrap_or_default();
    let text = |help: &StyledStr| help.to_string().lines().next().unwrap_or_default().to_owned();
    found
        .iter()
        .filter(|candidate| !candidate.is_hide_set())
        .map(|candidate| (candidate.get_value().to_owned(), candidate.get_help().map(text)))
        .take(LIMIT)
        .collect()
}

/// The command with a completer for each argument that has values of its own.
fn command(line: &Line) -> clap::Command {
    let with = |arg: clap::Arg| -> clap::Arg {
        let hosts = || ArgValueCompleter::new(Hosts(line.clone()));
        match arg.get_id().as_str() {
            "targets" | "hosts" | "exclude" | "limit" | "via" | "specs" => arg.add(hosts()),
            "group" | "exclude_group" => arg.add(ArgValueCompleter::new(Groups(line.clone()))),
            "inventory" | "path" | "identity" | "ssh_config" => arg.value_hint(ValueHint::AnyPath),
            "outdir" => arg.value_hint(ValueHint::DirPath),
            "rest" => arg.add(ArgValueCompleter::new(Rest(line.clone()))),
            _ => arg,
        }
    };
    let mut command = Cli::command();
    command.build();
    let mut command = command.mut_subcommands(|verb| verb.mut_args(with));
    // Another verb may stand after `explain`.
    let verbs: Vec<clap::Command> = command.get_subcommands().cloned().collect();
    command = command.mut_subcommand("explain", |explain| explain.subcommands(verbs));
    command
}

/// The parts of the command line so far.
#[derive(Clone, Debug, Default)]
struct Line {
    verb: String,
    /// The words between the verb and the program to run: flags, and the hosts.
    ours: Vec<OsString>,
    /// The words from the program to run on, without the one that is being completed.
    rest: Vec<OsString>,
    inventories: Vec<PathBuf>,
    paths: Vec<PathBuf>,
    ssh_config: Option<PathBuf>,
}

impl Line {
    fn of(words: &[OsString], config: &Config) -> Self {
        let command = crate::args::command(true);
        let mut with = words.to_vec();
        config.insert(&mut with, &command);
        let last = words.len().saturating_sub(1);
        let end = end_of_ours(words, &command).unwrap_or(words.len()).min(last);
        let all = |names: &[&str]| {
            let mut found = Vec::new();
            let mut words = with.iter();
            while let Some(word) = words.next().map(|word| word.to_string_lossy()) {
                for name in names {
                    if word == *name {
                        found.extend(words.as_slice().first().map(PathBuf::from));
                    } else if let Some(value) = word.strip_prefix(name) {
                        let value = value.strip_prefix('=').unwrap_or(value);
                        if name.len() == 2 || word.len() > name.len() + value.len() {
                            found.push(PathBuf::from(value));
                        }
                    }
                }
            }
            found
        };
        Line {
            verb: words.get(1).map_or(String::new(), |verb| verb.to_string_lossy().into_owned()),
            ours: words.get(2..end).unwrap_or_default().to_vec(),
            rest: words.get(end..last).unwrap_or_default().to_vec(),
            inventories: all(&["-i", "--inventory"]),
            paths: all(&["--path"]),
            ssh_config: all(&["-F", "--ssh-config"]).pop(),
        }
    }

    fn inventory(&self) -> Inventory {
        let mut inventory = Inventory::default();
        for path in &self.inventories {
            // An inventory that cannot be read completes nothing; the command will report the
            // error.
            let _ = inventory.load(path);
        }
        inventory
    }
}

/// The completer of sets of hosts: of the last name after the operators.
#[derive(Clone)]
struct Hosts(Line);

impl ValueCompleter for Hosts {
    fn complete(&self, current: &OsStr) -> Vec<CompletionCandidate> {
        let Some(current) = current.to_str() else { return Vec::new() };
        let (before, word) = last_name(current);
        let inventory = self.0.inventory();
        let candidate = |name: String| CompletionCandidate::new(format!("{before}{name}"));
        if let Some(group) = word.strip_prefix('@') {
            let groups = inventory.groups().filter(|name| name.starts_with(group));
            return groups.map(|name| candidate(format!("@{name}"))).collect();
        }
        let mut names: Vec<String> = inventory.hosts().map(str::to_owned).collect();
        names.extend(ssh_hosts(self.0.ssh_config.as_deref()));
        let schemes = econtext_fleet::SCHEMES.iter().map(|scheme| format!("{scheme}:"));
        let mut found: Vec<String> =
            names.into_iter().chain(schemes).filter(|name| name.starts_with(word)).collect();
        let mut seen = std::collections::HashSet::new();
        found.retain(|name| seen.insert(name.clone()));
        found.into_iter().map(candidate).collect()
    }
}

/// Splits a set of hosts before its last name. Brackets hold no names.
fn last_name(set: &str) -> (&str, &str) {
    let mut depth = 0;
    let mut start = 0;
    for (at, c) in set.char_indices() {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            ',' | '!' | '&' | '^' if depth <= 0 => start = at + 1,
            _ => {}
        }
    }
    set.split_at(start)
}

#[derive(Clone)]
struct Groups(Line);

impl ValueCompleter for Groups {
    fn complete(&self, current: &OsStr) -> Vec<CompletionCandidate> {
        let Some(current) = current.to_str() else { return Vec::new() };
        let inventory = self.0.inventory();
        let groups = inventory.groups().filter(|name| name.starts_with(current));
        groups.map(CompletionCandidate::new).collect()
    }
}

/// The completer of the words that are run: a function, a script, files.
#[derive(Clone)]
struct Rest(Line);

impl ValueCompleter for Rest {
    fn complete(&self, current: &OsStr) -> Vec<CompletionCandidate> {
        let line = &self.0;
        match (line.verb.as_str(), line.rest.as_slice()) {
            ("call", []) => functions(line, &current.to_string_lossy()),
            ("run", []) | ("put", _) => PathCompleter::any().complete(current),
            ("get", rest) => {
                let there = files_there(line, current);
                // The last word is a directory here; the first never is.
                match rest {
                    [] => there,
                    _ => there.into_iter().chain(PathCompleter::dir().complete(current)).collect(),
                }
            }
            _ => Vec::new(),
        }
    }
}

/// The modules in the working directory and those of `--path`; after a colon, the functions of one.
fn functions(line: &Line, current: &str) -> Vec<CompletionCandidate> {
    let directories = || std::iter::once(Path::new(".")).chain(line.paths.iter().map(PathBuf::as_path));
    if let Some((module, function)) = current.split_once(':') {
        let file = module.replace('.', "/");
        let source = directories()
            .flat_map(|directory| {
                [format!("{file}.py"), format!("{file}/__init__.py")].map(|f| directory.join(f))
            })
            .find_map(|path| fs::read_to_string(path).ok());
        let source = source.unwrap_or_default();
        let names = source.lines().filter_map(|line| line.strip_prefix("def ")).filter_map(|rest| {
            let name = rest.split(['(', ' ']).next()?;
            (name.starts_with(function) && (!name.starts_with('_') || function.starts_with('_')))
                .then_some(name)
        });
        return names.map(|name| CompletionCandidate::new(format!("{module}:{name}"))).collect();
    }
    let mut found: Vec<String> = directories()
        .filter_map(|directory| fs::read_dir(directory).ok())
        .flatten()
        .flatten()
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".py")?.to_owned()))
        .filter(|name| name.starts_with(current) && econtext::internal::is_identifier(name))
        .map(|name| name + ":")
        .collect();
    found.sort();
    found.dedup();
    found.into_iter().map(CompletionCandidate::new).collect()
}

/// A program that prints the paths that begin like its argument, one per line.
const LIST: &str = "\
import glob, os, sys
start = sys.argv[1]
pattern = ''.join('[%s]' % c if c in '*?[' else c for c in os.path.expanduser(start)) + '*'
for path in sorted(glob.glob(pattern))[:200]: print(path + '/' * os.path.isdir(path))
";

/// The files on the first of the hosts, if it answers soon and without a password.
fn files_there(line: &Line, current: &OsStr) -> Vec<CompletionCandidate> {
    let asks = ["-k", "-K", "--ask-pass", "--ask-become-pass", "--password-cmd"];
    if line.ours.iter().any(|word| asks.iter().any(|flag| word == flag)) {
        return Vec::new();
    }
    let Ok(program) = std::env::current_exe() else { return Vec::new() };
    let mut command = Command::new(program);
    command.args(["run", "-q", "-N", "-t", "2", "--timeout", "3", "--output", "lines", "--pick", "1"]);
    command.args(line.ours.iter().filter(|word| *word != "--dry-run")).args(["-c", LIST]).arg(current);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    let Ok(output) = command.output() else { return Vec::new() };
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|path| CompletionCandidate::new(path.to_owned())).collect()
}

/// The names of hosts in ssh's configuration, without patterns.
fn ssh_hosts(file: Option<&Path>) -> Vec<String> {
    let home = etcetera::home_dir().unwrap_or_default();
    let mut found = Vec::new();
    match file {
        Some(file) => read_ssh_config(file, &home, 0, &mut found),
        None => {
            read_ssh_config(&home.join(".ssh/config"), &home, 0, &mut found);
            read_ssh_config(Path::new("/etc/ssh/ssh_config"), &home, 0, &mut found);
        }
    }
    found
}

fn read_ssh_config(path: &Path, home: &Path, depth: usize, found: &mut Vec<String>) {
    let Ok(text) = fs::read_to_string(path) else { return };
    for line in text.lines() {
        let line = line.trim().replacen('=', " ", 1);
        let mut words = line.split_whitespace().map(|word| word.trim_matches('"'));
        match words.next().map(str::to_ascii_lowercase).as_deref() {
            Some("host") => {
                let names = words.filter(|name| !name.contains(['*', '?', '!']));
                found.extend(names.map(str::to_owned));
            }
            Some("include") if depth < MAX_INCLUDES => {
                for pattern in words {
                    for file in included(pattern, path, home) {
                        read_ssh_config(&file, home, depth + 1, found);
                    }
                }
            }
            _ => {}
        }
    }
}

/// The files that an `Include` names: those of the user are relative to `~/.ssh`, with `*` for any
/// part of a name.
fn included(pattern: &str, file: &Path, home: &Path) -> Vec<PathBuf> {
    let base = match file.parent() {
        Some(directory) if directory.starts_with("/etc") => directory.to_owned(),
        _ => home.join(".ssh"),
    };
    let path = match pattern.strip_prefix("~/") {
        Some(rest) => home.join(rest),
        None => base.join(pattern),
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some((start, end)) = name.split_once('*') else { return vec![path] };
    let entries = path.parent().and_then(|directory| fs::read_dir(directory).ok());
    let fits = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
    };
    let mut files: Vec<PathBuf> =
        entries.into_iter().flatten().flatten().filter(fits).map(|entry| entry.path()).collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn names(words: &[&str]) -> Vec<String> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let found = candidates(&words, &Config::default());
        found.into_iter().map(|(value, _)| value.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn hosts_and_groups_come_from_the_inventory_wherever_hosts_can_stand() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"[web]\nweb01\nweb02\n[db]\ndb01\n").unwrap();
        let inventory = file.path().to_str().unwrap();
        for verb in ["call", "run", "exec", "put", "get", "ping", "repl"] {
            assert_eq!(names(&["econtext", verb, "-i", inventory, "web"]), ["web01", "web02"], "{verb}");
        }
        let i = format!("--inventory={inventory}");
        assert_eq!(names(&["econtext", "ping", &i, "db01,we"]), ["db01,web01", "db01,web02"]);
        assert_eq!(names(&["econtext", "ping", &i, "web[01-02]!@d"]), ["web[01-02]!@db"]);
        assert_eq!(names(&["econtext", "ping", &i, "-w", "d"]), ["db01", "docker:"]);
        assert_eq!(names(&["econtext", "ping", &i, "web01", "-x", "db"]), ["db01"]);
        assert_eq!(names(&["econtext", "ping", &i, "-g", ""]), ["db", "web"]);
        assert_eq!(names(&["econtext", "hosts", &i, "-f", "web"]), ["web01", "web02"]);
        assert_eq!(names(&["econtext", "explain", "exec", &i, "db"]), ["db01"]);
    }

    #[test]
    fn hosts_of_ssh_are_those_of_its_files_and_what_they_include() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(
            at("config"),
            format!("Include {}/more-*\nHost alpha *.example beta\n", directory.path().display()),
        )
        .unwrap();
        fs::write(at("more-1"), "host = \"gamma\"\n  HostName 10.0.0.1\n").unwrap();
        let config = at("config").display().to_string();
        assert_eq!(names(&["econtext", "ping", "-F", &config, "al"]), ["alpha"]);
        assert_eq!(names(&["econtext", "ping", "-F", &config, "g"]), ["gamma"]);
    }

    #[test]
    fn verbs_flags_modules_and_functions() {
        assert_eq!(names(&["econtext", "comp"]), ["completions"]);
        assert_eq!(names(&["econtext", "explain", "cal"]), ["call"]);
        assert!(names(&["econtext", "call", "--conn"]).contains(&"--connect-timeout".to_owned()));
        let directory = tempfile::tempdir().unwrap();
        fs::write(
            directory.path().join("facts.py"),
            "def load(): pass\ndef disk(path): pass\ndef _own(): pass\n",
        )
        .unwrap();
        let path = directory.path().to_str().unwrap();
        assert_eq!(names(&["econtext", "call", "--path", path, "local:", "fac"]), ["facts:"]);
        assert_eq!(
            names(&["econtext", "call", "--path", path, "local:", "facts:"]),
            ["facts:load", "facts:disk"]
        );
    }
}
