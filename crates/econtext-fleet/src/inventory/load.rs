//! Reads inventories: tells formats apart, walks directories, runs scripts.

use super::groups::{ALL, Inventory};
use super::vars::{self, Vars};
use super::{ini, native, tree};
use crate::spec_error::SpecError;
use serde_json::Value as Json;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Extensions of files in a directory that are no inventories: those that ansible ignores by
/// default.
const IGNORED: [&str; 12] =
    ["pyc", "pyo", "swp", "bak", "rpm", "md", "txt", "rst", "orig", "cfg", "retry", "rpmnew"];

fn error(path: &Path, why: impl std::fmt::Display) -> SpecError {
    SpecError(format!("{}: {why}", path.display()))
}

/// Reads the inventory at `path`.
pub(super) fn load(inventory: &mut Inventory, path: &Path) -> Result<(), SpecError> {
    let metadata = std::fs::metadata(path).map_err(|e| error(path, e))?;
    if metadata.is_dir() {
        for entry in entries(path)? {
            let vars = entry.file_name().is_some_and(|name| name == "group_vars" || name == "host_vars");
            if !is_ignored(&entry) && !vars {
                load(inventory, &entry)?;
            }
        }
        return beside(inventory, path);
    }
    // A device or a pipe, as of <(command), is read too.
    if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 && !is_known(path) {
        run(inventory, path)?;
    } else {
        let text = std::fs::read(path).map_err(|e| error(path, e))?;
        let text = String::from_utf8(text).map_err(|_| error(path, key_hint("")))?;
        read(inventory, path, &text)?;
    }
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    locate(inventory, directory)?;
    beside(inventory, directory)
}

/// Resolves the paths of the file just read against its directory. Those of earlier files are
/// absolute by now.
fn locate(inventory: &mut Inventory, directory: &Path) -> Result<(), SpecError> {
    let directory = std::path::absolute(directory).map_err(|e| error(directory, e))?;
    inventory.hosts.values_mut().for_each(|host| vars::locate(&mut host.vars, &directory));
    for group in inventory.groups.values_mut() {
        vars::locate(&mut group.vars, &directory);
        vars::locate(&mut group.beside, &directory);
    }
    Ok(())
}

/// Whether a file in a directory is no inventory: hidden, a copy that an editor left, a text about
/// it.
fn is_ignored(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let ignored = path.extension().is_some_and(|e| IGNORED.iter().any(|i| e == *i));
    ignored || name.starts_with('.') || name.ends_with('~')
}

/// Whether the extension says that it is no script, in any mode of the file.
fn is_known(path: &Path) -> bool {
    path.extension().is_some_and(|e| ["toml", "yml", "yaml", "json", "ini"].iter().any(|known| e == *known))
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, SpecError> {
    let read = std::fs::read_dir(directory).map_err(|e| error(directory, e))?;
    let mut found: Vec<PathBuf> =
        read.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>().map_err(|e| error(directory, e))?;
    found.sort();
    Ok(found)
}

/// Reads one text, in the format that its name or its beginning indicates.
pub(super) fn read(inventory: &mut Inventory, path: &Path, text: &str) -> Result<(), SpecError> {
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    let begins = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    let begins = begins.unwrap_or_default();
    if begins.starts_with("-----BEGIN") || begins.starts_with("PuTTY-User-Key") || is_public_key(begins) {
        return Err(error(path, key_hint(begins)));
    }
    match &*extension {
        "toml" => native::read(inventory, text).map_err(|e| error(path, e)),
        "yml" | "yaml" => tree::yaml(inventory, text).map_err(|e| error(path, e)),
        "json" => tree::json(inventory, text).map_err(|e| error(path, e)),
        _ if begins.starts_with('{') => tree::json(inventory, text).map_err(|e| error(path, e)),
        _ if begins == "---" || begins.starts_with("all:") => {
            tree::yaml(inventory, text).map_err(|e| error(path, e))
        }
        _ if text.starts_with("#!") => Err(error(path, "a script that is not executable: chmod +x it")),
        _ => ini::read(inventory, text).map_err(|e| error(path, e)),
    }
}

fn is_public_key(line: &str) -> bool {
    ["ssh-", "ecdsa-sha2-", "sk-"].iter().any(|p| line.starts_with(p)) && line.contains(" AAAA")
}

fn key_hint(begins: &str) -> String {
    let what = if begins.is_empty() { "no text" } else { "an ssh key" };
    format!("this is {what}, and -i names an inventory; a key is given with --identity FILE")
}

/// `group_vars` and `host_vars` in a directory: a file for each, or a directory of files.
fn beside(inventory: &mut Inventory, directory: &Path) -> Result<(), SpecError> {
    for (kind, of_groups) in [("group_vars", true), ("host_vars", false)] {
        let within = directory.join(kind);
        if !within.is_dir() {
            continue;
        }
        for entry in entries(&within)?.into_iter().filter(|entry| !is_ignored(entry)) {
            let name = match entry.extension() {
                Some(e) if ["yml", "yaml", "json"].iter().any(|known| e == *known) => entry.file_stem(),
                _ => entry.file_name(),
            };
            let name = name.unwrap_or_default().to_string_lossy().into_owned();
            let vars = variables(&entry)?;
            // Variables of unknown groups and hosts may be for another inventory.
            let known = if of_groups {
                if name == ALL {
                    inventory.group(&name);
                }
                inventory.groups.get_mut(&name).map(|group| &mut group.beside)
            } else {
                inventory.hosts.get_mut(&name).map(|host| &mut host.vars)
            };
            if let Some(known) = known {
                known.extend(vars);
            }
            locate(inventory, entry.parent().unwrap_or(&within))?;
        }
    }
    Ok(())
}

fn variables(path: &Path) -> Result<Vars, SpecError> {
    if path.is_dir() {
        let mut vars = Vars::new();
        for entry in entries(path)?.into_iter().filter(|entry| !is_ignored(entry)) {
            vars.extend(variables(&entry)?);
        }
        return Ok(vars);
    }
    let text = std::fs::read_to_string(path).map_err(|e| error(path, e))?;
    if text.starts_with("$ANSIBLE_VAULT") {
        // The whole file is encrypted: its variables are not known, and maybe not needed.
        return Ok(Vars::new());
    }
    match tree::value(&text).map_err(|e| error(path, e))? {
        Json::Null => Ok(Vars::new()),
        Json::Object(vars) => Ok(vars),
        _ => Err(error(path, "no mapping of names to values")),
    }
}

/// Runs a script with `--list`, and with `--host NAME` for each host if the list does not have
/// their variables.
fn run(inventory: &mut Inventory, path: &Path) -> Result<(), SpecError> {
    // A name without a slash would be looked up in PATH.
    let program = std::path::absolute(path).map_err(|e| error(path, e))?;
    let output = |args: &[&str]| -> Result<String, SpecError> {
        let mut command = Command::new(&program);
        command.args(args).stdin(Stdio::null()).stderr(Stdio::inherit());
        let output = command.output().map_err(|e| error(path, e))?;
        if !output.status.success() {
            return Err(error(path, format!("{}: {}", args.join(" "), output.status)));
        }
        String::from_utf8(output.stdout).map_err(|_| error(path, "what it prints is not UTF-8"))
    };
    let hosts = tree::script(inventory, &output(&["--list"])?).map_err(|e| error(path, e))?;
    for host in hosts {
        let text = output(&["--host", &host])?;
        match serde_json::from_str(&text) {
            Ok(Json::Object(vars)) => inventory.host(&host).vars.extend(vars),
            Ok(_) => return Err(error(path, format!("--host {host}: no JSON object"))),
            Err(e) => return Err(error(path, format!("--host {host}: {e}"))),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_directory_is_all_that_is_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        };
        write("10-web", "[web]\nw1\nw2\n");
        write("20-db.yml", "db: {hosts: {d1: }}\n");
        write("notes.md", "no inventory\n");
        write(".hidden", "[\n");
        write("group_vars/web.yml", "ansible_user: deploy\n");
        write("group_vars/README.md", "Not variables.\n");
        write("group_vars/web~", "not variables\n");
        write("group_vars/typo.yml", "ansible_user: nobody\n");
        write("group_vars/all/main.yml", "ansible_user: anyone\n");
        write("host_vars/w2", "ansible_user: special\nsecret: !vault |\n  $ANSIBLE_VAULT;1.1\n  6162\n");
        let script = write(
            "30-script",
            "#!/bin/sh\ncase $1 in --list) echo '{\"s\":[\"s1\"]}';; *) echo '{\"ansible_port\": 7}';; esac\n",
        );
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let mut inventory = Inventory::default();
        inventory.load(directory.path()).unwrap();
        assert_eq!(inventory.members("*").unwrap(), ["w1", "w2", "d1", "s1"]);
        assert!(inventory.members("typo").is_err());
        let target = |name: &str| inventory.target(name, &crate::Settings::default()).unwrap().settings;
        assert_eq!(target("w1").user.as_deref(), Some("deploy"));
        assert_eq!(target("w2").user.as_deref(), Some("special"));
        assert_eq!(target("d1").user.as_deref(), Some("anyone"));
        assert_eq!(target("s1").port, Some(7));
    }

    #[test]
    fn relative_paths_are_those_of_files_beside_the_one_that_names_them() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        };
        let toml =
            write("a/fleet.toml", "[hosts.a]\nssh_config = 'ssh.conf'\nidentity = '/k/abs'\nssh = 'ssh'\n");
        let ini = write("b/hosts", "b ansible_ssh_private_key_file=keys/b\n[c]\nc1\n");
        write("b/group_vars/c.yml", "ansible_ssh_private_key_file: ../keys/c\n");
        let mut inventory = Inventory::default();
        inventory.load(&toml).unwrap();
        inventory.load(&ini).unwrap();
        let target = |name: &str| inventory.target(name, &crate::Settings::default()).unwrap().settings;
        let at = |path: &str| Some(directory.path().join(path).display().to_string());
        let a = target("a");
        assert_eq!((a.ssh_config, a.ssh_program.as_deref()), (at("a/ssh.conf"), Some("ssh")));
        assert_eq!(a.identity.as_deref(), Some("/k/abs"));
        assert_eq!(target("b").identity, at("b/keys/b"));
        assert_eq!(target("c1").identity, at("b/group_vars/../keys/c"));
    }

    #[test]
    fn a_script_that_fails_or_may_not_run_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("inventory");
        fs::write(&path, "#!/bin/sh\nexit 3\n").unwrap();
        let fails = |why: &str| {
            let error = Inventory::default().load(&path).unwrap_err();
            assert!(error.0.contains(why), "{error}");
        };
        fails("chmod");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        fails("exit status: 3");
        fs::write(&path, "#!/bin/sh\necho nothing\n").unwrap();
        fails("expected");
    }
}
