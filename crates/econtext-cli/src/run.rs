//! One run: its report, its stop, its start and its end.

pub(crate) mod child_environment;
pub(crate) mod descriptors;
pub(crate) mod job;
pub(crate) mod plan;
pub(crate) mod record;

use crate::args::{Common, Usage};
use crate::outcome::{Outcome, exit_status};
use crate::output::console::complain;
use crate::output::counts::Counts;
use crate::output::report::Report;
use crate::run::job::{Children, Host, Job};
use crate::run::plan::Plan;
use anyhow::Context as _;
use econtext::{ErrorKind, PathFinder};
use econtext_fleet::{Identity, Reason, SCHEMES, Stop};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

/// The state of a run of any verb.
pub(crate) struct Run<'a> {
    pub(crate) plan: Plan<'a>,
    pub(crate) report: Arc<Report>,
    pub(crate) stop: Arc<Stop>,
    pub(crate) signal: Arc<AtomicI32>,
    pub(crate) started: Instant,
}

/// The exit status when nothing reads stdout any more: that of a program which SIGPIPE has ended.
const HUNG_UP: u8 = 128 + 13;

/// The options in which the verbs differ.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReportOptions {
    /// Whether log records of the children are shown.
    pub(crate) forward_log: bool,
    /// Whether a result of `None` is shown.
    pub(crate) show_none: bool,
    /// Whether files are copied.
    pub(crate) copies: bool,
}

impl<'a> Run<'a> {
    /// Begins a run: from here on signals and the deadline stop it.
    pub(crate) fn start(plan: Plan<'a>, manner: ReportOptions) -> anyhow::Result<Self> {
        let report = Report::new(plan.common, plan.targets.len(), manner.copies, manner.show_none)?;
        let run = Self::begin(plan, report)?;
        watch_signals(&run.stop, &run.signal)?;
        Ok(run)
    }

    /// Begins a run that handles signals itself, and whose answers are folded.
    pub(crate) fn start_repl(plan: Plan<'a>) -> anyhow::Result<Self> {
        let report = Report::for_rounds(plan.common, plan.targets.len())?;
        Self::begin(plan, report)
    }

    fn begin(plan: Plan<'a>, report: Report) -> anyhow::Result<Self> {
        let started = Instant::now();
        let common = plan.common;
        let stop = Arc::new(Stop::default());
        if let Some(deadline) = common.deadline {
            let stop = stop.clone();
            std::thread::spawn(move || {
                std::thread::sleep(deadline);
                stop.stop(Reason::Deadline);
            });
        }
        if !common.quiet {
            for line in plan.becoming() {
                report.note(&line);
            }
        }
        Ok(Run { plan, report: Arc::new(report), stop, signal: Arc::default(), started })
    }

    /// The job that all hosts share.
    pub(crate) fn job(&self) -> anyhow::Result<Job<'_>> {
        self.job_for(self.plan.common.forks.get().min(self.plan.targets.len()))
    }

    /// The job that all hosts share, of which `wanted` have a connection at a time.
    pub(crate) fn job_for(&self, wanted: usize) -> anyhow::Result<Job<'_>> {
        let common = self.plan.common;
        let forks = descriptors::provide(wanted).context("cannot ask how many files may be open")?;
        if forks < wanted {
            self.report.note(&format!(
                "{forks} hosts at a time in place of {wanted}: no more files may be open here (ulimit -n)"
            ));
        }
        let forks = forks.min(common.forks.get());
        Ok(Job {
            common,
            report: self.report.clone(),
            stop: self.stop.clone(),
            forks,
            connects_only: false,
            identities: Identity::all(&self.plan.inventory, &self.plan.targets),
        })
    }

    /// Shows the summary and returns the exit status.
    pub(crate) fn finish(&self, outcomes: &[Outcome]) -> u8 {
        let plan = &self.plan;
        let counts = Counts::of(outcomes);
        let undone = counts.undone();
        let rerun = !plan.common.rerun.is_empty();
        let names: Vec<&str> = plan.targets.iter().map(|target| target.name.as_str()).collect();
        let on_record =
            (rerun || names.len() > 1) && plan.last.write(&names, outcomes, rerun) && !undone.is_empty();
        if self.report.hung_up() && self.signal.load(Ordering::Acquire) == 0 {
            // The run ends as a program in a pipeline does: by SIGPIPE, and without a message.
            self.report.end_progress();
            return HUNG_UP;
        }
        let again = on_record.then(|| plan.again(&undone));
        self.report.summary(counts, self.started.elapsed(), again.as_deref());
        if !plan.common.quiet {
            self.hint(outcomes);
        }
        let lost = self.report.lost();
        if let Some(lost) = &lost {
            self.report.note(lost);
        }
        let signal = self.signal.load(Ordering::Acquire);
        if signal != 0 {
            return u8::try_from(128 + signal).unwrap_or(1);
        }
        if lost.is_some() {
            return 1;
        }
        match outcomes {
            [Outcome::Exit(status)] if plan.common.status => *status,
            [Outcome::Signal(signal)] if plan.common.status => u8::try_from(128 + signal).unwrap_or(255),
            outcomes => exit_status(outcomes),
        }
    }

    /// Names the probable meaning: hosts of the inventory, this machine, a directory of modules.
    fn hint(&self, outcomes: &[Outcome]) {
        let is_import =
            |o: &Outcome| matches!(o, Outcome::Failed(error) if error.kind() == ErrorKind::Import);
        if let Some(hint) = self.plan.import_hint.as_ref().filter(|_| outcomes.iter().any(is_import)) {
            self.report.note(hint);
        }
        for (target, outcome) in self.plan.targets.iter().zip(outcomes) {
            let is_local = matches!(outcome, Outcome::Failed(error) if error.kind() == ErrorKind::Local);
            if (is_local || outcome.class() == "unreachable")
                && target.is_ssh()
                && SCHEMES.contains(&target.host())
            {
                self.report
                    .note(&format!("hint: {0} is a host of ssh here; did you mean {0}:?", target.host()));
            }
        }
        let unreachable = self.plan.targets.iter().zip(outcomes).filter(|(_, o)| o.class() == "unreachable");
        // The search for similar names takes time, and a few hints are enough.
        let unreachable = unreachable.take(20);
        let meant =
            unreachable.filter_map(|(target, _)| Some((target, self.plan.inventory.closest(target.host())?)));
        for (target, meant) in meant.take(3) {
            self.report.note(&format!("hint: {} is not in the inventory, and {meant} is", target.host()));
        }
    }
}

/// Runs `work` in a child on every target and reports.
pub(crate) fn everywhere(
    plan: Plan<'_>,
    finder: PathFinder,
    manner: ReportOptions,
    work: impl Fn(&Host<'_>) -> Outcome + Sync,
) -> anyhow::Result<u8> {
    let mut plan = plan;
    plan.ask_passwords()?;
    let log_level = log_level(plan.common, manner.forward_log);
    let run = Run::start(plan, manner)?;
    let job = run.job()?;
    let children = Children::new(&job, Arc::new(finder), log_level, run.plan.hops())?;
    Ok(run.finish(&children.run(&run.plan.targets, work)))
}

/// The level of records that children forward.
pub(crate) fn log_level(common: &Common, forward: bool) -> Option<u8> {
    match common.verbose {
        _ if !forward => None,
        0 => Some(30),
        1 => Some(20),
        _ => Some(10),
    }
}

/// Stops everything at the first SIGINT or SIGTERM, which is stored in `seen`, and this process at
/// the second.
fn watch_signals(stop: &Arc<Stop>, seen: &Arc<AtomicI32>) -> anyhow::Result<()> {
    let mut signals =
        signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).context("cannot watch for signals")?;
    let (stop, seen) = (stop.clone(), seen.clone());
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if seen.swap(signal, Ordering::AcqRel) != 0 {
                std::process::exit(128 + signal);
            }
            complain("stopping");
            stop.stop(Reason::Interrupted);
        }
    });
    Ok(())
}

/// The time that a host has left, or a minute for calls without a bound.
pub(crate) fn or_long(time: Option<Duration>) -> Duration {
    time.unwrap_or(Duration::from_secs(60))
}

/// Refuses words for a verb that takes none.
pub(crate) fn takes_no_words(verb: &str, rest: &[OsString]) -> Result<(), Usage> {
    match rest.first() {
        Some(word) => Err(Usage(format!("{verb} takes no {word:?}"))),
        None => Ok(()),
    }
}
