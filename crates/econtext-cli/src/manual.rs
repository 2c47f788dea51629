//! The verbs `completions` and `man`.

use crate::args::Cli;
use crate::verbs::print;
use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::Man;
use std::io::Write as _;

/// Prints a script for a shell.
pub(crate) fn completions(shell: Shell) -> anyhow::Result<u8> {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "econtext", &mut out);
    Ok(print(&out))
}

/// Prints one page on all verbs.
pub(crate) fn page() -> anyhow::Result<u8> {
    let mut command = Cli::command();
    command.build();
    let mut out = Vec::new();
    let man = Man::new(command.clone());
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    for verb in command.get_subcommands() {
        let verb = Man::new(verb.clone());
        writeln!(out, ".SH \"ECONTEXT {}\"", verb_name(&verb).to_uppercase())?;
        let mut part = Vec::new();
        verb.render_synopsis_section(&mut part)?;
        verb.render_description_section(&mut part)?;
        verb.render_options_section(&mut part)?;
        // Sections of a verb are parts of its own section here.
        for line in String::from_utf8_lossy(&part).lines() {
            match line.strip_prefix(".SH ") {
                Some(name) => writeln!(out, ".SS {name}")?,
                None => writeln!(out, "{line}")?,
            }
        }
    }
    out.extend_from_slice(STATUSES.as_bytes());
    Ok(print(&out))
}

fn verb_name(man: &Man) -> String {
    let mut name = Vec::new();
    // The title says it: .TH "econtext-call" ...
    let _ = man.render_title(&mut name);
    let text = String::from_utf8_lossy(&name).into_owned();
    let title = text.lines().find(|line| line.starts_with(".TH")).unwrap_or_default().to_owned();
    title.split_whitespace().nth(1).unwrap_or_default().trim_matches('"').replace("econtext-", "")
}

const STATUSES: &str = ".SH \"EXIT STATUS\"
.TP
0
every host succeeded
.TP
1
econtext itself failed
.TP
2
usage, inventory or configuration; nothing was contacted; also when no host was selected
.TP
3
a host timed out, or its job died by a signal
.TP
4
a host could not be reached: ssh, auth, host key, become, no usable Python
.TP
5
every host was reached; one raised or exited non-zero
.TP
130, 143
interrupted; everything started there was stopped
.SH FILES
$XDG_CONFIG_HOME/econtext/config.toml: long flags and their values; ECONTEXT_* in the environment beat it
.br
$XDG_STATE_HOME/econtext: how hosts ended, for --rerun; the history of econtext repl
";
