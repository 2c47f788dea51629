//! The command line.

mod flags;
mod words;

pub(crate) use flags::{Choice, Color, Common, Mode, RerunKind};
pub(crate) use words::{end_of_ours, same_command};

pub(crate) use crate::usage::Usage;
use clap::error::ErrorKind;
use clap::{ArgAction, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;

/// Run local Python on remote machines that have nothing but Python.
#[derive(Debug, Parser)]
#[command(
    name = "econtext",
    version,
    max_term_width = 100,
    args_override_self = true,
    disable_help_flag = true,
    disable_help_subcommand = true,
    after_help = "econtext explain VERB ... shows what would happen: the command of every target, the modules that would be sent.\n\
                  econtext explain config shows what is set, and where. econtext VERB --help has the flags, --help-all all of them."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,

    /// Print help
    #[arg(short = 'h', long, global = true, action = ArgAction::HelpShort)]
    pub(crate) help: Option<bool>,
    /// Print help with every flag
    #[arg(long, global = true, action = ArgAction::HelpLong)]
    pub(crate) help_all: Option<bool>,

    /// Whether the words began with `explain`.
    #[arg(skip)]
    pub(crate) explain: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Call a function and print its value
    ///
    /// An ARG is JSON where it parses as JSON; NAME=ARG is a keyword argument; anything else, and everything behind
    /// `--`, is a string.
    #[command(override_usage = "econtext call [OPTIONS] TARGETS MODULE:FUNC [ARG]...")]
    Call(Common),
    /// Run a local script, code or a module as Python would
    #[command(
        override_usage = "econtext run [OPTIONS] TARGETS SCRIPT.py [ARG]...\n       econtext run [OPTIONS] TARGETS -c CODE [ARG]...\n       econtext run [OPTIONS] TARGETS -m MODULE [ARG]..."
    )]
    Run(Common),
    /// Run a command
    ///
    /// It gets stdin, and a copy of all of it on several hosts. Its own session ends with the run.
    #[command(override_usage = "econtext exec [OPTIONS] TARGETS -- CMD [ARG]...")]
    Exec(Exec),
    /// Copy files and directories there
    ///
    /// Into DEST if that is a directory, ends in a slash, or there are several sources; else as DEST. Each file is checked
    /// and then takes its place at once; what is the same already is skipped.
    #[command(override_usage = "econtext put [OPTIONS] TARGETS SRC... DEST")]
    Put(Copy),
    /// Copy files and directories here, into DIR/HOST/
    #[command(override_usage = "econtext get [OPTIONS] TARGETS SRC... DIR")]
    Get(Copy),
    /// One prompt: an interpreter on each host, answers folded
    ///
    /// It keeps its state there. Modules are served from the working directory and --path. Ctrl-C interrupts there. Lines that begin with a colon are
    /// for econtext: :help names them.
    #[command(override_usage = "econtext repl [OPTIONS] TARGETS")]
    Repl(Common),
    /// Connect, and show the Python, user and round trip
    #[command(override_usage = "econtext ping [OPTIONS] TARGETS")]
    Ping(Common),
    /// Expand, fold or count a set of hosts
    #[command(override_usage = "econtext hosts [-e|-f|-c] SPEC...")]
    Hosts(Hosts),
    /// Show what a verb would do, without contacting a host
    ///
    /// Shows what each host would do, the command of every hop, and for call and run the modules that would be sent ahead. With -v the
    /// commands are whole. `econtext explain config` shows what is set, and where.
    #[command(override_usage = "econtext explain VERB ...\n       econtext explain config")]
    Explain(Explain),
    /// Print a script that completes command lines in a shell
    Completions(Completions),
    /// Print the manual page, of all verbs or of one
    Man(Man),
}

impl Verb {
    /// The flags of verbs that contact hosts.
    pub(crate) fn common(&self) -> Option<&Common> {
        match self {
            Verb::Call(common) | Verb::Run(common) | Verb::Ping(common) | Verb::Repl(common) => Some(common),
            Verb::Exec(exec) => Some(&exec.common),
            Verb::Put(copy) | Verb::Get(copy) => Some(&copy.common),
            Verb::Hosts(_) | Verb::Explain(_) | Verb::Completions(_) | Verb::Man(_) => None,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct Hosts {
    /// Sets of hosts: web[01-20], dc[1-2]n[1,3,7-9]; `,` and, `!` without, `&` in both, `^` in one; @group, @*; ^FILE, - for
    /// stdin
    #[arg(value_name = "SPEC")]
    pub(crate) specs: Vec<String>,
    /// One host a line
    #[arg(short = 'e', long, conflicts_with_all = ["fold", "count", "vars"])]
    pub(crate) expand: bool,
    /// As short as can be
    #[arg(short = 'f', long, conflicts_with_all = ["count", "vars"])]
    pub(crate) fold: bool,
    /// How many
    #[arg(short = 'c', long, conflicts_with = "vars")]
    pub(crate) count: bool,
    /// One JSON object a line: the host, its groups and its variables
    #[arg(long)]
    pub(crate) vars: bool,
    #[command(flatten)]
    pub(crate) choice: Choice,
}

#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum, required_unless_present = "complete")]
    pub(crate) shell: Option<clap_complete::Shell>,
    /// Print the candidates for the last of the words, for those scripts
    #[arg(long, hide = true)]
    pub(crate) complete: bool,
    #[arg(last = true, hide = true)]
    pub(crate) words: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct Explain {
    /// The words behind econtext
    #[arg(value_name = "VERB")]
    pub(crate) words: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct Man {
    /// The verb
    #[arg(value_name = "VERB")]
    pub(crate) verb: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Exec {
    #[command(flatten)]
    pub(crate) common: Common,

    /// The words are one line for /bin/sh there
    #[arg(long)]
    pub(crate) shell: bool,
    /// Without Python there: the transport runs the command by itself
    #[arg(long)]
    pub(crate) raw: bool,
    /// Give the command a terminal
    #[arg(long, conflicts_with = "raw")]
    pub(crate) tty: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Copy {
    #[command(flatten)]
    pub(crate) common: Common,

    /// Keep mode and times, and as root the owner
    #[arg(long)]
    pub(crate) preserve: bool,
    /// Copy symbolic links as such
    #[arg(long)]
    pub(crate) links: bool,
    /// Permissions of the files there, as 0644 (put)
    ///
    /// Directories may be entered by those that may read them.
    #[arg(long, value_name = "MODE", value_parser = mode)]
    pub(crate) mode: Option<u32>,
    /// Owner and group of the files there, as for chown (put)
    #[arg(long, value_name = "USER[:GROUP]")]
    pub(crate) owner: Option<String>,
    /// Keep a file that is replaced (put)
    ///
    /// Its name is that of the file and the time: app.conf.2026-11-28-06:38:46~
    #[arg(long, hide_short_help = true)]
    pub(crate) backup: bool,
}

fn mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| "permissions in octal are wanted, as 0644".to_owned())
}

/// Settings of the user's own, which stand behind the command line.
pub(crate) trait Settings {
    /// Adds what is set to a command line that does not say it itself.
    fn insert(&self, argv: &mut Vec<OsString>, command: &clap::Command);

    /// Where the settings come from, for messages.
    fn origin(&self) -> String;
}

/// Reads the command line, behind what the settings say.
pub(crate) fn parse(argv: &[OsString], settings: &impl Settings) -> Result<Cli, clap::Error> {
    let mut argv = argv.to_vec();
    let asks_for_help =
        argv.get(2).is_none_or(|word| ["-h", "--help", "--help-all"].iter().any(|h| word == h));
    let explain = argv.get(1).is_some_and(|word| word == "explain") && !asks_for_help;
    if explain {
        argv.remove(1);
    }
    let command = command(argv.iter().any(|word| word == "--help-all"));
    words::gather_flags_of_call(&mut argv, &command);
    let mut with = argv.clone();
    settings.insert(&mut with, &command);
    let read = |mut argv: Vec<OsString>| {
        if let Some(at) = end_of_ours(&argv, &command) {
            argv.insert(at, "--".into());
        }
        let matches = command.clone().try_get_matches_from(argv)?;
        Cli::from_arg_matches(&matches)
    };
    match read(with.clone()) {
        Ok(cli) => Ok(Cli { explain, ..cli }),
        // The configuration may be the cause.
        Err(error) if with != argv && read(argv).is_ok() => {
            let shown = error.to_string();
            let shown = shown.strip_prefix("error: ").unwrap_or(&shown);
            Err(clap::Error::raw(error.kind(), format!("the configuration ({}): {shown}", settings.origin())))
        }
        Err(error) => Err(hint(error)),
    }
}

/// The command line as clap knows it. Help that is to fit a screen has its flags under one heading.
pub(crate) fn command(whole_help: bool) -> clap::Command {
    let mut command = Cli::command();
    if !whole_help {
        command = command.mut_subcommands(|verb| {
            verb.mut_args(|arg| match arg.is_positional() {
                true => arg,
                false => {
                    let has_values = arg.get_action().takes_values();
                    arg.help_heading(None::<&str>).hide_possible_values(has_values)
                }
            })
        });
    }
    command.build();
    command
}

/// Says where the verb goes, if it was not found and nothing is like it.
fn hint(error: clap::Error) -> clap::Error {
    use clap::error::ContextKind;
    if error.kind() != ErrorKind::InvalidSubcommand || error.get(ContextKind::SuggestedSubcommand).is_some() {
        return error;
    }
    let shown = error.to_string();
    let shown = shown.strip_prefix("error: ").unwrap_or(&shown).trim_end();
    let hint = "the verb comes first: econtext call TARGETS MODULE:FUNC, econtext exec TARGETS -- CMD";
    clap::Error::raw(error.kind(), format!("{shown}\nhint: {hint}\n"))
}

/// Shows what is wrong with a command line, or the help that was asked for.
pub(crate) fn report(error: &clap::Error) -> ExitCode {
    // A failure to print cannot be reported.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No settings.
    struct Nothing;

    impl Settings for Nothing {
        fn insert(&self, _: &mut Vec<OsString>, _: &clap::Command) {}

        fn origin(&self) -> String {
            String::new()
        }
    }

    fn parsed(line: &[&str]) -> (Option<String>, Vec<String>, u8) {
        let argv: Vec<OsString> = ["econtext"].iter().chain(line).map(OsString::from).collect();
        let cli = parse(&argv, &Nothing).unwrap_or_else(|e| panic!("{e}"));
        let common = cli.verb.common().expect("a verb with targets");
        let rest = common.rest.iter().map(|word| word.to_str().unwrap().to_owned()).collect();
        (common.targets.clone(), rest, common.verbose)
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_follows_the_script_belongs_to_it() {
        let strings = |words: &[&str]| words.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let host = Some("h".to_owned());
        assert_eq!(
            parsed(&["run", "h", "s.py", "-v", "--path", "x"]),
            (host.clone(), strings(&["s.py", "-v", "--path", "x"]), 0)
        );
        assert_eq!(
            parsed(&["run", "-v", "h", "-vo", "A=b", "s.py", "-h"]),
            (host.clone(), strings(&["s.py", "-h"]), 2)
        );
        assert_eq!(parsed(&["run", "-w", "h", "s.py", "-v"]), (None, strings(&["s.py", "-v"]), 0));
        assert_eq!(
            parsed(&["run", "-wh", "--path=x", "-u", "me", "s.py", "--", "y"]),
            (None, strings(&["s.py", "--", "y"]), 0)
        );
        assert_eq!(
            parsed(&["run", "h", "-c", "1+1", "-v"]),
            (host.clone(), strings(&["-c", "1+1", "-v"]), 0)
        );
        assert_eq!(parsed(&["run", "h", "-m", "this"]), (host.clone(), strings(&["-m", "this"]), 0));
        assert_eq!(
            parsed(&["call", "h", "m:f", "-1", "--", "x=1"]),
            (host.clone(), strings(&["m:f", "-1", "--", "x=1"]), 0)
        );
        assert_eq!(
            parsed(&["call", "h", "m:f", "x", "--path", "y", "--vx", "--verbose", "--", "--fold"]),
            (host.clone(), strings(&["m:f", "x", "--vx", "--", "--fold"]), 1),
            "of call, long flags that are ours are so behind the function too"
        );
        assert_eq!(parsed(&["ping", "h"]), (host.clone(), vec![], 0));
        assert_eq!(parsed(&["exec", "-b", "h", "--", "ls", "-l"]), (host.clone(), strings(&["ls", "-l"]), 0));
        assert_eq!(parsed(&["exec", "-b", "--via", "x", "h", "ls"]), (host.clone(), strings(&["ls"]), 0));
        assert_eq!(parsed(&["exec", "-b=su", "h", "ls", "-v"]), (host, strings(&["ls", "-v"]), 0));
    }
}
