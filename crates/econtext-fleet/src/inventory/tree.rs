//! Ansible's YAML, and the JSON that scripts print: groups with hosts, children and variables.

use super::groups::{ALL, Inventory};
use super::vars::Vars;
use serde_json::Value as Json;

/// Reads YAML into plain values.
pub(super) fn value(text: &str) -> Result<Json, String> {
    if text.trim().is_empty() {
        return Ok(Json::Null);
    }
    // Errors show no lines: those nearby may have passwords. The length of a file is not limited.
    let options = serde_saphyr::options! {
        budget: None,
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|e| e.to_string())
}

/// Reads groups by name, each with `hosts`, `children` and `vars`.
pub(super) fn yaml(inventory: &mut Inventory, text: &str) -> Result<(), String> {
    match value(text)? {
        Json::Null => Ok(()),
        Json::Object(groups) => groups.into_iter().try_for_each(|(name, group)| add(inventory, &name, group)),
        _ => Err("no mapping of groups".to_owned()),
    }
}

fn add(inventory: &mut Inventory, name: &str, group: Json) -> Result<(), String> {
    inventory.group(name);
    let parts = match group {
        Json::Null => return Ok(()),
        Json::Object(parts) => parts,
        _ => return Err(format!("group {name}: no mapping of hosts, children and vars")),
    };
    for (part, content) in parts {
        let mapping = match content {
            Json::Null => continue,
            Json::Object(mapping) => mapping,
            _ => return Err(format!("group {name}: {part} is no mapping")),
        };
        match part.as_str() {
            "hosts" => {
                for (host, vars) in mapping {
                    let vars = match vars {
                        Json::Null => Vars::new(),
                        Json::Object(vars) => vars,
                        _ => return Err(format!("host {host}: no mapping of variables")),
                    };
                    inventory.add(Some(name), &host, &vars).map_err(|e| e.0)?;
                }
            }
            "children" => {
                for (child, group) in mapping {
                    inventory.add_child(name, &child);
                    add(inventory, &child, group)?;
                }
            }
            "vars" => inventory.group(name).vars.extend(mapping),
            other => {
                return Err(format!("group {name}: there are hosts, children and vars, and no {other:?}"));
            }
        }
    }
    Ok(())
}

/// Reads a file: in the form that a script prints, or in that of YAML.
pub(super) fn json(inventory: &mut Inventory, text: &str) -> Result<(), String> {
    let Json::Object(groups) = serde_json::from_str(text).map_err(|e: serde_json::Error| e.to_string())?
    else {
        return Err("no JSON object".to_owned());
    };
    let of_script = |group: &Json| match group {
        Json::Object(parts) => {
            ["hosts", "children"].iter().any(|p| parts.get(*p).is_some_and(Json::is_array))
        }
        other => other.is_array(),
    };
    if groups.contains_key("_meta") || groups.values().any(of_script) {
        return script(inventory, text).map(drop);
    }
    groups.into_iter().try_for_each(|(name, group)| add(inventory, &name, group))
}

/// Reads the output of a script. Returns the hosts whose variables it must be asked for one by one.
pub(super) fn script(inventory: &mut Inventory, text: &str) -> Result<Vec<String>, String> {
    let Json::Object(mut groups) = serde_json::from_str(text).map_err(|e| e.to_string())? else {
        return Err("what it prints is no JSON object".to_owned());
    };
    let meta = groups.remove("_meta");
    let mut named = Vec::new();
    for (name, group) in groups {
        inventory.group(&name);
        let mut parts = match group {
            Json::Array(_) => Vars::from_iter([("hosts".to_owned(), group)]),
            Json::Object(parts) => parts,
            _ => return Err(format!("group {name}: neither a list of hosts nor an object")),
        };
        for host in strings(&name, parts.remove("hosts"))? {
            inventory.add(Some(&name), &host, &Vars::new()).map_err(|e| e.0)?;
            named.push(host);
        }
        for child in strings(&name, parts.remove("children"))? {
            inventory.add_child(&name, &child);
        }
        if let Some(Json::Object(vars)) = parts.remove("vars") {
            inventory.group(&name).vars.extend(vars);
        }
    }
    let Some(meta) = meta else {
        named.sort();
        named.dedup();
        return Ok(named);
    };
    if let Some(Json::Object(hostvars)) = meta.get("hostvars") {
        for (host, vars) in hostvars {
            let Json::Object(vars) = vars else { return Err(format!("host {host}: no object of variables")) };
            inventory.add(Some(ALL), host, vars).map_err(|e| e.0)?;
        }
    }
    Ok(Vec::new())
}

fn strings(group: &str, list: Option<Json>) -> Result<Vec<String>, String> {
    match list {
        None | Some(Json::Null) => Ok(Vec::new()),
        // ansible-inventory prints no such thing, but scripts do.
        Some(Json::Object(map)) => Ok(map.into_iter().map(|(name, _)| name).collect()),
        Some(Json::Array(items)) => items
            .into_iter()
            .map(|item| match item {
                Json::String(name) => Ok(name),
                other => Err(format!("group {group}: {other} is no name")),
            })
            .collect(),
        Some(other) => Err(format!("group {group}: {other} is no list of names")),
    }
}
