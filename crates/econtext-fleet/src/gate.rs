//! The limits on new connections: a rate, and no more handshakes at a time than the other side
//! accepts.
//!
//! An sshd refuses handshakes beyond its `MaxStartups`. It does not tell this number, so a gate
//! finds it as TCP does: each refusal halves the number of handshakes that may be under way, each
//! success adds to it.

use crate::rollout::Stop;
use econtext::internal::lock;
use econtext::{Error, ErrorKind};
use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The gates, one for each place that connections are begun from: this machine, or a hop.
#[derive(Debug, Default)]
pub struct Gates {
    /// The time between two starts, from any place.
    interval: Duration,
    next_start: Mutex<Option<Instant>>,
    gates: Mutex<HashMap<String, Arc<Gate>>>,
}

#[derive(Debug)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    under_way: usize,
    /// The limit on `under_way`; there is none until the first refusal.
    window: f64,
    last_refusal: Option<Instant>,
}

/// The number of handshakes at a time that are always let through: one host that always refuses
/// must not hold up the others.
const MIN_WINDOW: f64 = 4.0;

/// The time within which refusals count as one.
const SAME_REFUSAL: Duration = Duration::from_millis(200);

impl Gates {
    /// Gates that let at most `rate` connections a second begin, if there is one.
    pub fn new(rate: Option<f64>) -> Self {
        let interval = rate.and_then(|r| Duration::try_from_secs_f64(1.0 / r).ok()).unwrap_or_default();
        Gates { interval, next_start: Mutex::default(), gates: Mutex::default() }
    }

    /// Waits until a handshake may begin from this place, or the run is stopped.
    pub fn enter(&self, place: &str, stop: &Stop) -> Handshake {
        let gate = lock(&self.gates)
            .entry(place.to_owned())
            .or_insert_with(|| {
                let state = State { under_way: 0, window: f64::INFINITY, last_refusal: None };
                Arc::new(Gate { state: Mutex::new(state), changed: Condvar::new() })
            })
            .clone();
        let mut state = lock(&gate.state);
        while state.under_way as f64 + 1.0 > state.window && !stop.is_stopped() {
            // A stop does not wake this thread, so it is polled.
            let waited = gate.changed.wait_timeout(state, Duration::from_millis(50));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.under_way += 1;
        drop(state);
        let now = Instant::now();
        let start = {
            let mut next = lock(&self.next_start);
            let start = next.map_or(now, |next| next.max(now));
            *next = start.checked_add(self.interval);
            start
        };
        stop.sleep(start.saturating_duration_since(now));
        Handshake { gate, open: Mutex::new(true) }
    }
}

/// A handshake under way; one of the methods ends it, or a drop.
#[derive(Debug)]
pub struct Handshake {
    gate: Arc<Gate>,
    open: Mutex<bool>,
}

impl Handshake {
    /// Records that the other side has answered.
    pub fn succeeded(&self) {
        // The window grows more slowly than it shrinks.
        self.end(|state| state.window += 0.5);
    }

    /// Records that the other side had too many handshakes.
    pub fn refused(&self) {
        self.end(|state| {
            if state.last_refusal.is_none_or(|at| at.elapsed() > SAME_REFUSAL) {
                state.last_refusal = Some(Instant::now());
                let now = state.window.min(state.under_way as f64 + 1.0);
                state.window = (now / 2.0).max(MIN_WINDOW);
            }
        });
    }

    fn end(&self, change: impl Fn(&mut State)) {
        if std::mem::take(&mut *lock(&self.open)) {
            let mut state = lock(&self.gate.state);
            state.under_way -= 1;
            change(&mut state);
            drop(state);
            self.gate.changed.notify_all();
        }
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.end(|_| {});
    }
}

/// Whether a connection was refused because there were too many: trying again helps.
pub fn is_refused_handshake(error: &Error) -> bool {
    error.kind() == ErrorKind::Unreachable
        && [
            "kex_exchange_identification",
            "ssh_exchange_identification",
            "banner exchange",
            "Connection reset by",
            "Connection closed by",
            "Not allowed at this time",
            "Exceeded MaxStartups",
        ]
        .into_iter()
        .any(|text| error.stderr().contains(text) || error.message().contains(text))
}

/// The rule for retries of a failed connection. Only one that failed before anything ran on the
/// host is tried again.
#[derive(Clone, Debug)]
pub struct Retry {
    /// The number of retries that the user still allows, for any reason.
    left: u32,
    tried: u32,
}

impl Retry {
    /// Allows so many retries for hosts that cannot be reached; refused handshakes are retried
    /// anyway.
    pub fn new(retries: u32) -> Self {
        Retry { left: retries, tried: 0 }
    }

    /// The time to wait before the next try after this error; `None` if there is none. The waits
    /// grow, and are random, so that hosts that failed together do not come back together.
    pub fn after(&mut self, error: &Error) -> Option<Duration> {
        let connecting = matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::Bootstrap);
        let longest = if is_refused_handshake(error) {
            Duration::from_millis(250).saturating_mul(1 << self.tried.min(5))
        } else if connecting && self.left > 0 {
            self.left -= 1;
            Duration::from_secs(1).saturating_mul(1 << self.tried.min(4))
        } else {
            return None;
        };
        self.tried += 1;
        Some(longest.mul_f64(0.25 + 0.75 * fastrand::f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreachable(stderr: &str) -> Error {
        Error::Connect {
            kind: ErrorKind::Unreachable,
            host: "h".into(),
            message: "ssh ended with status 255".into(),
            stderr: stderr.into(),
        }
    }

    #[test]
    fn refusals_halve_what_may_be_under_way_and_successes_give_it_back() {
        let (gates, stop) = (Gates::new(None), Stop::default());
        let many: Vec<Handshake> = (0..40).map(|_| gates.enter("", &stop)).collect();
        let window = |gates: &Gates| lock(&lock(&gates.gates)[""].state).window;
        for handshake in &many[..10] {
            handshake.refused();
        }
        assert_eq!(window(&gates), 20.0, "refusals that come together are one");
        for handshake in &many[10..] {
            handshake.succeeded();
        }
        assert_eq!(window(&gates), 35.0);
        drop(many);
        assert_eq!(lock(&lock(&gates.gates)[""].state).under_way, 0);
        assert_eq!(lock(&gates.enter("other", &stop).gate.state).window, f64::INFINITY, "a place of its own");
    }

    #[test]
    fn a_full_gate_opens_when_a_handshake_ends_or_the_run_does() {
        let (gates, stop) = (Gates::new(None), Stop::default());
        let mut held: Vec<Handshake> = (0..4).map(|_| gates.enter("", &stop)).collect();
        gates.enter("", &stop).refused();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| gates.enter("", &stop));
            std::thread::sleep(Duration::from_millis(20));
            assert!(!waiting.is_finished());
            held.pop();
            held.push(waiting.join().unwrap());
            let waiting = scope.spawn(|| gates.enter("", &stop));
            stop.stop(crate::rollout::Reason::Interrupted);
            drop(waiting.join().unwrap());
        });
    }

    #[test]
    fn a_rate_spreads_the_starts() {
        let (gates, stop) = (Gates::new(Some(50.0)), Stop::default());
        let before = Instant::now();
        for _ in 0..6 {
            gates.enter("", &stop).succeeded();
        }
        assert!(before.elapsed() >= Duration::from_millis(100));
    }

    #[test]
    fn only_what_ran_nowhere_is_tried_again() {
        let refused = unreachable("kex_exchange_identification: Connection closed by remote host");
        assert!((0..20).all(|_| Retry::new(0).after(&refused).is_some()));
        let mut retry = Retry::new(2);
        assert!(retry.after(&unreachable("No route to host")).is_some());
        assert!(retry.after(&unreachable("No route to host")).is_some());
        assert!(retry.after(&unreachable("No route to host")).is_none(), "twice is enough");
        let auth = Error::Connect {
            kind: ErrorKind::Auth,
            host: "h".into(),
            message: String::new(),
            stderr: "Permission denied. Connection closed by h".into(),
        };
        assert!(Retry::new(9).after(&auth).is_none());
        let (phase, after) = ("the call", Duration::from_secs(1));
        let timeout = Error::Timeout { host: "h".into(), phase, after, stderr: String::new() };
        assert!(Retry::new(1).after(&timeout).is_none());
    }
}
