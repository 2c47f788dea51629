//! Containers for one test, and the root file system that they are made of.

use crate::component::skip;
use crate::{pythons, tools};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The root file system with Python 3.14, if the tool is there; else it is said what is missing.
pub fn root_for(tool: &str) -> Option<String> {
    if !tools::has(tool) || !tools::is_root(tool) {
        return None;
    }
    let Some(root) = pythons::forky() else {
        skip("target/roots/forky");
        return None;
    };
    Some(root.display().to_string())
}

/// A podman container with a Python, and the configuration that podman needs here.
#[derive(Debug)]
pub struct Podman {
    directory: tempfile::TempDir,
    /// Its name.
    pub name: String,
}

impl Podman {
    /// Starts a container with that root file system.
    ///
    /// # Panics
    /// If podman does not start it.
    pub fn start(root: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let name = format!("econtext-test-{}", std::process::id());
        fs::write(
            directory.path().join("containers.conf"),
            "[engine]\ncgroup_manager = \"cgroupfs\"\nruntime = \"runc\"\n[containers]\nnetns = \"none\"\n\
             default_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n",
        )
        .expect("written");
        let podman = Podman { directory, name };
        podman.run(&format!(
            "tar -C {root} --exclude=./proc/* --exclude=./sys/* -c . | podman import -q - {}",
            podman.name
        ));
        podman.run(&format!("podman run -d --name {0} {0} sleep 3600", podman.name));
        podman
    }

    /// A file of its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes a command, and all that it starts, find podman's configuration and a docker socket.
    pub fn configure<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("CONTAINERS_CONF", self.directory.path().join("containers.conf"))
            .env("DOCKER_HOST", format!("unix://{}", self.directory.path().join("socket").display()))
    }

    fn run(&self, line: &str) {
        let output = self.configure(Command::new("sh").args(["-c", line])).output().expect("it runs");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let line = format!("podman rm -f -t 0 {0}; podman rmi -f {0}", self.name);
        let _ = self.configure(Command::new("sh").args(["-c", &line])).output();
    }
}
