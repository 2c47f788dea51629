//! Settings that say how hosts are reached, from keywords.

use crate::ours::{spec, usage};
use econtext::transport::Transport;
use econtext_fleet::{Become, Settings, Target};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use secrecy::SecretString;

/// Settings by the names of their fields; a field that is None is not set.
pub(crate) fn settings(options: &Bound<'_, PyDict>) -> PyResult<Settings> {
    let mut found = Settings::default();
    for (name, value) in options.iter() {
        if value.is_none() {
            continue;
        }
        let name: String = name.extract()?;
        let secret = || value.extract::<String>().map(|password| Some(SecretString::from(password)));
        match name.as_str() {
            "user" => found.user = value.extract()?,
            "port" => found.port = value.extract()?,
            "python" => found.python = value.extract()?,
            "identity" => found.identity = value.extract()?,
            "jump" => found.jump = value.extract()?,
            "ssh_config" => found.ssh_config = value.extract()?,
            "ssh_options" => found.ssh_options = value.extract()?,
            "ssh_program" => found.ssh_program = value.extract()?,
            "via" => found.via = value.extract()?,
            "become_user" => found.become_user = value.extract()?,
            "password" => found.passwords.ssh = secret()?,
            "become_password" => found.passwords.r#become = secret()?,
            "become" => {
                found.r#become = Some(match value.extract::<String>()?.as_str() {
                    "sudo" => Some(Become::Sudo),
                    "su" => Some(Become::Su),
                    "doas" => Some(Become::Doas),
                    "no" => None,
                    other => {
                        return Err(usage(format!("become {other:?}: there are sudo, su, doas and no")));
                    }
                });
            }
            other => return Err(usage(format!("there is no setting {other:?}"))),
        }
    }
    Ok(found)
}

/// The transport by which a target is reached.
pub(crate) fn transport(word: &str, settings: &Settings) -> PyResult<Box<dyn Transport>> {
    let mut target = Target::parse(word).map_err(spec)?;
    target.settings = settings.clone();
    Ok(target.transport())
}

/// The transport that switches user.
pub(crate) fn become_transport(settings: &Settings) -> PyResult<Box<dyn Transport>> {
    settings.become_transport().ok_or_else(|| usage("no user to switch to was given".to_owned()))
}
