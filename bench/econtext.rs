//! One measure of econtext, as lines of numbers: `connect N` in milliseconds each, `call N` in microseconds a call,
//! `import N PYTHON MODULE SITE` in milliseconds from the start to the end of the first call.

use econtext::{Broker, Context, Local, PathFinder, Python};
use std::sync::Arc;
use std::time::Instant;

fn main() -> Result<(), econtext::Error> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [mode, n, python, more @ ..] = args.as_slice() else {
        return Err(econtext::Error::Usage("usage: bench connect|call|pipeline|import N PYTHON".into()));
    };
    let n: usize = n.parse().map_err(|e| econtext::Error::Usage(format!("{n}: {e}")))?;
    let broker = Broker::new()?;
    let connect = || Context::builder("bench").python(Python::Path(python.clone())).connect(&broker, Local);
    if mode == "connect" {
        for _ in 0..n {
            let start = Instant::now();
            let child = connect()?;
            child.call::<i64>("os:getpid", ()).wait()?;
            println!("{}", start.elapsed().as_secs_f64() * 1e3);
        }
        return Ok(());
    }
    if let ("import", [module, site]) = (mode.as_str(), more) {
        let function = format!("import {module}\n\ndef f():\n    return {module}.__name__\n");
        let bad = |e: std::io::Error| econtext::Error::Usage(format!("{site}: {e}"));
        for _ in 0..n {
            let start = Instant::now();
            let finder = PathFinder::new().root(site).map_err(bad)?.source("start", &*function);
            let builder = Context::builder("bench").python(Python::Path(python.clone()));
            let child = builder.finder(Arc::new(finder)).connect(&broker, Local)?;
            child.call::<String>("start:f", ()).wait()?;
            println!("{}", start.elapsed().as_secs_f64() * 1e3);
        }
        return Ok(());
    }
    let child = connect()?;
    child.call::<i64>("os:getpid", ()).wait()?;
    let start = Instant::now();
    if mode == "call" {
        for _ in 0..n {
            child.call::<i64>("os:getpid", ()).wait()?;
        }
    } else {
        let calls: Vec<_> = (0..n).map(|_| child.call::<i64>("os:getpid", ())).collect();
        for call in calls {
            call.wait()?;
        }
    }
    println!("{}", start.elapsed().as_secs_f64() * 1e6 / n as f64);
    Ok(())
}
