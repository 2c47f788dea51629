//! Hosts and groups by name, whatever file they came from.

use super::vars::{Vars, merge};
use crate::range::spelled_out;
use crate::similar::closest;
use crate::spec_error::SpecError;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Hosts, their groups, and the variables of both, from any number of files, directories and scripts.
///
/// The nearest variable wins: a host's own, then those of its groups, of which a child wins over
/// its parent, then those of the group `all`.
#[derive(Clone, Default)]
pub struct Inventory {
    /// The names of hosts, in the order in which they were first named.
    pub(super) names: Vec<String>,
    pub(super) hosts: HashMap<String, Host>,
    pub(super) groups: BTreeMap<String, Group>,
}

#[derive(Clone, Default)]
pub(super) struct Host {
    pub(super) groups: Vec<String>,
    pub(super) vars: Vars,
}

#[derive(Clone, Default)]
pub(super) struct Group {
    pub(super) hosts: Vec<String>,
    pub(super) children: Vec<String>,
    pub(super) parents: Vec<String>,
    pub(super) vars: Vars,
    /// The variables of `group_vars`, which win over those of the inventory itself.
    pub(super) beside: Vars,
}

/// The group that every host is in.
pub(super) const ALL: &str = "all";

/// The group of the hosts that are in no other.
pub(super) const UNGROUPED: &str = "ungrouped";

impl Inventory {
    /// Adds a host, or a range of them, without groups or variables.
    ///
    /// # Errors
    /// If the range is invalid.
    pub fn add_host(&mut self, name: &str) -> Result<(), SpecError> {
        self.add(None, name, &Vars::new())
    }

    /// The hosts of a group and of the groups in it; `*` and `all` are every host.
    ///
    /// # Errors
    /// If there is no such group.
    pub fn members(&self, group: &str) -> Result<Vec<String>, SpecError> {
        if group == "*" || group == ALL {
            return Ok(self.names.clone());
        }
        if group == UNGROUPED {
            let alone = |name: &&String| self.hosts.get(*name).is_some_and(|host| host.groups.is_empty());
            return Ok(self.names.iter().filter(alone).cloned().collect());
        }
        if !self.groups.contains_key(group) {
            let hint = match closest(group, self.groups.keys().map(String::as_str)) {
                Some(meant) => format!("; there is @{meant}"),
                None if self.names.is_empty() => "; no inventory was given with -i".to_owned(),
                None => String::new(),
            };
            return Err(SpecError(format!("@{group}: no such group{hint}")));
        }
        let (mut found, mut seen) = (Vec::new(), HashSet::new());
        let mut to_visit = vec![group];
        let mut visited = HashSet::new();
        while let Some(name) = to_visit.pop() {
            if !visited.insert(name) {
                continue;
            }
            let Some(group) = self.groups.get(name) else { continue };
            found.extend(group.hosts.iter().filter(|host| seen.insert(host.as_str())).cloned());
            to_visit.extend(group.children.iter().rev().map(String::as_str));
        }
        Ok(found)
    }

    /// The names of all hosts, in their order.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The names of all groups.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.keys().map(String::as_str)
    }

    /// All groups that a host is in, those that name it directly first.
    pub fn groups_of(&self, host: &str) -> Vec<String> {
        let Some(known) = self.hosts.get(host) else { return Vec::new() };
        let mut found: Vec<String> = Vec::new();
        let mut next = known.groups.clone();
        let mut seen = HashSet::new();
        while !next.is_empty() {
            next.retain(|group| seen.insert(group.clone()));
            found.extend(next.iter().cloned());
            next = next
                .iter()
                .filter_map(|group| self.groups.get(group))
                .flat_map(|group| group.parents.iter().cloned())
                .collect();
        }
        found
    }

    /// Whether a host is in the inventory.
    pub fn knows(&self, host: &str) -> bool {
        self.hosts.contains_key(host)
    }

    /// The name of the host that was probably meant, for a name that is not in the inventory.
    pub fn closest(&self, host: &str) -> Option<&str> {
        if self.knows(host) { None } else { closest(host, self.names.iter().map(String::as_str)) }
    }

    pub(super) fn vars(&self, host: &str) -> Vars {
        let Some(known) = self.hosts.get(host) else { return Vars::new() };
        let mut depths = HashMap::new();
        let mut groups: Vec<(usize, String)> =
            self.groups_of(host).into_iter().map(|g| (self.depth(&g, &mut depths), g)).collect();
        groups.sort();
        let names =
            || std::iter::once(ALL).chain(groups.iter().map(|(_, g)| g.as_str()).filter(|g| *g != ALL));
        let mut merged = Vars::new();
        for group in names().filter_map(|name| self.groups.get(name)) {
            merge(&mut merged, &group.vars);
        }
        for group in names().filter_map(|name| self.groups.get(name)) {
            merge(&mut merged, &group.beside);
        }
        merge(&mut merged, &known.vars);
        merged
    }

    /// The largest number of groups that a group is nested in; `depths` holds the known results.
    fn depth(&self, group: &str, depths: &mut HashMap<String, usize>) -> usize {
        if let Some(depth) = depths.get(group) {
            return *depth;
        }
        let parents = self.groups.get(group).map_or(&[][..], |g| g.parents.as_slice());
        let depth = parents.iter().map(|parent| self.depth(parent, depths) + 1).max().unwrap_or(0);
        depths.insert(group.to_owned(), depth);
        depth
    }

    pub(super) fn host(&mut self, name: &str) -> &mut Host {
        if !self.hosts.contains_key(name) {
            self.names.push(name.to_owned());
        }
        self.hosts.entry(name.to_owned()).or_default()
    }

    pub(super) fn group(&mut self, name: &str) -> &mut Group {
        self.groups.entry(name.to_owned()).or_default()
    }

    /// Adds hosts, which may be ranges, to a group, with their variables.
    pub(super) fn add(&mut self, group: Option<&str>, spec: &str, vars: &Vars) -> Result<(), SpecError> {
        for name in spelled_out(spec)? {
            self.host(&name).vars.extend(vars.clone());
            let Some(group) = group.filter(|group| !matches!(*group, ALL | UNGROUPED)) else { continue };
            let host = self.host(&name);
            if !host.groups.iter().any(|g| g == group) {
                host.groups.push(group.to_owned());
                self.group(group).hosts.push(name);
            }
        }
        Ok(())
    }

    pub(super) fn add_child(&mut self, parent: &str, child: &str) {
        self.group(parent);
        let group = self.group(child);
        // Every group is in `all`; an entry for that must not count as depth.
        if parent != ALL && !group.parents.iter().any(|p| p == parent) {
            group.parents.push(parent.to_owned());
            self.group(parent).children.push(child.to_owned());
        }
    }

    /// Refuses groups that are within themselves.
    pub(super) fn check(&self) -> Result<(), SpecError> {
        let mut done: HashSet<&str> = HashSet::new();
        for start in self.groups.keys() {
            // The groups on the way from the start, each with the number of its children that were
            // visited.
            let mut way: Vec<(&str, usize)> = vec![(start, 0)];
            while let Some((name, at)) = way.last_mut() {
                let name = *name;
                let child = self.groups.get(name).and_then(|g| g.children.get(*at));
                *at += 1;
                match child {
                    None => {
                        done.insert(name);
                        way.pop();
                    }
                    Some(child) if way.iter().any(|(on_way, _)| on_way == child) => {
                        return Err(SpecError(format!("group {child} is within itself")));
                    }
                    Some(child) if !done.contains(child.as_str()) => way.push((child, 0)),
                    Some(_) => {}
                }
            }
        }
        Ok(())
    }
}

/// The output has no variables: some are secrets.
impl std::fmt::Debug for Inventory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inventory")
            .field("hosts", &self.names.len())
            .field("groups", &self.groups.keys())
            .finish_non_exhaustive()
    }
}
