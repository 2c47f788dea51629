//! How far a run is: a bar on a terminal, or a line now and then.

use crate::job::lock;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What takes no longer needs no bar.
const SHORT: Duration = Duration::from_secs(1);

/// Time between two lines where there is no terminal.
const LINES: Duration = Duration::from_secs(10);

/// Hosts that are named because they are slow.
const SLOW: usize = 3;

/// Counts hosts and shows the counts.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    counts: Mutex<Counts>,
    bar: Option<ProgressBar>,
    /// Dropped at the end, for the thread that shows it.
    running: Mutex<Option<Sender<()>>>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Hosts that are under way: when they were begun, and whether they are connected.
    under_way: BTreeMap<usize, (String, Instant, bool)>,
    done: usize,
    failed: usize,
}

impl Progress {
    /// Shows the progress of `hosts` hosts: on a terminal, and elsewhere if it is `wanted`.
    pub(crate) fn start(hosts: usize, allowed: bool, wanted: bool) -> Arc<Self> {
        let terminal = io::stderr().is_terminal();
        let worth_it = allowed && terminal && hosts > 1;
        if !wanted && !worth_it {
            return Arc::default();
        }
        let bar = terminal.then(|| {
            let bar = ProgressBar::with_draw_target(
                u64::try_from(hosts).ok(),
                ProgressDrawTarget::stderr_with_hz(10),
            );
            let style = ProgressStyle::with_template("{bar:24.cyan} {pos}/{len} {wide_msg}");
            // The template is right; without it there is indicatif's own.
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

    /// Does something while the bar is not there.
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

    pub(crate) fn ended(&self, index: usize, ok: bool) {
        let mut counts = lock(&self.counts);
        counts.under_way.remove(&index);
        counts.done += 1;
        counts.failed += usize::from(!ok);
    }

    /// Nothing is shown any more.
    pub(crate) fn end(&self) {
        lock(&self.running).take();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Counts {
    /// `3 connecting, 20 running, 470 done, 7 failed; slow: web07 31 s`.
    fn text(&self, now: Instant) -> String {
        let running = self.under_way.values().filter(|(.., connected)| *connected).count();
        let connecting = self.under_way.len() - running;
        let counts =
            [(connecting, "connecting"), (running, "running"), (self.done, "done"), (self.failed, "failed")];
        let mut text: Vec<String> =
            counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
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
        let later = counts.text(now + Duration::from_secs(31));
        assert!(later.contains("; slow: ") && later.contains("c 31 s"), "{later}");
    }
}
