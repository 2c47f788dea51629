//! The flags of verbs that contact hosts.

use clap::{ArgAction, Args, ValueEnum};
use econtext_fleet::{Become, FailOn, Settings, Share};
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// Which hosts are meant.
#[derive(Args, Debug)]
pub(crate) struct Choice {
    /// Hosts, in place of TARGETS
    #[arg(short = 'w', long, value_name = "SPEC", help_heading = "Targets")]
    pub(crate) hosts: Vec<String>,
    /// Hosts to leave out
    #[arg(short = 'x', long, value_name = "SPEC", help_heading = "Targets")]
    pub(crate) exclude: Vec<String>,
    /// Groups of the inventory, as @GROUP in TARGETS (repeatable)
    #[arg(short = 'g', long, value_name = "GROUP", help_heading = "Targets", hide_short_help = true)]
    pub(crate) group: Vec<String>,
    /// Groups to leave out (repeatable)
    #[arg(short = 'X', long, value_name = "GROUP", help_heading = "Targets", hide_short_help = true)]
    pub(crate) exclude_group: Vec<String>,
    /// Every host of the inventory
    #[arg(short = 'a', long, help_heading = "Targets", hide_short_help = true)]
    pub(crate) all: bool,
    /// Inventory: TOML, ansible's, a list, a script
    ///
    /// A file of our TOML, of ansible's INI or YAML, or a plain list of hosts; a directory of those; or a script that prints JSON
    /// when it is given --list (repeatable)
    #[arg(short = 'i', long, value_name = "FILE", help_heading = "Targets")]
    pub(crate) inventory: Vec<PathBuf>,
    /// Only hosts that are in this set as well
    #[arg(long, value_name = "SPEC", help_heading = "Targets", hide_short_help = true)]
    pub(crate) limit: Option<String>,
    /// Only N of the hosts, by chance
    #[arg(long, value_name = "N", help_heading = "Targets", hide_short_help = true)]
    pub(crate) pick: Option<NonZeroUsize>,
}

#[derive(Args, Debug)]
pub(crate) struct Common {
    /// web[01-20], user@host:port, @group, local:, docker:NAME
    ///
    /// Names, user@host:port, ranges as in web[01-20] or n[2-6/2], @group and @* of the inventory, ^FILE, - for stdin, joined by
    /// set operators: `,` and, `!` without, `&` in both, `^` in one. Or with a scheme: local: ssh: docker: podman: kubectl: lxc:
    /// incus: nspawn: nsenter: chroot: jail:; local:n[1-50] is fifty separate children.
    #[arg(value_name = "TARGETS")]
    pub(crate) targets: Option<String>,

    #[arg(last = true, hide = true)]
    pub(crate) rest: Vec<OsString>,

    #[command(flatten)]
    pub(crate) choice: Choice,

    /// User to log in as
    #[arg(short = 'l', long, short_alias = 'u', value_name = "USER", help_heading = "Identity")]
    pub(crate) user: Option<String>,
    /// Become root, or --become-user: by sudo, su or doas
    #[arg(
        short = 'b',
        long,
        value_name = "HOW",
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "sudo",
        help_heading = "Identity"
    )]
    pub(crate) r#become: Option<BecomeFlag>,
    /// User to become; root if not said otherwise
    #[arg(long, value_name = "USER", help_heading = "Identity", hide_short_help = true)]
    pub(crate) become_user: Option<String>,
    /// Ask for the password to become that user
    #[arg(short = 'K', long, help_heading = "Identity", hide_short_help = true)]
    pub(crate) ask_become_pass: bool,
    /// Ask for the ssh password
    #[arg(short = 'k', long, help_heading = "Identity", hide_short_help = true)]
    pub(crate) ask_pass: bool,
    /// Shell command that prints the password for ssh, and to become another user
    #[arg(
        long,
        value_name = "CMD",
        conflicts_with = "ask_pass",
        help_heading = "Identity",
        hide_short_help = true
    )]
    pub(crate) password_cmd: Option<String>,

    /// Hosts to jump over, as in ssh
    #[arg(short = 'J', long, value_name = "HOSTS", help_heading = "Ssh", hide_short_help = true)]
    pub(crate) jump: Option<String>,
    /// Ssh configuration file
    #[arg(
        short = 'F',
        long = "ssh-config",
        value_name = "FILE",
        help_heading = "Ssh",
        hide_short_help = true
    )]
    pub(crate) ssh_config: Option<String>,
    /// Port
    #[arg(short = 'p', long, value_name = "PORT", help_heading = "Ssh", hide_short_help = true)]
    pub(crate) port: Option<u16>,
    /// Ssh option, as in ssh (repeatable)
    #[arg(short = 'o', long, value_name = "OPTION", help_heading = "Ssh", hide_short_help = true)]
    pub(crate) ssh_option: Vec<String>,
    /// Private key file
    #[arg(long, value_name = "FILE", help_heading = "Ssh", hide_short_help = true)]
    pub(crate) identity: Option<String>,
    /// Program to run in place of ssh
    #[arg(long, value_name = "CMD", help_heading = "Ssh", hide_short_help = true)]
    pub(crate) ssh: Option<String>,

    /// Ssh in this process, without one a host; what it does not support of your configuration makes it refuse that host
    #[cfg(feature = "native-ssh")]
    #[arg(long, help_heading = "Ssh", hide_short_help = true)]
    pub(crate) ssh_native: bool,
    /// Children connect back over TLS, and their ssh ends; with ADDRESS[:PORT], to that
    #[arg(
        long,
        value_name = "ADDRESS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "",
        help_heading = "Ssh",
        hide_short_help = true
    )]
    pub(crate) connect_back: Option<String>,

    /// Start children from this target, a bastion
    ///
    /// The outermost comes first. Flags of ssh go for it too, and user@host:port for it alone.
    #[arg(long, value_name = "TARGET", help_heading = "Hops")]
    pub(crate) via: Vec<String>,

    /// Python to run there; auto looks for one
    #[arg(long, value_name = "PATH", help_heading = "Python")]
    pub(crate) python: Option<String>,
    /// Modules to serve: a directory, wheel or zip
    #[arg(long, value_name = "DIR", help_heading = "Python")]
    pub(crate) path: Vec<PathBuf>,
    /// Never send this module, or what is in it (repeatable)
    #[arg(long, value_name = "MODULE", help_heading = "Python", hide_short_help = true)]
    pub(crate) no_serve: Vec<String>,
    /// Make files of this served package there, of all, or of none, not even of those that look for them: in memory, removed at
    /// the end (repeatable)
    #[arg(long, value_name = "PACKAGE|all|none", help_heading = "Python", hide_short_help = true)]
    pub(crate) spool: Vec<String>,
    /// Where to make those files, if not in memory
    #[arg(long, value_name = "DIR", requires = "spool", help_heading = "Python", hide_short_help = true)]
    pub(crate) spool_dir: Option<String>,
    /// Variable of the environment there (repeatable)
    #[arg(long, value_name = "K=V", help_heading = "Python", hide_short_help = true)]
    pub(crate) env: Vec<OsString>,
    /// Working directory there
    #[arg(long, value_name = "DIR", help_heading = "Python", hide_short_help = true)]
    pub(crate) chdir: Option<OsString>,

    /// Hosts at a time
    #[arg(short = 'f', long, value_name = "N", default_value = "64", help_heading = "Limits")]
    pub(crate) forks: NonZeroUsize,
    /// Seconds until a child must be up
    #[arg(short = 't', long, value_name = "S", value_parser = seconds, default_value = "60", help_heading = "Limits", hide_short_help = true)]
    pub(crate) connect_timeout: Duration,
    /// Seconds for a host's whole job
    #[arg(long, value_name = "S", value_parser = seconds, help_heading = "Limits")]
    pub(crate) timeout: Option<Duration>,
    /// Seconds for the whole run
    #[arg(long, value_name = "S", value_parser = seconds, help_heading = "Limits", hide_short_help = true)]
    pub(crate) deadline: Option<Duration>,
    /// How often a host that cannot be reached is tried again; what ran there never is
    #[arg(long, value_name = "N", default_value = "0", help_heading = "Limits", hide_short_help = true)]
    pub(crate) retries: u32,
    /// Connections begun a second
    #[arg(long, value_name = "N", value_parser = rate, help_heading = "Limits", hide_short_help = true)]
    pub(crate) connect_rate: Option<f64>,
    /// By how much to be nicer to others there
    #[arg(long, value_name = "N", help_heading = "Limits", hide_short_help = true)]
    pub(crate) nice: Option<i32>,
    /// Limit of setrlimit there: nofile=1024, as=unlimited (repeatable)
    #[arg(long, value_name = "NAME=V", help_heading = "Limits", hide_short_help = true)]
    pub(crate) rlimit: Vec<String>,

    /// Hosts in batches: all of one are done before the next
    #[arg(long, value_name = "N|N%", help_heading = "Rollout", hide_short_help = true)]
    pub(crate) batch: Option<Share>,
    /// Seconds between two batches
    #[arg(long, value_name = "S", value_parser = seconds, default_value = "0", help_heading = "Rollout", hide_short_help = true)]
    pub(crate) pause: Duration,
    /// Begin no more hosts when so many have failed; all: of a batch
    #[arg(long, value_name = "any|all|N|N%", help_heading = "Rollout", hide_short_help = true)]
    pub(crate) fail_on: Option<FailOn>,
    /// Hosts left failed,unreachable,timeout before
    ///
    /// The last run of the same command line in the same directory is meant. Several kinds are separated by commas.
    #[arg(long, value_name = "KIND", value_enum, value_delimiter = ',', help_heading = "Rollout")]
    pub(crate) rerun: Vec<RerunKind>,

    /// lines, fold, diff, table, json, jsonl, raw or none
    #[arg(
        long,
        value_name = "MODE",
        default_value = "lines",
        hide_default_value = true,
        overrides_with_all = ["fold", "diff", "json", "jsonl"],
        help_heading = "Output"
    )]
    pub(crate) output: Mode,
    /// Equal output once, under all its hosts
    #[arg(short = 'B', long, overrides_with_all = ["diff", "json", "jsonl"], help_heading = "Output")]
    pub(crate) fold: bool,
    /// The answer of most hosts, then how others differ: --output diff
    #[arg(long, overrides_with_all = ["json", "jsonl"], help_heading = "Output", hide_short_help = true)]
    pub(crate) diff: bool,
    /// One JSON document at the end: --output json
    #[arg(long, overrides_with = "jsonl", help_heading = "Output", hide_short_help = true)]
    pub(crate) json: bool,
    /// One JSON object an event, as it happens
    #[arg(long, help_heading = "Output")]
    pub(crate) jsonl: bool,
    /// No host names in front of lines
    #[arg(short = 'N', long, help_heading = "Output", hide_short_help = true)]
    pub(crate) no_prefix: bool,
    /// Files of each host's output: DIR/HOST.stdout, .stderr, .json
    #[arg(long, value_name = "DIR", help_heading = "Output", hide_short_help = true)]
    pub(crate) outdir: Option<PathBuf>,
    /// Only data and errors
    #[arg(short = 'q', long, help_heading = "Output", hide_short_help = true)]
    pub(crate) quiet: bool,
    /// Show more (repeatable)
    ///
    /// Log records of level info, then debug, and what happens here.
    #[arg(short = 'v', long, action = ArgAction::Count, help_heading = "Output")]
    pub(crate) verbose: u8,
    /// Colours; auto heeds NO_COLOR, CLICOLOR_FORCE and CLICOLOR, in this order
    #[arg(
        long,
        value_name = "WHEN",
        value_enum,
        default_value = "auto",
        help_heading = "Output",
        hide_short_help = true
    )]
    pub(crate) color: Color,
    /// Say how far it is, even if stderr is no terminal
    #[arg(short = 'P', long, help_heading = "Output", hide_short_help = true)]
    pub(crate) progress: bool,
    /// With exactly one target, exit with the program's own status
    #[arg(short = 'S', long, help_heading = "Output", hide_short_help = true)]
    pub(crate) status: bool,

    /// Show what would happen, as econtext explain
    #[arg(long, help_heading = "Safety", hide_short_help = true)]
    pub(crate) dry_run: bool,
    /// Print the hosts, and do nothing
    #[arg(long, help_heading = "Safety", hide_short_help = true)]
    pub(crate) list_hosts: bool,
}

impl Common {
    /// How results are shown: the last of the flags that say so.
    pub(crate) fn mode(&self) -> Mode {
        match self {
            Common { fold: true, .. } => Mode::Fold,
            Common { diff: true, .. } => Mode::Diff,
            Common { json: true, .. } => Mode::Json,
            Common { jsonl: true, .. } => Mode::Jsonl,
            _ => self.output,
        }
    }

    /// The settings by which hosts are reached, from flags. Passwords are asked for elsewhere.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            user: self.user.clone(),
            port: self.port,
            python: self.python.clone(),
            identity: self.identity.clone(),
            jump: self.jump.clone(),
            ssh_config: self.ssh_config.clone(),
            ssh_options: self.ssh_option.clone(),
            ssh_program: self.ssh.clone(),
            #[cfg(feature = "native-ssh")]
            native: self.ssh_native,
            via: self.via.clone(),
            r#become: self.r#become.map(BecomeFlag::tool),
            become_user: self.become_user.clone(),
            ..Settings::default()
        }
    }
}

/// The way in which the user is switched, or that it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BecomeFlag {
    Sudo,
    Su,
    Doas,
    No,
}

impl BecomeFlag {
    fn tool(self) -> Option<Become> {
        match self {
            BecomeFlag::Sudo => Some(Become::Sudo),
            BecomeFlag::Su => Some(Become::Su),
            BecomeFlag::Doas => Some(Become::Doas),
            BecomeFlag::No => None,
        }
    }
}

/// How results are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Text as it comes, behind the host's name
    Lines,
    /// Equal output once, under all its hosts, at the end
    Fold,
    /// The answer of most hosts, then how others differ, at the end
    Diff,
    /// A row a host, at the end
    Table,
    /// One JSON document at the end
    Json,
    /// One JSON object per event
    Jsonl,
    /// Bytes as they come
    Raw,
    /// Errors only
    None,
}

/// When there are colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

/// How the last run left a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RerunKind {
    Failed,
    Unreachable,
    Timeout,
}

impl RerunKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            RerunKind::Failed => "failed",
            RerunKind::Unreachable => "unreachable",
            RerunKind::Timeout => "timeout",
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    // A century is as good as for ever, and can be added to any time.
    let century = 3.2e9;
    Duration::try_from_secs_f64(seconds.min(century)).map_err(|e| e.to_string())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate >= 1e-6);
    rate.ok_or_else(|| "no number of connections a second".to_owned())
}
