//! Running the command under test.
#![allow(dead_code, missing_docs)] // each test binary uses a part

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::Value as Json;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

pub(crate) fn econtext() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_econtext"));
    command.stdin(Stdio::null());
    // The configuration of the account that runs the tests is not tested, and its records are its own.
    command.env("XDG_CONFIG_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/config"));
    command.env("XDG_STATE_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/state"));
    command
}

pub(crate) struct Ran {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Ran {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ran {
    /// The events of `--jsonl`, each of which is as its schema says.
    pub(crate) fn events(&self) -> Vec<Json> {
        self.stdout.lines().map(|line| checked(line, "event", &self.stderr)).collect()
    }

    /// The document of `--json`, which is as its schema says.
    pub(crate) fn document(&self) -> Json {
        checked(&self.stdout, "document", &self.stderr)
    }

    pub(crate) fn event(&self, kind: &str) -> Json {
        self.events()
            .into_iter()
            .find(|e| e["event"] == kind)
            .unwrap_or_else(|| panic!("no {kind}: {self:?}"))
    }

    /// All data of `stdout` or `stderr` events.
    pub(crate) fn data(&self, kind: &str) -> String {
        self.events()
            .iter()
            .filter(|e| e["event"] == kind)
            .map(|e| e["data"].as_str().unwrap_or("?").to_owned())
            .collect()
    }
}

impl std::fmt::Debug for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "status {}\n-- stdout\n{}\n-- stderr\n{}", self.status, self.stdout, self.stderr)
    }
}

pub(crate) fn run<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Ran {
    econtext().args(args).output().expect("it runs").into()
}

pub(crate) fn run_with_input<S: AsRef<std::ffi::OsStr>>(
    args: impl IntoIterator<Item = S>,
    input: &[u8],
) -> Ran {
    let mut child = econtext()
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("written");
    output.into()
}

/// JSON that is what docs/output.schema.json says of it.
pub(crate) fn checked(text: &str, what: &str, more: &str) -> Json {
    let json: Json = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}\n{more}"));
    thread_local! {
        static SCHEMAS: std::cell::RefCell<(Schemas, Compiler)> = std::cell::RefCell::default();
    }
    SCHEMAS.with_borrow_mut(|(schemas, compiler)| {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/output.schema.json");
        let index: SchemaIndex = compiler
            .compile(&format!("{path}#/$defs/{what}"), schemas)
            .unwrap_or_else(|e| panic!("the schema: {e:#}"));
        if let Err(error) = schemas.validate(&json, index) {
            panic!("{error:#}\n{text}\n{more}");
        }
    });
    json
}
