//! The order of work on hosts: so many at a time, in batches, until too many have failed.

use crate::spec_error::SpecError;
use econtext::Context;
use econtext::internal::lock;
use std::collections::{HashMap, VecDeque};
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A number of hosts: `5`, or `10%` of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// A count of hosts.
    Count(usize),
    /// A percentage of all hosts.
    Percent(usize),
}

impl Share {
    /// The number of hosts out of `all`; at least one.
    ///
    /// ```
    /// assert_eq!("25%".parse::<econtext_fleet::Share>()?.of(10), 3);
    /// # Ok::<(), econtext_fleet::SpecError>(())
    /// ```
    pub fn of(self, all: usize) -> usize {
        match self {
            Share::Count(n) => n.max(1),
            Share::Percent(p) => all.saturating_mul(p).div_ceil(100).max(1),
        }
    }
}

impl FromStr for Share {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let bad = || SpecError(format!("{text:?} is neither a number above 0 nor a percentage up to 100%"));
        let number = |digits: &str| digits.parse::<usize>().ok().filter(|n| *n > 0).ok_or_else(bad);
        match text.strip_suffix('%') {
            Some(percent) => {
                number(percent).and_then(|p| if p <= 100 { Ok(Share::Percent(p)) } else { Err(bad()) })
            }
            None => Ok(Share::Count(number(text)?)),
        }
    }
}

/// The failures after which no more hosts are begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailOn {
    /// The first failure.
    Any,
    /// A failure of all hosts of a batch.
    All,
    /// A share of all hosts.
    Share(Share),
}

impl FromStr for FailOn {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        match text {
            "any" => Ok(FailOn::Any),
            "all" => Ok(FailOn::All),
            share => Ok(FailOn::Share(share.parse()?)),
        }
    }
}

/// The reason why a run ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The run was interrupted.
    Interrupted,
    /// The time of the run is over.
    Deadline,
}

/// The early end of a run: of every child, now and to come.
#[derive(Debug, Default)]
pub struct Stop {
    reason: Mutex<Option<Reason>>,
    changed: Condvar,
    running: Mutex<HashMap<usize, Context>>,
}

impl Stop {
    /// Ends every child, and lets none begin. The first reason counts.
    pub fn stop(&self, reason: Reason) {
        lock(&self.reason).get_or_insert(reason);
        self.changed.notify_all();
        for context in lock(&self.running).values() {
            context.shutdown(Duration::ZERO);
        }
    }

    /// The reason of the stop, if the run is stopped.
    pub fn reason(&self) -> Option<Reason> {
        *lock(&self.reason)
    }

    /// Whether the run is stopped.
    pub fn is_stopped(&self) -> bool {
        self.reason().is_some()
    }

    /// Waits, at most until the stop.
    pub fn sleep(&self, time: Duration) {
        let begun = Instant::now();
        let mut reason = lock(&self.reason);
        while reason.is_none() {
            let left = time.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return;
            }
            reason = self.changed.wait_timeout(reason, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Adds a child to those that the stop ends.
    pub fn add(&self, context: &Context) {
        lock(&self.running).insert(context.id(), context.clone());
        if self.is_stopped() {
            context.shutdown(Duration::ZERO);
        }
    }

    /// Removes a child that ended by itself.
    pub fn remove(&self, context: &Context) {
        lock(&self.running).remove(&context.id());
    }
}

/// The number of hosts at a time, and the failures that stop the run.
#[derive(Clone, Debug)]
pub struct Rollout {
    /// The number of hosts at a time.
    pub forks: usize,
    /// The number of hosts that must all be done before the next are begun.
    pub batch: Option<Share>,
    /// The time between two batches.
    pub pause: Duration,
    /// The failures after which no more hosts are begun.
    pub fail_on: Option<FailOn>,
}

impl Rollout {
    /// Calls `one` for each of `hosts` numbers; the results are in their order. `failed` says which
    /// results are failures. `skip` is called for hosts that are not begun because of failures or a
    /// stop; it is given the number of failures if that is the reason.
    pub fn run<T: Send>(
        &self,
        hosts: usize,
        stop: &Stop,
        one: impl Fn(usize) -> T + Sync,
        failed: impl Fn(&T) -> bool + Sync,
        skip: impl Fn(usize, Option<usize>) -> T + Sync,
    ) -> Vec<T> {
        let results: Mutex<Vec<Option<T>>> = Mutex::new((0..hosts).map(|_| None).collect());
        let failures = AtomicUsize::new(0);
        let too_many = |failures: usize| match self.fail_on {
            None | Some(FailOn::All) => false,
            Some(FailOn::Any) => failures > 0,
            Some(FailOn::Share(share)) => failures >= share.of(hosts),
        };
        let size = self.batch.map_or(hosts, |batch| batch.of(hosts)).max(1);
        let mut at = 0;
        let mut given_up = false;
        while at < hosts {
            let end = hosts.min(at + size);
            let before = failures.load(Ordering::Acquire);
            let queue: Mutex<VecDeque<usize>> = Mutex::new((at..end).collect());
            let work = || {
                loop {
                    let next = lock(&queue).pop_front();
                    let Some(index) = next else { return };
                    let so_far = failures.load(Ordering::Acquire);
                    let result = if given_up || too_many(so_far) {
                        skip(index, Some(so_far))
                    } else if stop.is_stopped() {
                        skip(index, None)
                    } else {
                        let result = one(index);
                        if failed(&result) {
                            failures.fetch_add(1, Ordering::AcqRel);
                        }
                        result
                    };
                    lock(&results)[index] = Some(result);
                }
            };
            std::thread::scope(|scope| {
                for _ in 1..self.forks.clamp(1, end - at) {
                    // The existing threads do the work if the system has no more.
                    if std::thread::Builder::new().spawn_scoped(scope, work).is_err() {
                        break;
                    }
                }
                work();
            });
            let of_batch = failures.load(Ordering::Acquire) - before;
            given_up |= self.fail_on == Some(FailOn::All) && of_batch == end - at;
            at = end;
            if at < hosts && !given_up && !too_many(before + of_batch) {
                stop.sleep(self.pause);
            }
        }
        results.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `.` succeeded, `x` failed, `-` was not begun.
    fn outcome(rollout: &Rollout, plan: &str) -> String {
        let plan: Vec<char> = plan.chars().collect();
        let stop = Stop::default();
        rollout
            .run(
                plan.len(),
                &stop,
                |i| plan[i],
                |c| *c == 'x',
                |_, why| if why.is_some() { '-' } else { '?' },
            )
            .into_iter()
            .collect()
    }

    fn rollout(batch: Option<&str>, fail_on: Option<&str>) -> Rollout {
        Rollout {
            forks: 1,
            batch: batch.map(|b| b.parse().unwrap()),
            pause: Duration::ZERO,
            fail_on: fail_on.map(|f| f.parse().unwrap()),
        }
    }

    #[test]
    fn no_more_are_begun_when_too_many_have_failed() {
        for (batch, fail_on, plan, expected) in [
            (None, None, "xx..", "xx.."),
            (None, Some("any"), ".x..", ".x--"),
            (None, Some("2"), "x.x.", "x.x-"),
            (None, Some("50%"), "x.x.", "x.x-"),
            (None, Some("all"), "xxxx", "xxxx"),
            (Some("2"), Some("all"), "x.xx..", "x.xx--"),
            (Some("34%"), Some("any"), "..x...", "..x---"),
            (Some("2"), None, "xxxx", "xxxx"),
        ] {
            assert_eq!(outcome(&rollout(batch, fail_on), plan), expected, "{batch:?} {fail_on:?} {plan}");
        }
    }

    #[test]
    fn a_batch_is_over_before_the_next_begins() {
        let running = Mutex::new(Vec::new());
        let rollout = Rollout { forks: 8, ..rollout(Some("3"), None) };
        rollout.run(
            8,
            &Stop::default(),
            |i| {
                lock(&running).push(i / 3);
                std::thread::sleep(Duration::from_millis(5));
            },
            |()| false,
            |_, _| (),
        );
        assert_eq!(*lock(&running), [0, 0, 0, 1, 1, 1, 2, 2]);
    }

    #[test]
    fn no_more_than_forks_run_at_a_time_and_all_of_them_do() {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let rollout = Rollout { forks: 5, ..rollout(None, None) };
        rollout.run(
            40,
            &Stop::default(),
            |_| {
                most.fetch_max(now.fetch_add(1, Ordering::AcqRel) + 1, Ordering::AcqRel);
                std::thread::sleep(Duration::from_millis(3));
                now.fetch_sub(1, Ordering::AcqRel);
            },
            |()| false,
            |_, _| (),
        );
        assert_eq!(most.load(Ordering::Acquire), 5);
    }

    #[test]
    fn shares_are_numbers_or_percentages() {
        for bad in ["", "0", "x", "-1", "101%", "%", "1.5"] {
            assert!(bad.parse::<Share>().is_err(), "{bad}");
        }
        assert_eq!("1%".parse::<Share>().unwrap().of(10), 1);
        assert_eq!("any".parse(), Ok(FailOn::Any));
        assert_eq!("30%".parse(), Ok(FailOn::Share(Share::Percent(30))));
    }

    #[test]
    fn a_stop_ends_a_pause_and_what_waits_is_not_begun() {
        let stop = Stop::default();
        let rollout = Rollout { pause: Duration::from_secs(3600), ..rollout(Some("1"), None) };
        let results = rollout.run(
            3,
            &stop,
            |_| stop.stop(Reason::Deadline),
            |()| false,
            |_, why| assert!(why.is_none()),
        );
        assert_eq!(results.len(), 3);
    }
}
