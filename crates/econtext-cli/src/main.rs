//! The `econtext` command: data on stdout, all else on stderr, and exit statuses that scripts can use.

#![deny(unsafe_code)]

mod args;
mod cli;
mod commands;
mod config;
mod input;
mod outcome;
mod output;
mod run;
mod signals;
mod usage;

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    signals::restore();
    let argv: Vec<OsString> = std::env::args_os().collect();
    let config = match config::Config::load() {
        Ok(config) => config,
        Err(error) => {
            output::console::complain(&error.to_string());
            return ExitCode::from(2);
        }
    };
    config.unknown().iter().for_each(|text| output::console::complain(text));
    if argv.get(1..) == Some(&["explain".into(), "config".into()]) {
        return ExitCode::from(output::console::print(config.explain().as_bytes()));
    }
    let cli = match args::parse(&argv, &config) {
        Ok(cli) => cli,
        Err(error) => return args::report(&error),
    };
    match cli::run(&cli, &argv, &config) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            output::console::complain(&format!("{error:#}"));
            ExitCode::from(if error.is::<args::Usage>() { 2 } else { 1 })
        }
    }
}
