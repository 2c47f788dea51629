//! A program that carries its Python with it, and has a child stream results while it works.
//!
//!     cargo run --example embedded -- /usr

use econtext::{Broker, ChildEvent, Context, Local, PathFinder};
use std::sync::Arc;

fn main() -> Result<(), econtext::Error> {
    let top = std::env::args().nth(1).unwrap_or_else(|| "/usr/share".into());
    let finder = PathFinder::new().source("facts", include_str!("facts.py"));
    let broker = Broker::new()?;
    let child = Context::builder("worker")
        .finder(Arc::new(finder))
        .on_event(|event| {
            if let ChildEvent::Log(record) = event {
                eprintln!("{}: {}", record.logger, record.message);
            }
        })
        .connect(&broker, Local)?;

    let (total, _, available) = child.call::<(u64, u64, u64)>("facts:disk", ()).wait()?;
    println!("{} of {} MiB free", available >> 20, total >> 20);

    let channel = child.channel();
    let call = child.call::<()>("facts:largest", (&channel, &top));
    while let Some((path, size)) = channel.recv::<(String, u64)>()? {
        println!("{size:>12} {path}");
    }
    call.wait()
}
