//! The verb `run`: scripts, code and modules, as Python would run them.

use super::script;
use crate::args::{Common, Usage};
use crate::commands::call::finder;
use crate::commands::explain::explain;
use crate::input::Inputs;
use crate::outcome::Outcome;
use crate::run::plan::Plan;
use crate::run::{ReportOptions, everywhere};
use anyhow::Context as _;
use econtext::modules::ModuleFinder as _;
use econtext::transport::shell_join;
use econtext::{Error, ErrorKind, PathFinder, Program};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Runs a program on every host.
pub(crate) fn run(plan: Plan<'_>, explained: bool) -> anyhow::Result<u8> {
    let common = plan.common;
    let here = Path::new(".");
    let (first, words) =
        plan.rest.split_first().ok_or_else(|| Usage("run needs SCRIPT.py, -c CODE or -m MODULE".into()))?;
    let (program, finder, header, args) = match split_flag(first) {
        Some((flag, joined)) => {
            let missing = || Usage(format!("-{flag} needs {}", if flag == 'c' { "CODE" } else { "MODULE" }));
            let (code, words) = match joined.is_empty() {
                true => words.split_first().ok_or_else(missing)?,
                false => (&joined, words),
            };
            let program = match flag {
                'c' => Program::code(code.as_bytes()),
                _ => {
                    let name =
                        code.to_str().ok_or_else(|| Usage(format!("-m {}: not UTF-8", code.display())))?;
                    Program::module(name)
                }
            };
            (program, finder(common, Some(here))?, script::Metadata::default(), words)
        }
        None => {
            let (name, source, finder) = script(common, first)?;
            let header = script::metadata(&source)?;
            header.check(&finder)?;
            (Program::file(name, source), finder, header, words)
        }
    };
    if explained {
        let words: Vec<_> = plan.rest.iter().map(|word| word.to_string_lossy()).collect();
        let words = format!("run {}", shell_join(&words));
        return explain(&plan, &|_| Ok(words.clone()), Some(&finder.foresee(program.start())));
    }
    let program = program.args(args.iter().cloned());
    let inputs = Inputs::start(plan.targets.len(), first == "-");
    everywhere(plan, finder, ReportOptions::default(), |host| {
        if let Some(wanted) = &header.requires_python {
            match host.context.wait_ready() {
                Ok(hello) if !script::matches(wanted, &hello.python) => {
                    let message = format!("the script needs Python {wanted}, and here is {}", hello.python);
                    return Outcome::Failed(Error::Connect {
                        kind: ErrorKind::NoPython,
                        host: host.context.name().to_owned(),
                        message,
                        stderr: String::new(),
                    });
                }
                Ok(_) => {}
                Err(error) => return Outcome::Failed(error),
            }
        }
        let environment = host.identity().environment().into_iter();
        let program = environment.fold(program.clone(), |program, (name, value)| program.env(name, value));
        let (input, call) = host.context.run_streaming(&program, host.time_left(), host.show_item());
        inputs.feed(Some(&host.context), input);
        match call.wait() {
            Ok((0, value)) => Outcome::Done(value),
            Ok((status, _)) => Outcome::Exit(status),
            Err(error) => Outcome::Failed(error),
        }
    })
}

/// A script's name and text, and the finder for its imports.
fn script(common: &Common, first: &OsStr) -> anyhow::Result<(OsString, Vec<u8>, PathFinder)> {
    let here = Path::new(".");
    if first == "-" {
        let mut source = Vec::new();
        io::stdin().read_to_end(&mut source).context("cannot read the script from stdin")?;
        return Ok(("<stdin>".into(), source, finder(common, Some(here))?));
    }
    let path = Path::new(first);
    if !path.is_dir() {
        let source = std::fs::read(path).map_err(|e| Usage(no_script(first, &e)))?;
        // A zip file, with or without a #! line in front, ends in the record of its directory.
        let tail = &source[source.len().saturating_sub(66_000)..];
        if !tail.windows(4).any(|w| w == b"PK\x05\x06") {
            let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(here);
            return Ok((first.to_owned(), source, finder(common, Some(directory))?));
        }
    }
    let finder = finder(common, Some(path))?;
    let source = finder
        .main_of_first_root()
        .ok_or_else(|| Usage(format!("{}: there is no __main__.py in it", first.display())))?;
    Ok((first.to_owned(), source, finder))
}

/// The error about a script that is not there, with a hint at the probable meaning.
fn no_script(word: &OsStr, error: &io::Error) -> String {
    let word = word.to_string_lossy();
    let hint = match error.kind() {
        io::ErrorKind::NotFound if econtext::internal::check_target(&word).is_ok() => {
            "\nhint: a function is called: econtext call TARGETS MODULE:FUNC"
        }
        io::ErrorKind::NotFound if !word.contains(['.', '/']) => {
            "\nhint: a command is run by econtext exec TARGETS -- CMD, a module by -m"
        }
        _ => "",
    };
    format!("{word}: {error}{hint}")
}

/// Splits `-c` and `-m` from the text that may be joined to them.
fn split_flag(word: &OsStr) -> Option<(char, OsString)> {
    match word.as_bytes() {
        [b'-', flag @ (b'c' | b'm'), joined @ ..] => {
            Some((char::from(*flag), OsStr::from_bytes(joined).to_owned()))
        }
        _ => None,
    }
}
