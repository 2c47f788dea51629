//! Ansible's INI: lines of hosts with variables, `[group]`, `[group:children]`, `[group:vars]`. A
//! plain list is an INI file without groups.

use super::groups::Inventory;
use super::vars::Vars;
use serde_json::Value as Json;

enum Section {
    Hosts(Option<String>),
    Children(String),
    Vars(String),
}

pub(super) fn read(inventory: &mut Inventory, text: &str) -> Result<(), String> {
    let mut section = Section::Hosts(None);
    for (n, line) in text.lines().enumerate() {
        let at = |why: String| format!("line {}: {why}", n + 1);
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if line.starts_with('[') && line.split(['#', ';']).next().is_some_and(|l| l.trim().ends_with(']')) {
            let name = line.split(['#', ';']).next().unwrap_or_default().trim();
            section = header(&name[1..name.len() - 1]).map_err(at)?;
            match &section {
                Section::Hosts(Some(group)) | Section::Children(group) | Section::Vars(group) => {
                    inventory.group(group);
                }
                Section::Hosts(None) => {}
            }
            continue;
        }
        match &section {
            Section::Hosts(group) => hosts(inventory, group.as_deref(), line).map_err(at)?,
            Section::Children(parent) => {
                let child = line.split(['#', ';']).next().unwrap_or_default().trim();
                if child.contains(char::is_whitespace) {
                    return Err(at(format!("{child:?} is no group")));
                }
                inventory.add_child(parent, child);
            }
            Section::Vars(group) => {
                let (name, value) = line.split_once('=').ok_or_else(|| at("no NAME=VALUE".to_owned()))?;
                let value = value.trim();
                // The value is the rest of the line; quotes around all of it do not belong to it.
                let words =
                    shlex::split(value).filter(|words| words.len() == 1 && value.starts_with(['"', '\'']));
                let value = words.map_or_else(|| uncommented(value).to_owned(), |words| words.concat());
                inventory.group(group).vars.insert(name.trim().to_owned(), Json::String(value));
            }
        }
    }
    Ok(())
}

fn uncommented(value: &str) -> &str {
    value.split(" #").next().unwrap_or(value).trim()
}

fn header(name: &str) -> Result<Section, String> {
    let (group, kind) = match name.split_once(':') {
        Some((group, kind)) => (group.trim(), Some(kind.trim())),
        None => (name.trim(), None),
    };
    if group.is_empty() {
        return Err(format!("[{name}]: a group without a name"));
    }
    match kind {
        None if group == "ungrouped" => Ok(Section::Hosts(None)),
        None => Ok(Section::Hosts(Some(group.to_owned()))),
        Some("children") => Ok(Section::Children(group.to_owned())),
        Some("vars") => Ok(Section::Vars(group.to_owned())),
        Some(other) => Err(format!("[{name}]: neither children nor vars, but {other:?}")),
    }
}

fn hosts(inventory: &mut Inventory, group: Option<&str>, line: &str) -> Result<(), String> {
    // The errors do not show the value: that may be a secret.
    let first = line.split_whitespace().next().unwrap_or_default();
    if line.starts_with('[') && !line.contains(']') {
        return Err(format!("{first}: a [ without its ]"));
    }
    let mut words = shlex::split(line).ok_or_else(|| format!("{first}: the quotes do not match"))?;
    if words.is_empty() {
        return Ok(());
    }
    let variables = words.split_off(words.iter().position(|w| w.contains('=')).unwrap_or(words.len()));
    let mut vars = Vars::new();
    for word in variables {
        let (name, value) =
            word.split_once('=').ok_or_else(|| format!("{first}: a word that is no NAME=VALUE"))?;
        vars.insert(name.to_owned(), Json::String(value.to_owned()));
    }
    // A line may name several hosts, as in lists of other tools.
    for word in words {
        for name in crate::range::elements_of_union(&word).map_err(|e| e.0)? {
            let (name, port) = split_port(&name);
            let mut vars = vars.clone();
            if let Some(port) = port {
                vars.entry("ansible_port").or_insert_with(|| Json::String(port.to_owned()));
            }
            inventory.add(group, name, &vars).map_err(|e| e.0)?;
        }
    }
    Ok(())
}

/// Splits `host:port` as ansible does. Neither a range nor an IPv6 address ends like this.
fn split_port(name: &str) -> (&str, Option<&str>) {
    let bare = |host: &str| !host.is_empty() && !host.rsplit(']').next().unwrap_or_default().contains(':');
    match name.rsplit_once(':') {
        Some((host, port)) if bare(host) && !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            (host, Some(port))
        }
        _ => (name, None),
    }
}
