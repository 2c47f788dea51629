//! Another user on the same machine: sudo, su and doas.
//!
//! The tool runs in the C locale, the child behind it in the previous one. Each gets a terminal
//! beside its stdio: some configurations demand one, and passwords are asked for there.

use super::dialog::Dialog;
use super::launch::{Failure, Launch, Transport, classify_python};
use super::quote::shell_join;
use crate::error::ErrorKind;
use secrecy::SecretString;
use std::fmt;

/// The script that restores the locale: `$0` is an x, because sudo loses empty words, and the old
/// `LC_ALL`.
const RESTORE: &str = r#"if [ "$0" = x ];then unset LC_ALL;else LC_ALL=${0#x};export LC_ALL;fi;"#;

/// How a tool takes the command that it is to run.
#[derive(Clone, Copy, PartialEq)]
enum Takes {
    /// The command as words.
    Words,
    /// The command as words, in which it escapes all but the dollar signs for a login shell: `sudo
    /// -i`.
    WordsOfLogin,
    /// The command as one word for a shell, with the tool's own stdio for questions: su.
    Line,
}

/// A shell command that runs `tool` in the C locale, and in that the child in the old one.
fn in_c_locale(tool: &[String], child: &[String], takes: Takes) -> Vec<String> {
    let tool = shell_join(tool);
    let child = shell_join(child);
    let quote = |text: &str| shell_join(&[text]);
    let inner = |script: &str| shell_join(&["sh", "-c", script]);
    let (aside, behind) = match takes {
        Takes::Words => ("", format!("{} \"x$l\"", inner(&format!("{RESTORE}exec {child}")))),
        Takes::WordsOfLogin => {
            ("", format!("{} \"x$l\"", inner(&without_dollars(&format!("{RESTORE}exec {child}")))))
        }
        Takes::Line => {
            // The terminal is its stdio; the stream waits on other file descriptors. The value gets quotes around it for
            // the shell that runs the line, and has none in it.
            let script = inner(&format!("{RESTORE}exec {child} <&3 >&4 2>&5 3<&- 4>&- 5>&-"));
            let aside = "exec 3<&0 4>&1 5>&2 </dev/tty >/dev/tty 2>&1;";
            (aside, format!("{}\"$l\"{}", quote(&format!("{script} 'x")), quote("'")))
        }
    };
    let script = format!("{aside}l=${{LC_ALL-}};LC_ALL=C;export LC_ALL;exec {tool} {behind}");
    vec!["sh".to_owned(), "-c".to_owned(), script]
}

/// A script that does the same and has no dollar sign in it.
fn without_dollars(script: &str) -> String {
    let mut octal = String::new();
    for byte in script.bytes() {
        match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b' ' | b'=' | b'-' | b'/' | b'.' | b',' => {
                octal.push(char::from(byte))
            }
            _ => octal.push_str(&format!("\\0{byte:03o}")),
        }
    }
    format!("eval \"`printf %b '{octal}'`\"")
}

/// The kind of error when a tool ended without a child: the tool's own messages are about the
/// switch of the user. `name` is the name in its messages, `program` the program that was run.
fn classify(name: &str, program: &str, failure: &Failure<'_>) -> ErrorKind {
    let base = program.rsplit('/').next().unwrap_or(program);
    let complains = |line: &str| {
        let says = |name: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(':'));
        [name, base, program].into_iter().any(says)
            || ["not found", "command not found"]
                .iter()
                .any(|what| line.ends_with(&format!("{base}: {what}")))
            || line.contains("is not in the sudoers file")
            || line.contains("is not allowed to")
    };
    match classify_python(failure) {
        ErrorKind::NoPython if failure.stderr.contains("no Python here") => ErrorKind::NoPython,
        _ if failure.stderr.lines().any(|line| complains(line.trim())) => ErrorKind::Become,
        kind => kind,
    }
}

macro_rules! tools {
    ($($(#[$doc:meta])* $name:ident, $program:literal, $(#[$password_doc:meta])*;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone)]
            pub struct $name {
                program: String,
                user: String,
                password: Option<SecretString>,
                options: Vec<String>,
            }

            impl Default for $name {
                fn default() -> Self {
                    Self::new()
                }
            }

            impl $name {
                /// Switches to root, by the first program of that name.
                pub fn new() -> Self {
                    $name { program: $program.into(), user: "root".into(), password: None, options: Vec::new() }
                }

                /// Sets the program, if it is not the first of its name there.
                pub fn program(mut self, program: impl Into<String>) -> Self {
                    self.program = program.into();
                    self
                }

                /// Sets the user to switch to.
                pub fn user(mut self, user: impl Into<String>) -> Self {
                    self.user = user.into();
                    self
                }

                $(#[$password_doc])*
                pub fn password(mut self, password: SecretString) -> Self {
                    self.password = Some(password);
                    self
                }

                /// Adds an argument, among the tool's own options.
                pub fn arg(mut self, arg: impl Into<String>) -> Self {
                    self.options.push(arg.into());
                    self
                }
            }

            // The output leaves the password out.
            impl fmt::Debug for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.debug_struct(stringify!($name))
                        .field("user", &self.user)
                        .field("options", &self.options)
                        .finish_non_exhaustive()
                }
            }
        )*
    };
}

tools! {
    /// A child as another user, by `sudo`. Without a password, sudo may not ask for one.
    ///
    /// ```
    /// use econtext::transport::{Sudo, Transport as _};
    /// let launch = Sudo::new().user("postgres").launch(&["python3".to_owned()]);
    /// assert!(launch.argv[2].contains("sudo -u postgres"));
    /// ```
    Sudo, "sudo",
    /// Sets the answer to a question for a password.
    ;
    /// A child as another user, by `su`.
    Su, "su",
    /// Sets the answer to a question for a password: the password of the user to switch to.
    ;
    /// A child as another user, by `doas`. Without a password, doas may not ask for one.
    Doas, "doas",
    /// Sets the answer to a question for a password.
    ;
}

impl Sudo {
    /// Runs the child through the user's login shell: `-i`.
    pub fn login(self) -> Self {
        self.arg("-i")
    }

    /// Sets `HOME` to the user's home directory: `-H`.
    pub fn set_home(self) -> Self {
        self.arg("-H")
    }

    /// Keeps the environment as it is: `-E`.
    pub fn preserve_env(self) -> Self {
        self.arg("-E")
    }

    /// Sets the SELinux role: `-r`.
    pub fn selinux_role(self, role: impl Into<String>) -> Self {
        self.arg("-r").arg(role)
    }

    /// Sets the SELinux type: `-t`.
    pub fn selinux_type(self, kind: impl Into<String>) -> Self {
        self.arg("-t").arg(kind)
    }
}

impl Su {
    /// Runs the child as at a login: `-l`.
    pub fn login(self) -> Self {
        self.arg("-l")
    }

    /// Keeps the environment as it is: `-m`.
    pub fn preserve_env(self) -> Self {
        self.arg("-m")
    }
}

impl Transport for Sudo {
    fn launch(&self, child: &[String]) -> Launch {
        let nonce = nonce();
        let mut tool = vec![self.program.clone(), "-u".into(), self.user.clone()];
        match self.password {
            // The colon is for people who see the prompt.
            Some(_) => tool.extend(["-p".into(), format!("{nonce}:")]),
            None => tool.push("-n".into()),
        }
        tool.extend(self.options.iter().cloned());
        tool.push("--".into());
        let takes = if self.options.iter().any(|o| o == "-i") { Takes::WordsOfLogin } else { Takes::Words };
        let mut launch = Launch::new(in_c_locale(&tool, child, takes));
        launch.dialog = Some(Dialog::new(ErrorKind::Become, self.password.clone()).nonce(nonce));
        launch
    }

    fn classify(&self, failure: &Failure<'_>) -> ErrorKind {
        classify("sudo", &self.program, failure)
    }
}

impl Transport for Su {
    fn launch(&self, child: &[String]) -> Launch {
        let mut tool = vec![self.program.clone()];
        tool.extend(self.options.iter().cloned());
        tool.extend([self.user.clone(), "-c".into()]);
        let mut launch = Launch::new(in_c_locale(&tool, child, Takes::Line));
        launch.dialog = Some(Dialog::new(ErrorKind::Become, self.password.clone()));
        launch
    }

    fn classify(&self, failure: &Failure<'_>) -> ErrorKind {
        classify("su", &self.program, failure)
    }
}

impl Transport for Doas {
    fn launch(&self, child: &[String]) -> Launch {
        let mut tool = vec![self.program.clone(), "-u".into(), self.user.clone()];
        if self.password.is_none() {
            tool.push("-n".into());
        }
        tool.extend(self.options.iter().cloned());
        tool.push("--".into());
        let mut launch = Launch::new(in_c_locale(&tool, child, Takes::Words));
        launch.dialog = Some(Dialog::new(ErrorKind::Become, self.password.clone()));
        launch
    }

    fn classify(&self, failure: &Failure<'_>) -> ErrorKind {
        classify("doas", &self.program, failure)
    }
}

/// A text that occurs nowhere else. It need not be secret.
fn nonce() -> String {
    let mut random = [0; 8];
    // The error is ignored: without random numbers there is no context either, and that error is
    // shown.
    let _ = getrandom::fill(&mut random);
    format!("econtext-{:016x}", u64::from_ne_bytes(random))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Runs a launch, and returns its output on stdout.
    fn locale_of(argv: &[String], before: Option<&str>) -> String {
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]).env_remove("LC_ALL");
        if let Some(before) = before {
            command.env("LC_ALL", before);
        }
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    }

    #[test]
    fn the_tool_runs_in_the_c_locale_and_the_child_in_its_own() {
        let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let child = words(&["sh", "-c", "echo \"in ${LC_ALL-none} with $1\"", "x", "it's $HOME"]);
        let shown = "echo \"tool $LC_ALL\"";
        for (takes, tool) in [
            (Takes::Words, words(&["sh", "-c", &format!("{shown}; \"$@\""), "tool"])),
            // These are the words as sudo -i writes them: all but letters, digits, _, - and $ are
            // escaped.
            (
                Takes::WordsOfLogin,
                words(&[
                    "python3",
                    "-c",
                    "import os,re,sys; print('tool', os.environ['LC_ALL'], flush=True); os.execlp('sh', 'sh', '-c', ' '.join(re.sub(r'([^\\w$-])', r'\\\\\\1', w) for w in sys.argv[1:]))",
                ]),
            ),
            (Takes::Line, words(&["sh", "-c", &format!("{shown} >&4; eval \"$0\"")])),
        ] {
            let mut argv = in_c_locale(&tool, &child, takes);
            // The test has no terminal.
            argv[2] = argv[2].replace("/dev/tty", "/dev/null");
            assert_eq!(locale_of(&argv, Some("de_DE.UTF-8")), "tool C\nin de_DE.UTF-8 with it's $HOME\n");
            assert_eq!(locale_of(&argv, None), "tool C\nin none with it's $HOME\n");
        }
    }

    #[test]
    fn passwords_are_in_no_argument_and_no_debug() {
        let child = ["python3".to_owned()];
        let sudo = Sudo::new().password("s3cret".into()).set_home().selinux_role("r").selinux_type("t");
        let su = Su::new().user("x").password("s3cret".into()).login();
        let doas = Doas::new().password("s3cret".into());
        for text in [
            format!("{:?} {:?}", sudo.launch(&child), sudo),
            format!("{:?} {:?}", su.launch(&child), su),
            format!("{:?} {:?}", doas.launch(&child), doas),
        ] {
            assert!(!text.contains("s3cret"), "{text}");
        }
        let script = &sudo.launch(&child).argv[2];
        assert!(script.contains(" -H -r r -t t -- sh -c "), "{script}");
        assert!(su.launch(&child).argv[2].contains("su -l x -c "));
    }
}
