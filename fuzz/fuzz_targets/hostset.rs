//! Sets of hosts: any text expands within bounds or is refused, and what was expanded folds to a set that expands to the same.
#![no_main]

use econtext_fleet::{Inventory, expand, fold};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;

fuzz_target!(|text: &str| {
    // Files and stdin are not read here.
    let reads = text.split([',', '!', '&', '^']).any(|element| element.trim() == "-") || text.contains('^');
    if reads || text.len() > 200 {
        return;
    }
    let inventory = Inventory::parse("hosts", "[web]\nweb[1:3]\n[db]\ndb1\n[all:children]\nweb\ndb\n").expect("right");
    let Ok(names) = expand(text, &inventory) else { return };
    if names.len() > 10_000 {
        return;
    }
    let unique: BTreeSet<&String> = names.iter().collect();
    assert_eq!(unique.len(), names.len(), "each host once");
    // Names that have what the grammar means are not names of hosts.
    if names.iter().any(|name| name.contains(['[', ']', ',', '!', '&', '^', '@', ' ']) || name.trim() != name || name == "-") {
        return;
    }
    let again = expand(&fold(&names), &inventory).expect("our own set");
    assert_eq!(again.iter().collect::<BTreeSet<_>>(), unique, "{}", fold(&names));
});
