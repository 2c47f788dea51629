//! The native ssh client: it runs in this process, by russh, for fleets where an `ssh` process per
//! host costs too much.
//!
//! The user's configuration is resolved by `ssh -G`, which connects to no host. A host with a
//! setting that is not supported here is refused: no part of a configuration is silently left out.

use super::launch::{Failure, InProcess, InProcessTask, Launch, Transport};
use super::quote::shell_join;
use super::ssh::Ssh;
use crate::error::ErrorKind;
use russh::ChannelMsg;
use russh::client::{self, AuthResult, Handle};
use russh::keys::PublicKeyOrCertificate;
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{HashAlg, PrivateKeyWithHashAlg, PublicKeyBase64 as _};
use secrecy::{ExposeSecret as _, SecretString};
use std::collections::BTreeMap;
use std::future::Future;
use std::io::Write as _;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Runtime;

/// The runtime: one thread drives all connections.
static RUNTIME: LazyLock<std::io::Result<Runtime>> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("econtext-ssh")
        .max_blocking_threads(4)
        .enable_all()
        .build()
});

/// The transport of [`Ssh`], without an `ssh` process for the connection; behind a hop, it uses the
/// hop's `ssh`.
///
/// Known hosts are checked strictly, whatever the configuration says about unknown ones. The agent,
/// keys of ed25519, rsa and ecdsa without a passphrase, certificates, a password, and `ProxyJump`
/// are supported. A host whose configuration has more is refused.
#[derive(Clone, Debug)]
pub struct NativeSsh(Ssh);

impl NativeSsh {
    /// The same host with the same options.
    pub fn new(ssh: Ssh) -> Self {
        NativeSsh(ssh)
    }
}

impl Transport for NativeSsh {
    fn launch(&self, child: &[String]) -> Launch {
        let mut launch = self.0.launch(child);
        let (query, password) = (self.0.query(), self.0.password_of());
        let command = shell_join(child);
        launch.in_process = Some(InProcess(Box::new(move |socket, stderr, done| {
            let running = async move {
                let mut stderr = stderr;
                match serve(query, password, command, socket, &mut stderr).await {
                    Ok(status) => done(status),
                    Err(message) => {
                        // The message and the status are those of ssh: so the error is the same.
                        let _ = writeln!(stderr, "{message}");
                        done(255);
                    }
                }
            };
            match &*RUNTIME {
                Ok(runtime) => {
                    let task = runtime.spawn(running).abort_handle();
                    Ok(InProcessTask(Box::new(move || task.abort())))
                }
                Err(error) => Err(std::io::Error::new(error.kind(), error.to_string())),
            }
        })));
        launch
    }

    fn classify(&self, failure: &Failure<'_>) -> ErrorKind {
        self.0.classify(failure)
    }

    fn survives_carrier(&self) -> bool {
        true
    }
}

/// The output of `ssh -G` for one host.
#[derive(Debug)]
struct Configuration(BTreeMap<String, Vec<String>>);

/// The settings that are accepted: they are heeded here or by `ssh -G`, concern features that are
/// not used, or affect only speed.
const KNOWN: [&str; 62] = [
    "addkeystoagent",
    "addressfamily",
    "batchmode",
    "canonicaldomains",
    "canonicalizefallbacklocal",
    "canonicalizehostname",
    "canonicalizemaxdots",
    "canonicalizepermittedcnames",
    "certificatefile",
    "checkhostip",
    "clearallforwardings",
    "compression",
    "connectionattempts",
    "connecttimeout",
    "controlmaster",
    "controlpath",
    "controlpersist",
    "enableescapecommandline",
    "escapechar",
    "exitonforwardfailure",
    "fingerprinthash",
    "forkafterauthentication",
    "forwardx11timeout",
    "forwardx11trusted",
    "gatewayports",
    "globalknownhostsfile",
    "gssapiauthentication",
    "gssapidelegatecredentials",
    "gssapikexalgorithms",
    "gssapikeyexchange",
    "gssapirenewalforcesrekey",
    "gssapitrustdns",
    "hashknownhosts",
    "host",
    "hostkeyalias",
    "hostname",
    "identitiesonly",
    "identityagent",
    "identityfile",
    "ipqos",
    "kbdinteractiveauthentication",
    "loglevel",
    "numberofpasswordprompts",
    "passwordauthentication",
    "port",
    "preferredauthentications",
    "proxyjump",
    "pubkeyauthentication",
    "requesttty",
    "sendenv",
    "serveralivecountmax",
    "serveraliveinterval",
    "sessiontype",
    "stdinnull",
    "stricthostkeychecking",
    "tcpkeepalive",
    "updatehostkeys",
    "user",
    "userknownhostsfile",
    "visualhostkey",
    "xauthlocation",
    "remotecommand",
];

impl Configuration {
    async fn of(query: &[String], host: &str) -> Result<Self, String> {
        let ask = |arguments: Vec<String>| async move {
            let (program, options) = arguments.split_first().ok_or("no ssh")?;
            let output = tokio::process::Command::new(program)
                .arg("-G")
                .args(options)
                .stdin(std::process::Stdio::null())
                .output()
                .await
                .map_err(|e| format!("econtext: cannot start {program} -G: {e}"))?;
            match output.status.success() {
                true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
                false => Err(String::from_utf8_lossy(&output.stderr).trim_end().to_owned()),
            }
        };
        let mut arguments = query.to_vec();
        arguments.extend(["--".to_owned(), host.to_owned()]);
        let found = parse(&ask(arguments).await?);
        let program = query.first().cloned().unwrap_or_default();
        let none = ["-F", "/dev/null", "--", host].map(str::to_owned);
        let plain = parse(&ask([vec![program], none.to_vec()].concat()).await?);
        for (name, values) in &found {
            if !KNOWN.contains(&name.as_str()) && plain.get(name) != Some(values) {
                return Err(format!(
                    "econtext: {host}: --ssh-native does not support {name} {}",
                    values.join(" ")
                ));
            }
        }
        let configuration = Configuration(found);
        match configuration.one("stricthostkeychecking") {
            "true" | "yes" | "ask" => Ok(configuration),
            other => Err(format!(
                "econtext: {host}: --ssh-native checks host keys strictly, and StrictHostKeyChecking is {other}"
            )),
        }
    }

    fn one(&self, name: &str) -> &str {
        self.0.get(name).and_then(|values| values.first()).map_or("", |value| value)
    }

    /// The paths of a setting, with `~` filled in.
    fn paths(&self, name: &str) -> Vec<PathBuf> {
        let home = std::env::home_dir().unwrap_or_default();
        let values = self.0.get(name).into_iter().flatten().flat_map(|value| value.split(' '));
        values
            .filter(|value| *value != "none")
            .map(|value| match value.strip_prefix("~/") {
                Some(rest) => home.join(rest),
                None => PathBuf::from(value),
            })
            .collect()
    }

    fn port(&self) -> u16 {
        self.one("port").parse().unwrap_or(22)
    }

    /// The name that known hosts have it under.
    fn alias(&self) -> &str {
        match self.one("hostkeyalias") {
            "" | "none" => self.one("hostname"),
            alias => alias,
        }
    }
}

fn parse(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.lines() {
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        found.entry(name.to_lowercase()).or_default().push(value.to_owned());
    }
    found
}

/// The check of host keys, which keeps the reason why one was not accepted.
struct Checker {
    host: String,
    port: u16,
    files: Vec<PathBuf>,
    refusal: Arc<Mutex<Option<String>>>,
}

impl client::Handler for Checker {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        let refuse = |why: String| {
            *crate::sync::lock(&self.refusal) = Some(why);
            Ok(false)
        };
        let PublicKeyOrCertificate::PublicKey { key, .. } = key else {
            return refuse("econtext: --ssh-native does not support certificates of hosts\nHost key verification failed.".into());
        };
        let encoded = key.public_key_base64();
        for file in &self.files {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let revoked = |line: &str| line.trim_start().starts_with("@revoked") && line.contains(&encoded);
            if text.lines().any(revoked) {
                return refuse(format!(
                    "The host key of {} is revoked.\nHost key verification failed.",
                    self.host
                ));
            }
            match russh::keys::known_hosts::check_known_hosts_path(&self.host, self.port, key, file) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(russh::keys::Error::KeyChanged { line }) => {
                    return refuse(format!(
                        "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!\nOffending key in {}:{line}\nHost key verification failed.",
                        file.display()
                    ));
                }
                Err(_) => {}
            }
        }
        refuse(format!("No host key is known for {}.\nHost key verification failed.", self.host))
    }
}

type Connection = Handle<Checker>;

/// A connection, and those that it goes through.
type Connected = (Connection, Vec<Connection>);

/// Connects through all jumps, each of which is a host of its own configuration.
fn connect(
    query: Vec<String>,
    host: String,
    password: Option<SecretString>,
    depth: usize,
) -> Pin<Box<dyn Future<Output = Result<Connected, String>> + Send>> {
    Box::pin(async move {
        if depth > 8 {
            return Err("econtext: too many jump hosts".to_owned());
        }
        let configuration = Configuration::of(&query, &host).await?;
        let refusal = Arc::new(Mutex::new(None));
        let checker = Checker {
            host: configuration.alias().to_owned(),
            port: if configuration.alias() == configuration.one("hostname") {
                configuration.port()
            } else {
                22
            },
            files: [configuration.paths("userknownhostsfile"), configuration.paths("globalknownhostsfile")]
                .concat(),
            refusal: refusal.clone(),
        };
        let config = client::Config {
            keepalive_interval: configuration
                .one("serveraliveinterval")
                .parse()
                .ok()
                .filter(|s| *s > 0)
                .map(Duration::from_secs),
            keepalive_max: configuration.one("serveralivecountmax").parse().unwrap_or(3),
            nodelay: true,
            ..client::Config::default()
        };
        let (name, port) = (configuration.one("hostname").to_owned(), configuration.port());
        let failed = |e: russh::Error| match crate::sync::lock(&refusal).take() {
            Some(why) => why,
            None => format!("ssh: connect to host {name} port {port}: {e}"),
        };
        let mut through = Vec::new();
        let mut session = match configuration.one("proxyjump") {
            "" | "none" => {
                client::connect(Arc::new(config), (name.as_str(), port), checker).await.map_err(failed)?
            }
            jumps => {
                // The last of several jumps is reached through those before it.
                let (before, last) = jumps.rsplit_once(',').map_or((None, jumps), |(b, l)| (Some(b), l));
                let mut query = of_all_hosts(&query);
                if let Some(before) = before {
                    query.extend(["-J".to_owned(), before.to_owned()]);
                }
                let (jump, options) = jump_of(last);
                query.extend(options);
                let (connection, earlier) = connect(query, jump, None, depth + 1).await?;
                let channel = connection
                    .channel_open_direct_tcpip(name.as_str(), port.into(), "127.0.0.1", 0)
                    .await
                    .map_err(|e| format!("ssh: connect to host {name} port {port}: {e}"))?;
                through.extend(earlier);
                through.push(connection);
                client::connect_stream(Arc::new(config), channel.into_stream(), checker)
                    .await
                    .map_err(failed)?
            }
        };
        authenticate(&mut session, &configuration, password).await?;
        Ok((session, through))
    })
}

/// The program, and `-F` as it was given: it is the only option of ssh that applies to the hosts on
/// the way too.
fn of_all_hosts(query: &[String]) -> Vec<String> {
    let file = query.windows(2).find(|pair| pair[0] == "-F").unwrap_or_default();
    query.first().into_iter().chain(file).cloned().collect()
}

/// A jump host and the options that its user and port are.
fn jump_of(word: &str) -> (String, Vec<String>) {
    let word = word.strip_prefix("ssh://").unwrap_or(word);
    let (user, host) = word.rsplit_once('@').map_or((None, word), |(user, host)| (Some(user), host));
    let (host, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => host.rsplit_once(':').map_or((host, None), |(host, port)| (host, Some(port))),
    };
    let mut options = Vec::new();
    for (flag, value) in [("-l", user), ("-p", port)] {
        options.extend(value.into_iter().flat_map(|value| [flag.to_owned(), value.to_owned()]));
    }
    (host.to_owned(), options)
}

/// Tries the agent's keys, then key files, then a password, as ssh does.
async fn authenticate(
    session: &mut Connection,
    configuration: &Configuration,
    password: Option<SecretString>,
) -> Result<(), String> {
    let user = configuration.one("user").to_owned();
    let failed = |e: russh::Error| format!("econtext: {}: {e}", configuration.one("hostname"));
    let denied = format!("{user}@{}: Permission denied.", configuration.one("hostname"));
    if configuration.one("pubkeyauthentication") != "false" {
        let hash = session.best_supported_rsa_hash().await.map_err(failed)?.flatten();
        let files = configuration.paths("identityfile");
        if by_agent(session, configuration, &user, hash, &files).await {
            return Ok(());
        }
        let certificates = configuration.paths("certificatefile");
        for file in &files {
            let Ok(key) = russh::keys::load_secret_key(file, None) else { continue };
            let key = Arc::new(key);
            let mut beside = file.clone().into_os_string();
            beside.push("-cert.pub");
            for certificate in certificates.iter().chain([&PathBuf::from(beside)]) {
                let Ok(certificate) = russh::keys::load_openssh_certificate(certificate) else { continue };
                if certificate.public_key() == key.public_key().key_data()
                    && session
                        .authenticate_openssh_cert(&user, key.clone(), certificate)
                        .await
                        .is_ok_and(|r| r.success())
                {
                    return Ok(());
                }
            }
            let key = PrivateKeyWithHashAlg::new(key, hash);
            match session.authenticate_publickey(&user, key).await.map_err(failed)? {
                AuthResult::Success => return Ok(()),
                AuthResult::Failure { .. } => {}
            }
        }
    }
    if let Some(password) = password {
        let result = session.authenticate_password(&user, password.expose_secret()).await.map_err(failed)?;
        if result.success() {
            return Ok(());
        }
    }
    Err(denied)
}

/// Whether a key of the agent was accepted; with `IdentitiesOnly`, one of those that belong to the
/// files.
async fn by_agent(
    session: &mut Connection,
    configuration: &Configuration,
    user: &str,
    hash: Option<HashAlg>,
    files: &[PathBuf],
) -> bool {
    let socket = match configuration.one("identityagent") {
        "none" => return false,
        "" | "SSH_AUTH_SOCK" => std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from),
        path => Some(PathBuf::from(path)),
    };
    let Some(socket) = socket else { return false };
    let Ok(mut agent) = AgentClient::connect_uds(socket).await else { return false };
    let Ok(identities) = agent.request_identities().await else { return false };
    let only = configuration.one("identitiesonly") == "yes";
    let public = |file: &PathBuf| {
        let mut name = file.clone().into_os_string();
        name.push(".pub");
        std::fs::read_to_string(name).unwrap_or_default()
    };
    let wanted: Vec<String> = files.iter().map(public).collect();
    for identity in identities {
        let taken = match identity {
            AgentIdentity::PublicKey { key, .. } => {
                if only && !wanted.iter().any(|text| text.contains(&key.public_key_base64())) {
                    continue;
                }
                session
                    .authenticate_publickey_with(user, key, hash, &mut agent)
                    .await
                    .is_ok_and(|r| r.success())
            }
            AgentIdentity::Certificate { certificate, .. } => session
                .authenticate_certificate_with(user, certificate, hash, &mut agent)
                .await
                .is_ok_and(|r| r.success()),
        };
        if taken {
            return true;
        }
    }
    false
}

/// Runs the command there and moves bytes until it has ended; returns its exit status.
async fn serve(
    query: Vec<String>,
    password: Option<SecretString>,
    command: String,
    socket: std::os::unix::net::UnixStream,
    stderr: &mut std::fs::File,
) -> Result<u8, String> {
    let (query, host) = match query.split_last() {
        Some((host, query)) => (query.to_vec(), host.clone()),
        None => return Err("econtext: no host".to_owned()),
    };
    let (session, _through) = connect(query, host, password, 0).await?;
    let failed = |e: russh::Error| format!("econtext: {e}");
    let channel = session.channel_open_session().await.map_err(failed)?;
    channel.exec(true, command).await.map_err(failed)?;
    socket.set_nonblocking(true).map_err(|e| e.to_string())?;
    let socket = tokio::net::UnixStream::from_std(socket).map_err(|e| e.to_string())?;
    let (mut from_us, mut to_us) = socket.into_split();
    let (mut reads, writes) = channel.split();
    let up = async move {
        let mut buffer = vec![0; 32 << 10];
        loop {
            match from_us.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(n) => {
                    if writes.data_bytes(buffer[..n].to_vec()).await.is_err() {
                        break;
                    }
                }
            }
        }
        let _ = writes.eof().await;
        // The channel lives as long as the command.
        std::future::pending::<()>().await;
    };
    let down = async {
        let mut status = None;
        while let Some(message) = reads.wait().await {
            match message {
                ChannelMsg::Data { data } => match to_us.write_all(&data).await {
                    Ok(()) => {}
                    Err(_) => break,
                },
                ChannelMsg::ExtendedData { data, .. } => drop(stderr.write_all(&data)),
                ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
                ChannelMsg::Failure => return Err("econtext: the server runs no commands".to_owned()),
                _ => {}
            }
        }
        // Without a status the connection was lost, or a signal has ended it.
        Ok(status.and_then(|s| u8::try_from(s).ok()).unwrap_or(255))
    };
    tokio::select! {
        () = up => Ok(255),
        status = down => status,
    }
}
