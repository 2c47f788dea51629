//! Files there and back.

use crate::args::{Copy, Usage};
use crate::job::{Host, Outcome};
use econtext::{Error, TransferOptions, Transferred, Value};
use econtext_fleet::below;
use std::path::Path;

fn options(copy: &Copy, host: &Host<'_>) -> TransferOptions {
    TransferOptions { preserve: copy.preserve, links: copy.links, timeout: host.time_left(), stop: None }
}

/// What is shown: nothing to people, as with `cp`, and numbers to programs.
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

/// Splits the words into sources and where they go, and checks those that are here.
pub(crate) fn split<'a>(verb: &str, words: &'a [String]) -> Result<(&'a [String], &'a str), Usage> {
    match words.split_last() {
        Some((destination, sources)) if !sources.is_empty() => Ok((sources, destination)),
        _ => Err(Usage(format!("{verb} needs SRC... and where it goes"))),
    }
}

/// Checks that all sources are here, before anything is contacted.
pub(crate) fn check_sources(sources: &[String]) -> Result<(), Usage> {
    for source in sources {
        std::fs::metadata(source).map_err(|e| Usage(format!("{source}: {e}")))?;
    }
    Ok(())
}

pub(crate) fn put(copy: &Copy, sources: &[String], destination: &str, host: &Host<'_>) -> Outcome {
    outcome(host, host.context.put(sources, destination, &options(copy, host), |_| {}))
}

pub(crate) fn get(copy: &Copy, sources: &[String], directory: &str, host: &Host<'_>) -> Outcome {
    outcome(
        host,
        host.context.get(
            sources,
            &below(Path::new(directory), host.context.name()),
            &options(copy, host),
            |_| {},
        ),
    )
}
