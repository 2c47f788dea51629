//! The progress of a run: a bar on a terminal, or a line at intervals.

use econtext::internal::lock;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The time up to which a run needs no bar.
const SHORT: Duration = Duration::from_secs(1);

/// The time between two lines where there is no terminal.
const LINES: Duration = Duration::from_secs(10);

/// The number of slow hosts that are named.
const SLOW: usize = 3;

/// Counts hosts and shows the counts.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    counts: Mutex<Counts>,
    bar: Option<ProgressBar>,
    /// The sender whose drop ends the thread that shows the progress.
    running: Mutex<Option<Sender<()>>>,
}

#[derive(Debug, Default)]
struct Counts {
    /// The hosts under way: the name, the start, and whether the host is connected.
    under_way: BTreeMap<usize, (String, Instant, bool)>,
    /// The bytes of files that were copied, and of all files to copy, by host.
    copied: BTreeMap<usize, (u64, u64)>,
    /// The time of the first such report, and the bytes that were copied by then.
    copying_since: Option<(Instant, u64)>,
    done: usize,
    failed: usize,
}

impl Progress {
    /// Shows the progress of `hosts` hosts: on a terminal, and elsewhere if it is `wanted`. The
    /// progress of one host is of no interest, unless it `copies` files.
    pub(crate) fn start(hosts: usize, copies: bool, allowed: bool, wanted: bool) -> Arc<Self> {
        let terminal = io::stderr().is_terminal();
        let worth_it = allowed && terminal && (hosts > 1 || copies);
        if !wanted && !worth_it {
            return Arc::default();
        }
        let bar = terminal.then(|| {
            let bar = ProgressBar::with_draw_target(
                u64::try_from(hosts).ok(),
                ProgressDrawTarget::stderr_with_hz(10),
            );
            let style = ProgressStyle::with_template("{bar:24.cyan} {pos}/{len} {wide_msg}");
            // The template is valid; the default bar is only a fallback.
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─"));
            bar
        });
        let (running, ended) = channel();
        let progress = Arc::new(Progress { bar, running: Mutex::new(Some(running)), ..Progress::default() });
        let shown = progress.clone();
        std::thread::spawn(move || shown.show(&ended));
        progress
    }

    fn show(&self, ended: &Receiver<()>) {
        let mut wait = if self.bar.is_some() { SHORT } else { LINES };
        while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
            let (done, text) = {
                let counts = lock(&self.counts);
                (counts.done, counts.text(Instant::now()))
            };
            match &self.bar {
                Some(bar) => {
                    bar.set_position(u64::try_from(done).unwrap_or(u64::MAX));
                    bar.set_message(text);
                    wait = Duration::from_millis(250);
                }
                None => {
                    let _ = writeln!(io::stderr(), "econtext: {text}");
                }
            }
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Calls `write` while the bar is hidden.
    pub(crate) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    pub(crate) fn begun(&self, index: usize, host: &str) {
        lock(&self.counts).under_way.insert(index, (host.to_owned(), Instant::now(), false));
    }

    pub(crate) fn connected(&self, index: usize) {
        if let Some((_, _, connected)) = lock(&self.counts).under_way.get_mut(&index) {
            *connected = true;
        }
    }

    /// Records how many bytes of all files of a host were copied.
    pub(crate) fn transferred(&self, index: usize, done: u64, total: u64) {
        let mut counts = lock(&self.counts);
        counts.copied.insert(index, (done, total));
        counts.copying_since.get_or_insert_with(|| (Instant::now(), done));
    }

    pub(crate) fn ended(&self, index: usize, ok: bool) {
        let mut counts = lock(&self.counts);
        counts.under_way.remove(&index);
        counts.done += 1;
        counts.failed += usize::from(!ok);
    }

    /// Ends the display.
    pub(crate) fn end(&self) {
        lock(&self.running).take();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Counts {
    /// The counts as text: `3 connecting, 20 running, 470 done, 7 failed; slow: web07 31 s`.
    fn text(&self, now: Instant) -> String {
        let running = self.under_way.values().filter(|(.., connected)| *connected).count();
        let connecting = self.under_way.len() - running;
        let counts =
            [(connecting, "connecting"), (running, "running"), (self.done, "done"), (self.failed, "failed")];
        let mut text: Vec<String> =
            counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        text.extend(self.copied_text(now));
        let mut slow: Vec<(Duration, &str)> = self
            .under_way
            .values()
            .map(|(host, since, _)| (now.saturating_duration_since(*since), host.as_str()))
            .filter(|(time, _)| *time > Duration::from_secs(5))
            .collect();
        slow.sort_by(|a, b| b.cmp(a));
        if let Some(last) = text.last_mut().filter(|_| !slow.is_empty()) {
            let names: Vec<String> =
                slow.iter().take(SLOW).map(|(time, host)| format!("{host} {} s", time.as_secs())).collect();
            *last += &format!("; slow: {}", names.join(", "));
        }
        text.join(", ")
    }

    /// The copied bytes as text: `1.2 GiB of 4.0 GiB, 120 MiB/s, 23 s left`.
    fn copied_text(&self, now: Instant) -> Option<String> {
        let (since, first) = self.copying_since?;
        let (done, total) = self.copied.values().fold((0, 0), |(a, b), (done, total)| (a + done, b + total));
        let mut text = format!("{} of {}", bytes(done), bytes(total));
        let seconds = now.saturating_duration_since(since).as_secs_f64();
        let rate = done.saturating_sub(first) as f64 / seconds;
        if seconds > 1.0 && rate >= 1.0 {
            let _ = write!(text, ", {}/s", bytes(rate as u64));
            if total > done {
                let _ = write!(text, ", {:.0} s left", (total - done) as f64 / rate);
            }
        }
        Some(text)
    }
}

/// A number of bytes as text: `4.0 GiB`.
fn bytes(n: u64) -> String {
    let mut n = n as f64;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for larger in units {
        if n < 1024.0 {
            break;
        }
        (n, unit) = (n / 1024.0, larger);
    }
    if unit == "B" { format!("{n:.0} B") } else { format!("{n:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_the_slowest_are_named() {
        let progress = Progress::default();
        for (index, host) in ["a", "b", "c"].into_iter().enumerate() {
            progress.begun(index, host);
        }
        progress.connected(0);
        progress.connected(1);
        progress.ended(0, false);
        let counts = lock(&progress.counts);
        let now = Instant::now();
        assert_eq!(counts.text(now), "1 connecting, 1 running, 1 done, 1 failed");
        drop(counts);
        progress.transferred(1, 10 << 20, 100 << 20);
        progress.transferred(1, 30 << 20, 100 << 20);
        progress.transferred(2, 0, 100 << 20);
        let mut counts = lock(&progress.counts);
        let since = counts.copying_since.as_mut().unwrap();
        since.0 = now;
        let text = counts.text(now + Duration::from_secs(4));
        assert!(text.ends_with(", 30.0 MiB of 200.0 MiB, 5.0 MiB/s, 34 s left"), "{text}");
        let later = counts.text(now + Duration::from_secs(31));
        assert!(later.contains("; slow: ") && later.contains("c 31 s"), "{later}");
    }
}
