//! A real sshd for one test, with a loopback port, and keys and configuration in a temporary directory.

use crate::component::skip;
use crate::{processes, tools};
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A running sshd; ended when dropped.
#[derive(Debug)]
pub struct Sshd {
    process: Child,
    directory: TempDir,
    /// The address where it listens.
    pub address: String,
    /// The port there.
    pub port: u16,
}

impl Sshd {
    /// Starts an sshd on 127.0.0.1, or says what is missing.
    ///
    /// # Panics
    /// If it is installed and does not come up.
    pub fn start() -> Option<Self> {
        Self::start_in(None, "127.0.0.1")
    }

    /// Starts an sshd in a network namespace, on an address there.
    ///
    /// # Panics
    /// If it is installed and does not come up.
    pub fn start_in(namespace: Option<&str>, address: &str) -> Option<Self> {
        Self::start_with(namespace, address, "MaxStartups 200")
    }

    /// Starts an sshd with further lines of configuration.
    ///
    /// # Panics
    /// If it is installed and does not come up.
    pub fn start_with(namespace: Option<&str>, address: &str, more: &str) -> Option<Self> {
        if !tools::has_all(&["sshd", "ssh", "ssh-keygen"]) || !tools::is_root("sshd") {
            return None;
        }
        let program = tools::find("sshd")?;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| directory.path().join(name).display().to_string();
        for key in ["host_key", "user_key", "other_key"] {
            let status =
                Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &at(key)]).status();
            assert!(status.is_ok_and(|s| s.success()), "ssh-keygen");
        }
        fs::copy(at("user_key.pub"), at("authorized_keys")).expect("copied");
        // One file serves all accounts, which must be able to read it.
        for path in [directory.path().to_path_buf(), PathBuf::from(at("authorized_keys"))] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("permitted");
        }
        let _ = fs::create_dir_all("/run/sshd");
        let port = free_port();
        let config = format!(
            "Port {port}\nListenAddress {address}\nHostKey {}\nPidFile none\nAuthorizedKeysFile {}\nStrictModes no\n\
             PermitRootLogin yes\nPasswordAuthentication yes\nKbdInteractiveAuthentication no\nUsePAM no\n\
             {more}\nMaxSessions 100\nPrintMotd no\nLogLevel INFO\n",
            at("host_key"),
            at("authorized_keys"),
        );
        fs::write(at("sshd_config"), config).expect("written");
        let log = fs::File::create(at("log")).expect("created");
        let mut command = match namespace {
            None => Command::new(program),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(program);
                command
            }
        };
        let process = command
            .args(["-D", "-e", "-f", &at("sshd_config")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("sshd starts");
        let sshd = Sshd { process, directory, address: address.to_owned(), port };
        sshd.know_host(&sshd.path("host_key.pub"));
        processes::wait_until("sshd listens", || {
            fs::read_to_string(sshd.path("log")).is_ok_and(|log| log.contains("Server listening"))
        });
        Some(sshd)
    }

    /// A file of its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Adds that key of this host to `known_hosts`.
    pub fn know_host(&self, public_key: &Path) {
        let key = fs::read_to_string(public_key).expect("a public key");
        // An sshd that listens on every address has the key on every address.
        let name = if self.address == "0.0.0.0" { "127.*" } else { &self.address };
        let line = format!("[{name}]:{} {key}", self.port);
        fs::write(self.path("known_hosts"), line).expect("written");
    }

    /// Options of ssh and econtext that are independent of the user: no configuration, and our own known hosts.
    pub fn options(&self) -> Vec<String> {
        vec![
            "-F".into(),
            "/dev/null".into(),
            "-p".into(),
            self.port.to_string(),
            "-o".into(),
            format!("UserKnownHostsFile={}", self.path("known_hosts").display()),
            "-o".into(),
            "GlobalKnownHostsFile=/dev/null".into(),
            "-o".into(),
            "IdentityAgent=none".into(),
        ]
    }

    /// The [`options`](Sshd::options) with the key that is accepted.
    pub fn key_options(&self) -> Vec<String> {
        let mut options = self.options();
        options.extend(["--identity".into(), self.path("user_key").display().to_string()]);
        options
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port without a listener.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// An account made for a test; removed when dropped.
#[derive(Debug)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its home directory.
    pub home: PathBuf,
}

impl User {
    /// Makes an account with a login shell and a password, or says what is missing.
    ///
    /// # Panics
    /// If the system refuses.
    pub fn create(name: &str, shell: &str, password: &str) -> Option<Self> {
        if !tools::is_root("an account") || !tools::has_all(&["useradd", "userdel", "chpasswd"]) {
            return None;
        }
        if !Path::new(shell).exists() {
            skip(shell);
            return None;
        }
        let _ = Command::new("userdel").args(["-rf", name]).stderr(Stdio::null()).status();
        let status = Command::new("useradd").args(["-m", "-s", shell, name]).status();
        assert!(status.is_ok_and(|s| s.success()), "useradd {name}");
        let mut chpasswd = Command::new("chpasswd").stdin(Stdio::piped()).spawn().expect("chpasswd");
        let mut input = chpasswd.stdin.take().expect("a pipe");
        writeln!(input, "{name}:{password}").expect("written");
        drop(input);
        assert!(chpasswd.wait().is_ok_and(|s| s.success()), "chpasswd");
        let home = PathBuf::from(format!("/home/{name}"));
        Some(User { name: name.to_owned(), home })
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = Command::new("userdel").args(["-rf", &self.name]).stderr(Stdio::null()).status();
    }
}
