//! The plan of a command line, before anything is contacted: the hosts, how each is reached, and
//! the passwords.

use crate::args::{Choice, Common, Usage, command, same_command};
use crate::run::job::with_passwords;
use crate::run::record::RunRecord;
use anyhow::{Context as _, anyhow};
use econtext_fleet::{Hops, Inventory, Passwords, Selection, Settings, SpecError, Target, expand};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use secrecy::SecretString;
use std::collections::HashSet;
use std::ffi::OsString;
use std::process::Command;
use std::sync::Arc;

impl From<SpecError> for Usage {
    fn from(error: SpecError) -> Self {
        Usage(error.0)
    }
}

/// The hosts of a run, and the words after them.
pub(crate) struct Plan<'a> {
    pub(crate) common: &'a Common,
    pub(crate) inventory: Arc<Inventory>,
    /// The flags about how hosts are reached.
    pub(crate) settings: Settings,
    /// The targets; none only if a rerun has nothing to do.
    pub(crate) targets: Vec<Target>,
    pub(crate) rest: &'a [OsString],
    /// The hint for a called module that cannot be imported.
    pub(crate) import_hint: Option<String>,
    /// The record of how the hosts ended.
    pub(crate) last: RunRecord,
    argv: Vec<OsString>,
}

impl<'a> Plan<'a> {
    /// Reads inventories and expands sets of hosts.
    pub(crate) fn make(common: &'a Common, argv: &[OsString]) -> Result<Self, Usage> {
        if common.user.as_ref().is_some_and(|u| !u.is_empty() && u.bytes().all(|b| b.is_ascii_digit())) {
            return Err(Usage("-u is the user, as in ansible; clush's -u SECONDS is --timeout here".into()));
        }
        let inventory = Arc::new(inventory(&common.choice)?);
        let settings = common.settings();
        let specs: Vec<&String> = match (&common.targets, choice_is_made(&common.choice)) {
            (Some(spec), false) => vec![spec],
            (None, _) => Vec::new(),
            (Some(word), true) => {
                return Err(Usage(format!(
                    "{word:?}: with -w, -g or -a there is no TARGETS argument; flags come before what is run"
                )));
            }
        };
        if let Some(word) = specs.first().filter(|word| looks_like_a_program(word)) {
            return Err(Usage(format!(
                "{word:?} stands where the hosts go: TARGETS come first, local: is this machine"
            )));
        }
        let argv = same_command(argv, &command(true));
        let last = RunRecord::of(&argv);
        let selection = selection(&common.choice, specs);
        let targets = if common.rerun.is_empty() {
            selection.targets(&inventory, &settings)?
        } else {
            let undone: HashSet<String> = last.hosts(&common.rerun)?.into_iter().collect();
            // A rerun does not pick again: the record holds the hosts that were picked.
            let targets = Selection { pick: None, ..selection }.targets(&inventory, &settings)?;
            targets.into_iter().filter(|target| undone.contains(&target.name)).collect()
        };
        if targets.is_empty() && common.rerun.is_empty() {
            return Err(Usage(
                "no host was selected: name hosts, or local: for a child on this machine".into(),
            ));
        }
        if common.status && targets.len() > 1 {
            return Err(Usage(format!(
                "-S passes the status of one program through, and {} hosts are selected",
                targets.len()
            )));
        }
        Ok(Plan { common, inventory, settings, targets, rest: &common.rest, import_hint: None, last, argv })
    }

    /// The hops that targets are started from.
    pub(crate) fn hops(&self) -> Hops {
        Hops::new(self.inventory.clone(), &self.settings)
    }

    /// Asks for passwords, and gives them to all targets.
    pub(crate) fn ask_passwords(&mut self) -> anyhow::Result<()> {
        let passwords = passwords(self.common)?;
        if passwords.ssh.is_none() && passwords.r#become.is_none() {
            return Ok(());
        }
        self.settings = with_passwords(self.settings.clone(), passwords);
        for target in &mut self.targets {
            target.settings = self.settings.or(&target.settings);
        }
        Ok(())
    }

    /// The switches of user, to be shown before they happen: `becoming root with sudo on 20 hosts`.
    pub(crate) fn becoming(&self) -> Vec<String> {
        let mut kinds: Vec<((&str, &str), Vec<&str>)> = Vec::new();
        for target in &self.targets {
            let Some((tool, user)) = target.settings.becoming() else { continue };
            match kinds.iter_mut().find(|(kind, _)| *kind == (user, tool.as_str())) {
                Some((_, hosts)) => hosts.push(&target.name),
                None => kinds.push(((user, tool.as_str()), vec![&target.name])),
            }
        }
        let line = |((user, tool), hosts): ((&str, &str), Vec<&str>)| match hosts.as_slice() {
            [one] => format!("becoming {user} with {tool} on {one}"),
            many => format!("becoming {user} with {tool} on {} hosts", many.len()),
        };
        kinds.into_iter().map(line).collect()
    }

    /// The command that repeats the work that was left undone.
    pub(crate) fn again(&self, kinds: &str) -> String {
        let words: Vec<_> = self.argv.iter().skip(1).map(|word| word.to_string_lossy()).collect();
        let quoted = shlex::try_join(words.iter().map(|word| &**word)).unwrap_or_default();
        let verb = words.first().map_or("", |verb| verb);
        match quoted.strip_prefix(verb) {
            // A command that fits on a line can be copied.
            Some(rest) if quoted.len() <= 160 && !quoted.contains('\n') => {
                format!("econtext {verb} --rerun {kinds}{rest}")
            }
            _ => format!("econtext {verb} … --rerun {kinds}"),
        }
    }
}

fn choice_is_made(choice: &Choice) -> bool {
    !choice.hosts.is_empty() || !choice.group.is_empty() || choice.all
}

fn looks_like_a_program(word: &str) -> bool {
    word.ends_with(".py") && std::path::Path::new(word).is_file()
        || econtext::internal::check_target(word).is_ok()
            && !word.contains(',')
            && !word.starts_with("local:")
            && {
                let (scheme, _) = word.split_once(':').unwrap_or_default();
                !econtext_fleet::SCHEMES.contains(&scheme)
            }
}

/// All inventories together.
pub(crate) fn inventory(choice: &Choice) -> Result<Inventory, Usage> {
    let mut inventory = Inventory::default();
    for path in &choice.inventory {
        let text = path.to_string_lossy();
        if !path.exists() && text.contains(',') {
            // A list of hosts in place of a file, as in ansible.
            for name in expand(&text, &Inventory::default())? {
                inventory.add_host(&name)?;
            }
            continue;
        }
        inventory.load(path)?;
    }
    Ok(inventory)
}

/// The hosts that flags choose, and `specs`.
pub(crate) fn selection(choice: &Choice, specs: Vec<&String>) -> Selection {
    Selection {
        specs: specs.into_iter().chain(&choice.hosts).cloned().collect(),
        groups: choice.group.clone(),
        all: choice.all,
        exclude: choice.exclude.clone(),
        exclude_groups: choice.exclude_group.clone(),
        limit: choice.limit.clone(),
        pick: choice.pick.map(std::num::NonZero::get),
    }
}

/// The time for which the controlling terminal does not show what is typed.
struct Silence(std::fs::File, Termios);

impl Silence {
    /// Turns the echo off. `None` if there is no terminal.
    fn begin() -> Option<Self> {
        let terminal = std::fs::File::options().read(true).write(true).open("/dev/tty").ok()?;
        let before = tcgetattr(&terminal).ok()?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&terminal, OptionalActions::Now, &silent).ok()?;
        Some(Silence(terminal, before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing.
        let _ = tcsetattr(&self.0, OptionalActions::Now, &self.1);
    }
}

/// The passwords, from the terminal or a command. The output of a command is for both; a prompt is
/// for one.
fn passwords(common: &Common) -> anyhow::Result<Passwords> {
    let ask = |what: &str| -> anyhow::Result<Option<SecretString>> {
        // A program that answers the prompt at once would be faster than the end of the echo.
        let _silence = Silence::begin();
        let password = rpassword::prompt_password(format!("{what} password: "));
        Ok(Some(password.context("cannot ask for the password")?.into()))
    };
    let mut found = Passwords::default();
    if let Some(password) = password_of_command(common)? {
        found.r#become = Some(password.clone());
        found.ssh = Some(password);
    }
    if common.ask_pass {
        found.ssh = ask("ssh")?;
    }
    if common.ask_become_pass {
        found.r#become = ask("become")?;
    }
    Ok(found)
}

fn password_of_command(common: &Common) -> anyhow::Result<Option<SecretString>> {
    let Some(command) = &common.password_cmd else { return Ok(None) };
    let output = Command::new("sh")
        .args(["-c", command])
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cannot run the password command")?;
    if !output.status.success() {
        return Err(anyhow!("the password command failed: {}", output.status));
    }
    let text = String::from_utf8(output.stdout).map_err(|_| anyhow!("the password is not UTF-8"))?;
    Ok(Some(text.lines().next().unwrap_or_default().into()))
}
