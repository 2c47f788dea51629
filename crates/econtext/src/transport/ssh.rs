//! The user's own ssh.

use super::{Failure, Launch, Transport, classify_python};
use crate::dialog::Dialog;
use crate::error::ErrorKind;
use crate::payload::shell_join;
use secrecy::SecretString;
use std::fmt;

/// A child behind the user's `ssh`, with their configuration, agent and keys.
///
/// Where OpenSSH takes the first of several options, the user's come first and so win over ours.
///
/// ```
/// # use econtext::{Broker, Context, Ssh};
/// # fn f(broker: &Broker) -> Result<(), econtext::Error> {
/// let web = Context::builder("web01").connect(broker, Ssh::new("web01").user("admin").port(2222))?;
/// let version = web.call::<String>("platform:python_version", ()).wait()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Ssh {
    program: String,
    host: String,
    options: Vec<String>,
    password: Option<SecretString>,
}

impl Ssh {
    /// `ssh HOST`: a name of the user's ssh configuration, or an address.
    pub fn new(host: impl Into<String>) -> Self {
        Ssh { program: "ssh".into(), host: host.into(), options: Vec::new(), password: None }
    }

    /// Another program in ssh's place.
    pub fn program(mut self, program: impl Into<String>) -> Self {
        self.program = program.into();
        self
    }

    /// The user to log in as: `-l`.
    pub fn user(self, user: impl Into<String>) -> Self {
        self.arg("-l").arg(user)
    }

    /// The port: `-p`.
    pub fn port(self, port: u16) -> Self {
        self.arg("-p").arg(port.to_string())
    }

    /// The configuration file: `-F`.
    pub fn config_file(self, path: impl Into<String>) -> Self {
        self.arg("-F").arg(path)
    }

    /// The private key: `-i`.
    pub fn identity(self, path: impl Into<String>) -> Self {
        self.arg("-i").arg(path)
    }

    /// The hosts to jump over: `-J`.
    pub fn jump(self, hosts: impl Into<String>) -> Self {
        self.arg("-J").arg(hosts)
    }

    /// Any option: `-o NAME=VALUE`.
    pub fn option(self, option: impl Into<String>) -> Self {
        self.arg("-o").arg(option)
    }

    /// Further arguments, as on ssh's command line.
    pub fn args<S: Into<String>>(self, args: impl IntoIterator<Item = S>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// The password, typed for the first prompt. Without one, ssh may not ask anything.
    pub fn password(mut self, password: SecretString) -> Self {
        self.password = Some(password);
        self
    }

    /// The program, its options, and the host: what `ssh -G` is asked.
    #[cfg(feature = "native-ssh")]
    pub(crate) fn query(&self) -> Vec<String> {
        let program = std::iter::once(&self.program);
        program.chain(&self.options).chain([&self.host]).cloned().collect()
    }

    #[cfg(feature = "native-ssh")]
    pub(crate) fn password_of(&self) -> Option<SecretString> {
        self.password.clone()
    }

    fn arg(mut self, arg: impl Into<String>) -> Self {
        self.options.push(arg.into());
        self
    }
}

impl Transport for Ssh {
    fn launch(&self, child: &[String]) -> Launch {
        let mut argv = vec![self.program.clone()];
        argv.extend(self.options.iter().cloned());
        // The stream is binary, so no terminal there; and a command of the configuration's own is not what is meant.
        let mut ours = vec!["RequestTTY=no", "RemoteCommand=none"];
        match self.password {
            Some(_) => ours.push("NumberOfPasswordPrompts=1"),
            None => ours.push("BatchMode=yes"),
        }
        argv.extend(ours.into_iter().flat_map(|option| ["-o".to_owned(), option.to_owned()]));
        argv.extend(["--".to_owned(), self.host.clone(), shell_join(child)]);
        let mut launch = Launch::new(argv);
        // A helper program must not be asked in place of the terminal.
        launch.env.push(("SSH_ASKPASS_REQUIRE".into(), "never".into()));
        launch.dialog = self.password.clone().map(Dialog::password);
        launch.detach = true;
        launch
    }

    fn is_only_a_way(&self) -> bool {
        true
    }

    fn classify(&self, failure: &Failure<'_>) -> ErrorKind {
        let says = |text: &str| failure.stderr.contains(text);
        // ssh's own failures have status 255, and none of its messages is translated.
        match failure.status.and_then(|s| s.code) {
            Some(255)
                if [
                    "Host key verification failed",
                    "HOST IDENTIFICATION HAS CHANGED",
                    "host key is known",
                ]
                .into_iter()
                .any(says) =>
            {
                ErrorKind::HostKey
            }
            Some(255)
                if [
                    "Permission denied",
                    "Too many authentication failures",
                    "Authentication failed",
                    "No more authentication methods",
                ]
                .into_iter()
                .any(says) =>
            {
                ErrorKind::Auth
            }
            Some(255) => ErrorKind::Unreachable,
            _ => classify_python(failure),
        }
    }
}

impl fmt::Debug for Ssh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ssh")
            .field("host", &self.host)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
