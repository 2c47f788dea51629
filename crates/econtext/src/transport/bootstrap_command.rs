//! The data sent to start a child: the command line, and the program that follows on its stdin.
//!
//! ```text
//! PYTHON -SEc DECODER FIRST_STAGE NAME        on the command line
//! 07204<zlib of core.py>ExternalContext().main(30,"web01",b"…",134217728,      on stdin
//! ```
//! The first stage takes the rest from stdin and adds two arguments that it alone knows; see `agent/`.

use econtext_proto::Secret;
use zeroize::Zeroizing;

/// The code that inflates and runs the first stage. It has no quote, `$`, backtick, `!` or line
/// end: every login shell leaves it alone. It keeps the working directory from being imported from.
const DECODER: &str = "import sys;del sys.path[0];from zlib import*;from binascii import*;\
                       exec(decompress(a2b_base64(sys.argv[1])))";
/// The source of `agent/first_stage.py`, minimised, in zlib, in base64.
const FIRST_STAGE: &str = include_str!(concat!(env!("OUT_DIR"), "/first_stage.b64"));
/// The source of `agent/core.py`, minimised, in zlib.
const CORE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/core.z"));

/// The script that runs the first Python there is. `exec` keeps it from leaving a shell behind.
const AUTO: &str = "for p in python3 python python2 /usr/libexec/platform-python python3.14 python3.13 python3.12 \
                    python3.11 python3.10 python3.9 python3.8 python3.7 python3.6 python2.7;do \
                    command -v $p>/dev/null 2>&1&&exec $p \"$@\";done;echo econtext: no Python here>&2;exit 127";

/// The Python to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Python {
    /// The first found of python3, python, python2, `/usr/libexec/platform-python` and the
    /// versioned names, in the same round trip as everything else. It needs a POSIX `sh` there.
    #[default]
    Auto,
    /// This program, looked for in the search path there if it has no slash.
    Path(String),
    /// A program and its first arguments: an interpreter with options, or a program that starts
    /// one.
    ///
    /// ```
    /// # use econtext::Python;
    /// assert_eq!(Python::from("python3 -X dev"), Python::Command(vec!["python3".into(), "-X".into(), "dev".into()]));
    /// assert_eq!(Python::from("'/opt/my python/bin/python3'"), Python::Path("/opt/my python/bin/python3".into()));
    /// ```
    Command(Vec<String>),
}

impl From<&str> for Python {
    /// Parses `auto`, or words as a shell splits them.
    fn from(s: &str) -> Self {
        match (s, shlex::split(s)) {
            ("auto", _) => Python::Auto,
            (_, Some(mut words)) if words.len() == 1 => Python::Path(words.remove(0)),
            (_, Some(words)) if !words.is_empty() => Python::Command(words),
            _ => Python::Path(s.to_owned()),
        }
    }
}

impl Python {
    /// The words that start it.
    pub fn words(&self) -> Vec<String> {
        match self {
            Python::Auto => ["sh", "-c", AUTO, "sh"].map(str::to_owned).to_vec(),
            Python::Path(path) => vec![path.clone()],
            Python::Command(words) => words.clone(),
        }
    }

    /// The words that are options of the interpreter, and not the way to it.
    fn options(&self) -> &[String] {
        let Python::Command(words) = self else { return &[] };
        let is_python = |word: &String| {
            let name = word.rsplit('/').next().unwrap_or_default();
            name.starts_with("python") || name.starts_with("pypy")
        };
        let at = words.iter().rposition(is_python).unwrap_or(0);
        &words[at + 1..]
    }
}

/// The argument vector that starts a child called `name`.
pub fn command_line(python: &Python, name: &str) -> Vec<String> {
    let program = ["-SEc", DECODER, FIRST_STAGE].map(str::to_owned);
    let mut words = python.words();
    words.extend(program);
    words.push(process_name(name));
    // The first stage starts the interpreter again, with these.
    words.extend_from_slice(python.options());
    words
}

/// The name that `ps` shows there: `econtext:` and the child's name, in characters that are safe in
/// shells and paths.
fn process_name(name: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "@:._+-".contains(c) { c } else { '_' };
    format!("econtext:{}", name.chars().map(safe).take(64).collect::<String>())
}

/// The bytes that go to the child's stdin first.
pub(crate) fn payload(level: Option<u8>, name: &str, secret: &Secret, limit: usize) -> Zeroizing<Vec<u8>> {
    let level = level.map_or("None".to_owned(), |l| l.to_string());
    let name = &process_name(name)["econtext:".len()..];
    let key = secret.expose();
    let call = Zeroizing::new(format!("ExternalContext().main({level},\"{name}\",b\"{key}\",{limit},"));
    let size = CORE.len() + call.len();
    let mut payload = Zeroizing::new(Vec::with_capacity(5 + size));
    payload.extend_from_slice(format!("{size:05}").as_bytes());
    payload.extend_from_slice(CORE);
    payload.extend_from_slice(call.as_bytes());
    payload
}

/// The range of the payload that is the same for every child.
pub(crate) fn core_range() -> std::ops::Range<usize> {
    5..5 + CORE.len()
}

#[cfg(test)]
mod tests {
    use super::super::quote::shell_join;
    use super::*;

    /// A raised ceiling needs a reason in the commit message.
    const MAX_COMMAND_LINE: usize = 700;
    const MAX_PAYLOAD: usize = 9_500;

    #[test]
    fn command_line_and_payload_stay_small() {
        let line = shell_join(&command_line(&Python::Path("python".into()), "n"));
        let auto = shell_join(&command_line(&Python::Auto, "n"));
        let payload = payload(Some(30), "n", &Secret::new([1; 32]), 1 << 27);
        println!(
            "command line {} bytes, with --python auto {}; payload {} bytes",
            line.len(),
            auto.len(),
            payload.len()
        );
        assert!(line.len() <= MAX_COMMAND_LINE, "{} bytes: {line}", line.len());
        assert!(payload.len() <= MAX_PAYLOAD, "{} bytes", payload.len());
        // The documentation has these numbers; the key is random bytes there as here, and costs a few either way.
        let page = std::fs::read_to_string(econtext_testkit::repository("docs/how-it-works.md")).unwrap();
        let number = |row: &str| -> usize {
            let line = page.lines().find(|line| line.starts_with(row)).unwrap();
            line[row.len()..].split('|').next().unwrap().trim().replace(',', "").parse().unwrap()
        };
        assert_eq!(number("| command line (`--python python3`) |"), line.len());
        assert_eq!(number("| command line (`--python auto`) |"), auto.len());
        assert!(number("| payload |").abs_diff(payload.len()) < 100, "{} bytes", payload.len());
    }

    #[test]
    fn no_shell_touches_the_command_line() {
        let words = command_line(&Python::Path("python3".into()), "a b$c'd`e\"f!g/h\n\u{e9}");
        for word in &words {
            assert!(!word.contains(['\'', '"', '$', '`', '!', '\n', '\\']), "{word}");
        }
        assert_eq!(words[4], "econtext:a_b_c_d_e_f_g_h__");
        assert!(!command_line(&Python::Auto, "n").iter().any(|w| w.contains(['\'', '!', '`', '\n', '\\'])));
    }

    #[test]
    fn the_payload_size_has_five_digits() {
        let payload = payload(None, "n", &Secret::new([1; 32]), 1);
        assert_eq!(std::str::from_utf8(&payload[..5]).unwrap().parse(), Ok(payload.len() - 5));
    }
}
