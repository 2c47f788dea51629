//! Functions that look at processes, and wait for them to end.

use std::fs;
use std::time::{Duration, Instant};

/// The ids of the processes whose command line or environment contains `text`.
pub fn with_text(text: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        let contains = |file: &str| {
            let data = fs::read(entry.path().join(file)).unwrap_or_default();
            String::from_utf8_lossy(&data).contains(text)
        };
        if (contains("cmdline") || contains("environ")) && u32::try_from(pid) != Ok(std::process::id()) {
            found.push(pid);
        }
    }
    found
}

/// The process that runs exactly this command line.
#[must_use]
pub fn of_command(words: &[&str]) -> Option<i32> {
    let line = words.join("\0") + "\0";
    fs::read_dir("/proc").into_iter().flatten().flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        (fs::read(entry.path().join("cmdline")).ok()? == line.as_bytes()).then_some(pid)
    })
}

/// The time after which a test takes a thing to hang. It says nothing about how long that thing may take: a machine may have much
/// else to do.
pub const HANGS: Duration = Duration::from_secs(180);

/// Waits until `condition` holds.
///
/// # Panics
/// If it does not come to hold.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < HANGS, "not within {HANGS:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The resident memory of a process, in KiB.
pub fn memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}
