//! Text on stdout and stderr: whole lines after host names, or bytes as they come; with colours;
//! with nothing that controls a terminal.

use crate::args::Color;
use crate::output::progress::Progress;
use anstyle::{AnsiColor, Style};
use std::borrow::Cow;
use std::collections::HashMap;
use std::env;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;

/// The style of host names before their output, and as headings of common output.
pub(crate) const HOST: Style = AnsiColor::Cyan.on_default();
/// The same for stderr.
pub(crate) const HOST_ERROR: Style = AnsiColor::Red.on_default();
/// The style of success.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// The style of failure.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();

/// Writes the output of hosts.
#[derive(Debug)]
pub(crate) struct Console {
    prefix: bool,
    /// Whether lines are kept whole, because there are several hosts.
    whole_lines: bool,
    /// Whether the last write ended in the first byte of a control character.
    half_control: [bool; 2],
    /// Whether stdout and stderr are terminals, on which control characters would do something.
    terminal: [bool; 2],
    color: [bool; 2],
    /// Lines without their end, by host and file descriptor.
    open: HashMap<(usize, u8), Vec<u8>>,
    progress: Arc<Progress>,
    /// The error of a write to stdout, if one failed.
    pub(crate) broken: Option<io::Error>,
}

/// Prints a message on stderr. A closed stderr cannot show it, and is no reason to fail.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "econtext: {text}");
}

/// The size in bytes beyond which a line is written without waiting for its end.
const MAX_LINE: usize = 1 << 20;

impl Console {
    pub(crate) fn new(prefix: bool, whole_lines: bool, color: Color, progress: Arc<Progress>) -> Self {
        let terminal = [io::stdout().is_terminal(), io::stderr().is_terminal()];
        let color = terminal.map(|is_terminal| wants_color(color, is_terminal, |name| env::var(name).ok()));
        Console {
            prefix,
            whole_lines,
            half_control: [false; 2],
            terminal,
            color,
            open: HashMap::new(),
            progress,
            broken: None,
        }
    }

    /// Whether the reader of stdout has gone.
    pub(crate) fn hung_up(&self) -> bool {
        self.broken.as_ref().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Writes output of a program.
    pub(crate) fn output(&mut self, index: usize, host: &str, fd: u8, data: &[u8]) {
        if !self.whole_lines {
            // A control character that is split between two writes must not pass.
            let half = &mut self.half_control[usize::from(fd == 2)];
            let cut = std::mem::replace(half, data.last() == Some(&0xc2));
            let control = cut && data.first().is_some_and(|b| (0x80..0xa0).contains(b));
            let data = if control { &data[1..] } else { data };
            let clean = self.clean(fd, data).into_owned();
            return self.write(fd, &clean);
        }
        let mut pending = self.open.remove(&(index, fd)).unwrap_or_default();
        pending.extend_from_slice(data);
        let end = match pending.iter().rposition(|&b| b == b'\n') {
            Some(at) => at + 1,
            None if pending.len() > MAX_LINE => pending.len(),
            None => 0,
        };
        let text = self.prefixed(fd, host, &pending[..end]);
        self.write(fd, &text);
        pending.drain(..end);
        if !pending.is_empty() {
            self.open.insert((index, fd), pending);
        }
    }

    /// Writes a message of econtext about a host, as whole lines.
    pub(crate) fn text(&mut self, index: usize, host: &str, fd: u8, text: &str) {
        self.end(index, host);
        let mut line = text.strip_suffix('\n').unwrap_or(text).as_bytes().to_vec();
        line.push(b'\n');
        let line = self.prefixed(fd, host, &line);
        self.write(fd, &line);
    }

    /// Ends the lines that a host has left open.
    pub(crate) fn end(&mut self, index: usize, host: &str) {
        for fd in [1, 2] {
            if let Some(mut rest) = self.open.remove(&(index, fd)) {
                rest.push(b'\n');
                let text = self.prefixed(fd, host, &rest);
                self.write(fd, &text);
            }
        }
    }

    /// Writes a heading, and indented lines below it.
    pub(crate) fn block(&mut self, fd: u8, heading: &str, text: &[u8]) {
        let style = if fd == 2 { HOST_ERROR.bold() } else { HOST.bold() };
        let mut out = self.styled(fd, style, heading).into_bytes();
        out.extend_from_slice(b":\n");
        let clean = self.clean(fd, text);
        for line in clean.split_inclusive(|&b| b == b'\n') {
            out.extend_from_slice(b"  ");
            out.extend_from_slice(line);
        }
        if !out.ends_with(b"\n") {
            out.push(b'\n');
        }
        self.write(fd, &out);
    }

    fn prefixed(&self, fd: u8, host: &str, lines: &[u8]) -> Vec<u8> {
        let host = match self.prefix {
            true => self.styled(fd, if fd == 2 { HOST_ERROR } else { HOST }, host) + ": ",
            false => String::new(),
        };
        let lines = self.clean(fd, lines);
        let mut out = Vec::with_capacity(lines.len() + host.len() + 2);
        for line in lines.split_inclusive(|&b| b == b'\n') {
            out.extend_from_slice(host.as_bytes());
            out.extend_from_slice(line);
        }
        if !out.is_empty() && !out.ends_with(b"\n") {
            out.push(b'\n');
        }
        out
    }

    /// The text in a style, if this file descriptor has colours.
    pub(crate) fn styled(&self, fd: u8, style: Style, text: &str) -> String {
        if self.color[usize::from(fd == 2)] { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }

    /// The output of a host, made harmless for a terminal.
    pub(crate) fn clean<'a>(&self, fd: u8, data: &'a [u8]) -> Cow<'a, [u8]> {
        if self.terminal[usize::from(fd == 2)] { make_harmless(data).into() } else { data.into() }
    }

    /// The width of the terminal in columns, if stdout is one.
    pub(crate) fn width(&self) -> Option<u16> {
        let size = self.terminal[0].then(|| rustix::termios::tcgetwinsize(io::stdout()).ok())??;
        (size.ws_col > 0).then_some(size.ws_col)
    }

    /// Writes data that is clean already.
    pub(crate) fn write(&mut self, fd: u8, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let written = self.progress.aside(|| {
            if fd == 2 {
                // An error of stderr cannot be shown anywhere.
                let _ = io::stderr().write_all(data);
                return Ok(());
            }
            if crate::output::stdout::was_closed() {
                return Err(io::Error::other("it is closed, and what was to be written is lost"));
            }
            let mut stdout = io::stdout().lock();
            stdout.write_all(data).and_then(|()| stdout.flush())
        });
        if let Err(error) = written {
            self.broken.get_or_insert(error);
        }
    }
}

/// Whether there are colours: the flag, then `NO_COLOR`, `CLICOLOR_FORCE`, `CLICOLOR` (no-color.org, bixense.com/clicolors).
pub(crate) fn wants_color(flag: Color, is_terminal: bool, env: impl Fn(&str) -> Option<String>) -> bool {
    match flag {
        Color::Always => true,
        Color::Never => false,
        Color::Auto if env("NO_COLOR").is_some_and(|v| !v.is_empty()) => false,
        Color::Auto if env("CLICOLOR_FORCE").is_some_and(|v| !v.is_empty() && v != "0") => true,
        Color::Auto if env("CLICOLOR").is_some_and(|v| v == "0") => false,
        Color::Auto => is_terminal && env("TERM").is_none_or(|term| term != "dumb"),
    }
}

/// Replaces control characters by forms such as `^[`, so that a host cannot control the terminal. A
/// tab, a line feed, and a carriage return before a line feed stay; a lone carriage return would
/// overwrite the line.
fn make_harmless(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len());
    for (at, &byte) in data.iter().enumerate() {
        match byte {
            b'\n' | b'\t' => out.push(byte),
            b'\r' if data.get(at + 1) == Some(&b'\n') => out.push(byte),
            0..0x20 => out.extend_from_slice(&[b'^', byte + 0x40]),
            0x7f => out.extend_from_slice(b"^?"),
            // C1 controls, in UTF-8: U+0080 to U+009F.
            0x80..0xa0 if at > 0 && data[at - 1] == 0xc2 => {
                out.pop();
                out.push(b'?');
            }
            _ => out.push(byte),
        }
    }
    out
}

/// Prints a text and returns the exit status. A reader that has seen enough is no error.
pub(crate) fn print(text: &[u8]) -> u8 {
    if crate::output::stdout::was_closed() {
        complain("stdout: it is closed");
        return 1;
    }
    let mut stdout = io::stdout();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!("stdout: {error}"));
            1
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_are_harmless() {
        assert_eq!(make_harmless(b"a\x1b[31m\tb\r\n\x7f\xc2\x9bx\xc3\xa9"), b"a^[[31m\tb\r\n^??x\xc3\xa9");
        assert_eq!(make_harmless(b"good\rbad"), b"good^Mbad");
    }

    #[test]
    fn no_color_beats_clicolor_force_beats_clicolor() {
        let wants = |flag, terminal, set: &[(&str, &str)]| {
            wants_color(flag, terminal, |name| {
                set.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
            })
        };
        assert!(wants(Color::Auto, true, &[]));
        assert!(!wants(Color::Auto, false, &[]));
        assert!(!wants(Color::Auto, true, &[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")]));
        assert!(wants(Color::Auto, false, &[("CLICOLOR_FORCE", "1"), ("CLICOLOR", "0")]));
        assert!(!wants(Color::Auto, true, &[("CLICOLOR", "0")]));
        assert!(wants(Color::Auto, true, &[("NO_COLOR", ""), ("CLICOLOR_FORCE", "0"), ("CLICOLOR", "1")]));
        assert!(wants(Color::Always, false, &[("NO_COLOR", "1")]));
        assert!(!wants(Color::Never, true, &[("CLICOLOR_FORCE", "1")]));
    }
}
