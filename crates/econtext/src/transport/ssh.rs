//! The transport over the user's own ssh.

use super::dialog::Dialog;
use super::launch::{Failure, Launch, Note, Transport, classify_python};
use super::quote::shell_join;
use crate::error::ErrorKind;
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
    /// Makes a transport for `ssh HOST`: a name of the user's ssh configuration, or an address.
    pub fn new(host: impl Into<String>) -> Self {
        Ssh { program: "ssh".into(), host: host.into(), options: Vec::new(), password: None }
    }

    /// Sets another program in ssh's place.
    pub fn program(mut self, program: impl Into<String>) -> Self {
        self.program = program.into();
        self
    }

    /// Sets the user to log in as: `-l`.
    pub fn user(self, user: impl Into<String>) -> Self {
        self.arg("-l").arg(user)
    }

    /// Sets the port: `-p`.
    pub fn port(self, port: u16) -> Self {
        self.arg("-p").arg(port.to_string())
    }

    /// Sets the configuration file: `-F`.
    pub fn config_file(self, path: impl Into<String>) -> Self {
        self.arg("-F").arg(path)
    }

    /// Sets the private key: `-i`.
    pub fn identity(self, path: impl Into<String>) -> Self {
        self.arg("-i").arg(path)
    }

    /// Sets the hosts to jump over: `-J`.
    pub fn jump(self, hosts: impl Into<String>) -> Self {
        self.arg("-J").arg(hosts)
    }

    /// Sets any option: `-o NAME=VALUE`.
    pub fn option(self, option: impl Into<String>) -> Self {
        self.arg("-o").arg(option)
    }

    /// Adds arguments, as on ssh's command line.
    pub fn args<S: Into<String>>(self, args: impl IntoIterator<Item = S>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// Sets the password, typed at the first prompt. Without one, ssh may not ask anything.
    pub fn password(mut self, password: SecretString) -> Self {
        self.password = Some(password);
        self
    }

    /// The program, its options, and the host: the query of `ssh -G`.
    #[cfg(feature = "native-ssh")]
    pub(crate) fn query(&self) -> Vec<String> {
        let program = std::iter::once(&self.program);
        program.chain(&self.options).chain([&self.host]).cloned().collect()
    }

    #[cfg(feature = "native-ssh")]
    pub(crate) fn password_of(&self) -> Option<SecretString> {
        self.password.clone()
    }

    /// Whether the user has set how much ssh logs.
    fn is_verbose(&self) -> bool {
        let says = |option: &String| {
            let option = option.to_ascii_lowercase();
            option.contains("loglevel") || option.starts_with("-v") || option == "-q"
        };
        self.options.iter().any(says)
    }

    /// The host, as key tools write it, and the port if it is not the usual one.
    fn address(&self) -> (&str, Option<&str>) {
        let mut port = None;
        for pair in self.options.windows(2) {
            if pair[0] == "-p" {
                port = port.or(Some(pair[1].as_str()));
            }
        }
        let host = self.host.rsplit_once('@').map_or(self.host.as_str(), |(_, host)| host);
        (host, port.filter(|port| *port != "22"))
    }

    fn arg(mut self, arg: impl Into<String>) -> Self {
        self.options.push(arg.into());
        self
    }
}

/// The option that makes ssh log its progress: without it, the error of a login that hangs could
/// not say where.
const DEBUG: &str = "LogLevel=DEBUG1";

/// The steps that the client has reached when it writes a line with one of these beginnings, in
/// OpenSSH 7.4 to 10.
const PHASES: [(&str, &str); 11] = [
    ("Connecting to ", "the TCP connection"),
    ("Executing proxy command", "the proxy command"),
    ("Connection established", "the server's version"),
    ("Local version string", "the server's version"),
    ("SSH2_MSG_KEXINIT sent", "the key exchange"),
    ("SSH2_MSG_NEWKEYS received", "the ssh agent"),
    ("Will attempt key", "authentication"),
    ("SSH2_MSG_SERVICE_ACCEPT received", "authentication"),
    ("Server accepts key", "the signature of a key"),
    ("Entering interactive session", "the login shell and Python"),
    ("Sending command", "the login shell and Python"),
];

/// The beginnings of other lines that are written at that level.
const NOISE: [&str; 5] =
    ["OpenSSH_", "Authenticated to ", "Authenticated using ", "Transferred: ", "Bytes per second: "];

impl Transport for Ssh {
    fn launch(&self, child: &[String]) -> Launch {
        let mut argv = vec![self.program.clone()];
        argv.extend(self.options.iter().cloned());
        // The stream is binary, so there must be no terminal; and a command of the configuration
        // would replace ours.
        let mut ours = vec!["RequestTTY=no", "RemoteCommand=none"];
        match self.password {
            Some(_) => ours.push("NumberOfPasswordPrompts=1"),
            None => ours.push("BatchMode=yes"),
        }
        if !self.is_verbose() {
            ours.push(DEBUG);
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

    fn survives_carrier(&self) -> bool {
        true
    }

    fn note(&self, line: &str) -> Note {
        if self.is_verbose() {
            return Note::Text;
        }
        match line.strip_prefix("debug1: ") {
            Some(text) => {
                let phase = PHASES.iter().find(|(start, _)| text.starts_with(start));
                phase.map_or(Note::Noise, |(_, phase)| Note::Phase(phase))
            }
            None if NOISE.iter().any(|start| line.starts_with(start)) => Note::Noise,
            None => Note::Text,
        }
    }

    fn describe(&self, kind: ErrorKind, failure: &Failure<'_>) -> Option<String> {
        if kind != ErrorKind::HostKey {
            return None;
        }
        let (host, port) = self.address();
        let known_as = port.map_or(host.to_owned(), |port| format!("[{host}]:{port}"));
        let scan = port.map_or(String::new(), |port| format!("-p {port} "));
        let says = |text: &str| failure.stderr.contains(text);
        Some(if says("IDENTIFICATION HAS CHANGED") || says("Offending") {
            format!(
                "the host key has changed; the known one is shown by: ssh-keygen -lF '{known_as}', and the new one by: ssh-keyscan {scan}{host} | ssh-keygen -lf -"
            )
        } else if says("revoked") {
            "the host key is revoked".to_owned()
        } else {
            format!("the host key is unknown; it is shown by: ssh-keyscan {scan}{host} | ssh-keygen -lf -")
        })
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
