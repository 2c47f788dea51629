//! What a child runs in, as the command line says: directory, environment, limits.

use crate::args::{Common, Usage};
use econtext::{Context, Error, Value};
use std::time::Duration;

/// Checked flags.
#[derive(Debug, Default)]
pub(crate) struct Surroundings {
    env: Vec<(Value, Value)>,
    chdir: Option<String>,
    nice: Option<i32>,
    rlimits: Vec<(String, i64)>,
}

impl Surroundings {
    pub(crate) fn new(common: &Common) -> Result<Self, Usage> {
        let pair = |word: &String, flag: &str| match word.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            _ => Err(Usage(format!("{flag} {word}: NAME=VALUE is wanted"))),
        };
        let mut found =
            Surroundings { chdir: common.chdir.clone(), nice: common.nice, ..Surroundings::default() };
        for word in &common.env {
            let (name, value) = pair(word, "--env")?;
            found.env.push((name.into(), value.into()));
        }
        for word in &common.rlimit {
            let (name, value) = pair(word, "--rlimit")?;
            let value = match value.as_str() {
                "unlimited" => -1,
                number => number.parse().map_err(|_| Usage(format!("--rlimit {word}: no number")))?,
            };
            found.rlimits.push((name, value));
        }
        Ok(found)
    }

    /// Makes the child so, and with it all that it starts.
    ///
    /// # Errors
    /// What the child says against it.
    pub(crate) fn set_up(&self, context: &Context, timeout: Option<Duration>) -> Result<(), Error> {
        if self.env.is_empty() && self.chdir.is_none() && self.nice.is_none() && self.rlimits.is_empty() {
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
