//! Disk usage of any number of hosts at once, as Rust values.
//!
//!     cargo run --example disk_usage -- local web01 web02

use econtext::{Broker, Context, Local, Ssh};

fn main() -> Result<(), econtext::Error> {
    let broker = Broker::new()?;
    let mut hosts: Vec<String> = std::env::args().skip(1).collect();
    if hosts.is_empty() {
        hosts.push("local".into());
    }
    let mut calls = Vec::new();
    for host in hosts {
        let builder = Context::builder(&host);
        let child = match host.as_str() {
            "local" => builder.connect(&broker, Local)?,
            _ => builder.connect(&broker, Ssh::new(&host))?,
        };
        // Nothing waits: the call is on its way before there is a child.
        calls.push((host, child.call::<(u64, u64, u64)>("shutil:disk_usage", ("/",))));
    }
    for (host, call) in calls {
        match call.wait() {
            Ok((total, used, _)) => {
                println!("{host}: {} % of {} GiB", used * 100 / total.max(1), total >> 30)
            }
            Err(error) => eprintln!("{error}"),
        }
    }
    Ok(())
}
