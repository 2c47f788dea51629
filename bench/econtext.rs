//! One measure of econtext, as a JSON object: `MODE N PYTHON [MORE]`. bench/run starts it, beside the same of others.

use econtext::internal::command_line;
use econtext::{Broker, Context, Local, PathFinder, Python, Ssh};
use serde_bytes::ByteBuf;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [mode, n, python, more @ ..] = args.as_slice() else {
        return Err("usage: bench MODE N PYTHON [MORE]".into());
    };
    let bench = Bench { python: python.clone(), broker: Broker::new()? };
    let number: usize = n.parse()?;
    let found = match (mode.as_str(), more) {
        ("sizes", _) => bench.sizes()?,
        ("connect", []) => bench.connect(number, |b| b.local("bench"))?,
        ("connect", [host, port, key]) => bench.connect(number, |b| b.ssh(host, port, key))?,
        ("call", _) => bench.call(number)?,
        ("pipeline", _) => bench.pipeline(number)?,
        ("payload", _) => bench.payload(number)?,
        ("fanout", _) => bench.fanout(number)?,
        ("memory", _) => bench.memory()?,
        ("import", [module, site]) => bench.import(number, module, site)?,
        _ => return Err(format!("no such measure as {mode}").into()),
    };
    println!("{found}");
    Ok(())
}

struct Bench {
    python: String,
    broker: Broker,
}

impl Bench {
    fn local(&self, name: &str) -> Result<Context, econtext::Error> {
        Context::builder(name).python(Python::Path(self.python.clone())).connect(&self.broker, Local)
    }

    fn ssh(&self, host: &str, port: &str, key: &str) -> Result<Context, econtext::Error> {
        let mut ssh = Ssh::new(host).config_file("/dev/null").identity(key);
        if let Ok(port) = port.parse() {
            ssh = ssh.port(port);
        }
        for option in ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"] {
            ssh = ssh.option(option);
        }
        Context::builder("bench").python(Python::Path(self.python.clone())).connect(&self.broker, ssh)
    }

    /// A child that has answered.
    fn up(&self) -> Result<Context, econtext::Error> {
        let child = self.local("bench")?;
        child.call::<i64>("os:getpid", ()).wait()?;
        Ok(child)
    }

    fn sizes(&self) -> Result<Value, Failure> {
        let line = command_line(&Python::Path("python3".into()), "bench");
        let child = self.local("bench")?;
        // Nothing but the payload has been sent when it is up.
        child.wait_ready()?;
        Ok(json!({ "command_line": line.join(" ").len(), "payload": child.sent_bytes() }))
    }

    fn connect(
        &self,
        n: usize,
        connect: impl Fn(&Self) -> Result<Context, econtext::Error>,
    ) -> Result<Value, Failure> {
        let mut times = Vec::new();
        for _ in 0..n {
            let start = Instant::now();
            let child = connect(self)?;
            child.call::<i64>("os:getpid", ()).wait()?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        Ok(json!({ "ms": times }))
    }

    fn call(&self, n: usize) -> Result<Value, Failure> {
        let child = self.up()?;
        let start = Instant::now();
        for _ in 0..n {
            child.call::<i64>("os:getpid", ()).wait()?;
        }
        Ok(json!({ "us": start.elapsed().as_secs_f64() * 1e6 / n as f64 }))
    }

    fn pipeline(&self, n: usize) -> Result<Value, Failure> {
        let child = self.up()?;
        let (start, cpu) = (Instant::now(), cpu());
        let calls: Vec<_> = (0..n).map(|_| child.call::<i64>("os:getpid", ())).collect();
        for call in calls {
            call.wait()?;
        }
        let elapsed = start.elapsed().as_secs_f64();
        let cpu = cpu_since(cpu);
        Ok(json!({ "per_second": n as f64 / elapsed, "cpu_us": cpu.as_secs_f64() * 1e6 / n as f64 }))
    }

    fn payload(&self, mebibytes: usize) -> Result<Value, Failure> {
        let finder = PathFinder::new()
            .source("sizes", "def length(b):\n    return len(b)\n\ndef make(n):\n    return b'x' * n\n");
        let child = Context::builder("bench")
            .python(Python::Path(self.python.clone()))
            .finder(Arc::new(finder))
            .connect(&self.broker, Local)?;
        child.call::<i64>("sizes:length", (ByteBuf::new(),)).wait()?;
        let data = ByteBuf::from(vec![b'x'; mebibytes << 20]);
        let start = Instant::now();
        child.call::<i64>("sizes:length", (data,)).wait()?;
        let up = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let back: ByteBuf = child.call("sizes:make", (mebibytes << 20,)).wait()?;
        let down = start.elapsed().as_secs_f64();
        assert_eq!(back.len(), mebibytes << 20);
        let rate = |seconds| mebibytes as f64 / seconds;
        Ok(json!({ "up": rate(up), "down": rate(down) }))
    }

    fn fanout(&self, n: usize) -> Result<Value, Failure> {
        let (memory, cpu_before, start) = (memory(), cpu(), Instant::now());
        let children: Vec<Context> =
            (0..n).map(|i| self.local(&format!("bench{i}"))).collect::<Result<_, _>>()?;
        let calls: Vec<_> = children.iter().map(|child| child.call::<i64>("os:getpid", ())).collect();
        for call in calls {
            call.wait()?;
        }
        let (wall, cpu_connect) = (start.elapsed(), cpu_since(cpu_before));
        let kib = memory_since(memory);
        let (cpu_before, start) = (cpu(), Instant::now());
        let calls: Vec<_> = children.iter().map(|child| child.call::<i64>("os:getpid", ())).collect();
        for call in calls {
            call.wait()?;
        }
        let (round, cpu_round) = (start.elapsed(), cpu_since(cpu_before));
        let start = Instant::now();
        drop(children);
        drop(Broker::new()?);
        let each = |time: Duration| time.as_secs_f64() * 1e3 / n as f64;
        Ok(json!({
            "wall_s": wall.as_secs_f64(),
            "cpu_ms": each(cpu_connect),
            "kib": kib / n as f64,
            "round_ms": round.as_secs_f64() * 1e3,
            "round_cpu_us": each(cpu_round) * 1e3,
            "down_ms": start.elapsed().as_secs_f64() * 1e3,
        }))
    }

    /// Of a child after its first call.
    fn memory(&self) -> Result<Value, Failure> {
        let child = self.local("bench")?;
        let pid: u32 = child.call("os:getpid", ()).wait()?;
        Ok(json!({ "kib": resident(&format!("/proc/{pid}/status")) }))
    }

    fn import(&self, n: usize, module: &str, site: &str) -> Result<Value, Failure> {
        let function = format!("import {module}\n\ndef f():\n    return {module}.__name__\n");
        let mut times = Vec::new();
        for _ in 0..n {
            let start = Instant::now();
            let finder = PathFinder::new().root(site)?.source("start", &*function);
            let builder = Context::builder("bench").python(Python::Path(self.python.clone()));
            let child = builder.finder(Arc::new(finder)).connect(&self.broker, Local)?;
            child.call::<String>("start:f", ()).wait()?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        Ok(json!({ "ms": times }))
    }
}

/// CPU time of this process so far.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn cpu_since(before: Duration) -> Duration {
    cpu().saturating_sub(before)
}

fn memory() -> f64 {
    resident("/proc/self/status")
}

fn memory_since(before: f64) -> f64 {
    memory() - before
}

/// KiB that are resident.
fn resident(status: &str) -> f64 {
    let text = std::fs::read_to_string(status).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse().unwrap_or(0.0)
}
