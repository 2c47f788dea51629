//! The selection of hosts.

use crate::hostset::expand;
use crate::inventory::Inventory;
use crate::settings::Settings;
use crate::spec_error::SpecError;
use crate::target::Target;
use std::collections::HashSet;

/// A choice of hosts, as flags of the command line make it.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Sets of hosts, of which the union is meant.
    pub specs: Vec<String>,
    /// Groups of the inventory in addition.
    pub groups: Vec<String>,
    /// Whether every host of the inventory is meant in addition.
    pub all: bool,
    /// Sets of hosts to leave out.
    pub exclude: Vec<String>,
    /// Groups to leave out.
    pub exclude_groups: Vec<String>,
    /// A set of hosts to which the others are limited.
    pub limit: Option<String>,
    /// The number of hosts to pick by chance.
    pub pick: Option<usize>,
}

impl Selection {
    /// The names of the hosts, each once.
    ///
    /// # Errors
    /// If a set or a group is invalid.
    pub fn names(&self, inventory: &Inventory) -> Result<Vec<String>, SpecError> {
        let mut names = Vec::new();
        let mut seen = HashSet::new();
        let every = if self.all { inventory.members("*")? } else { Vec::new() };
        let mut found = every;
        for group in &self.groups {
            found.extend(expand(&format!("@{group}"), inventory)?);
        }
        for spec in &self.specs {
            found.extend(expand(spec, inventory)?);
        }
        for name in found {
            if seen.insert(name.clone()) {
                names.push(name);
            }
        }
        let mut without = HashSet::new();
        for spec in &self.exclude {
            without.extend(expand(spec, inventory)?);
        }
        for group in &self.exclude_groups {
            without.extend(expand(&format!("@{group}"), inventory)?);
        }
        names.retain(|name| !without.contains(name));
        if let Some(limit) = &self.limit {
            let within: HashSet<String> = expand(limit, inventory)?.into_iter().collect();
            names.retain(|name| within.contains(name));
        }
        if let Some(n) = self.pick.filter(|n| *n < names.len()) {
            // The indices are chosen, so that the hosts that are left keep their order.
            let mut chosen = fastrand::choose_multiple(0..names.len(), n);
            chosen.sort_unstable();
            names = chosen.into_iter().map(|i| names[i].clone()).collect();
        }
        Ok(names)
    }

    /// The targets, each once, with `settings` and then those of the inventory.
    ///
    /// # Errors
    /// As [`names`](Selection::names), and if a target is invalid.
    pub fn targets(&self, inventory: &Inventory, settings: &Settings) -> Result<Vec<Target>, SpecError> {
        let mut seen = HashSet::new();
        let mut targets = Vec::new();
        for name in self.names(inventory)? {
            let target = inventory.target(&name, settings)?;
            if seen.insert(target.name.clone()) {
                targets.push(target);
            }
        }
        Ok(targets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(selection: &Selection) -> Vec<String> {
        let inventory = Inventory::parse("test", "[web]\nweb[1:4]\n[db]\ndb1\nweb4\n").unwrap();
        selection.names(&inventory).unwrap()
    }

    #[test]
    fn hosts_are_added_left_out_and_limited() {
        let web = Selection { groups: vec!["web".into()], ..Selection::default() };
        assert_eq!(names(&web), ["web1", "web2", "web3", "web4"]);
        assert_eq!(names(&Selection { exclude: vec!["web[2-3]".into()], ..web.clone() }), ["web1", "web4"]);
        assert_eq!(
            names(&Selection { exclude_groups: vec!["db".into()], ..web.clone() }),
            ["web1", "web2", "web3"]
        );
        assert_eq!(
            names(&Selection { limit: Some("db1,web4,web3".into()), ..web.clone() }),
            ["web3", "web4"]
        );
        assert_eq!(names(&Selection { all: true, ..Selection::default() }).len(), 5);
        let picked = names(&Selection { pick: Some(2), ..web });
        assert_eq!(picked.len(), 2);
        assert!(picked[0] < picked[1], "they keep their order");
    }
}
