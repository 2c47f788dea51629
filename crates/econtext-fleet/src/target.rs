//! The target that a name stands for.

use crate::settings::Settings;
use crate::spec_error::SpecError;
use econtext::internal::command_line;
use econtext::transport::{
    Chroot, Docker, Incus, Jail, Kubectl, Lxc, Nsenter, Nspawn, Podman, Transport, shell_join,
};
use econtext::{Local, Python};

/// One host, and how it is reached.
#[derive(Clone, Debug)]
pub struct Target {
    /// The name in output.
    pub name: String,
    kind: Kind,
    /// The settings for how it is reached, beside its name.
    pub settings: Settings,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Local,
    Ssh {
        user: Option<String>,
        host: String,
        port: Option<u16>,
    },
    /// A container or the like: the scheme, and its name.
    Inside(&'static str, String),
}

/// Schemes of targets, as in `docker:name`.
pub const SCHEMES: [&str; 11] =
    ["local", "ssh", "docker", "podman", "kubectl", "lxc", "incus", "nspawn", "nsenter", "chroot", "jail"];

/// The schemes of targets that are reached by an argument vector in front.
const INSIDE: [&str; 9] =
    ["docker", "podman", "kubectl", "lxc", "incus", "nspawn", "nsenter", "chroot", "jail"];

/// The name of a target in output, and its kind.
fn parse(word: &str) -> Result<(String, Kind), SpecError> {
    let bad = |why: &str| SpecError(format!("target {word:?}: {why}"));
    if word.contains(char::is_whitespace) {
        return Err(bad("no name of a host; names are separated by commas"));
    }
    if word.contains(char::is_control) || word.starts_with('-') {
        return Err(bad("no name of a host"));
    }
    if let Some(name) = word.strip_prefix("local:") {
        let name = if name.is_empty() { "local".to_owned() } else { word.to_owned() };
        return Ok((name, Kind::Local));
    }
    if let Some((scheme, which)) = word.split_once(':')
        && let Some(scheme) = INSIDE.into_iter().find(|known| *known == scheme)
    {
        if which.is_empty() || which.starts_with('-') {
            return Err(bad("which one is missing"));
        }
        return Ok((word.to_owned(), Kind::Inside(scheme, which.to_owned())));
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
    if host.starts_with('-') || user.is_some_and(|user| user.starts_with('-')) {
        return Err(bad("no name of a host")); // ssh would take it for an option
    }
    Ok((rest.to_owned(), Kind::Ssh { user: user.map(str::to_owned), host: host.to_owned(), port }))
}

impl Target {
    /// A target by its name alone: a host of ssh, or the kind of its scheme.
    ///
    /// # Errors
    /// If the name is invalid.
    ///
    /// ```
    /// let target = econtext_fleet::Target::parse("deploy@web01:2222")?;
    /// assert_eq!(target.host(), "web01");
    /// # Ok::<(), econtext_fleet::SpecError>(())
    /// ```
    pub fn parse(word: &str) -> Result<Target, SpecError> {
        let (name, kind) = parse(word)?;
        Ok(Target { name, kind, settings: Settings::default() })
    }

    /// The target with another address under the same name.
    pub(crate) fn at(mut self, address: &str) -> Result<Target, SpecError> {
        let (_, kind) = parse(address)?;
        self.kind = match (self.kind, kind) {
            // The user and port of the name win over those of the address.
            (Kind::Ssh { user, port, .. }, Kind::Ssh { user: a, host, port: b }) => {
                Kind::Ssh { user: user.or(a), host, port: port.or(b) }
            }
            (_, kind) => kind,
        };
        Ok(self)
    }

    /// The host's own name, without user, port and scheme.
    pub fn host(&self) -> &str {
        match &self.kind {
            Kind::Local => self.name.strip_prefix("local:").unwrap_or(&self.name),
            Kind::Ssh { host, .. } => host,
            Kind::Inside(_, which) => which,
        }
    }

    /// Whether it is a host of ssh.
    pub fn is_ssh(&self) -> bool {
        matches!(self.kind, Kind::Ssh { .. })
    }

    /// Whether this is a child on this machine, without a login.
    pub fn is_local(&self) -> bool {
        self.kind == Kind::Local
    }

    /// The transport that starts a child there, from here or from a hop.
    pub fn transport(&self) -> Box<dyn Transport> {
        let which = match &self.kind {
            Kind::Local => return Box::new(Local),
            Kind::Ssh { user, host, port } => {
                // The user and port of the target win over those of the settings: they are closer.
                let user = user.as_ref().or(self.settings.user.as_ref());
                let ssh = self.settings.ssh(host, user, port.or(self.settings.port));
                #[cfg(feature = "native-ssh")]
                if self.settings.native {
                    return Box::new(econtext::transport::NativeSsh::new(ssh));
                }
                return Box::new(ssh);
            }
            Kind::Inside(_, which) => which,
        };
        match &self.kind {
            Kind::Inside("docker", _) => match &self.settings.user {
                Some(user) => Box::new(Docker::new(which).user(user)),
                None => Box::new(Docker::new(which)),
            },
            Kind::Inside("podman", _) => match &self.settings.user {
                Some(user) => Box::new(Podman::new(which).user(user)),
                None => Box::new(Podman::new(which)),
            },
            Kind::Inside("kubectl", _) => Box::new(Kubectl::new(which)),
            Kind::Inside("lxc", _) => Box::new(Lxc::new(which)),
            Kind::Inside("incus", _) => Box::new(Incus::new(which)),
            // A run needs neither a machine of its own for systemd nor a registration.
            Kind::Inside("nspawn", _) => Box::new(Nspawn::new(which).arg("--keep-unit").arg("--register=no")),
            Kind::Inside("nsenter", _) => Box::new(Nsenter::new(which)),
            Kind::Inside("chroot", _) => Box::new(Chroot::new(which)),
            _ => Box::new(Jail::new(which)),
        }
    }

    /// The commands that would start a child there, one for each hop, as shells would take them:
    /// `whole`, or with `...` in place of the program that Python is given.
    pub fn commands(&self, hops: &[Target], whole: bool) -> Vec<String> {
        let line = |target: &Target, transport: &dyn Transport| {
            let python = target.settings.python();
            let child = match &python {
                _ if whole => command_line(&python, &target.name),
                Python::Auto => vec!["python".to_owned(), "...".to_owned()],
                python => [python.words(), vec!["...".to_owned()]].concat(),
            };
            shell_join(&transport.launch(&child).argv)
        };
        let mut lines: Vec<String> = hops.iter().map(|hop| line(hop, &*hop.transport())).collect();
        lines.push(line(self, &*self.transport()));
        lines.extend(self.settings.become_transport().map(|transport| line(self, &*transport)));
        lines
    }

    /// The command after that of the transport, for hosts without a Python.
    pub fn raw(&self, words: &[String]) -> Vec<String> {
        self.transport().launch(words).argv
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_what_ssh_users_expect() {
        let ssh = |word: &str| match parse(word).unwrap().1 {
            Kind::Ssh { user, host, port } => (user.unwrap_or_default(), host, port.unwrap_or(0)),
            other => panic!("{word} is {other:?}"),
        };
        assert_eq!(ssh("web01"), (String::new(), "web01".into(), 0));
        assert_eq!(ssh("ssh:me@web01:2222"), ("me".into(), "web01".into(), 2222));
        assert_eq!(ssh("me@realm@[fe80::1%eth0]:22"), ("me@realm".into(), "fe80::1%eth0".into(), 22));
        assert_eq!(parse("local:").unwrap().0, "local");
        assert_eq!(parse("local:n1").unwrap().0, "local:n1");
        for bad in [
            "",
            "a b",
            "-oProxyCommand=x",
            "ssh:-oProxyCommand=x",
            "u@-ox",
            "-l@h",
            "::1",
            "@h",
            "h:99999",
            "[::1",
            "[::1]x",
            "docker:",
            "u@",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(parse("chroot:/srv/root").unwrap().1, Kind::Inside("chroot", "/srv/root".into()));
        assert_eq!(parse("kubectl:ns/pod/c").unwrap().1, Kind::Inside("kubectl", "ns/pod/c".into()));
    }
}
