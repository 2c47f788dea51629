//! The verbs `call` and `ping`.

use crate::args::{Common, Usage};
use crate::commands::explain::explain;
use crate::output::console::complain;
use crate::output::json::argument;
use crate::run::job::Host;
use crate::run::plan::Plan;
use crate::run::{ReportOptions, everywhere, or_long, takes_no_words};
use econtext::internal::is_identifier;
use econtext::modules::{ModuleFinder as _, Start};
use econtext::transport::shell_join;
use econtext::{Error, PathFinder, Value};
use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The finder of the `--path` directories, after `first` if there is one.
pub(crate) fn finder(common: &Common, first: Option<&Path>) -> Result<PathFinder, Usage> {
    let mut finder = PathFinder::new();
    let bad = |directory: &Path, e: io::Error| Usage(format!("{}: {e}", directory.display()));
    if let Some(first) = first {
        finder = finder.code_root(first).map_err(|e| bad(first, e))?;
    }
    for directory in &common.path {
        finder = finder.root(directory).map_err(|e| bad(directory, e))?;
    }
    if common.spool.iter().any(|package| package == "none") {
        finder = finder.without_files();
    }
    Ok(common.no_serve.iter().fold(finder, |finder, name| finder.block(name)))
}

/// Calls a function on every host.
pub(crate) fn call(plan: Plan<'_>, explained: bool) -> anyhow::Result<u8> {
    let (function, words) = plan.rest.split_first().ok_or_else(|| Usage("call needs MODULE:FUNC".into()))?;
    let (args, kwargs) = arguments(words)?;
    if !plan.common.quiet && io::stderr().is_terminal() {
        words.iter().filter_map(|word| python_literal(word.to_str()?)).for_each(|word| {
            complain(&format!("{word} is no JSON, and goes as a string; JSON has \"text\", true, false, null, [1], {{\"a\": 1}}"));
        });
    }
    let function = function.to_str().ok_or_else(|| Usage(format!("{}: not UTF-8", function.display())))?;
    econtext::internal::check_target(function).map_err(|error| Usage(with_hint(function, error)))?;
    // The working directory comes first, as with Python's -c and -m.
    let finder = finder(plan.common, Some(Path::new(".")))?;
    if explained {
        let (module, name) = function.split_once(':').unwrap_or_default();
        let words: Vec<_> = plan.rest.iter().map(|word| word.to_string_lossy()).collect();
        let words = format!("call {}", shell_join(&words));
        return explain(&plan, &|_| Ok(words.clone()), Some(&finder.foresee(Start::Function(module, name))));
    }
    let (module, _) = function.split_once(':').unwrap_or_default();
    let mut plan = plan;
    plan.import_hint = elsewhere(module, &finder);
    everywhere(plan, finder, SHOWN, |host| {
        let mut call = host.context.prepare(function).args(&args);
        for (name, value) in &kwargs {
            call = call.kwarg(name, value);
        }
        if let Some(left) = host.time_left() {
            call = call.timeout(left);
        }
        call.start_streaming(host.show_item()).wait().into()
    })
}

/// Every value is shown, `None` too.
const SHOWN: ReportOptions = ReportOptions { forward_log: true, show_none: true, copies: false };

type Keywords = Vec<(String, Value)>;

/// Positional and keyword arguments.
fn arguments(words: &[OsString]) -> Result<(Vec<Value>, Keywords), Usage> {
    let mut args = Vec::new();
    let mut kwargs: Keywords = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            args.extend(words.by_ref().map(|w| Value::from_os_text(w.as_bytes())));
            break;
        }
        let Some(word) = word.to_str() else {
            // JSON is UTF-8, so this is text, with surrogates for the bytes that are not.
            args.push(Value::from_os_text(word.as_bytes()));
            continue;
        };
        let bad = |e| Usage(format!("argument {word}: {e}"));
        match word.split_once('=').filter(|(name, _)| is_identifier(name)) {
            Some((name, value)) => {
                if kwargs.iter().any(|(known, _)| known == name) {
                    return Err(Usage(format!("argument {name}= is given twice")));
                }
                kwargs.push((name.to_owned(), argument(value).map_err(bad)?));
            }
            None => args.push(argument(word).map_err(bad)?),
        }
    }
    Ok((args, kwargs))
}

/// A hint for a module that is not served, and lies in a directory near this one.
fn elsewhere(module: &str, finder: &PathFinder) -> Option<String> {
    let top = module.split('.').next()?;
    if finder.find(top).is_some() {
        return None;
    }
    let above = ["..", "../..", "../../.."].map(PathBuf::from);
    let inside =
        fs::read_dir(".").into_iter().flatten().flatten().map(|entry| PathBuf::from(entry.file_name()));
    let mut inside: Vec<PathBuf> = inside.take(1000).collect();
    inside.sort();
    let found = above.into_iter().chain(inside).find(|directory| {
        directory.join(format!("{top}.py")).is_file() || directory.join(top).join("__init__.py").is_file()
    })?;
    Some(format!("hint: {top} is in {0}: --path {0}", found.display()))
}

/// The value of an argument that is a string because it is not JSON, and looks like another value
/// as Python writes it.
fn python_literal(word: &str) -> Option<&str> {
    let value = word.split_once('=').filter(|(name, _)| is_identifier(name)).map_or(word, |(_, value)| value);
    let brackets = [('{', '}'), ('[', ']'), ('(', ')'), ('\'', '\'')];
    let enclosed =
        |(open, close): (char, char)| value.len() > 1 && value.starts_with(open) && value.ends_with(close);
    let constant = ["True", "False", "None"].contains(&value);
    let is_json =
        matches!(argument(value), Ok(found) if found != Value::from(value)) || argument(value).is_err();
    (!is_json && (constant || brackets.into_iter().any(enclosed))).then_some(value)
}

/// Adds a hint at the probable meaning to the error of a word that is no function.
fn with_hint(word: &str, error: String) -> String {
    let path = Path::new(word);
    let hint = match word.rsplit_once('.') {
        _ if path.is_file() => format!("a script is run: econtext run TARGETS {word}"),
        Some((module, function)) if !word.contains([':', '/']) => {
            format!("did you mean {module}:{function}?")
        }
        None if !word.contains(':') => format!("a command is run by econtext exec TARGETS -- {word}"),
        _ => return error,
    };
    format!("{error}\nhint: {hint}")
}

/// Shows the hosts that answer.
pub(crate) fn ping(plan: Plan<'_>) -> anyhow::Result<u8> {
    takes_no_words("ping", plan.rest)?;
    everywhere(plan, PathFinder::new(), SHOWN, |host| ping_one(host).into())
}

fn ping_one(host: &Host<'_>) -> Result<Value, Error> {
    let hello = host.context.wait_ready()?;
    let connected = host.started.elapsed();
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let before = Instant::now();
        host.context.prepare("os:getpid").timeout(or_long(host.time_left())).start::<i64>().wait()?;
        best = best.min(before.elapsed());
    }
    let (connect, trip) = (connected.as_secs_f64() * 1e3, best.as_secs_f64() * 1e3);
    if host.job.report.for_people() {
        let text = format!(
            "Python {}, user {}, pid {}, up in {connect:.0} ms, round trip {trip:.2} ms",
            hello.python, hello.user, hello.pid
        );
        return Ok(text.into());
    }
    let milliseconds = |ms: f64| Value::Float((ms * 1000.0).round() / 1000.0);
    Ok(Value::Dict(vec![
        ("python".into(), hello.python.into()),
        ("user".into(), hello.user.into()),
        ("pid".into(), hello.pid.into()),
        ("connect_ms".into(), milliseconds(connect)),
        ("round_trip_ms".into(), milliseconds(trip)),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_value_of_python_and_goes_as_a_string_is_known() {
        for word in ["{'a': 1}", "[1, 2,]", "(1, 2)", "True", "x=None", "'text'"] {
            assert!(python_literal(word).is_some(), "{word}");
        }
        for word in
            ["{\"a\": 1}", "[1, 2]", "/tmp", "true", "1", "text", "(", "x=[1]", "{\"$bytes\": 1}", "'"]
        {
            assert_eq!(python_literal(word), None, "{word}");
        }
    }
}
