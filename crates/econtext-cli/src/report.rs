//! What is shown of a run: as lines, or as one JSON object per event.

use crate::args::Mode;
use crate::console::Console;
use crate::job::Outcome;
use crate::job::lock;
use crate::json::{write_data, write_str, write_value};
use econtext::{CallError, Error, Hello, LogRecord, Value};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::Duration;

/// Shows events of all hosts, from any thread.
#[derive(Debug)]
pub(crate) struct Report {
    mode: Mode,
    quiet: bool,
    many: bool,
    /// Whether a result of `None` is shown.
    show_none: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    console: Console,
    /// The start of a character whose end has not come yet, by host and file descriptor.
    partial: HashMap<(usize, u8), Vec<u8>>,
}

impl Report {
    pub(crate) fn new(mode: Mode, many: bool, prefix: bool, quiet: bool, show_none: bool) -> Self {
        let console = Console::new(prefix);
        Report { mode, quiet, many, show_none, state: Mutex::new(State { console, partial: HashMap::new() }) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Whether nobody reads stdout any more.
    pub(crate) fn broken(&self) -> bool {
        self.lock().console.broken
    }

    pub(crate) fn started(&self, host: &str, hello: &Hello, connected: Duration) {
        if self.mode == Mode::Jsonl {
            let mut line = event("start", host);
            field_str(&mut line, "python", &hello.python);
            field_str(&mut line, "user", &hello.user);
            let _ = write!(line, ",\"connect_ms\":{}", connected.as_millis());
            self.lock().line(line);
        }
    }

    pub(crate) fn output(&self, index: usize, host: &str, fd: u8, data: &[u8]) {
        let mut state = self.lock();
        match self.mode {
            Mode::Lines => state.console.output(index, host, fd, data),
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
        let level = match record.level {
            50.. => "CRITICAL",
            40.. => "ERROR",
            30.. => "WARNING",
            20.. => "INFO",
            _ => "DEBUG",
        };
        let mut state = self.lock();
        match self.mode {
            Mode::Lines => {
                let text = format!("{level} {}: {}", record.logger, record.message);
                state.console.text(index, host, 2, &text);
            }
            Mode::Jsonl => {
                let mut line = event("log", host);
                field_str(&mut line, "level", level);
                field_str(&mut line, "logger", &record.logger);
                field_str(&mut line, "message", &record.message);
                let _ = write!(line, ",\"time\":{:.3}", record.time);
                state.line(line);
            }
        }
    }

    pub(crate) fn result(&self, index: usize, host: &str, outcome: &Outcome, elapsed: Duration) {
        let mut state = self.lock();
        match self.mode {
            Mode::Lines => {
                state.console.end(index, host);
                match outcome {
                    Outcome::Value(Value::None) if !self.show_none => {}
                    Outcome::Value(value) => state.console.text(index, host, 1, &plain(value)),
                    Outcome::Exit(0) => {}
                    Outcome::Exit(status) if self.many => {
                        state.console.text(index, host, 2, &format!("exit status {status}"));
                    }
                    Outcome::Exit(_) => {}
                    Outcome::Signal(signal) => {
                        state.console.text(index, host, 2, &format!("ended by signal {signal}"));
                    }
                    Outcome::Failed(error) => {
                        let text = describe(error, self.many, host);
                        state.console.text(index, host, 2, &text);
                    }
                }
            }
            Mode::Jsonl => {
                for fd in [1, 2] {
                    if let Some(rest) = state.partial.remove(&(index, fd)) {
                        state.output_event(host, fd, &rest);
                    }
                }
                let mut line = event("result", host);
                write_outcome(&mut line, outcome);
                let _ = write!(line, ",\"elapsed_ms\":{}", elapsed.as_millis());
                state.line(line);
            }
        }
    }

    pub(crate) fn summary(&self, outcomes: &[Outcome], elapsed: Duration) {
        let count = |test: &dyn Fn(&Outcome) -> bool| outcomes.iter().filter(|o| test(o)).count();
        let ok = count(&Outcome::is_ok);
        let unreachable = count(&Outcome::is_unreachable);
        let timeout = count(&Outcome::is_timeout);
        let failed = outcomes.len() - ok - unreachable - timeout;
        let mut state = self.lock();
        if self.mode == Mode::Jsonl {
            let mut line = String::from("{\"v\":1,\"event\":\"summary\"");
            let _ = write!(
                line,
                ",\"ok\":{ok},\"failed\":{failed},\"unreachable\":{unreachable},\"timeout\":{timeout},\"elapsed_ms\":{}",
                elapsed.as_millis()
            );
            state.line(line);
        }
        if self.many && !self.quiet {
            let mut text = format!("{ok} ok");
            for (n, what) in [(failed, "failed"), (unreachable, "unreachable"), (timeout, "timed out")] {
                if n > 0 {
                    let _ = write!(text, ", {n} {what}");
                }
            }
            let _ = writeln!(text, " in {:.1} s", elapsed.as_secs_f64());
            state.console.write(2, text.as_bytes());
        }
    }
}

impl State {
    fn line(&mut self, mut line: String) {
        line.push_str("}\n");
        self.console.write(1, line.as_bytes());
    }

    fn output_event(&mut self, host: &str, fd: u8, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let mut line = event(if fd == 2 { "stderr" } else { "stdout" }, host);
        line.push_str(",\"data\":");
        write_data(&mut line, data);
        self.line(line);
    }
}

fn event(kind: &str, host: &str) -> String {
    let mut line = format!("{{\"v\":1,\"event\":\"{kind}\",\"host\":");
    write_str(&mut line, host);
    line
}

fn field_str(line: &mut String, name: &str, value: &str) {
    let _ = write!(line, ",\"{name}\":");
    write_str(line, value);
}

/// How many bytes at the end begin a UTF-8 character that is not whole.
fn unfinished(data: &[u8]) -> usize {
    match std::str::from_utf8(data) {
        Err(error) if error.error_len().is_none() => data.len() - error.valid_up_to(),
        _ => 0,
    }
}

/// A value for people: text as it is, all else as JSON.
fn plain(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None => {
            let mut out = String::new();
            write_value(&mut out, value);
            out
        }
    }
}

fn write_outcome(line: &mut String, outcome: &Outcome) {
    match outcome {
        Outcome::Value(value) => {
            line.push_str(",\"ok\":true,\"value\":");
            write_value(line, value);
        }
        Outcome::Exit(0) => line.push_str(",\"ok\":true,\"value\":null"),
        Outcome::Exit(status) => {
            let _ = write!(line, ",\"ok\":false,\"kind\":\"exit\",\"status\":{status}");
        }
        Outcome::Signal(signal) => {
            let _ = write!(line, ",\"ok\":false,\"kind\":\"signal\",\"signal\":{signal}");
        }
        Outcome::Failed(error) => {
            let _ = write!(line, ",\"ok\":false,\"kind\":\"{}\",\"error\":", error.kind());
            match error.call_error() {
                Some(error) => write_call_error(line, error),
                None => {
                    line.push_str("{\"message\":");
                    write_str(line, &error.message());
                    field_str(line, "stderr", error.stderr());
                    line.push('}');
                }
            }
        }
    }
}

fn write_call_error(line: &mut String, error: &CallError) {
    line.push_str("{\"type\":");
    write_str(line, &error.type_name);
    field_str(line, "module", &error.module);
    field_str(line, "message", &error.message);
    line.push_str(",\"traceback\":[");
    for (i, frame) in error.frames.iter().enumerate() {
        line.push_str(if i > 0 { ",{\"file\":" } else { "{\"file\":" });
        write_str(line, &frame.file);
        let _ = write!(line, ",\"line\":{}", frame.line);
        field_str(line, "function", &frame.function);
        field_str(line, "source", &frame.source);
        line.push('}');
    }
    line.push(']');
    if let Some(cause) = &error.cause {
        line.push_str(",\"cause\":");
        write_call_error(line, cause);
    }
    line.push('}');
}

/// An error for people. In front of every line of many hosts their names stand already.
fn describe(error: &Error, many: bool, host: &str) -> String {
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
