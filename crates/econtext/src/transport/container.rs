//! Containers, and other ways to have a process elsewhere on the same machine: an argument vector in front.

use super::launch::{Failure, Launch, Transport, classify_python};
use crate::error::ErrorKind;

/// The messages of the tools when there is no such container, or it is not running.
const NOT_THERE: [&str; 16] = [
    "no such container",
    "no container with",
    "is not running",
    "container state improper",
    "can only create exec sessions on running containers",
    "cannot connect to the docker daemon",
    "failed to get the init pid",
    "failed to get init pid",
    "instance not found",
    "not found\" error: pods",
    "(notfound)",
    "no such process",
    "no machine",
    "cannot change root directory",
    "could not be found",
    "failed to connect",
];

/// The kind of error when a tool ended without a child.
fn classify(failure: &Failure<'_>) -> ErrorKind {
    let stderr = failure.stderr.to_lowercase();
    if NOT_THERE.iter().any(|text| stderr.contains(text)) {
        return ErrorKind::Unreachable;
    }
    // These are the runtimes' own messages for a program that is not in the container.
    if stderr.contains("executable file not found") || stderr.contains("failed to exec") {
        return ErrorKind::NoPython;
    }
    classify_python(failure)
}

macro_rules! prefix_transports {
    ($($(#[$doc:meta])* $name:ident, $program:literal, $(#[$what_doc:meta])* $what:ident, |$self:ident, $argv:ident| $build:block)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug)]
            pub struct $name {
                program: String,
                $what: String,
                options: Vec<String>,
            }

            impl $name {
                $(#[$what_doc])*
                pub fn new($what: impl Into<String>) -> Self {
                    $name { program: $program.into(), $what: $what.into(), options: Vec::new() }
                }

                /// Sets the program, if it is not the first of its name there.
                pub fn program(mut self, program: impl Into<String>) -> Self {
                    self.program = program.into();
                    self
                }

                /// Adds an argument, among the tool's own options.
                pub fn arg(mut self, arg: impl Into<String>) -> Self {
                    self.options.push(arg.into());
                    self
                }

                fn words(&$self) -> Vec<String> {
                    let mut $argv: Vec<String> = vec![$self.program.clone()];
                    $build
                    $argv
                }
            }

            impl Transport for $name {
                fn launch(&self, child: &[String]) -> Launch {
                    Launch::new(self.words().into_iter().chain(child.iter().cloned()).collect())
                }

                fn classify(&self, failure: &Failure<'_>) -> ErrorKind {
                    classify(failure)
                }
            }
        )*
    };
}

/// Appends words.
fn push(argv: &mut Vec<String>, words: &[&str]) {
    argv.extend(words.iter().map(|word| (*word).to_owned()));
}

prefix_transports! {
    /// A child in a running Docker container: `docker exec`.
    Docker, "docker",
    /// The container's name or id.
    name, |self, argv| {
        push(&mut argv, &["exec", "--interactive"]);
        argv.extend(self.options.iter().cloned());
        argv.push(self.name.clone());
    }
    /// A child in a running Podman container: `podman exec`.
    Podman, "podman",
    /// The container's name or id.
    name, |self, argv| {
        push(&mut argv, &["exec", "--interactive"]);
        argv.extend(self.options.iter().cloned());
        argv.push(self.name.clone());
    }
    /// A child in a container of a Kubernetes pod: `kubectl exec`.
    Kubectl, "kubectl",
    /// `pod`, `namespace/pod` or `namespace/pod/container`.
    pod, |self, argv| {
        let parts: Vec<&str> = self.pod.split('/').collect();
        let (namespace, pod, container) = match parts.as_slice() {
            [namespace, pod, container] => (Some(*namespace), *pod, Some(*container)),
            [namespace, pod] => (Some(*namespace), *pod, None),
            _ => (None, self.pod.as_str(), None),
        };
        if let Some(namespace) = namespace {
            push(&mut argv, &["--namespace", namespace]);
        }
        push(&mut argv, &["exec", "--stdin"]);
        argv.extend(self.options.iter().cloned());
        argv.push(pod.to_owned());
        if let Some(container) = container {
            push(&mut argv, &["--container", container]);
        }
        argv.push("--".to_owned());
    }
    /// A child in a running LXC container: `lxc-attach`.
    Lxc, "lxc-attach",
    /// The container's name.
    name, |self, argv| {
        push(&mut argv, &["--clear-env", "--name", &self.name]);
        argv.extend(self.options.iter().cloned());
        argv.push("--".to_owned());
    }
    /// A child in a running Incus instance: `incus exec`. With `program("lxc")`, an LXD one.
    Incus, "incus",
    /// The instance's name.
    name, |self, argv| {
        push(&mut argv, &["exec", "--mode=non-interactive"]);
        argv.extend(self.options.iter().cloned());
        push(&mut argv, &[&self.name, "--"]);
    }
    /// A child in a container that `systemd-nspawn` starts for it, and that ends with it.
    Nspawn, "systemd-nspawn",
    /// A directory with a root file system, or the name of a machine.
    root, |self, argv| {
        push(&mut argv, &["--quiet", "--pipe"]);
        let which = if self.root.contains('/') { "--directory" } else { "--machine" };
        push(&mut argv, &[which, &self.root]);
        argv.extend(self.options.iter().cloned());
        argv.push("--".to_owned());
    }
    /// A child in the namespaces of a process: `nsenter`.
    Nsenter, "nsenter",
    /// The process's id.
    pid, |self, argv| {
        push(&mut argv, &["--target", &self.pid, "--mount", "--uts", "--ipc", "--net", "--pid"]);
        argv.extend(self.options.iter().cloned());
        argv.push("--".to_owned());
    }
    /// A child in another root directory: `chroot`.
    Chroot, "chroot",
    /// The directory.
    directory, |self, argv| {
        argv.extend(self.options.iter().cloned());
        argv.push(self.directory.clone());
    }
    /// A child in a FreeBSD jail: `jexec`.
    Jail, "jexec",
    /// The jail's name or id.
    name, |self, argv| {
        argv.extend(self.options.iter().cloned());
        argv.push(self.name.clone());
    }
}

macro_rules! with_user {
    ($($(#[$doc:meta])* $name:ident: $option:literal),*) => {
        $(impl $name {
            $(#[$doc])*
            pub fn user(self, user: impl Into<String>) -> Self {
                self.arg(format!(concat!($option, "={}"), user.into()))
            }
        })*
    };
}

with_user! {
    /// Sets the user in there: a name or number.
    Docker: "--user",
    /// Sets the user in there: a name or number.
    Podman: "--user",
    /// Sets the user in there: a number.
    Lxc: "--uid",
    /// Sets the user in there: a number.
    Incus: "--user",
    /// Sets the user in there: a name or number.
    Nspawn: "--user",
    /// Sets the user in there: a number.
    Nsenter: "--setuid",
    /// Sets the user in there: a name or number.
    Chroot: "--userspec"
}

impl Jail {
    /// Sets the user in the jail.
    pub fn user(self, user: impl Into<String>) -> Self {
        self.arg("-U").arg(user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argument_vectors_are_those_of_the_tools() {
        let line = |transport: &dyn Transport| {
            transport.launch(&["python3".to_owned(), "-c".to_owned()]).argv.join(" ")
        };
        let table: [(&dyn Transport, &str); 13] = [
            (&Docker::new("web"), "docker exec --interactive web python3 -c"),
            (
                &Docker::new("web").user("app").arg("--privileged"),
                "docker exec --interactive --user=app --privileged web python3 -c",
            ),
            (&Podman::new("web").program("/opt/podman"), "/opt/podman exec --interactive web python3 -c"),
            (&Kubectl::new("web-0"), "kubectl exec --stdin web-0 -- python3 -c"),
            (&Kubectl::new("prod/web-0"), "kubectl --namespace prod exec --stdin web-0 -- python3 -c"),
            (
                &Kubectl::new("prod/web-0/app"),
                "kubectl --namespace prod exec --stdin web-0 --container app -- python3 -c",
            ),
            (&Lxc::new("web"), "lxc-attach --clear-env --name web -- python3 -c"),
            (&Incus::new("web"), "incus exec --mode=non-interactive web -- python3 -c"),
            (&Nspawn::new("/srv/root"), "systemd-nspawn --quiet --pipe --directory /srv/root -- python3 -c"),
            (
                &Nspawn::new("web").user("app"),
                "systemd-nspawn --quiet --pipe --machine web --user=app -- python3 -c",
            ),
            (&Nsenter::new("42"), "nsenter --target 42 --mount --uts --ipc --net --pid -- python3 -c"),
            (&Chroot::new("/srv/root").user("app"), "chroot --userspec=app /srv/root python3 -c"),
            (&Jail::new("web"), "jexec web python3 -c"),
        ];
        for (transport, expected) in table {
            assert_eq!(line(transport), expected);
        }
    }

    #[test]
    fn a_container_that_is_not_there_is_unreachable() {
        let says = |stderr| {
            let status = Some(crate::status::Status { code: Some(1), signal: None });
            Docker::new("x").classify(&Failure { status, stderr, stdout: "" })
        };
        assert_eq!(says("Error response from daemon: No such container: x"), ErrorKind::Unreachable);
        assert_eq!(
            says("Error: no container with name or ID \"x\" found: no such container"),
            ErrorKind::Unreachable
        );
        assert_eq!(says("Error from server (NotFound): pods \"x\" not found"), ErrorKind::Unreachable);
        assert_eq!(
            says("OCI runtime exec failed: exec: \"python3\": executable file not found in $PATH"),
            ErrorKind::NoPython
        );
        assert_eq!(says("Traceback (most recent call last)"), ErrorKind::Bootstrap);
    }
}
