//! The `econtext` command: data on stdout, all else on stderr, and exit statuses that scripts can use.

#![deny(unsafe_code)]

mod args;
mod calls;
mod complete;
mod config;
mod console;
mod copy;
mod descriptors;
mod exec;
mod explain;
mod input;
mod job;
mod json;
mod last;
mod manual;
mod outcome;
mod plan;
mod program;
mod progress;
mod repl;
mod report;
mod run;
mod script;
mod signals;
mod stdout;
mod surroundings;
mod usage;
mod verbs;

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    signals::restore();
    let argv: Vec<OsString> = std::env::args_os().collect();
    let config = match config::Config::load() {
        Ok(config) => config,
        Err(error) => {
            console::complain(&error.to_string());
            return ExitCode::from(2);
        }
    };
    config.unknown().iter().for_each(|text| console::complain(text));
    if argv.get(1..) == Some(&["explain".into(), "config".into()]) {
        return ExitCode::from(console::print(config.explain().as_bytes()));
    }
    let cli = match args::parse(&argv, &config) {
        Ok(cli) => cli,
        Err(error) => return args::report(&error),
    };
    match verbs::run(&cli, &argv, &config) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            console::complain(&format!("{error:#}"));
            ExitCode::from(if error.is::<args::Usage>() { 2 } else { 1 })
        }
    }
}
