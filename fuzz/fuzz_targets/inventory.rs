//! Inventories: any text in any format is read or refused; what was read can be asked about every host.
#![no_main]

use econtext_fleet::{Inventory, Settings};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &str)| {
    let (format, text) = input;
    let name = ["hosts", "hosts.yml", "hosts.toml", "hosts.json"][usize::from(format) % 4];
    let Ok(inventory) = Inventory::parse(name, text) else { return };
    let hosts = inventory.members("*").expect("every inventory has all");
    for host in hosts.iter().take(50) {
        let groups = inventory.groups_of(host);
        for group in groups {
            assert!(inventory.members(&group).is_ok_and(|members| members.contains(host)), "{host} in {group}");
        }
        let _ = inventory.target(host, &Settings::default());
        let _ = inventory.variables(host);
    }
});
