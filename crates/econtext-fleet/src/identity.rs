//! The host of a run that a child is on, as programs there are told it.

use crate::inventory::Inventory;
use crate::spec_error::SpecError;
use crate::target::Target;
use serde_json::{Map, Value as Json};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

/// The host of a run that a child is on.
///
/// Programs there have it in their environment and as the module `econtext.target`; words of a
/// command line have it as placeholders.
///
/// ```
/// use econtext_fleet::{Identity, Inventory, Selection, Settings};
/// let inventory = Inventory::default();
/// let selection = Selection { specs: vec!["web[01-03]".into()], ..Selection::default() };
/// let targets = selection.targets(&inventory, &Settings::default())?;
/// let second = Identity::new(&inventory, &targets[1].name, 1, targets.len());
/// assert_eq!(second.expand("/srv/%{host}-%{position}of%{count}".as_ref())?, "/srv/web02-2of3");
/// assert_eq!(second.expand("100%%{host} %{http_code}".as_ref())?, "100%{host} %{http_code}");
/// # Ok::<(), econtext_fleet::SpecError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Identity {
    name: String,
    groups: Vec<String>,
    vars: Map<String, Json>,
    /// The position in the run, from 1 on.
    position: usize,
    count: usize,
}

impl Identity {
    /// The identity of the host called `name`, the `index`th (from 0 on) of `count` of a run.
    pub fn new(inventory: &Inventory, name: &str, index: usize, count: usize) -> Self {
        Identity {
            name: name.to_owned(),
            groups: inventory.groups_of(name),
            vars: inventory.variables(name),
            position: index + 1,
            count,
        }
    }

    /// The identities of all targets of a run, in their order.
    pub fn all(inventory: &Inventory, targets: &[Target]) -> Vec<Self> {
        let name =
            |(index, target): (usize, &Target)| Identity::new(inventory, &target.name, index, targets.len());
        targets.iter().enumerate().map(name).collect()
    }

    /// The environment variables for programs there: `ECONTEXT_TARGET` and others with this prefix.
    pub fn environment(&self) -> [(&'static str, String); 5] {
        [
            ("ECONTEXT_TARGET", self.name.clone()),
            ("ECONTEXT_TARGET_GROUPS", self.groups.join(",")),
            ("ECONTEXT_TARGET_VARS", Json::Object(self.vars.clone()).to_string()),
            ("ECONTEXT_TARGET_POSITION", self.position.to_string()),
            ("ECONTEXT_TARGET_COUNT", self.count.to_string()),
        ]
    }

    /// The source of the module `econtext.target`, on every Python.
    pub fn source(&self) -> String {
        let all = serde_json::json!([self.name, self.groups, self.vars, self.position, self.count]);
        format!(
            "import json\nname, groups, vars, position, count = json.loads(u{})\ndel json\n",
            ascii(&Json::String(ascii(&all)))
        )
    }

    /// A word with `%{host}`, `%{position}`, `%{count}` and `%{vars.NAME}` replaced. `%%{` stands
    /// for `%{`, and braces with anything else in them for themselves.
    ///
    /// # Errors
    /// If the host does not have a variable of the word.
    pub fn expand(&self, word: &OsStr) -> Result<OsString, SpecError> {
        let mut out = Vec::new();
        let mut rest = word.as_bytes();
        while let Some(at) = rest.windows(2).position(|pair| pair == b"%{") {
            let (before, behind) = rest.split_at(at);
            let name = behind[2..].iter().position(|b| *b == b'}').map(|end| &behind[2..2 + end]);
            let value = match name.and_then(|name| std::str::from_utf8(name).ok()) {
                Some(name) => self.value(name)?,
                None => None,
            };
            match (value, name) {
                (Some(_), Some(name)) if before.ends_with(b"%") => {
                    out.extend_from_slice(&before[..before.len() - 1]);
                    out.extend_from_slice(&behind[..name.len() + 3]);
                    rest = &behind[name.len() + 3..];
                }
                (Some(value), Some(name)) => {
                    out.extend_from_slice(before);
                    out.extend_from_slice(value.as_bytes());
                    rest = &behind[name.len() + 3..];
                }
                _ => {
                    out.extend_from_slice(&rest[..at + 2]);
                    rest = &rest[at + 2..];
                }
            }
        }
        out.extend_from_slice(rest);
        Ok(OsString::from_vec(out))
    }

    fn value(&self, name: &str) -> Result<Option<String>, SpecError> {
        Ok(Some(match name {
            "host" => self.name.clone(),
            "position" => self.position.to_string(),
            "count" => self.count.to_string(),
            name => match name.strip_prefix("vars.") {
                None => return Ok(None),
                Some(var) => match self.vars.get(var) {
                    Some(Json::String(text)) => text.clone(),
                    Some(other) => other.to_string(),
                    None => {
                        return Err(SpecError(format!("{}: it has no variable {var:?}", self.name)));
                    }
                },
            },
        }))
    }
}

/// The JSON text in ASCII only.
fn ascii(json: &Json) -> String {
    let mut out = String::new();
    for c in json.to_string().chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            let mut units = [0; 2];
            c.encode_utf16(&mut units).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        }
    }
    out
}
