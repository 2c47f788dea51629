//! The settings for how a host is reached, beside its name.

use econtext::transport::{Doas, Su, Sudo, Transport};
use econtext::{Python, Ssh};
use secrecy::SecretString;

/// The tool for a switch to another user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Become {
    /// By sudo.
    Sudo,
    /// By su.
    Su,
    /// By doas.
    Doas,
}

impl Become {
    /// The tool's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Become::Sudo => "sudo",
            Become::Su => "su",
            Become::Doas => "doas",
        }
    }
}

/// The secrets of a host. They are shown nowhere.
#[derive(Clone, Debug, Default)]
pub struct Passwords {
    /// The password for ssh.
    pub ssh: Option<SecretString>,
    /// The password for sudo, su or doas.
    pub r#become: Option<SecretString>,
}

/// The settings of the command line, or of an inventory, for how a host is reached. A field that is
/// `None` or empty is not set.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The user to log in as.
    pub user: Option<String>,
    /// The port of ssh.
    pub port: Option<u16>,
    /// The Python there: a path, or `auto`.
    pub python: Option<String>,
    /// A private key file for ssh.
    pub identity: Option<String>,
    /// Hosts for ssh to jump over.
    pub jump: Option<String>,
    /// ssh's configuration file.
    pub ssh_config: Option<String>,
    /// Options of ssh, as for `-o`.
    pub ssh_options: Vec<String>,
    /// Further arguments of ssh.
    pub ssh_args: Vec<String>,
    /// The program to run in place of ssh.
    pub ssh_program: Option<String>,
    /// Whether ssh runs in this process, where it can.
    pub native: bool,
    /// Targets that the child is started from, the outermost first.
    pub via: Vec<String>,
    /// The tool for a switch to another user; `Some(None)` means no switch.
    pub r#become: Option<Option<Become>>,
    /// The user to switch to.
    pub become_user: Option<String>,
    /// The secrets.
    pub passwords: Passwords,
}

impl Settings {
    /// These settings, and those of `other` where none are set here.
    #[must_use]
    pub fn or(&self, other: &Settings) -> Settings {
        let list = |ours: &Vec<String>, theirs: &Vec<String>| match ours.as_slice() {
            [] => theirs.clone(),
            ours => ours.to_vec(),
        };
        let text = |ours: &Option<String>, theirs: &Option<String>| ours.clone().or_else(|| theirs.clone());
        let secret = |ours: &Option<SecretString>, theirs: &Option<SecretString>| {
            ours.clone().or_else(|| theirs.clone())
        };
        Settings {
            user: text(&self.user, &other.user),
            port: self.port.or(other.port),
            python: text(&self.python, &other.python),
            identity: text(&self.identity, &other.identity),
            jump: text(&self.jump, &other.jump),
            ssh_config: text(&self.ssh_config, &other.ssh_config),
            // ssh takes the first of two values, so both may stand.
            ssh_options: [self.ssh_options.as_slice(), &other.ssh_options].concat(),
            ssh_args: [self.ssh_args.as_slice(), &other.ssh_args].concat(),
            ssh_program: text(&self.ssh_program, &other.ssh_program),
            native: self.native || other.native,
            via: list(&self.via, &other.via),
            r#become: self.r#become.or(other.r#become),
            become_user: text(&self.become_user, &other.become_user),
            passwords: Passwords {
                ssh: secret(&self.passwords.ssh, &other.passwords.ssh),
                r#become: secret(&self.passwords.r#become, &other.passwords.r#become),
            },
        }
    }

    /// The Python to run.
    pub fn python(&self) -> Python {
        Python::from(self.python.as_deref().unwrap_or("auto"))
    }

    /// The tool for a switch of user, and the user; `None` without a switch.
    pub fn becoming(&self) -> Option<(Become, &str)> {
        Some((self.r#become.flatten()?, self.become_user.as_deref().unwrap_or("root")))
    }

    /// The transport for a switch of user, if there is one.
    pub fn become_transport(&self) -> Option<Box<dyn Transport>> {
        let (tool, user) = self.becoming()?;
        Some(match (tool, self.passwords.r#become.clone()) {
            (Become::Sudo, None) => Box::new(Sudo::new().user(user)),
            (Become::Sudo, Some(password)) => Box::new(Sudo::new().user(user).password(password)),
            (Become::Su, None) => Box::new(Su::new().user(user)),
            (Become::Su, Some(password)) => Box::new(Su::new().user(user).password(password)),
            (Become::Doas, None) => Box::new(Doas::new().user(user)),
            (Become::Doas, Some(password)) => Box::new(Doas::new().user(user).password(password)),
        })
    }

    /// The ssh transport to a host, with all of these settings. They apply to every ssh, whether it
    /// is started here or on a hop.
    pub(crate) fn ssh(&self, host: &str, user: Option<&String>, port: Option<u16>) -> Ssh {
        let mut ssh = Ssh::new(host).program(self.ssh_program.as_deref().unwrap_or("ssh"));
        if let Some(user) = user {
            ssh = ssh.user(user);
        }
        if let Some(port) = port {
            ssh = ssh.port(port);
        }
        if let Some(file) = &self.ssh_config {
            ssh = ssh.config_file(file);
        }
        if let Some(file) = &self.identity {
            ssh = ssh.identity(file);
        }
        if let Some(hosts) = &self.jump {
            ssh = ssh.jump(hosts);
        }
        if let Some(password) = &self.passwords.ssh {
            ssh = ssh.password(password.clone());
        }
        ssh = self.ssh_options.iter().fold(ssh, |ssh, option| ssh.option(option));
        ssh.args(&self.ssh_args)
    }
}
