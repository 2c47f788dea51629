//! The `econtext` command: data on stdout, all else on stderr, and exit statuses that scripts can use.

mod args;
mod console;
mod copy;
mod exec;
mod explain;
mod hosts;
mod input;
mod job;
mod json;
mod report;
mod script;
mod surroundings;
mod target;
mod verbs;

use std::process::ExitCode;

fn main() -> ExitCode {
    let argv = std::env::args_os().collect();
    let cli = match args::parse(argv) {
        Ok(cli) => cli,
        Err(error) => return args::report(&error),
    };
    match verbs::run(cli) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            console::complain(&format!("{error:#}"));
            ExitCode::from(if error.is::<args::Usage>() { 2 } else { 1 })
        }
    }
}
