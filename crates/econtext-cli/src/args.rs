//! The command line.

use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Run local Python on remote machines that have nothing but Python.
#[derive(Debug, Parser)]
#[command(
    name = "econtext",
    version,
    max_term_width = 100,
    args_override_self = true,
    after_help = "econtext explain VERB ... shows what would happen: the command of every target, the modules that would be sent."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,

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
    /// Connect, and show the Python, the user and the round trip
    #[command(override_usage = "econtext ping [OPTIONS] TARGETS")]
    Ping(Common),
    /// Expand, fold or count a set of hosts
    #[command(override_usage = "econtext hosts [-e|-f|-c] SPEC...")]
    Hosts(Hosts),
}

impl Verb {
    /// The flags of verbs that contact hosts.
    pub(crate) fn common(&self) -> Option<&Common> {
        match self {
            Verb::Call(common) | Verb::Run(common) | Verb::Ping(common) => Some(common),
            Verb::Exec(exec) => Some(&exec.common),
            Verb::Put(copy) | Verb::Get(copy) => Some(&copy.common),
            Verb::Hosts(_) => None,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct Hosts {
    /// Sets of hosts: web[01-20], dc[1-2]n[1,3,7-9]; `,` and, `!` without, `&` in both, `^` in one; ^FILE, - for stdin
    #[arg(value_name = "SPEC", required = true)]
    pub(crate) specs: Vec<String>,
    /// One host a line
    #[arg(short = 'e', long, conflicts_with_all = ["fold", "count"])]
    pub(crate) expand: bool,
    /// As short as can be
    #[arg(short = 'f', long, conflicts_with = "count")]
    pub(crate) fold: bool,
    /// How many
    #[arg(short = 'c', long)]
    pub(crate) count: bool,
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
}

#[derive(Args, Debug)]
pub(crate) struct Common {
    /// Hosts: names, user@host:port, ranges as in web[01-20], set operators as of `econtext hosts`, or with a scheme: local: ssh: docker: podman: kubectl: lxc: incus: nspawn:
    /// nsenter: chroot: jail:; comma-separated
    #[arg(value_name = "TARGETS")]
    pub(crate) targets: Option<String>,

    #[arg(last = true, hide = true)]
    pub(crate) rest: Vec<String>,

    /// Hosts, in place of TARGETS (repeatable)
    #[arg(short = 'w', long, value_name = "SPEC", help_heading = "Targets")]
    pub(crate) hosts: Vec<String>,

    /// User to log in as
    #[arg(short = 'l', long, short_alias = 'u', value_name = "USER", help_heading = "Identity")]
    pub(crate) user: Option<String>,
    /// Become another user there, by sudo if not said otherwise
    #[arg(
        short = 'b',
        long,
        value_name = "sudo|su|doas",
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "sudo",
        help_heading = "Identity"
    )]
    pub(crate) r#become: Option<Become>,
    /// User to become
    #[arg(long, value_name = "USER", default_value = "root", help_heading = "Identity")]
    pub(crate) become_user: String,
    /// Ask for the password to become that user
    #[arg(short = 'K', long, requires = "become", help_heading = "Identity")]
    pub(crate) ask_become_pass: bool,
    /// Ask for the ssh password
    #[arg(short = 'k', long, help_heading = "Identity")]
    pub(crate) ask_pass: bool,
    /// Shell command that prints the password for ssh, and to become another user
    #[arg(long, value_name = "CMD", conflicts_with = "ask_pass", help_heading = "Identity")]
    pub(crate) password_cmd: Option<String>,

    /// Hosts to jump over, as in ssh
    #[arg(short = 'J', value_name = "HOSTS", help_heading = "Ssh")]
    pub(crate) jump: Option<String>,
    /// Ssh configuration file
    #[arg(short = 'F', value_name = "FILE", help_heading = "Ssh")]
    pub(crate) config: Option<String>,
    /// Port
    #[arg(short = 'p', value_name = "PORT", help_heading = "Ssh")]
    pub(crate) port: Option<u16>,
    /// Ssh option, as in ssh (repeatable)
    #[arg(short = 'o', value_name = "OPTION", help_heading = "Ssh")]
    pub(crate) ssh_option: Vec<String>,
    /// Private key file
    #[arg(long, value_name = "FILE", help_heading = "Ssh")]
    pub(crate) identity: Option<String>,
    /// Program to run in place of ssh
    #[arg(long, value_name = "CMD", default_value = "ssh", help_heading = "Ssh")]
    pub(crate) ssh: String,

    /// Start children from this target, a bastion (repeatable, outermost first)
    #[arg(long, value_name = "TARGET", help_heading = "Hops")]
    pub(crate) via: Vec<String>,

    /// Python to run there
    #[arg(long, value_name = "PATH|auto", default_value = "auto", help_heading = "Python")]
    pub(crate) python: String,
    /// Directory, wheel or zip of modules to serve (repeatable)
    #[arg(long, value_name = "DIR|WHEEL|ZIP", help_heading = "Python")]
    pub(crate) path: Vec<PathBuf>,
    /// Never send this module, or what is in it (repeatable)
    #[arg(long, value_name = "MODULE", help_heading = "Python")]
    pub(crate) no_serve: Vec<String>,
    /// Make files of this served package there, or of all: in memory, removed at the end (repeatable)
    #[arg(long, value_name = "PACKAGE|all", help_heading = "Python")]
    pub(crate) spool: Vec<String>,
    /// Where to make those files, if not in memory
    #[arg(long, value_name = "DIR", requires = "spool", help_heading = "Python")]
    pub(crate) spool_dir: Option<String>,

    /// Variable of the environment there (repeatable)
    #[arg(long, value_name = "K=V", help_heading = "Python")]
    pub(crate) env: Vec<String>,
    /// Working directory there
    #[arg(long, value_name = "DIR", help_heading = "Python")]
    pub(crate) chdir: Option<String>,

    /// By how much to be nicer to others there
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(crate) nice: Option<i32>,
    /// Limit of setrlimit there: nofile=1024, as=unlimited (repeatable)
    #[arg(long, value_name = "NAME=V", help_heading = "Limits")]
    pub(crate) rlimit: Vec<String>,
    /// Hosts at a time
    #[arg(short = 'f', long, value_name = "N", default_value = "64", help_heading = "Limits")]
    pub(crate) forks: std::num::NonZeroUsize,
    /// Seconds until a child must be up
    #[arg(short = 't', long, value_name = "S", value_parser = seconds, default_value = "60", help_heading = "Limits")]
    pub(crate) connect_timeout: Duration,
    /// Seconds for a host's whole job
    #[arg(long, value_name = "S", value_parser = seconds, help_heading = "Limits")]
    pub(crate) timeout: Option<Duration>,

    /// How to show results
    #[arg(long, value_name = "MODE", default_value = "lines", help_heading = "Output")]
    pub(crate) output: Mode,
    /// Same as --output jsonl
    #[arg(long, help_heading = "Output")]
    pub(crate) jsonl: bool,
    /// No host names in front of lines
    #[arg(short = 'N', long, help_heading = "Output")]
    pub(crate) no_prefix: bool,
    /// Only data and errors
    #[arg(short = 'q', long, help_heading = "Output")]
    pub(crate) quiet: bool,
    /// Show more: log records of level info, then debug, and what happens here (repeatable)
    #[arg(short = 'v', long, action = clap::ArgAction::Count, help_heading = "Output")]
    pub(crate) verbose: u8,
    /// With exactly one target, exit with the program's own status
    #[arg(short = 'S', long, help_heading = "Output")]
    pub(crate) status: bool,
}

/// How another user is become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Become {
    Sudo,
    Su,
    Doas,
}

/// How results are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Text as it comes, behind the host's name
    Lines,
    /// One JSON object per event
    Jsonl,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())
}

/// A request that makes no sense; nothing was contacted.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

pub(crate) fn parse(argv: Vec<OsString>) -> Result<Cli, clap::Error> {
    let mut argv = argv;
    let explain = argv.get(1).is_some_and(|word| word == "explain");
    if explain {
        argv.remove(1);
    }
    let mut command = Cli::command();
    command.build();
    if let Some(at) = end_of_ours(&argv, &command) {
        argv.insert(at, "--".into());
    }
    Ok(Cli { explain, ..Cli::try_parse_from(argv)? })
}

/// Shows what is wrong with a command line, or the help that was asked for.
pub(crate) fn report(error: &clap::Error) -> ExitCode {
    // With stdout closed there is nobody to tell.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(2),
    }
}

/// Where the flags end that are ours: at the script, function or command, or `-c` or `-m` of `run`. What follows
/// belongs to those, however much it looks like a flag of ours.
fn end_of_ours(argv: &[OsString], command: &clap::Command) -> Option<usize> {
    let mut words = argv.iter().enumerate().skip(1);
    let (_, verb) = words.next()?;
    let verb = command.find_subcommand(verb)?;
    let takes_value = |id: &dyn Fn(&clap::Arg) -> bool| {
        verb.get_arguments()
            .find(|a| id(a))
            .is_some_and(|a| a.get_action().takes_values() && !a.is_require_equals_set())
    };
    let mut targets_given = false;
    while let Some((at, word)) = words.next() {
        let word = word.to_string_lossy();
        if word == "--" {
            return None; // the user's own
        }
        if let Some(long) = word.strip_prefix("--") {
            let (name, value) = long.split_once('=').map_or((long, None), |(n, v)| (n, Some(v)));
            targets_given |= name == "hosts";
            if value.is_none() && takes_value(&|a| a.get_long() == Some(name)) {
                words.next();
            }
        } else if word.len() > 1 && word.starts_with('-') {
            if verb.get_name() == "run" && (word.starts_with("-c") || word.starts_with("-m")) {
                return Some(at);
            }
            for (i, short) in word.char_indices().skip(1) {
                if short == '=' {
                    break; // behind it is a value
                }
                targets_given |= short == 'w';
                let is_it = |a: &clap::Arg| {
                    a.get_short_and_visible_aliases().is_some_and(|s| s.contains(&short))
                        || a.get_all_short_aliases().is_some_and(|s| s.contains(&short))
                };
                if takes_value(&is_it) {
                    if i + short.len_utf8() == word.len() {
                        words.next();
                    }
                    break;
                }
            }
        } else if targets_given {
            return Some(at);
        } else {
            targets_given = true;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &[&str]) -> (Option<String>, Vec<String>, u8) {
        let argv = ["econtext"].iter().chain(line).map(OsString::from).collect();
        let cli = parse(argv).unwrap_or_else(|e| panic!("{e}"));
        let common = cli.verb.common().expect("a verb with targets");
        (common.targets.clone(), common.rest.clone(), common.verbose)
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
        assert_eq!(parsed(&["ping", "h"]), (host.clone(), vec![], 0));
        assert_eq!(parsed(&["exec", "-b", "h", "--", "ls", "-l"]), (host.clone(), strings(&["ls", "-l"]), 0));
        assert_eq!(parsed(&["exec", "-b", "--via", "x", "h", "ls"]), (host.clone(), strings(&["ls"]), 0));
        assert_eq!(parsed(&["exec", "-b=su", "h", "ls", "-v"]), (host, strings(&["ls", "-v"]), 0));
    }
}
