//! The verbs `completions` and `man`.

use crate::args::{Cli, Completions, Usage, command};
use crate::commands::complete::candidates;
use crate::config::Config;
use crate::output::console::print;
use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::Man;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;

/// Prints a script for a shell, or, to such a script, the candidates for a word.
pub(crate) fn completions(wanted: &Completions, config: &Config) -> anyhow::Result<u8> {
    let mut out = Vec::new();
    if wanted.complete {
        for (value, help) in candidates(&wanted.words, config) {
            out.extend_from_slice(value.as_bytes());
            if let Some(help) = help {
                write!(out, "\t{help}")?;
            }
            out.push(b'\n');
        }
        return Ok(print(&out));
    }
    match wanted.shell {
        Some(Shell::Bash) => out.extend_from_slice(include_bytes!("completions/econtext.bash")),
        Some(Shell::Zsh) => out.extend_from_slice(include_bytes!("completions/econtext.zsh")),
        Some(Shell::Fish) => out.extend_from_slice(include_bytes!("completions/econtext.fish")),
        // The script completes verbs and flags, and no hosts.
        Some(other) => clap_complete::generate(other, &mut Cli::command(), "econtext", &mut out),
        None => {}
    }
    Ok(print(&out))
}

/// Prints the page on all verbs, or on one.
pub(crate) fn page(verb: Option<&str>) -> anyhow::Result<u8> {
    let command = command(true).mut_subcommands(described);
    let mut out = Vec::new();
    match verb {
        None => whole_page(&command, &mut out)?,
        Some(name) => {
            let verb =
                command.find_subcommand(name).ok_or_else(|| Usage(format!("there is no verb {name:?}")))?;
            verb_page(verb, &mut out)?;
        }
    }
    Ok(print(&out))
}

/// A verb with the description of every flag: a page includes those that a screen of help leaves
/// out.
fn described(verb: clap::Command) -> clap::Command {
    verb.mut_args(|arg| arg.hide_short_help(false).hide_long_help(false))
}

fn whole_page(command: &clap::Command, out: &mut Vec<u8>) -> anyhow::Result<()> {
    let man = Man::new(command.clone());
    man.render_title(out)?;
    man.render_name_section(out)?;
    writeln!(out, ".SH SYNOPSIS")?;
    for verb in command.get_subcommands() {
        for line in usage(verb).lines() {
            writeln!(out, "{}\n.br", escaped(line))?;
        }
    }
    writeln!(out, ".SH DESCRIPTION\n{}", INTRODUCTION.trim())?;
    writeln!(out, ".SH VERBS\nEach has a page of its own: econtext man VERB.")?;
    for verb in command.get_subcommands() {
        let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
        writeln!(out, ".TP\n\\fB{}\\fR\n{}", verb.get_name(), escaped(&about))?;
    }
    writeln!(out, ".SH \"FLAGS OF VERBS THAT CONTACT HOSTS\"")?;
    if let Some(ping) = command.find_subcommand("ping") {
        options(ping, out)?;
    }
    for verb in command.get_subcommands() {
        writeln!(out, ".SH \"ECONTEXT {}\"", verb.get_name().to_uppercase())?;
        body(verb, out)?;
        let ping = command.find_subcommand("ping");
        let own = |arg: &clap::Arg| {
            let shared =
                ping.is_some_and(|ping| ping.get_arguments().any(|other| other.get_id() == arg.get_id()));
            !shared || verb.get_name() == "hosts"
        };
        for arg in verb.get_arguments().filter(|arg| !arg.is_hide_set() && own(arg)) {
            option(arg, out)?;
        }
    }
    out.extend_from_slice(STATUSES.as_bytes());
    Ok(())
}

fn verb_page(verb: &clap::Command, out: &mut Vec<u8>) -> anyhow::Result<()> {
    let name = verb.get_name();
    let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
    writeln!(out, ".TH econtext-{name} 1 \"\" \"econtext {}\"", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, ".SH NAME\necontext\\-{name} \\- {}", escaped(&about))?;
    writeln!(out, ".SH SYNOPSIS")?;
    for line in usage(verb).lines() {
        writeln!(out, "{}\n.br", escaped(line))?;
    }
    writeln!(out, ".SH DESCRIPTION")?;
    body(verb, out)?;
    writeln!(out, ".SH OPTIONS")?;
    options(verb, out)?;
    out.extend_from_slice(STATUSES.as_bytes());
    Ok(())
}

/// Writes the description of a verb, and its examples.
fn body(verb: &clap::Command, out: &mut Vec<u8>) -> anyhow::Result<()> {
    let about = verb.get_long_about().or(verb.get_about()).map(ToString::to_string).unwrap_or_default();
    writeln!(out, "{}", escaped(&about).replace("\n\n", "\n.PP\n"))?;
    for (_, example, what) in EXAMPLES.iter().filter(|(name, ..)| *name == verb.get_name()) {
        writeln!(out, ".PP\n{}\n.PP\n.RS 4\n.nf\n{}\n.fi\n.RE", escaped(what), escaped(example))?;
    }
    Ok(())
}

/// Writes all flags, under their headings.
fn options(verb: &clap::Command, out: &mut Vec<u8>) -> anyhow::Result<()> {
    let mut headings: Vec<Option<&str>> = Vec::new();
    let shown: Vec<&clap::Arg> = verb.get_arguments().filter(|arg| !arg.is_hide_set()).collect();
    for arg in &shown {
        if !headings.contains(&arg.get_help_heading()) {
            headings.push(arg.get_help_heading());
        }
    }
    for heading in headings {
        writeln!(out, ".SS {}", heading.unwrap_or("General"))?;
        for arg in shown.iter().filter(|arg| arg.get_help_heading() == heading) {
            option(arg, out)?;
        }
    }
    Ok(())
}

fn option(arg: &clap::Arg, out: &mut Vec<u8>) -> anyhow::Result<()> {
    let names = arg.get_value_names().unwrap_or_default();
    let value: Vec<String> = if arg.get_action().takes_values() {
        names.iter().map(ToString::to_string).collect()
    } else {
        Vec::new()
    };
    let mut forms = Vec::new();
    forms.extend(arg.get_short().map(|short| format!("\\fB\\-{short}\\fR")));
    forms.extend(arg.get_long().map(|long| format!("\\fB\\-\\-{}\\fR", escaped(long))));
    let joined = if arg.is_require_equals_set() { "[=" } else { " " };
    let shown = match (forms.is_empty(), value.is_empty()) {
        (true, _) => format!("\\fI{}\\fR", escaped(&value.join(" "))),
        (false, true) => forms.join(", "),
        (false, false) => {
            let end = if joined == "[=" { "]" } else { "" };
            format!("{}{joined}\\fI{}\\fR{end}", forms.join(", "), escaped(&value.join(" ")))
        }
    };
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    writeln!(out, ".TP\n{shown}\n{}", escaped(&help).replace("\n\n", "\n.sp\n"))?;
    let values: Vec<String> = arg
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| value.get_name().to_owned())
        .collect();
    if arg.get_action().takes_values() && !values.is_empty() {
        writeln!(out, "One of {}.", escaped(&values.join(", ")))?;
    }
    let defaults: Vec<String> =
        arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    if arg.get_action().takes_values() && !defaults.is_empty() {
        writeln!(out, "Default: {}.", escaped(&defaults.join(" ")))?;
    }
    Ok(())
}

fn usage(verb: &clap::Command) -> String {
    let usage = verb.clone().render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage);
    usage.lines().map(str::trim).collect::<Vec<_>>().join("\n")
}

/// A text, escaped so that roff finds no commands in it.
fn escaped(text: &str) -> String {
    let escape = |line: &str| {
        let line = line.replace('\\', "\\e").replace('-', "\\-");
        if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
    };
    text.lines().map(escape).collect::<Vec<_>>().join("\n")
}

const INTRODUCTION: &str = "
Functions, scripts, commands and files for remote machines that have nothing but Python: over ssh, as other users, in containers, behind
bastions, on one host or on hundreds. Nothing is installed there, and nothing stays behind.
.PP
The data goes to stdout, all else to stderr. Flags come before what is run; what follows belongs to that.
";

/// Verb, command, and what it does. The tests run what `econtext explain` says of each.
pub(crate) const EXAMPLES: [(&str, &str, &str); 15] = [
    (
        "call",
        "econtext call web01 shutil:disk_usage /var",
        "A function of the standard library, with an argument:",
    ),
    ("call", "econtext call -B @web platform:python_version", "The same answers once, each under its hosts:"),
    (
        "call",
        "econtext call web01 --path examples facts:disk path=/var",
        "A function of a module of yours, with a keyword:",
    ),
    (
        "run",
        "econtext run web01 examples/diagnose.py / /var",
        "A script with arguments, and the modules beside it:",
    ),
    (
        "run",
        "econtext run @web -c 'import os; os.getloadavg()'",
        "Code, of which a last expression is the value:",
    ),
    ("exec", "econtext exec -b web01 -- systemctl restart nginx", "A command, as root by sudo:"),
    ("exec", "econtext exec --shell web01 -- 'ls /tmp | wc -l'", "A line for the shell there:"),
    ("exec", "econtext exec --batch 5 --fail-on any @web -- true", "Five hosts at a time, until one fails:"),
    ("put", "econtext put --mode 0644 @web examples/app.conf /etc/app/", "A file, with its permissions:"),
    ("put", "econtext put --dry-run --diff @web examples/app.conf /etc/app/", "What that would change:"),
    ("get", "econtext get @web '/var/log/app/*.log' logs", "Files, into a directory for each host:"),
    ("repl", "econtext repl @web", "One prompt for all:"),
    ("ping", "econtext ping -a", "Which hosts of the inventory answer:"),
    ("hosts", "econtext hosts -f web01,web02,web03", "A set of hosts, as short as can be:"),
    ("explain", "econtext explain call --path examples web01 facts:disk", "What a call would send:"),
];

const STATUSES: &str = ".SH \"EXIT STATUS\"
.TP
0
every host succeeded
.TP
1
econtext itself failed: a file, a socket or a thread of this machine
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
.TP
141
nothing read the output any more
.SH FILES
$XDG_CONFIG_HOME/econtext/config.toml: long flags and their values; ECONTEXT_* in the environment beat it
.br
$XDG_STATE_HOME/econtext: how hosts ended, for --rerun; the history of econtext repl
";
