//! Events as JSON objects; docs/output.schema.json describes each.

use super::counts::Counts;
use crate::outcome::Outcome;
use crate::output::json::{write_data, write_str, write_value};
use econtext::value::CallError;
use econtext::{Hello, LogRecord, Value};
use std::fmt::Write as _;
use std::time::Duration;

/// One event: a JSON object whose end has not been written.
#[derive(Clone, Debug)]
pub(super) struct Event(String);

impl Event {
    fn of(kind: &str, host: &str) -> Self {
        let mut event = Event(format!("{{\"v\":1,\"event\":\"{kind}\",\"host\":"));
        write_str(&mut event.0, host);
        event
    }

    fn text(mut self, name: &str, value: &str) -> Self {
        field(&mut self.0, name, value);
        self
    }

    fn number(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        let _ = write!(self.0, ",\"{name}\":{value}");
        self
    }

    pub(super) fn started(host: &str, hello: &Hello, connected: Duration) -> Self {
        Event::of("start", host)
            .text("python", &hello.python)
            .text("user", &hello.user)
            .number("connect_ms", connected.as_millis())
    }

    pub(super) fn output(host: &str, fd: u8, data: &[u8]) -> Self {
        let mut event = Event::of(if fd == 2 { "stderr" } else { "stdout" }, host);
        event.0.push_str(",\"data\":");
        write_data(&mut event.0, data);
        event
    }

    pub(super) fn log(host: &str, record: &LogRecord) -> Self {
        Event::of("log", host)
            .text("level", level(record.level))
            .text("logger", &record.logger)
            .text("message", &record.text())
            .number(
                "time",
                if record.time.is_finite() { format!("{:.3}", record.time) } else { "null".to_owned() },
            )
    }

    pub(super) fn item(host: &str, item: &Value) -> Self {
        let mut event = Event::of("item", host);
        event.0.push_str(",\"value\":");
        write_value(&mut event.0, item);
        event
    }

    pub(super) fn result(host: &str, outcome: &Outcome, elapsed: Duration) -> Self {
        let mut event = Event::of("result", host);
        write_outcome(&mut event.0, outcome);
        event.number("elapsed_ms", elapsed.as_millis())
    }

    pub(super) fn summary(counts: Counts, elapsed: Duration) -> Self {
        Event("{\"v\":1,\"event\":\"summary\"".to_owned())
            .number("ok", counts.ok)
            .number("failed", counts.failed)
            .number("unreachable", counts.unreachable)
            .number("timeout", counts.timeout)
            .number("elapsed_ms", elapsed.as_millis())
    }

    /// The whole object.
    pub(super) fn into_object(mut self) -> String {
        self.0.push('}');
        self.0
    }

    pub(super) fn into_line(self) -> String {
        self.into_object() + "\n"
    }
}

/// The name of a level of Python's logging.
pub(super) fn level(number: i64) -> &'static str {
    match number {
        50.. => "CRITICAL",
        40.. => "ERROR",
        30.. => "WARNING",
        20.. => "INFO",
        _ => "DEBUG",
    }
}

/// The number of bytes at the end that begin a UTF-8 character which is not whole.
pub(super) fn unfinished(data: &[u8]) -> usize {
    match std::str::from_utf8(data) {
        Err(error) if error.error_len().is_none() => data.len() - error.valid_up_to(),
        _ => 0,
    }
}

fn field(line: &mut String, name: &str, value: &str) {
    let _ = write!(line, ",\"{name}\":");
    write_str(line, value);
}

pub(super) fn write_outcome(line: &mut String, outcome: &Outcome) {
    match outcome {
        Outcome::Value(value) => {
            line.push_str(",\"ok\":true,\"value\":");
            write_value(line, value);
        }
        Outcome::Done(value) => {
            line.push_str(",\"ok\":true,\"status\":0,\"value\":");
            write_value(line, value);
        }
        Outcome::Exit(0) => line.push_str(",\"ok\":true,\"status\":0,\"value\":null"),
        Outcome::Exit(status) => {
            let _ = write!(line, ",\"ok\":false,\"kind\":\"exit\",\"status\":{status}");
        }
        Outcome::Signal(signal) => {
            let _ = write!(line, ",\"ok\":false,\"kind\":\"signal\",\"status\":null,\"signal\":{signal}");
        }
        Outcome::NotBegun(why) => {
            line.push_str(",\"ok\":false,\"kind\":\"cancelled\",\"error\":{\"message\":");
            write_str(line, why);
            line.push_str(",\"stderr\":\"\"}");
        }
        Outcome::Failed(error) => {
            let _ = write!(line, ",\"ok\":false,\"kind\":\"{}\",\"error\":", error.kind());
            match error.call_error() {
                Some(error) => write_call_error(line, error),
                None => {
                    line.push_str("{\"message\":");
                    write_str(line, &error.message());
                    field(line, "stderr", error.stderr());
                    line.push('}');
                }
            }
        }
    }
}

fn write_call_error(line: &mut String, error: &CallError) {
    line.push_str("{\"type\":");
    write_str(line, &error.type_name);
    field(line, "module", &error.module);
    field(line, "message", &error.message);
    line.push_str(",\"traceback\":[");
    for (i, frame) in error.frames.iter().enumerate() {
        line.push_str(if i > 0 { ",{\"file\":" } else { "{\"file\":" });
        write_str(line, &frame.file);
        let _ = write!(line, ",\"line\":{}", frame.line);
        field(line, "function", &frame.function);
        field(line, "source", &frame.source);
        line.push('}');
    }
    line.push(']');
    if let Some(cause) = &error.cause {
        line.push_str(",\"cause\":");
        write_call_error(line, cause);
    }
    line.push('}');
}
