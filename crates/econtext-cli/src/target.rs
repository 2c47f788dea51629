//! What a target on the command line stands for.

use crate::args::{Become, Common, Usage};
use crate::hosts;
use econtext::{
    Chroot, Doas, Docker, Incus, Jail, Kubectl, Local, Lxc, Nsenter, Nspawn, Podman, Python, Ssh, Su, Sudo,
    Transport, command_line, shell_join,
};
use secrecy::SecretString;
use std::collections::HashSet;

/// One host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// What output calls it.
    pub(crate) name: String,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Local,
    Ssh {
        user: Option<String>,
        host: String,
        port: Option<u16>,
    },
    /// A container or the like: the scheme, and which one.
    Inside(&'static str, String),
}

/// Schemes of targets that are reached by an argument vector in front.
const INSIDE: [&str; 9] =
    ["docker", "podman", "kubectl", "lxc", "incus", "nspawn", "nsenter", "chroot", "jail"];

/// The targets of host sets, without repetitions.
pub(crate) fn parse_list(specs: &[&str]) -> Result<Vec<Target>, Usage> {
    let mut targets: Vec<Target> = Vec::new();
    let mut seen = HashSet::new();
    for spec in specs {
        for word in hosts::expand(spec)? {
            let target = parse(&word)?;
            if seen.insert(target.name.clone()) {
                targets.push(target);
            }
        }
    }
    if targets.is_empty() {
        return Err(Usage("no target: name hosts, or local: for a child on this machine".into()));
    }
    Ok(targets)
}

pub(crate) fn parse(word: &str) -> Result<Target, Usage> {
    let bad = |why: &str| Usage(format!("target {word:?}: {why}"));
    if word.contains(|c: char| c.is_whitespace() || c.is_control()) || word.starts_with('-') {
        return Err(bad("no name of a host"));
    }
    if let Some(name) = word.strip_prefix("local:") {
        let name = if name.is_empty() { "local".to_owned() } else { word.to_owned() };
        return Ok(Target { name, kind: Kind::Local });
    }
    if let Some((scheme, which)) = word.split_once(':')
        && let Some(scheme) = INSIDE.into_iter().find(|known| *known == scheme)
    {
        if which.is_empty() {
            return Err(bad("which one is missing"));
        }
        return Ok(Target { name: word.to_owned(), kind: Kind::Inside(scheme, which.to_owned()) });
    }
    let rest = word.strip_prefix("ssh:").unwrap_or(word);
    let (user, host) = match rest.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, rest),
    };
    let (host, port) = if let Some(v6) = host.strip_prefix('[') {
        let (host, behind) = v6.split_once(']').ok_or_else(|| bad("a [ without its ]"))?;
        match behind.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if behind.is_empty() => (host, None),
            None => return Err(bad("what stands behind ] is no port")),
        }
    } else {
        match host.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err(bad("an IPv6 address goes in brackets: [::1]:22"));
            }
            Some((scheme, rest)) if !rest.bytes().all(|b| b.is_ascii_digit()) => {
                return Err(bad(&format!("there is no {scheme}: transport")));
            }
            Some((host, port)) => (host, Some(port)),
            None => (host, None),
        }
    };
    let port = port.map(|p| p.parse().map_err(|_| bad("no such port"))).transpose()?;
    if host.is_empty() || user == Some("") {
        return Err(bad("a part of it is missing"));
    }
    Ok(Target {
        name: rest.to_owned(),
        kind: Kind::Ssh { user: user.map(str::to_owned), host: host.to_owned(), port },
    })
}

/// Secrets of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Passwords {
    pub(crate) ssh: Option<SecretString>,
    pub(crate) r#become: Option<SecretString>,
}

impl Target {
    /// How a child there is started, from here or from a hop.
    pub(crate) fn transport(&self, common: &Common, passwords: &Passwords) -> Box<dyn Transport> {
        let which = match &self.kind {
            Kind::Local => return Box::new(Local),
            Kind::Ssh { user, host, port } => {
                // In the target beats on the command line: it is closer.
                let user = user.as_ref().or(common.user.as_ref());
                return Box::new(ssh(common, host, user, port.or(common.port), passwords));
            }
            Kind::Inside(_, which) => which,
        };
        match &self.kind {
            Kind::Inside("docker", _) => Box::new(Docker::new(which)),
            Kind::Inside("podman", _) => Box::new(Podman::new(which)),
            Kind::Inside("kubectl", _) => Box::new(Kubectl::new(which)),
            Kind::Inside("lxc", _) => Box::new(Lxc::new(which)),
            Kind::Inside("incus", _) => Box::new(Incus::new(which)),
            // Neither a machine of its own for systemd, nor a registration, is needed for a run.
            Kind::Inside("nspawn", _) => Box::new(Nspawn::new(which).arg("--keep-unit").arg("--register=no")),
            Kind::Inside("nsenter", _) => Box::new(Nsenter::new(which)),
            Kind::Inside("chroot", _) => Box::new(Chroot::new(which)),
            _ => Box::new(Jail::new(which)),
        }
    }

    /// The commands that would start a child there, one for each hop, as shells would take them.
    pub(crate) fn commands(&self, common: &Common, hops: &[Target]) -> Vec<String> {
        let python = Python::from(common.python.as_str());
        let none = Passwords::default();
        let line = |name: &str, transport: &dyn Transport| {
            shell_join(&transport.launch(&command_line(&python, name)).argv)
        };
        let mut lines: Vec<String> =
            hops.iter().map(|h| line(&h.name, &*h.transport(common, &none))).collect();
        lines.push(line(&self.name, &*self.transport(common, &none)));
        lines.extend(become_transport(common, &none).map(|transport| line(&self.name, &*transport)));
        lines
    }

    /// The command itself behind the transport, for hosts without a Python.
    pub(crate) fn raw(&self, common: &Common, words: &[String]) -> Vec<String> {
        self.transport(common, &Passwords::default()).launch(words).argv
    }
}

/// How another user is become, if one is.
pub(crate) fn become_transport(common: &Common, passwords: &Passwords) -> Option<Box<dyn Transport>> {
    let user = &common.become_user;
    Some(match (common.r#become?, passwords.r#become.clone()) {
        (Become::Sudo, None) => Box::new(Sudo::new().user(user)),
        (Become::Sudo, Some(password)) => Box::new(Sudo::new().user(user).password(password)),
        (Become::Su, None) => Box::new(Su::new().user(user)),
        (Become::Su, Some(password)) => Box::new(Su::new().user(user).password(password)),
        (Become::Doas, None) => Box::new(Doas::new().user(user)),
        (Become::Doas, Some(password)) => Box::new(Doas::new().user(user).password(password)),
    })
}

/// The options of ssh go to every ssh, whether it is started here or on a hop.
fn ssh(common: &Common, host: &str, user: Option<&String>, port: Option<u16>, passwords: &Passwords) -> Ssh {
    let mut ssh = Ssh::new(host).program(&common.ssh);
    if let Some(user) = user {
        ssh = ssh.user(user);
    }
    if let Some(port) = port {
        ssh = ssh.port(port);
    }
    if let Some(file) = &common.config {
        ssh = ssh.config_file(file);
    }
    if let Some(file) = &common.identity {
        ssh = ssh.identity(file);
    }
    if let Some(hosts) = &common.jump {
        ssh = ssh.jump(hosts);
    }
    if let Some(password) = &passwords.ssh {
        ssh = ssh.password(password.clone());
    }
    common.ssh_option.iter().fold(ssh, |ssh, option| ssh.option(option))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_what_ssh_users_expect() {
        let ssh = |word: &str| match parse(word).unwrap().kind {
            Kind::Ssh { user, host, port } => (user.unwrap_or_default(), host, port.unwrap_or(0)),
            other => panic!("{word} is {other:?}"),
        };
        assert_eq!(ssh("web01"), (String::new(), "web01".into(), 0));
        assert_eq!(ssh("ssh:me@web01:2222"), ("me".into(), "web01".into(), 2222));
        assert_eq!(ssh("me@realm@[fe80::1%eth0]:22"), ("me@realm".into(), "fe80::1%eth0".into(), 22));
        assert_eq!(parse("local:").unwrap().name, "local");
        assert_eq!(parse("local:n1").unwrap().name, "local:n1");
        for bad in ["", "a b", "-oProxyCommand=x", "::1", "@h", "h:99999", "[::1", "[::1]x", "docker:", "u@"]
        {
            assert!(parse_list(&[bad]).is_err(), "{bad:?}");
        }
        assert_eq!(parse_list(&["a,b", "a"]).unwrap().len(), 2);
        assert_eq!(parse("chroot:/srv/root").unwrap().kind, Kind::Inside("chroot", "/srv/root".into()));
        assert_eq!(parse("kubectl:ns/pod/c").unwrap().kind, Kind::Inside("kubectl", "ns/pod/c".into()));
    }
}
