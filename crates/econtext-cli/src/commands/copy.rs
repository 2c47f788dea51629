//! Copies of files to hosts and back, and previews of their changes.

use crate::args::{Copy, Mode, Usage};
use crate::outcome::Outcome;
use crate::run::job::Host;
use econtext::transfer::{Comparison, Listed, Progress, TransferOptions, Transferred};
use econtext::{Error, Value};
use econtext_fleet::{Identity, below};
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The largest file whose differences are shown, in bytes.
const SHOWN: u64 = 1 << 20;

/// The words of a `put` or `get`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words<'a> {
    sources: &'a [OsString],
    destination: &'a OsString,
}

impl<'a> Words<'a> {
    /// Splits the words into sources and destination.
    pub(crate) fn split(verb: &str, words: &'a [OsString]) -> Result<Self, Usage> {
        match words.split_last() {
            Some((destination, sources)) if !sources.is_empty() => Ok(Words { sources, destination }),
            _ => Err(Usage(format!("{verb} needs SRC... and where it goes"))),
        }
    }

    /// The words with the placeholders of one host replaced.
    fn of_host(self, identity: &Identity) -> Result<(Vec<OsString>, OsString), Usage> {
        let sources = self.sources.iter().map(|source| identity.expand(source)).collect::<Result<_, _>>()?;
        Ok((sources, identity.expand(self.destination)?))
    }

    /// Checks that the sources of all hosts are here, before anything is contacted.
    pub(crate) fn check_sources(self, identities: &[Identity]) -> Result<(), Usage> {
        for identity in identities {
            for source in self.of_host(identity)?.0 {
                fs::metadata(&source).map_err(|e| Usage(format!("{}: {e}", source.display())))?;
            }
        }
        Ok(())
    }
}

/// Checks that flags of the other direction are not given.
pub(crate) fn check_get(copy: &Copy) -> Result<(), Usage> {
    let given =
        [(copy.mode.is_some(), "--mode"), (copy.owner.is_some(), "--owner"), (copy.backup, "--backup")];
    match given.iter().find(|(given, _)| *given) {
        Some((_, flag)) => Err(Usage(format!("get takes no {flag}: it is for put"))),
        None => Ok(()),
    }
}

fn options(copy: &Copy, host: &Host<'_>) -> TransferOptions {
    let options = TransferOptions {
        preserve: copy.preserve,
        links: copy.links,
        mode: copy.mode,
        backup: copy.backup,
        timeout: host.time_left(),
        ..TransferOptions::default()
    };
    match &copy.owner {
        Some(owner) => options.owned_by(owner),
        None => options,
    }
}

/// The outcome of a copy: nothing for people, as with `cp`, and numbers for programs.
fn outcome(host: &Host<'_>, result: Result<Transferred, Error>) -> Outcome {
    let value = result.map(|done| {
        if host.job.report.for_people() {
            return Value::None;
        }
        let number = |name: &str, n: u64| (Value::from(name), Value::int(n.into()));
        Value::Dict(vec![
            number("files", done.files),
            number("skipped", done.skipped),
            number("bytes", done.bytes),
        ])
    });
    value.into()
}

fn usage(error: Usage) -> Outcome {
    Outcome::Failed(Error::Usage(error.0))
}

/// Copies files to a host.
pub(crate) fn put(copy: &Copy, words: Words<'_>, host: &Host<'_>) -> Outcome {
    let (sources, destination) = match words.of_host(host.identity()) {
        Ok(words) => words,
        Err(error) => return usage(error),
    };
    if copy.common.mode() == Mode::Diff {
        let changes = compare(copy, &sources, &destination, host);
        if !matches!(changes, Outcome::Value(_)) {
            return changes;
        }
        let done =
            outcome(host, host.context.put(&sources, destination, &options(copy, host), progress(host)));
        return if done.is_ok() { changes } else { done };
    }
    outcome(host, host.context.put(&sources, destination, &options(copy, host), progress(host)))
}

/// Copies files from a host.
pub(crate) fn get(copy: &Copy, words: Words<'_>, host: &Host<'_>) -> Outcome {
    let (sources, directory) = match words.of_host(host.identity()) {
        Ok(words) => words,
        Err(error) => return usage(error),
    };
    let directory = below(Path::new(&directory), host.context.name());
    outcome(host, host.context.get(&sources, &directory, &options(copy, host), progress(host)))
}

/// Reports how far a host's files are to the display of progress.
fn progress<'a>(host: &'a Host<'_>) -> impl Fn(Progress<'_>) + 'a {
    let progress = host.job.report.progress();
    move |told| progress.transferred(host.index, told.total_done, told.total)
}

/// The changes that a `put` would make.
pub(crate) fn would_put(copy: &Copy, words: Words<'_>, host: &Host<'_>) -> Outcome {
    match words.of_host(host.identity()) {
        Ok((sources, destination)) => compare(copy, &sources, &destination, host),
        Err(error) => usage(error),
    }
}

fn compare(copy: &Copy, sources: &[OsString], destination: &OsStr, host: &Host<'_>) -> Outcome {
    let diff = copy.common.mode() == Mode::Diff;
    let shown = if diff { SHOWN } else { 0 };
    let options = options(copy, host);
    let found = match host.context.compare(sources, destination, &options, shown) {
        Ok(found) => found,
        Err(error) => return Outcome::Failed(error),
    };
    let changes: Vec<Change<'_>> = found
        .iter()
        .map(|file| Change::of(file, &options))
        .filter(|change| !change.what.is_empty())
        .collect();
    if !host.job.report.for_people() {
        return Outcome::Value(Value::List(changes.iter().map(Change::value).collect()));
    }
    let mut text = String::new();
    for change in &changes {
        let _ = writeln!(text, "{}: {}", change.file.path.display(), change.what.join(", "));
        if diff {
            text += &change.diff();
        }
    }
    match changes.len() {
        0 => text = "nothing would change".to_owned(),
        _ => drop(text.pop()),
    }
    Outcome::Value(text.into())
}

/// The change that a file on a host would undergo.
struct Change<'a> {
    file: &'a Comparison,
    what: Vec<String>,
}

impl<'a> Change<'a> {
    fn of(file: &'a Comparison, options: &TransferOptions) -> Self {
        let mut what = Vec::new();
        let short =
            |digest: &[u8]| digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<String>();
        let wanted = options.mode.or(options.preserve.then_some(file.mode));
        match &file.there {
            None => {
                what.push(format!("new, {} bytes, sha1 {}", file.size, short(&file.digest)));
                what.extend(wanted.map(|mode| format!("mode {mode:04o}")));
            }
            Some(there) => {
                if !file.is_same() {
                    what.push(format!(
                        "{} → {} bytes, sha1 {} → {}",
                        there.size,
                        file.size,
                        short(&there.digest),
                        short(&file.digest)
                    ));
                }
                if let Some(mode) = wanted.filter(|mode| *mode != there.mode) {
                    what.push(format!("mode {:04o} → {mode:04o}", there.mode));
                }
                let names =
                    [("owner", &options.owner, &there.owner), ("group", &options.group, &there.group)];
                for (kind, wanted, is) in names {
                    if let Some(wanted) = wanted.as_ref().filter(|wanted| *wanted != is) {
                        what.push(format!("{kind} {is} → {wanted}"));
                    }
                }
            }
        }
        Change { file, what }
    }

    fn value(&self) -> Value {
        let hex =
            |digest: &[u8]| Value::from(digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        let pair = |name: &str, value: Value| (Value::from(name), value);
        let there = self.file.there.as_ref();
        let of_there =
            |value: &dyn Fn(&econtext::transfer::FileThere) -> Value| there.map_or(Value::None, value);
        Value::Dict(vec![
            pair("path", Value::from(self.file.path.display().to_string())),
            pair("source", Value::from(self.file.source.display().to_string())),
            pair("size", Value::int(self.file.size.into())),
            pair("sha1", hex(&self.file.digest)),
            pair("size_there", of_there(&|there| Value::int(there.size.into()))),
            pair("sha1_there", of_there(&|there| hex(&there.digest))),
            pair("mode_there", of_there(&|there| format!("{:04o}", there.mode).into())),
            pair("change", Value::from(self.what.join(", "))),
        ])
    }

    /// The difference between two texts; empty if one of them is no text or too long.
    fn diff(&self) -> String {
        let old = match &self.file.there {
            None => Some(String::new()),
            Some(there) => there.content.clone().and_then(|content| String::from_utf8(content).ok()),
        };
        let new = (self.file.size <= SHOWN).then(|| fs::read_to_string(&self.file.source).ok()).flatten();
        match old.zip(new) {
            Some((old, new)) if old != new && !old.contains('\0') && !new.contains('\0') => {
                similar::TextDiff::from_lines(&old, &new).unified_diff().to_string()
            }
            _ => String::new(),
        }
    }
}

/// The files that a `get` would copy.
pub(crate) fn would_get(copy: &Copy, words: Words<'_>, host: &Host<'_>) -> Outcome {
    let (sources, directory) = match words.of_host(host.identity()) {
        Ok(words) => words,
        Err(error) => return usage(error),
    };
    let directory = below(Path::new(&directory), host.context.name());
    let listed = match host.context.list(&sources, &options(copy, host)) {
        Ok(listed) => listed,
        Err(error) => return Outcome::Failed(error),
    };
    let files = listed.iter().filter_map(|listed: &Listed| Some((listed, listed.size?)));
    let row = |(listed, size): (&Listed, u64)| (listed.path.clone(), size, directory.join(&listed.name));
    let rows: Vec<(PathBuf, u64, PathBuf)> = files.map(row).collect();
    if host.job.report.for_people() {
        let line = |(from, size, to): &(PathBuf, u64, PathBuf)| {
            let what = if to.exists() { "there is one" } else { "new" };
            format!("{}: {size} bytes, to {} ({what})", from.display(), to.display())
        };
        return Outcome::Value(rows.iter().map(line).collect::<Vec<_>>().join("\n").into());
    }
    let value = |(from, size, to): &(PathBuf, u64, PathBuf)| {
        Value::Dict(vec![
            ("path".into(), from.display().to_string().into()),
            ("size".into(), Value::int((*size).into())),
            ("destination".into(), to.display().to_string().into()),
        ])
    };
    Outcome::Value(Value::List(rows.iter().map(value).collect()))
}
