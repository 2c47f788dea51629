//! The verb `repl`: one prompt for all hosts, an interpreter that keeps its state on each, answers folded.

mod editor;

use crate::commands::call::finder;
use crate::outcome::{Outcome, exit_status};
use crate::output::console::complain;
use crate::output::counts::Counts;
use crate::run::descriptors;
use crate::run::job::{Children, Job};
use crate::run::plan::Plan;
use crate::run::{Run, log_level, takes_no_words};
use econtext::internal::lock;
use econtext::{Call, Context, Error, Value};
use econtext_fleet::{Reason, Target, expand, fold};
use editor::{Editor, Read};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const HELP: &str = "\
:hosts          who is up, and who is not and why
:drop SPEC      go on without these hosts
:add SPEC       connect further hosts; they have none of the state
:retry          connect again those that are not up
:quit, Ctrl-D   end
Ctrl-C          interrupt what runs there
All else is Python. The value of a last expression is shown, and is _ there. Modules come from here if they are not there.";

/// The running calls, for Ctrl-C.
type Calls = Arc<Mutex<Vec<Arc<Call<Answer>>>>>;

struct Seat {
    /// The number of the seat in the report, which stays when others are dropped.
    number: usize,
    target: Target,
    child: Result<Context, Error>,
}

struct Repl<'a> {
    children: Children<'a>,
    run: &'a Run<'a>,
    seats: Vec<Seat>,
    /// The next seat's number.
    next: usize,
    calls: Calls,
}

/// The text of a last expression's value; or the status with which the code has ended the program.
type Answer = (Option<String>, Option<u8>);

/// Reads and runs until the end of the input.
pub(crate) fn run(plan: Plan<'_>) -> anyhow::Result<u8> {
    takes_no_words("repl", plan.rest)?;
    let mut plan = plan;
    plan.ask_passwords()?;
    let finder = Arc::new(finder(plan.common, Some(Path::new(".")))?);
    let level = log_level(plan.common, true);
    let run = Run::start_repl(plan)?;
    // Every connection stays open.
    let job = Job { connects_only: true, ..run.job_for(run.plan.targets.len())? };
    let mut children = Children::new(&job, finder, level, run.plan.hops())?;
    children.keep = true;
    let editor = Editor::new();
    let mut repl = Repl { children, run: &run, seats: Vec::new(), next: 0, calls: Calls::default() };
    repl.watch_signals(editor.is_terminal())?;
    repl.connect(run.plan.targets.clone());
    run.report.end_progress();
    let outcomes = repl.read(editor.open()?)?;
    for seat in &repl.seats {
        if let Ok(child) = &seat.child {
            child.shutdown(Duration::from_secs(2));
        }
    }
    run.report.end_rounds(Counts::of(&outcomes), run.started.elapsed());
    if let Some(lost) = run.report.lost() {
        run.report.note(&lost);
        return Ok(1);
    }
    match run.signal.load(Ordering::Acquire) {
        0 => Ok(exit_status(&outcomes)),
        signal => Ok(u8::try_from(128 + signal).unwrap_or(1)),
    }
}

impl Repl<'_> {
    /// Reads to the end. Returns the outcomes if the input is no terminal, because a script needs
    /// the status.
    fn read(&mut self, editor: Editor) -> anyhow::Result<Vec<Outcome>> {
        let mut editor = editor;
        let mut outcomes = Vec::new();
        if editor.is_terminal() {
            let up = self.up().count();
            self.run
                .report
                .note(&format!("{up} of {} hosts are up; :help names what is not Python", self.seats.len()));
        } else {
            outcomes.extend(self.seats.iter().filter_map(|s| s.child.clone().err()).map(Outcome::Failed));
        }
        loop {
            let first = self.up().next().map(|(_, _, child)| child.clone());
            let text = match editor.read(first)? {
                Read::Text(text) => text,
                Read::Interrupted => continue,
                Read::End => break,
            };
            match text.trim_start().strip_prefix(':') {
                _ if text.trim().is_empty() => {}
                Some(command) => {
                    if !self.command(command.trim()) {
                        break;
                    }
                }
                None => {
                    let results = self.execute(&text);
                    if !editor.is_terminal() {
                        outcomes.extend(results);
                    }
                    if self.seats.is_empty() {
                        break;
                    }
                }
            }
            if self.run.stop.is_stopped() {
                break;
            }
        }
        Ok(outcomes)
    }

    fn up(&self) -> impl Iterator<Item = (usize, &Target, &Context)> {
        self.seats
            .iter()
            .enumerate()
            .filter_map(|(i, seat)| Some((i, &seat.target, seat.child.as_ref().ok()?)))
    }

    /// Connects targets, as many at a time as any run does, and reports those that failed.
    fn connect(&mut self, targets: Vec<Target>) {
        let first = self.next;
        self.next += targets.len();
        let found: Mutex<Vec<Option<Context>>> = Mutex::new(targets.iter().map(|_| None).collect());
        let index = |target: &Target| targets.iter().position(|t| t.name == target.name).unwrap_or(0);
        let outcomes = self.children.job.pool(&targets, |place, target| {
            self.children.one(first + place, target, &|host| {
                if let Err(error) = host.context.wait_ready() {
                    return Outcome::Failed(error);
                }
                lock(&found)[index(target)] = Some(host.context.clone());
                Outcome::Value(Value::None)
            })
        });
        let found = found.into_inner().unwrap_or_default();
        for (place, ((target, child), outcome)) in targets.into_iter().zip(found).zip(outcomes).enumerate() {
            let child = match (child, outcome) {
                (_, Outcome::Failed(error)) => Err(error),
                (Some(child), _) => Ok(child),
                (None, _) => Err(Error::Cancelled { host: target.name.clone() }),
            };
            self.seats.push(Seat { number: first + place, target, child });
        }
        self.run.report.round();
    }

    /// Runs code on every host that is up and shows the answers.
    fn execute(&mut self, text: &str) -> Vec<Outcome> {
        let started = Instant::now();
        let timeout = self.run.plan.common.timeout;
        let calls: Vec<_> = self
            .up()
            .map(|(index, target, child)| {
                let call = child.prepare("econtext.repl:run").args((text,));
                let call = timeout.into_iter().fold(call, |call, time| call.timeout(time));
                (index, target.name.clone(), Arc::new(call.start::<Answer>()))
            })
            .collect();
        if calls.is_empty() {
            self.run.report.note("no host is up; :retry connects again, :hosts says why");
        }
        *lock(&self.calls) = calls.iter().map(|(.., call)| call.clone()).collect();
        let mut outcomes = Vec::new();
        let mut exited = Vec::new();
        for (index, name, call) in &calls {
            // A shared call cannot be awaited without a bound, so each wait is a day long.
            let result = loop {
                if let Some(result) = call.wait_timeout(Duration::from_secs(86_400)) {
                    break result;
                }
            };
            let outcome = match result {
                Ok((_, Some(status))) => Outcome::Exit(status),
                Ok((shown, None)) => Outcome::Value(shown.map_or(Value::None, Value::from)),
                Err(error) => Outcome::Failed(error),
            };
            if let Outcome::Exit(_) = outcome {
                exited.push(*index);
            }
            self.run.report.result(self.seats[*index].number, name, &outcome, started.elapsed());
            if let Outcome::Failed(error) = &outcome
                && self.seats[*index].child.as_ref().is_ok_and(Context::is_closed)
            {
                self.seats[*index].child = Err(error.clone());
            }
            outcomes.push(outcome);
        }
        lock(&self.calls).clear();
        self.run.report.round();
        // A program that has ended ends its host's session, as Python's own prompt ends.
        for index in exited.into_iter().rev() {
            let seat = self.seats.remove(index);
            if let Ok(child) = &seat.child {
                child.shutdown(Duration::from_secs(2));
            }
        }
        outcomes
    }

    /// Executes a line with a colon. Returns whether to continue.
    fn command(&mut self, line: &str) -> bool {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match word {
            "hosts" => self.show_hosts(),
            "drop" => self.drop_hosts(rest),
            "add" => self.add_hosts(rest),
            "retry" => self.retry(),
            "quit" | "q" | "exit" => return false,
            "help" | "h" | "?" => self.run.report.note(HELP),
            other => self.run.report.note(&format!("there is no :{other}; :help names what there is")),
        }
        true
    }

    fn show_hosts(&self) {
        let up: Vec<&str> = self.up().map(|(_, target, _)| target.name.as_str()).collect();
        if !up.is_empty() {
            self.run.report.note(&format!("up ({}): {}", up.len(), fold(&up)));
        }
        for seat in &self.seats {
            if let Err(error) = &seat.child {
                self.run.report.note(&format!(
                    "not up: {}: {}: {}",
                    seat.target.name,
                    error.kind(),
                    error.message()
                ));
            }
        }
    }

    fn drop_hosts(&mut self, spec: &str) {
        let names = match expand(spec, &self.run.plan.inventory) {
            Ok(names) => names,
            Err(error) => return self.run.report.note(&error.to_string()),
        };
        let before = self.seats.len();
        self.seats.retain(|seat| {
            let goes = names.contains(&seat.target.name);
            if let (true, Ok(child)) = (goes, &seat.child) {
                child.shutdown(Duration::from_secs(2));
            }
            !goes
        });
        let gone = before - self.seats.len();
        self.run.report.note(&format!("{gone} dropped, {} left", self.seats.len()));
    }

    fn add_hosts(&mut self, spec: &str) {
        let plan = &self.run.plan;
        let targets = expand(spec, &plan.inventory).and_then(|names| {
            let known = |name: &String| self.seats.iter().any(|seat| seat.target.name == *name);
            let fresh = names.into_iter().filter(|name| !known(name));
            fresh.map(|name| plan.inventory.target(&name, &plan.settings)).collect::<Result<Vec<_>, _>>()
        });
        match targets {
            Ok(targets) => {
                let all = self.seats.len() + targets.len();
                match descriptors::provide(all) {
                    Ok(room) if room >= all => {}
                    _ => return self.run.report.note("no more files may be open here (ulimit -n)"),
                }
                if all > 1 {
                    self.run.report.now_many();
                }
                self.connect(targets);
            }
            Err(error) => self.run.report.note(&error.to_string()),
        }
    }

    fn retry(&mut self) {
        let (up, down): (Vec<Seat>, Vec<Seat>) = self.seats.drain(..).partition(|seat| seat.child.is_ok());
        self.seats = up;
        self.connect(down.into_iter().map(|seat| seat.target).collect());
    }

    /// Watches for signals. At a terminal, Ctrl-C interrupts the running calls. Otherwise, and by
    /// SIGTERM, the run ends.
    fn watch_signals(&self, is_terminal: bool) -> anyhow::Result<()> {
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
        let (calls, stop, seen) = (self.calls.clone(), self.run.stop.clone(), self.run.signal.clone());
        std::thread::spawn(move || {
            for signal in signals.forever() {
                let running = lock(&calls).clone();
                if signal == SIGINT && is_terminal && !running.is_empty() {
                    running.iter().for_each(|call| call.cancel());
                    continue;
                }
                if seen.swap(signal, Ordering::AcqRel) == 0 {
                    complain("stopping");
                    stop.stop(Reason::Interrupted);
                    running.iter().for_each(|call| call.cancel());
                    // A thread that waits for input does not see the stop.
                    std::thread::sleep(Duration::from_secs(3));
                }
                std::process::exit(128 + signal);
            }
        });
        Ok(())
    }
}
