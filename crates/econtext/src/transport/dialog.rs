//! Answers to the questions of login and become tools on a terminal. The module has no IO and no
//! clock.
//!
//! Where a tool takes a prompt of ours, that prompt is recognised by a nonce, wherever it appears.
//! Other prompts of a password are recognised by the word, in the languages that tools are
//! translated to. A known prompt is answered once. An unknown one is never answered: it is shown,
//! and the attempt ends.

use crate::error::ErrorKind;
use secrecy::{ExposeSecret as _, SecretString};
use std::fmt;
use zeroize::Zeroizing;

/// The most text before a prompt that is kept.
const MAX_LINE: usize = 4096;

/// The words of tools for a password, in lower case.
const WORDS: [&str; 50] = [
    "password",
    "passwd",
    "adgangskode",
    "contrasenya",
    "contraseña",
    "facal-faire",
    "fjalëkalim",
    "geslo",
    "hasło",
    "heslo",
    "iphasiwedi",
    "jelszó",
    "kata laluan",
    "kata sandi",
    "lozinka",
    "lösenord",
    "lykilorð",
    "mot de passe",
    "mật khẩu",
    "ohtsemus",
    "parol",
    "parola",
    "parole",
    "parool",
    "pasahitza",
    "pasfhocal",
    "passord",
    "passwort",
    "pasvorto",
    "salasana",
    "senha",
    "slaptažodis",
    "wachtwoord",
    "şifre",
    "пароль",
    "парола",
    "лозинка",
    "κωδικός",
    "συνθηματικό",
    "סיסמה",
    "كلمة السر",
    "पासवर्ड",
    "รหัสผ่าน",
    "パスワード",
    "密码",
    "密碼",
    "口令",
    "암호",
    "비밀번호",
    "гасло",
];

/// The dialog about one password, and its state.
pub struct Dialog {
    password: Option<SecretString>,
    /// The text that appears in the prompt if the tool took ours.
    nonce: Option<String>,
    /// The kind of error that a refusal means.
    refused: ErrorKind,
    answered: bool,
    /// Whether the line that was answered continues: echoed stars, and the text that a tool puts
    /// around our prompt.
    muted: bool,
    /// The line that the other side is in the middle of.
    line: Vec<u8>,
}

/// The next step after a read.
#[derive(Debug)]
pub(crate) enum Step {
    /// Read on.
    Wait,
    /// Read on; if no more comes for a while, the text is an unknown prompt:
    /// [`Dialog::handle_silence`].
    WaitBriefly,
    /// Write this to the terminal.
    Answer(Zeroizing<Vec<u8>>),
    /// Give up.
    Fail(ErrorKind, String),
}

impl Dialog {
    /// Answers the first prompt of ssh for a password. A second prompt means that it was wrong.
    pub fn password(password: SecretString) -> Self {
        Dialog::new(ErrorKind::Auth, Some(password))
    }

    /// Answers the first prompt with `password`, if there is one. `refused` is the error if that is
    /// not accepted: [`ErrorKind::Auth`] or [`ErrorKind::Become`].
    pub fn new(refused: ErrorKind, password: Option<SecretString>) -> Self {
        Dialog { password, nonce: None, refused, answered: false, muted: false, line: Vec::new() }
    }

    /// Recognises a prompt by a text in it.
    pub fn nonce(mut self, nonce: impl Into<String>) -> Self {
        self.nonce = Some(nonce.into());
        self
    }

    pub(crate) fn handle_bytes(&mut self, bytes: &[u8]) -> Step {
        for &byte in bytes {
            match byte {
                b'\r' | b'\n' => {
                    self.line.clear();
                    self.muted = false;
                }
                _ if self.line.len() < MAX_LINE => self.line.push(byte),
                _ => {}
            }
        }
        if self.muted {
            return Step::Wait;
        }
        let line = self.shown();
        if line.contains("(yes/no") {
            return Step::Fail(ErrorKind::HostKey, format!("the host key is not known: {line}"));
        }
        if self.asks_with_nonce() || is_password_prompt(&line) {
            return self.answer(&line);
        }
        if ends_like_a_prompt(&line) { Step::WaitBriefly } else { Step::Wait }
    }

    /// Handles a silence after a [`Step::WaitBriefly`].
    pub(crate) fn handle_silence(&mut self) -> Step {
        let line = self.shown();
        if self.muted || !ends_like_a_prompt(&line) {
            return Step::Wait;
        }
        Step::Fail(self.refused, format!("asked what is not known, and was told nothing: {line}"))
    }

    /// Whether the next text belongs to a line that was answered.
    pub(crate) fn is_muted(&self) -> bool {
        self.muted
    }

    /// The output of a tool, for people: the nonce in its prompt says nothing to them.
    pub(crate) fn without_nonce(&self, text: &[u8]) -> String {
        let text = String::from_utf8_lossy(text);
        match &self.nonce {
            Some(nonce) => text.replace(nonce.as_str(), "password"),
            None => text.into_owned(),
        }
    }

    fn answer(&mut self, line: &str) -> Step {
        if self.answered {
            return Step::Fail(self.refused, format!("the password was not accepted: asked again: {line}"));
        }
        let Some(password) = &self.password else {
            return Step::Fail(self.refused, format!("a password is asked for, and none was given: {line}"));
        };
        let secret = password.expose_secret();
        let mut answer = Zeroizing::new(Vec::with_capacity(secret.len() + 1));
        answer.extend_from_slice(secret.as_bytes());
        answer.push(b'\n');
        self.answered = true;
        self.muted = true;
        self.line.clear();
        Step::Answer(answer)
    }

    fn asks_with_nonce(&self) -> bool {
        self.nonce.as_ref().is_some_and(|nonce| self.line.windows(nonce.len()).any(|w| w == nonce.as_bytes()))
    }

    /// The line so far, without characters that only move the cursor, and without our nonce.
    fn shown(&self) -> String {
        let text = self.without_nonce(&self.line);
        text.chars().filter(|c| !c.is_control()).collect::<String>().trim().to_owned()
    }
}

/// Whether a line ends as only a prompt does. `trim` takes no-break spaces for spaces.
fn ends_like_a_prompt(line: &str) -> bool {
    line.ends_with([':', '：', '?', '？', '>'])
}

/// Whether a line asks for a password: it has the word, and ends in a colon, which may be a wide one.
fn is_password_prompt(line: &str) -> bool {
    let lower = line.to_lowercase();
    line.ends_with([':', '：']) && WORDS.iter().any(|word| lower.contains(word))
}

impl fmt::Debug for Dialog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialog").field("answered", &self.answered).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "econtext-0123456789abcdef";
    /// The mark in transcripts for a tool that waits for an answer.
    const WAITS: char = '\u{1}';

    /// The end of a transcript: a known `password:` answered once or not, then any other event.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum End {
        /// The password was typed once, and that was all.
        Answered,
        /// No text was typed.
        Silent,
        /// No text was typed, and the dialog failed like this.
        Refused(ErrorKind),
        /// The password was typed once, and then the dialog failed like this.
        AnsweredThen(ErrorKind),
    }

    fn play(dialog: &mut Dialog, pieces: &[&[u8]]) -> End {
        let mut answers = 0;
        let mut last = Step::Wait;
        for piece in pieces {
            last = dialog.handle_bytes(piece);
            match &last {
                Step::Answer(answer) => {
                    assert_eq!(&answer[..], b"s3cret\n");
                    answers += 1;
                }
                Step::Fail(kind, message) => {
                    assert!(!message.contains("s3cret"));
                    return if answers == 0 { End::Refused(*kind) } else { End::AnsweredThen(*kind) };
                }
                _ => {}
            }
        }
        if let Step::WaitBriefly = last
            && let Step::Fail(kind, _) = dialog.handle_silence()
        {
            return if answers == 0 { End::Refused(kind) } else { End::AnsweredThen(kind) };
        }
        assert!(answers <= 1);
        if answers == 1 { End::Answered } else { End::Silent }
    }

    #[test]
    fn recorded_transcripts_end_as_they_must_at_every_split() {
        use End::*;
        use ErrorKind::{Auth, Become, HostKey};
        let lecture = "\r\nWe trust you have received the usual lecture from the local System\r\nAdministrator. It usually boils down to these three things:\r\n\r\n    #1) Respect the privacy of others.\r\n    #2) Think before you type.\r\n\r\nFor security reasons, the password you type will not be visible.\r\n\r\n";
        let ours = format!("{NONCE}:");
        let table: Vec<(&str, ErrorKind, String, End)> = vec![
            ("sudo, our prompt", Become, ours.clone(), Answered),
            ("sudo, our prompt behind its lecture", Become, format!("{lecture}{ours} "), Answered),
            ("sudo, C", Become, "[sudo] password for deploy: ".into(), Answered),
            ("sudo, zh_CN, full-width colon", Become, "[sudo] deploy 的密码：".into(), Answered),
            ("sudo, fr_FR, no-break space", Become, "[sudo] Mot de passe de deploy\u{a0}: ".into(), Answered),
            ("sudo, de_DE", Become, "[sudo] Passwort für deploy: ".into(), Answered),
            ("sudo, ja_JP", Become, "[sudo] deploy のパスワード: ".into(), Answered),
            ("sudo with pwfeedback", Become, format!("{ours}\u{1}******\r\n"), Answered),
            ("sudo with pwfeedback, erased", Become, format!("{ours}\u{1}******\x08 \x08\x08 \x08\r\n"), Answered),
            ("sudo, wrong password", Become, format!("{ours}\u{1}\r\nSorry, try again.\r\n{ours}"), AnsweredThen(Become)),
            ("sudo-rs", Become, format!("[sudo: {ours}] Password: "), Answered),
            ("sudo-rs with stars", Become, format!("[sudo: {ours}] Password: \u{1}******\r\n"), Answered),
            (
                "sudo-rs, wrong password",
                Become,
                format!("[sudo: {ours}] Password: \u{1}\r\nsudo: Authentication failed, try again.\r\n[sudo: {ours}] Password: "),
                AnsweredThen(Become),
            ),
            ("sudo, then a token", Become, format!("{ours}\u{1}\r\nVerification code: "), AnsweredThen(Become)),
            ("sudo, a token first", Become, "Verification code: ".into(), Refused(Become)),
            ("sudo, a PIN", Become, "PIN for token: ".into(), Refused(Become)),
            ("su", Become, "Password: ".into(), Answered),
            ("su, wrong password", Become, "Password: \u{1}\r\nsu: Authentication failure\r\n".into(), Answered),
            ("doas", Become, "doas (deploy@web01) password: ".into(), Answered),
            ("doas, wrong password", Become, "doas (deploy@web01) password: \u{1}\r\ndoas: Authorization failed\r\n".into(), Answered),
            ("ssh", Auth, "deploy@web01's password: ".into(), Answered),
            ("ssh behind a banner", Auth, "Welcome\r\nNote: read this\r\ndeploy@web01's password: ".into(), Answered),
            (
                "ssh, wrong password",
                Auth,
                "deploy@web01's password: \u{1}\r\nPermission denied, please try again.\r\ndeploy@web01's password: ".into(),
                AnsweredThen(Auth),
            ),
            ("ssh, key passphrase", Auth, "Enter passphrase for key '/home/me/.ssh/id_ed25519': ".into(), Refused(Auth)),
            ("ssh, keyboard-interactive", Auth, "(deploy@web01) Password: ".into(), Answered),
            (
                "ssh, keyboard-interactive and a token",
                Auth,
                "(deploy@web01) Password: \u{1}\r\n(deploy@web01) Verification code: ".into(),
                AnsweredThen(Auth),
            ),
            (
                "ssh, an unknown host",
                Auth,
                "The authenticity of host 'web01 (10.0.0.1)' can't be established.\r\nED25519 key fingerprint is SHA256:abc.\r\nAre you sure you want to continue connecting (yes/no/[fingerprint])? ".into(),
                Refused(HostKey),
            ),
            ("nothing is asked", Become, "Last login: yesterday\r\n".into(), Silent),
        ];
        for (name, refused, text, expected) in &table {
            let dialog = || Dialog::new(*refused, Some("s3cret".into())).nonce(NONCE);
            // A tool writes no more before it has its answer.
            let turns: Vec<&[u8]> = text.split(WAITS).map(str::as_bytes).collect();
            for (turn, bytes) in turns.iter().enumerate() {
                for at in 0..=bytes.len() {
                    let (before, after) = bytes.split_at(at);
                    let pieces = [&turns[..turn], &[before, after], &turns[turn + 1..]].concat();
                    assert_eq!(play(&mut dialog(), &pieces), *expected, "{name}, turn {turn}, split at {at}");
                }
            }
            let single: Vec<&[u8]> = turns.iter().flat_map(|turn| turn.chunks(1)).collect();
            assert_eq!(play(&mut dialog(), &single), *expected, "{name}, byte by byte");
        }
    }

    #[test]
    fn without_a_password_the_prompt_is_shown_and_nothing_is_sent() {
        let mut dialog = Dialog::new(ErrorKind::Become, None).nonce(NONCE);
        match dialog.handle_bytes(format!("{NONCE}:").as_bytes()) {
            Step::Fail(ErrorKind::Become, message) => {
                assert!(message.contains("none was given") && !message.contains(NONCE), "{message}");
            }
            other => panic!("{other:?}"),
        }
        assert!(!format!("{dialog:?}").contains("s3cret"));
    }
}
