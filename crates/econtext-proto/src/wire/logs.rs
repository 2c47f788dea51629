//! Records of the child's `logging`.

use crate::value::{MODULE_ROOT, Value, lossy};

/// A log record of the child's `logging`.
#[derive(Clone, Debug, PartialEq)]
pub struct LogRecord {
    /// The logger's name.
    pub logger: String,
    /// Python's level: 10 debug, 20 info, 30 warning, 40 error, 50 critical.
    pub level: i64,
    /// The formatted message.
    pub message: String,
    /// Seconds since 1970 by the child's clock.
    pub time: f64,
    /// The traceback that was logged with it.
    pub traceback: Option<String>,
    /// The record's other fields, by the names of Python's attributes: `pathname`, `lineno`, `funcName`, `stack_info`, `threadName`,
    /// `process`, and those of `extra`.
    pub fields: Vec<(Value, Value)>,
}

impl LogRecord {
    /// One of its fields.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.fields.iter().find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value)
    }

    /// The message, with the traceback below it if there is one.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        match &self.traceback {
            Some(traceback) => format!("{}\n{traceback}", self.message).into(),
            None => self.message.as_str().into(),
        }
    }

    pub(crate) fn from_value(value: &Value) -> Option<Self> {
        match value.as_seq()? {
            [logger, level, message, time, rest @ ..] if rest.len() < 3 => Some(LogRecord {
                logger: lossy(logger)?,
                level: level.as_i64()?,
                message: lossy(message)?,
                time: match time {
                    Value::Float(t) => *t,
                    other => other.as_i64()? as f64,
                },
                traceback: rest.first().and_then(lossy).map(|text| text.replace(MODULE_ROOT, "")),
                fields: match rest.get(1) {
                    Some(Value::Dict(fields)) => fields.clone(),
                    _ => Vec::new(),
                },
            }),
            _ => None,
        }
    }
}
