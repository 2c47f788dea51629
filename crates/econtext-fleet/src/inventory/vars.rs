//! The variables for how a host is reached: `econtext_NAME`, and those of ansible that mean the
//! same.

use crate::settings::{Become, Passwords, Settings};
use crate::spec_error::SpecError;
use secrecy::SecretString;
use serde_json::Map;
use serde_json::Value as Json;
use std::path::Path;

/// Variables of a host or a group, by name.
pub(crate) type Vars = Map<String, Json>;

// The names of one setting; in one place the first counts.
const USER: [&str; 3] = ["econtext_user", "ansible_user", "ansible_ssh_user"];
const PORT: [&str; 3] = ["econtext_port", "ansible_port", "ansible_ssh_port"];
const ADDRESS: [&str; 3] = ["econtext_address", "ansible_host", "ansible_ssh_host"];
const PYTHON: [&str; 2] = ["econtext_python", "ansible_python_interpreter"];
const IDENTITY: [&str; 3] = ["econtext_identity", "ansible_ssh_private_key_file", "ansible_private_key_file"];
const PROGRAM: [&str; 2] = ["econtext_ssh", "ansible_ssh_executable"];
const BECOME: [&str; 2] = ["econtext_become", "ansible_become"];
const BECOME_USER: [&str; 2] = ["econtext_become_user", "ansible_become_user"];
const SSH_PASSWORD: [&str; 3] = ["ansible_password", "ansible_ssh_password", "ansible_ssh_pass"];
const BECOME_PASSWORD: [&str; 3] = ["ansible_become_password", "ansible_become_pass", "ansible_sudo_pass"];

const SYNONYMS: [&[&str]; 10] = [
    &USER,
    &PORT,
    &ADDRESS,
    &PYTHON,
    &IDENTITY,
    &PROGRAM,
    &BECOME,
    &BECOME_USER,
    &SSH_PASSWORD,
    &BECOME_PASSWORD,
];

/// Adds variables that are nearer to the host, and so win under any of their names.
pub(super) fn merge(vars: &mut Vars, nearer: &Vars) {
    for names in SYNONYMS {
        if names.iter().any(|name| nearer.contains_key(*name)) {
            vars.retain(|name, _| !names.contains(&name.as_str()));
        }
    }
    vars.extend(nearer.clone());
}

/// Variables that are paths of files on this machine.
const PATHS: [&str; 6] = [
    "econtext_identity",
    "econtext_ssh_config",
    "econtext_ssh",
    "ansible_ssh_private_key_file",
    "ansible_private_key_file",
    "ansible_ssh_executable",
];

/// Resolves relative paths against `directory`, which is that of the file that names them.
pub(super) fn locate(vars: &mut Vars, directory: &Path) {
    for name in PATHS {
        let Some(Json::String(path)) = vars.get_mut(name) else { continue };
        // A program without a slash is looked up in PATH; a template or secret is reported later.
        let program = name.ends_with("ssh") || name.ends_with("executable");
        let other = path.is_empty() || path.starts_with(['/', '$']) || path.contains("{{");
        if other || program && !path.contains('/') {
            continue;
        }
        let located = match (path.strip_prefix("~/"), std::env::home_dir()) {
            (Some(rest), Some(home)) => home.join(rest),
            _ if path.starts_with('~') => continue,
            _ => directory.join(&*path),
        };
        *path = located.to_string_lossy().into_owned();
    }
}

pub(super) fn is_secret(name: &str) -> bool {
    let ours = ["ansible_", "econtext_"].iter().any(|prefix| name.starts_with(prefix));
    ours && ["pass", "password", "passphrase"].iter().any(|kind| name.ends_with(kind))
}

/// The address, as a target of its own, and the other settings.
pub(super) fn settings(host: &str, vars: &Vars) -> Result<(Option<String>, Settings), SpecError> {
    let of = Lookup { host, vars };
    let address = of.text(&ADDRESS)?;
    let target = match of.text(&["econtext_target"])? {
        Some(target) => Some(target),
        None => of.connection(address.as_deref())?,
    };
    let method = match of.text(&["ansible_become_method"])?.as_deref() {
        None | Some("sudo" | "ansible.builtin.sudo") => Become::Sudo,
        Some("su" | "ansible.builtin.su") => Become::Su,
        Some("doas" | "community.general.doas") => Become::Doas,
        Some(other) => return Err(of.bad("ansible_become_method", &format!("there is no {other}"))),
    };
    let r#become = match of.text(&BECOME)?.as_deref() {
        Some("sudo") => Some(Some(Become::Sudo)),
        Some("su") => Some(Some(Become::Su)),
        Some("doas") => Some(Some(Become::Doas)),
        Some(word) => Some(of.truth("become", word)?.then_some(method)),
        None => None,
    };
    let mut ssh_args = Vec::new();
    for name in ["ansible_ssh_common_args", "ansible_ssh_extra_args"] {
        if let Some(words) = of.text(&[name])? {
            ssh_args.extend(shlex::split(&words).ok_or_else(|| of.bad(name, "the quotes do not match"))?);
        }
    }
    let found = Settings {
        user: of.text(&USER)?,
        port: of.port()?,
        python: of.python()?,
        identity: of.text(&IDENTITY)?,
        jump: of.text(&["econtext_jump"])?,
        ssh_config: of.text(&["econtext_ssh_config"])?,
        ssh_options: of.list("econtext_ssh_options")?,
        ssh_args,
        ssh_program: of.text(&PROGRAM)?,
        native: false,
        via: of.list("econtext_via")?,
        r#become,
        become_user: of.text(&BECOME_USER)?,
        passwords: Passwords { ssh: of.secret(&SSH_PASSWORD)?, r#become: of.secret(&BECOME_PASSWORD)? },
    };
    Ok((target, found))
}

struct Lookup<'a> {
    host: &'a str,
    vars: &'a Vars,
}

impl Lookup<'_> {
    fn bad(&self, name: &str, why: &str) -> SpecError {
        SpecError(format!("host {}: {name}: {why}", self.host))
    }

    /// The first of the named variables that is set, as text.
    fn text(&self, names: &[&str]) -> Result<Option<String>, SpecError> {
        let Some((name, value)) = names.iter().find_map(|n| Some((n, self.vars.get(*n)?))) else {
            return Ok(None);
        };
        let text = match value {
            Json::Null => return Ok(None),
            Json::String(text) => text.clone(),
            Json::Bool(_) | Json::Number(_) => value.to_string(),
            _ => return Err(self.bad(name, "no text")),
        };
        // The text must not be shown: it may be a secret.
        if text.contains("{{") {
            return Err(self.bad(name, "this is a template, and only ansible fills those in"));
        }
        if text.starts_with("$ANSIBLE_VAULT") {
            return Err(self.bad(name, "this is encrypted by ansible-vault"));
        }
        Ok(Some(text))
    }

    fn list(&self, name: &str) -> Result<Vec<String>, SpecError> {
        match self.vars.get(name) {
            Some(Json::Array(items)) => items
                .iter()
                .map(|item| {
                    item.as_str().map(str::to_owned).ok_or_else(|| self.bad(name, "no list of texts"))
                })
                .collect(),
            _ => Ok(self
                .text(&[name])?
                .iter()
                .flat_map(|t| t.split(','))
                .map(|t| t.trim().to_owned())
                .collect()),
        }
    }

    fn secret(&self, names: &[&str]) -> Result<Option<SecretString>, SpecError> {
        // A secret that only ansible can read may not be needed: a prompt may ask for another, or
        // there may be no switch of user.
        Ok(self.text(names).ok().flatten().map(SecretString::from))
    }

    fn truth(&self, name: &str, word: &str) -> Result<bool, SpecError> {
        match word.to_ascii_lowercase().as_str() {
            "yes" | "true" | "on" | "1" | "y" | "t" => Ok(true),
            "no" | "false" | "off" | "0" | "n" | "f" => Ok(false),
            _ => Err(self.bad(name, "neither yes nor no")),
        }
    }

    fn port(&self) -> Result<Option<u16>, SpecError> {
        let name = PORT.iter().find(|n| self.vars.contains_key(**n)).unwrap_or(&"port");
        let port = self.text(&PORT)?;
        port.map(|port| port.parse().map_err(|_| self.bad(name, "no such port"))).transpose()
    }

    /// The Python to run. The values `auto`, `auto_silent` and the like mean our default.
    fn python(&self) -> Result<Option<String>, SpecError> {
        let python = self.text(&PYTHON)?;
        Ok(python.filter(|python| !python.starts_with("auto")))
    }

    /// The target that ansible's `ansible_connection` means.
    fn connection(&self, address: Option<&str>) -> Result<Option<String>, SpecError> {
        let Some(connection) = self.text(&["ansible_connection"])? else {
            return Ok(address.map(bracketed));
        };
        let short = connection.rsplit('.').next().unwrap_or_default();
        let which = address.unwrap_or(self.host);
        match short {
            "ssh" | "smart" | "paramiko" | "paramiko_ssh" => Ok(address.map(bracketed)),
            "local" => Ok(Some("local:".to_owned())),
            "docker_api" => Ok(Some(format!("docker:{which}"))),
            "docker" | "podman" | "chroot" | "lxc" | "jail" | "nsenter" | "incus" => {
                Ok(Some(format!("{short}:{which}")))
            }
            _ => Err(self.bad("ansible_connection", &format!("there is no transport {connection}"))),
        }
    }
}

/// An address as a target: IPv6 in brackets.
fn bracketed(address: &str) -> String {
    if address.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{address}]") } else { address.to_owned() }
}
