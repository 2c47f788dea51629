//! The output of a run: as it happens, or put together at the end.

use super::collected::Collected;
use super::counts::Counts;
use super::events::{self, Event, unfinished};
use super::files::Files;
use crate::args::{Common, Mode};
use crate::outcome::Outcome;
use crate::output::console::{BAD, Console, GOOD};
use crate::output::json::plain;
use crate::output::progress::Progress;
use econtext::internal::lock;
use econtext::{Error, Hello, LogRecord, Value};
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Shows events of all hosts, from any thread.
#[derive(Debug)]
pub(crate) struct Report {
    quiet: bool,
    /// Whether a result of `None` is shown.
    show_none: bool,
    progress: Arc<Progress>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    mode: Mode,
    many: bool,
    console: Console,
    /// The start of a character whose end has not come yet, by host and file descriptor.
    partial: HashMap<(usize, u8), Vec<u8>>,
    collected: Collected,
    files: Option<Files>,
    /// Hosts that have yielded items, and so need not return a value.
    yielded: HashSet<usize>,
}

impl Report {
    /// A report on `hosts` hosts; with `copies`, files are copied there or from there.
    pub(crate) fn new(common: &Common, hosts: usize, copies: bool, show_none: bool) -> std::io::Result<Self> {
        Self::in_mode(common.mode(), common, hosts, copies, show_none)
    }

    /// The progress of the run.
    pub(crate) fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// A report on rounds, which shows the results after each round, folded for many hosts.
    pub(crate) fn for_rounds(common: &Common, hosts: usize) -> std::io::Result<Self> {
        let mode = match common.mode() {
            Mode::Lines if hosts > 1 => Mode::Fold,
            // A session has no end at which a document would be shown.
            Mode::Json => Mode::Jsonl,
            mode => mode,
        };
        Self::in_mode(mode, common, hosts, false, false)
    }

    fn in_mode(
        mode: Mode,
        common: &Common,
        hosts: usize,
        copies: bool,
        show_none: bool,
    ) -> std::io::Result<Self> {
        let many = hosts > 1;
        // A bar would stand between bytes that are written as they come.
        let progress = Progress::start(hosts, copies, !common.quiet && mode != Mode::Raw, common.progress);
        let prefix = many && !common.no_prefix && mode != Mode::Raw;
        let state = State {
            mode,
            many,
            console: Console::new(prefix, many && mode != Mode::Raw, common.color, progress.clone()),
            partial: HashMap::new(),
            collected: Collected::default(),
            files: common.outdir.as_deref().map(Files::create).transpose()?,
            yielded: HashSet::new(),
        };
        Ok(Report { quiet: common.quiet, show_none, progress, state: Mutex::new(state) })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Whether stdout is no longer read.
    pub(crate) fn broken(&self) -> bool {
        self.lock().console.broken.is_some()
    }

    /// Whether the reader of stdout has seen enough, as `head` does.
    pub(crate) fn hung_up(&self) -> bool {
        self.lock().console.hung_up()
    }

    /// The output that was lost, and the reason. A reader that has seen enough loses nothing.
    pub(crate) fn lost(&self) -> Option<String> {
        let state = self.lock();
        let stdout = state.console.broken.as_ref().filter(|_| !state.console.hung_up());
        let files = state.files.as_ref().and_then(Files::error);
        stdout.map(|e| format!("stdout: {e}")).or(files.map(|e| format!("--outdir: {e}")))
    }

    /// Whether results are for people, and not for programs.
    pub(crate) fn for_people(&self) -> bool {
        !matches!(self.lock().mode, Mode::Json | Mode::Jsonl | Mode::Table)
    }

    pub(crate) fn begun(&self, index: usize, host: &str) {
        self.progress.begun(index, host);
    }

    pub(crate) fn started(&self, index: usize, host: &str, hello: &Hello, connected: Duration) {
        self.progress.connected(index);
        let event = || Event::started(host, hello, connected);
        let mut state = self.lock();
        match state.mode {
            Mode::Jsonl => state.line(event()),
            Mode::Json => state.collected.started(index, host, hello, connected),
            _ => {}
        }
    }

    pub(crate) fn output(&self, index: usize, host: &str, fd: u8, data: &[u8]) {
        let mut state = self.lock();
        if let Some(files) = &mut state.files {
            files.output(host, fd, data);
        }
        match state.mode {
            Mode::Lines | Mode::Raw => state.console.output(index, host, fd, data),
            Mode::None => {}
            Mode::Fold | Mode::Diff | Mode::Table | Mode::Json => {
                state.collected.output(index, host, fd, data);
            }
            Mode::Jsonl => {
                let mut all = state.partial.remove(&(index, fd)).unwrap_or_default();
                all.extend_from_slice(data);
                let rest = all.split_off(all.len() - unfinished(&all));
                if !rest.is_empty() {
                    state.partial.insert((index, fd), rest);
                }
                state.output_event(host, fd, &all);
            }
        }
    }

    pub(crate) fn log(&self, index: usize, host: &str, record: &LogRecord) {
        let level = events::level(record.level);
        let text = format!("{level} {}: {}", record.logger, record.text());
        let mut state = self.lock();
        match state.mode {
            Mode::Lines | Mode::Raw => state.console.text(index, host, 2, &text),
            Mode::None => {}
            Mode::Fold | Mode::Diff | Mode::Table => {
                state.collected.output(index, host, 2, format!("{text}\n").as_bytes());
            }
            Mode::Json => state.collected.log(index, host, record),
            Mode::Jsonl => state.line(Event::log(host, record)),
        }
    }

    /// Shows one of many values, as it comes.
    pub(crate) fn item(&self, index: usize, host: &str, item: &Value) {
        let mut state = self.lock();
        state.yielded.insert(index);
        if let Some(files) = &mut state.files {
            files.output(host, 1, format!("{}\n", plain(item)).as_bytes());
        }
        match state.mode {
            Mode::Lines => state.console.text(index, host, 1, &plain(item)),
            Mode::Raw => state.raw(item),
            Mode::None => {}
            Mode::Fold | Mode::Diff | Mode::Table | Mode::Json => state.collected.item(index, host, item),
            Mode::Jsonl => state.line(Event::item(host, item)),
        }
    }

    pub(crate) fn result(&self, index: usize, host: &str, outcome: &Outcome, elapsed: Duration) {
        self.progress.ended(index, outcome.is_ok());
        let mut state = self.lock();
        if state.console.hung_up() {
            return; // the reader has left, which is no failure
        }
        if let Some(files) = &mut state.files {
            files.result(host, &Event::result(host, outcome, elapsed));
        }
        match state.mode {
            Mode::Jsonl => {
                for fd in [1, 2] {
                    if let Some(rest) = state.partial.remove(&(index, fd)) {
                        state.output_event(host, fd, &rest);
                    }
                }
                state.line(Event::result(host, outcome, elapsed));
            }
            Mode::Json => state.collected.result(index, host, outcome, elapsed),
            Mode::Fold | Mode::Diff | Mode::Table => {
                if let Some(text) = Self::error_text(state.many, host, outcome) {
                    state.collected.output(index, host, 2, format!("{text}\n").as_bytes());
                }
                state.collected.result(index, host, outcome, elapsed);
            }
            Mode::Lines | Mode::Raw | Mode::None => {
                state.console.end(index, host);
                let show_none = self.show_none && !state.yielded.contains(&index);
                match outcome.value() {
                    Some(Value::None) if !show_none => {}
                    Some(_) if state.mode == Mode::None => {}
                    Some(value) if state.mode == Mode::Raw => state.raw(value),
                    Some(value) => state.console.text(index, host, 1, &plain(value)),
                    None => {
                        if let Some(text) = Self::error_text(state.many, host, outcome) {
                            state.console.text(index, host, 2, &text);
                        }
                    }
                }
            }
        }
    }

    /// The text about a failure for people, if there is any.
    fn error_text(many: bool, host: &str, outcome: &Outcome) -> Option<String> {
        match outcome {
            Outcome::Value(_) | Outcome::Done(_) | Outcome::Exit(0) => None,
            Outcome::Exit(status) => many.then(|| format!("exit status {status}")),
            Outcome::Signal(signal) => Some(format!("ended by signal {signal}")),
            Outcome::Failed(error) => Some(describe(error, many, host)),
            Outcome::NotBegun(why) => Some(why.clone()),
        }
    }

    /// Ends a round, and shows the collected results.
    pub(crate) fn round(&self) {
        let mut state = self.lock();
        let State { mode, console, collected, .. } = &mut *state;
        match *mode {
            Mode::Fold => std::mem::take(collected).fold(console, false),
            Mode::Diff => std::mem::take(collected).diff(console, false),
            Mode::Table => std::mem::take(collected).table(console),
            _ => {}
        }
    }

    /// Switches the report to many hosts.
    pub(crate) fn now_many(&self) {
        let mut state = self.lock();
        state.many = true;
        if state.mode == Mode::Lines {
            state.mode = Mode::Fold;
        }
    }

    /// Ends the rounds with a summary for programs.
    pub(crate) fn end_rounds(&self, counts: Counts, elapsed: Duration) {
        let mut state = self.lock();
        if state.mode == Mode::Jsonl {
            state.line(Event::summary(counts, elapsed));
        }
    }

    /// Ends the display of progress.
    pub(crate) fn end_progress(&self) {
        self.progress.end();
    }

    /// Shows the collected results and a summary; `again` is the command that does the rest.
    pub(crate) fn summary(&self, counts: Counts, elapsed: Duration, again: Option<&str>) {
        self.progress.end();
        let mut state = self.lock();
        let State { mode, console, collected, .. } = &mut *state;
        match *mode {
            Mode::Fold => collected.fold(console, self.show_none),
            Mode::Diff => collected.diff(console, self.show_none),
            Mode::Table => collected.table(console),
            Mode::Json => collected.json(console, &Event::summary(counts, elapsed)),
            Mode::Jsonl => state.line(Event::summary(counts, elapsed)),
            Mode::Lines | Mode::Raw | Mode::None => {}
        }
        let many = state.many;
        let console = &mut state.console;
        if many && !self.quiet {
            let mut text = console.styled(2, GOOD, &format!("{} ok", counts.ok));
            let bad = [
                (counts.failed, "failed"),
                (counts.unreachable, "unreachable"),
                (counts.timeout, "timed out"),
            ];
            for (n, what) in bad {
                if n > 0 {
                    text += ", ";
                    text += &console.styled(2, BAD, &format!("{n} {what}"));
                }
            }
            let _ = write!(text, " in {:.1} s", elapsed.as_secs_f64());
            if let Some(again) = again {
                let _ = write!(text, "; again: {again}");
            }
            text.push('\n');
            console.write(2, text.as_bytes());
        }
    }

    /// Prints a message about the run itself.
    pub(crate) fn note(&self, text: &str) {
        self.lock().console.write(2, format!("econtext: {text}\n").as_bytes());
    }
}

impl State {
    fn line(&mut self, event: Event) {
        self.console.write(1, event.into_line().as_bytes());
    }

    fn output_event(&mut self, host: &str, fd: u8, data: &[u8]) {
        if !data.is_empty() {
            self.line(Event::output(host, fd, data));
        }
    }

    /// Writes a value: bytes and text as they are, all else as a line.
    fn raw(&mut self, value: &Value) {
        match value {
            Value::Bytes(bytes) | Value::NativeStr(bytes) => self.console.write(1, bytes),
            Value::Str(text) => self.console.write(1, text.as_bytes()),
            other => self.console.write(1, (plain(other) + "\n").as_bytes()),
        }
    }
}

/// An error for people. The lines of many hosts already have the names in front.
pub(crate) fn describe(error: &Error, many: bool, host: &str) -> String {
    if let Some(error) = error.call_error() {
        let traceback = error.traceback.trim_end();
        return if traceback.is_empty() { error.to_string() } else { traceback.to_owned() };
    }
    let mut text = if many { String::new() } else { format!("econtext: {host}: ") };
    let _ = write!(text, "{}: {}", error.kind(), error.message());
    for line in error.stderr().lines() {
        let _ = write!(text, "\n  {line}");
    }
    text
}
