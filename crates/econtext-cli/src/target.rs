//! What a target on the command line stands for.

use crate::args::{Common, Usage};
use econtext::{
    Broker, Context, ContextBuilder, Error, Local, Python, Ssh, Transport as _, command_line, shell_join,
};
use secrecy::SecretString;

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
    Ssh { user: Option<String>, host: String, port: Option<u16> },
}

/// The targets of a comma-separated list, without repetitions.
pub(crate) fn parse_list(specs: &[&str]) -> Result<Vec<Target>, Usage> {
    let mut targets: Vec<Target> = Vec::new();
    for word in specs.iter().flat_map(|spec| spec.split(',')).map(str::trim).filter(|w| !w.is_empty()) {
        let target = parse(word)?;
        if !targets.iter().any(|t| t.name == target.name) {
            targets.push(target);
        }
    }
    if targets.is_empty() {
        return Err(Usage("no target: name hosts, or local: for a child on this machine".into()));
    }
    Ok(targets)
}

fn parse(word: &str) -> Result<Target, Usage> {
    let bad = |why: &str| Usage(format!("target {word:?}: {why}"));
    if word.contains(|c: char| c.is_whitespace() || c.is_control()) || word.starts_with('-') {
        return Err(bad("no name of a host"));
    }
    if let Some(name) = word.strip_prefix("local:") {
        let name = if name.is_empty() { "local".to_owned() } else { word.to_owned() };
        return Ok(Target { name, kind: Kind::Local });
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
            None => return Err(bad("host ranges are not supported yet")),
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

impl Target {
    /// Starts a child there.
    pub(crate) fn connect(
        &self,
        builder: ContextBuilder,
        broker: &Broker,
        common: &Common,
        password: Option<&SecretString>,
    ) -> Result<Context, Error> {
        match self.ssh(common) {
            None => builder.connect(broker, Local),
            Some(ssh) => match password {
                Some(password) => builder.connect(broker, ssh.password(password.clone())),
                None => builder.connect(broker, ssh),
            },
        }
    }

    /// The local command that would start a child there, as a shell would take it.
    pub(crate) fn command(&self, common: &Common) -> String {
        let child = command_line(&Python::from(common.python.as_str()), &self.name);
        let launch = match self.ssh(common) {
            None => Local.launch(&child),
            Some(ssh) => ssh.launch(&child),
        };
        shell_join(&launch.argv)
    }

    fn ssh(&self, common: &Common) -> Option<Ssh> {
        let Kind::Ssh { user, host, port } = &self.kind else { return None };
        let mut ssh = Ssh::new(host).program(&common.ssh);
        // In the target beats on the command line: it is closer.
        if let Some(user) = user.as_ref().or(common.user.as_ref()) {
            ssh = ssh.user(user);
        }
        if let Some(port) = port.or(common.port) {
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
        Some(common.ssh_option.iter().fold(ssh, |ssh, option| ssh.option(option)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_what_ssh_users_expect() {
        let ssh = |word: &str| match parse(word).unwrap().kind {
            Kind::Ssh { user, host, port } => (user.unwrap_or_default(), host, port.unwrap_or(0)),
            Kind::Local => panic!("{word} is local"),
        };
        assert_eq!(ssh("web01"), (String::new(), "web01".into(), 0));
        assert_eq!(ssh("ssh:me@web01:2222"), ("me".into(), "web01".into(), 2222));
        assert_eq!(ssh("me@realm@[fe80::1%eth0]:22"), ("me@realm".into(), "fe80::1%eth0".into(), 22));
        assert_eq!(parse("local:").unwrap().name, "local");
        assert_eq!(parse("local:n1").unwrap().name, "local:n1");
        for bad in ["", "a b", "-oProxyCommand=x", "::1", "@h", "h:99999", "[::1", "[::1]x", "docker:x", "u@"]
        {
            assert!(parse_list(&[bad]).is_err(), "{bad:?}");
        }
        assert_eq!(parse_list(&["a,b", "a"]).unwrap().len(), 2);
    }
}
