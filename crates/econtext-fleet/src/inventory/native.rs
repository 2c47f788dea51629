//! Our own TOML: `[hosts.NAME]` and `[groups.NAME]`, with settings by the names of the flags.

use super::groups::Inventory;
use super::vars::Vars;
use crate::similar::closest;
use serde_json::Value as Json;

/// The settings of a host or a group for how it is reached; each is the variable `econtext_NAME`
/// elsewhere.
const SETTINGS: [&str; 13] = [
    "target",
    "address",
    "user",
    "port",
    "python",
    "identity",
    "jump",
    "ssh_config",
    "ssh_options",
    "ssh",
    "via",
    "become",
    "become_user",
];

pub(super) fn read(inventory: &mut Inventory, text: &str) -> Result<(), String> {
    let Json::Object(tables) = toml::from_str(text).map_err(|e| located(text, &e))? else {
        return Ok(());
    };
    for (table, entries) in tables {
        let Json::Object(entries) = entries else { return Err(format!("{table} is no table")) };
        for (name, entry) in entries {
            let Json::Object(entry) = entry else { return Err(format!("{table}.{name} is no table")) };
            match table.as_str() {
                "hosts" => {
                    let (lists, vars) = split(&format!("hosts.{name}"), entry, &["groups"])?;
                    inventory.add(None, &name, &vars).map_err(|e| e.0)?;
                    for (_, group) in lists {
                        inventory.add(Some(&group), &name, &Vars::new()).map_err(|e| e.0)?;
                    }
                }
                "groups" => {
                    let (lists, vars) = split(&format!("groups.{name}"), entry, &["hosts", "children"])?;
                    inventory.group(&name).vars.extend(vars);
                    for (list, item) in lists {
                        if list == "children" {
                            inventory.add_child(&name, &item);
                            continue;
                        }
                        for host in crate::range::elements_of_union(&item).map_err(|e| e.0)? {
                            inventory.add(Some(&name), &host, &Vars::new()).map_err(|e| e.0)?;
                        }
                    }
                }
                other => return Err(format!("there are tables hosts and groups, and no {other:?}")),
            }
        }
    }
    Ok(())
}

/// The place of an error and its message, without the line: that may have a secret.
fn located(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map_or(0, |span| text[..span.start.min(text.len())].lines().count());
    format!("line {}: {}", line.max(1), error.message())
}

/// The items of an entry's lists, and all else as variables.
fn split(at: &str, entry: Vars, lists: &[&str]) -> Result<(Vec<(String, String)>, Vars), String> {
    let (mut items, mut vars) = (Vec::new(), Vars::new());
    for (key, value) in entry {
        match value {
            Json::Array(list) if lists.contains(&key.as_str()) => {
                for item in list {
                    let Json::String(item) = item else { return Err(format!("{at}: {item} is no name")) };
                    items.push((key.clone(), item));
                }
            }
            Json::Object(more) if key == "vars" => vars.extend(more),
            value if SETTINGS.contains(&key.as_str()) => {
                vars.insert(format!("econtext_{key}"), value);
            }
            _ => {
                let known = SETTINGS.iter().chain(lists).chain(&["vars"]).copied();
                let hint = closest(&key, known).map(|k| format!("; there is {k:?}")).unwrap_or_default();
                return Err(format!(
                    "{at}: no such setting as {key:?}{hint}; variables of yours go into vars"
                ));
            }
        }
    }
    Ok((items, vars))
}
