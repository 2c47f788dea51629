//! The surroundings of a child, as the command line gives them: directory, environment, limits.

use crate::args::{Common, Usage};
use econtext::{Context, Error, Value};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

/// The checked flags.
#[derive(Debug)]
pub(crate) struct ChildEnvironment {
    env: Vec<(Value, Value)>,
    chdir: Value,
    nice: Option<i32>,
    rlimits: Vec<(String, i64)>,
}

impl ChildEnvironment {
    pub(crate) fn new(common: &Common) -> Result<Self, Usage> {
        let bad =
            |word: &OsStr, flag: &str| Usage(format!("{flag} {}: NAME=VALUE is wanted", word.display()));
        let pair = |word: &'_ OsStr, flag: &str| {
            let bytes = word.as_bytes();
            let at =
                bytes.iter().position(|b| *b == b'=').filter(|at| *at > 0).ok_or_else(|| bad(word, flag))?;
            Ok::<_, Usage>((bytes[..at].to_vec(), bytes[at + 1..].to_vec()))
        };
        let chdir = common.chdir.as_ref().map_or(Value::None, |path| Value::Bytes(path.as_bytes().to_vec()));
        let mut found = ChildEnvironment { env: Vec::new(), chdir, nice: common.nice, rlimits: Vec::new() };
        for word in &common.env {
            let (name, value) = pair(word, "--env")?;
            found.env.push((Value::Bytes(name), Value::Bytes(value)));
        }
        for word in &common.rlimit {
            let (name, value) = word
                .split_once('=')
                .filter(|(name, _)| !name.is_empty())
                .ok_or_else(|| bad(word.as_ref(), "--rlimit"))?;
            let value = match value {
                "unlimited" => -1,
                number => number.parse().map_err(|_| Usage(format!("--rlimit {word}: no number")))?,
            };
            found.rlimits.push((name.to_owned(), value));
        }
        Ok(found)
    }

    /// Applies the surroundings to the child, and so to all that it starts.
    ///
    /// # Errors
    /// The error that the child reports.
    pub(crate) fn set_up(&self, context: &Context, timeout: Option<Duration>) -> Result<(), Error> {
        if self.env.is_empty() && self.chdir == Value::None && self.nice.is_none() && self.rlimits.is_empty()
        {
            return Ok(());
        }
        let limits: Vec<(&str, i64)> =
            self.rlimits.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        let call = context
            .prepare("econtext.runner:set_up")
            .args((Value::Dict(self.env.clone()), &self.chdir, self.nice, limits))
            .timeout(timeout.unwrap_or(Duration::from_secs(60)));
        call.start().wait()
    }
}
