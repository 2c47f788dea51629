//! Commands, run beside a child or by the transport alone.

use crate::args::{Common, Exec, Usage};
use crate::input::Inputs;
use crate::outcome::Outcome;
use crate::run::job::{Host, Job};
use econtext::process::{Command, ProcessEvent, Status};
use econtext::{Error, ErrorKind};
use econtext_fleet::{Identity, Target};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

impl From<Status> for Outcome {
    fn from(status: Status) -> Self {
        match (status.code, status.signal) {
            (Some(code), _) => Outcome::Exit(code),
            (None, Some(signal)) => Outcome::Signal(signal),
            // The end of the program is unknown, which is no success.
            (None, None) => Outcome::Exit(255),
        }
    }
}

/// Runs the command on one host.
pub(crate) fn exec(exec: &Exec, words: &[OsString], inputs: &Inputs, host: &Host<'_>) -> Outcome {
    let show = host.show();
    let words: Result<Vec<OsString>, _> = words.iter().map(|word| host.identity().expand(word)).collect();
    let command = match words {
        Ok(words) => command(exec, &words, host),
        Err(error) => return Outcome::Failed(Error::Usage(error.0)),
    };
    let process = command.spawn_with(move |event| {
        if let ProcessEvent::Output { fd, data } = event {
            show(fd, &data);
        }
    });
    let process = match process {
        Ok(process) => process,
        Err(error) => return Outcome::Failed(error),
    };
    inputs.feed(Some(&host.context), process.clone());
    let result = match host.time_left() {
        None => process.wait(),
        Some(left) => process.wait_timeout(left).unwrap_or_else(|| {
            process.kill();
            Err(too_long(host.context.name(), host.started.elapsed()))
        }),
    };
    result.map_or_else(|error| Outcome::Failed(with_hint(exec, error)), Outcome::from)
}

/// Adds a hint at `--shell` to the error of a command that was meant for a shell.
fn with_hint(exec: &Exec, error: Error) -> Error {
    match error {
        Error::NotStarted { host, program, errno, message } if !exec.shell && is_for_a_shell(&program) => {
            let message =
                format!("{message}; hint: with --shell before the host, the words are a line for a shell");
            Error::NotStarted { host, program, errno, message }
        }
        error => error,
    }
}

/// Whether the name of a program is a line for a shell, or a part of one: no program has such a
/// name.
fn is_for_a_shell(program: &str) -> bool {
    let assignment = program.split_once('=').is_some_and(|(name, _)| econtext::internal::is_identifier(name));
    assignment
        || program.contains([' ', '|', '<', '>', ';', '&', '$', '`', '*', '?', '(', '\n'])
        || SHELL_WORDS.contains(&program)
}

/// The commands and keywords that a shell handles itself.
const SHELL_WORDS: [&str; 14] = [
    "cd", "export", "source", ".", "alias", "ulimit", "umask", "unset", "if", "for", "while", "type", "exec",
    "set",
];

fn too_long(host: &str, after: Duration) -> Error {
    Error::Timeout { host: host.to_owned(), phase: "the command", after, stderr: String::new() }
}

fn command(exec: &Exec, words: &[OsString], host: &Host<'_>) -> Command {
    let command = match words {
        words if exec.shell => host.context.shell(words.join(OsStr::new(" "))),
        [program, args @ ..] => host.context.command(program).args(args),
        [] => host.context.shell(""),
    };
    let environment = host.identity().environment().into_iter();
    let command = environment.fold(command, |command, (name, value)| command.env(name, value));
    match rustix::termios::tcgetwinsize(io::stdin()) {
        _ if !exec.tty => command,
        Ok(size) => command.terminal(size.ws_row, size.ws_col),
        Err(_) => command.terminal(24, 80),
    }
}

/// Checks that the flags ask for nothing that needs a child.
pub(crate) fn check_raw(common: &Common, targets: &[Target]) -> Result<(), Usage> {
    let needs = [
        (targets.iter().any(|t| t.settings.becoming().is_some()), "--become"),
        (targets.iter().any(|t| !t.settings.via.is_empty()), "--via"),
        (common.ask_pass || common.password_cmd.is_some(), "a password"),
        (
            common.chdir.is_some() || !common.env.is_empty() || !common.rlimit.is_empty(),
            "--env, --chdir or --rlimit",
        ),
        (common.nice.is_some(), "--nice"),
    ];
    match needs.iter().find(|(given, _)| *given) {
        Some((_, what)) => Err(Usage(format!("--raw has no Python there, which {what} needs"))),
        None => Ok(()),
    }
}

/// Runs the command on one host by the transport alone.
pub(crate) fn raw(
    (exec, words): (&Exec, &[OsString]),
    (index, target): (usize, &Target),
    inputs: &Inputs,
    job: &Job<'_>,
) -> Outcome {
    let started = Instant::now();
    let common = &exec.common;
    let words = match raw_words(words, &job.identities[index]) {
        Ok(words) if exec.shell => vec!["sh".to_owned(), "-c".to_owned(), words.join(" ")],
        Ok(words) => words,
        Err(error) => return Outcome::Failed(Error::Usage(error.0)),
    };
    let argv: Vec<OsString> = target.raw(&words).iter().map(|word| to_bytes(word)).collect();
    let failed = |e: io::Error| {
        Outcome::Failed(Error::Connect {
            kind: ErrorKind::Unreachable,
            host: target.name.clone(),
            message: format!("cannot start {}: {e}", argv[0].display()),
            stderr: String::new(),
        })
    };
    let mut command = std::process::Command::new(&argv[0]);
    command.args(&argv[1..]).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(e) => return failed(e),
    };
    if let Some(stdin) = child.stdin.take() {
        inputs.feed(None, stdin);
    }
    // The number of reads, and of readers that wait until their output is taken.
    let (read, showing) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let copy = |fd: u8, mut from: Box<dyn Read + Send>| {
        let (report, name) = (job.report.clone(), target.name.clone());
        let (read, showing) = (read.clone(), showing.clone());
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(n @ 1..) = from.read(&mut buffer) {
                showing.fetch_add(1, Ordering::AcqRel);
                read.fetch_add(1, Ordering::AcqRel);
                report.output(index, &name, fd, &buffer[..n]);
                showing.fetch_sub(1, Ordering::AcqRel);
            }
        })
    };
    let outputs = [
        child.stdout.take().map(|from| copy(1, Box::new(from))),
        child.stderr.take().map(|from| copy(2, Box::new(from))),
    ];
    let end = |child: &mut std::process::Child| {
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
        let _ = child.wait();
    };
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if common.timeout.is_some_and(|t| started.elapsed() > t) => {
                end(&mut child);
                return Outcome::Failed(too_long(&target.name, started.elapsed()));
            }
            Ok(None) if job.stop.is_stopped() => {
                end(&mut child);
                return Outcome::Failed(Error::Cancelled { host: target.name.clone() });
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(10)),
            Err(e) => return failed(e),
        }
    };
    // Processes that the command left behind may hold the pipes; its own output has arrived by now.
    let (mut quiet, mut before) = (Instant::now(), 0);
    while outputs.iter().flatten().any(|output| !output.is_finished()) && !job.stop.is_stopped() {
        let now = read.load(Ordering::Acquire);
        if now != before || showing.load(Ordering::Acquire) > 0 {
            (quiet, before) = (Instant::now(), now);
        }
        if quiet.elapsed() > Duration::from_secs(1) {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Outcome::from(Status::from(status))
}

/// The words of a command that the transport runs, which are a part of its own command line.
fn raw_words(words: &[OsString], identity: &Identity) -> Result<Vec<String>, Usage> {
    words.iter().map(|word| Ok(to_text(identity.expand(word)?.as_bytes()))).collect()
}

/// The first of the last 256 characters, which stand for bytes on the way through a transport. They
/// have no meaning of their own.
const BYTES: u32 = 0x10_ff00;

/// Turns a word that may not be UTF-8 into text that no transport changes, except for quotes around
/// it.
fn to_text(word: &[u8]) -> String {
    let mut text = String::new();
    let push_bytes = |text: &mut String, bytes: &[u8]| {
        text.extend(bytes.iter().filter_map(|byte| char::from_u32(BYTES + u32::from(*byte))));
    };
    for chunk in word.utf8_chunks() {
        for c in chunk.valid().chars() {
            if u32::from(c) < BYTES { text.push(c) } else { push_bytes(&mut text, c.to_string().as_bytes()) }
        }
        push_bytes(&mut text, chunk.invalid());
    }
    text
}

/// Restores the word that [`to_text`] was given.
fn to_bytes(text: &str) -> OsString {
    let mut word = Vec::new();
    for c in text.chars() {
        match u32::from(c).checked_sub(BYTES).and_then(|byte| u8::try_from(byte).ok()) {
            Some(byte) => word.push(byte),
            None => word.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    OsString::from_vec(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_any_bytes_go_through_a_transport_that_takes_text() {
        for word in [
            &b"plain"[..],
            b"",
            b"caf\xe9",
            "caf\u{e9} \u{10fffd}\u{10ff41}".as_bytes(),
            b"\xff\xfe\xf4\x8f",
            b"'\\",
        ] {
            assert_eq!(to_bytes(&to_text(word)).as_bytes(), word, "{word:?}");
        }
    }
}
