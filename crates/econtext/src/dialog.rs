//! Answers password prompts on a terminal. Without IO.

use crate::error::ErrorKind;
use secrecy::{ExposeSecret as _, SecretString};
use std::fmt;
use zeroize::Zeroizing;

/// The most text before a prompt that is kept.
const MAX_LINE: usize = 4096;

/// One password and where it stands.
pub struct Dialog {
    password: SecretString,
    answered: bool,
    /// The line that the other side is in the middle of.
    line: Vec<u8>,
}

/// What to do about what was read.
pub(crate) enum Step {
    /// Nothing: read on.
    Wait,
    /// Write this to the terminal.
    Answer(Zeroizing<Vec<u8>>),
    /// Give up.
    Fail(ErrorKind, String),
}

impl Dialog {
    /// Answers the first prompt with `password`. A second prompt means that it was wrong.
    pub fn password(password: SecretString) -> Self {
        Dialog { password, answered: false, line: Vec::new() }
    }

    pub(crate) fn handle_bytes(&mut self, bytes: &[u8]) -> Step {
        for &byte in bytes {
            match byte {
                b'\r' | b'\n' => self.line.clear(),
                _ if self.line.len() < MAX_LINE => self.line.push(byte),
                _ => {}
            }
        }
        let line = String::from_utf8_lossy(&self.line).trim().to_owned();
        if line.contains("(yes/no") {
            return Step::Fail(ErrorKind::HostKey, format!("the host key is not known: {line}"));
        }
        // Prompts are translated and may say anything: what they share is that a line ends in a colon.
        if !line.ends_with(':') {
            return Step::Wait;
        }
        self.line.clear();
        if self.answered {
            return Step::Fail(
                ErrorKind::Auth,
                format!("the password was not accepted: asked again: {line}"),
            );
        }
        self.answered = true;
        let secret = self.password.expose_secret();
        let mut answer = Zeroizing::new(Vec::with_capacity(secret.len() + 1));
        answer.extend_from_slice(secret.as_bytes());
        answer.push(b'\n');
        Step::Answer(answer)
    }
}

impl fmt::Debug for Dialog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialog").field("answered", &self.answered).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_prompt_is_answered_and_the_second_refused_at_every_split() {
        let shown = b"Welcome\r\nNote: read this\r\nroot@h's password: ";
        for at in 0..=shown.len() {
            let mut dialog = Dialog::password("s3cret".into());
            let steps = [dialog.handle_bytes(&shown[..at]), dialog.handle_bytes(&shown[at..])];
            let answers: Vec<_> = steps
                .iter()
                .filter_map(|s| if let Step::Answer(a) = s { Some(&a[..]) } else { None })
                .collect();
            // A split right behind a colon is a prompt as far as anyone can tell; not so behind "Note".
            if at != b"Welcome\r\nNote:".len() && at != b"Welcome\r\nNote: ".len() {
                assert_eq!(answers, [b"s3cret\n"], "split at {at}");
                assert!(matches!(dialog.handle_bytes(b"\r\nPassword: "), Step::Fail(ErrorKind::Auth, _)));
            }
            assert!(!format!("{dialog:?}").contains("s3cret"));
        }
    }

    #[test]
    fn a_question_about_the_host_key_is_not_answered() {
        let mut dialog = Dialog::password("s3cret".into());
        let step =
            dialog.handle_bytes(b"Are you sure you want to continue connecting (yes/no/[fingerprint])? ");
        assert!(matches!(step, Step::Fail(ErrorKind::HostKey, _)));
    }
}
