//! Text on stdout and stderr: whole lines behind host names, or bytes as they come.

use std::collections::HashMap;
use std::io::{self, IsTerminal as _, Write as _};

/// Writes what hosts print.
#[derive(Debug)]
pub(crate) struct Console {
    prefix: bool,
    /// Whether stdout and stderr are terminals, on which control characters would do something.
    terminal: [bool; 2],
    /// Lines whose end has not come, by host and file descriptor.
    open: HashMap<(usize, u8), Vec<u8>>,
    /// Whether stdout took what it was given.
    pub(crate) broken: bool,
}

/// Says something on stderr. With stderr gone there is nobody to tell, and no reason to die.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "econtext: {text}");
}

/// A line without an end is not waited for beyond this size.
const MAX_LINE: usize = 1 << 20;

impl Console {
    pub(crate) fn new(prefix: bool) -> Self {
        let terminal = [io::stdout().is_terminal(), io::stderr().is_terminal()];
        Console { prefix, terminal, open: HashMap::new(), broken: false }
    }

    /// Writes output of a program.
    pub(crate) fn output(&mut self, index: usize, host: &str, fd: u8, data: &[u8]) {
        if !self.prefix {
            return self.write(fd, data);
        }
        let mut pending = self.open.remove(&(index, fd)).unwrap_or_default();
        pending.extend_from_slice(data);
        let end = match memrchr(&pending) {
            Some(at) => at + 1,
            None if pending.len() > MAX_LINE => pending.len(),
            None => 0,
        };
        let text = self.prefixed(host, &pending[..end]);
        self.write(fd, &text);
        pending.drain(..end);
        if !pending.is_empty() {
            self.open.insert((index, fd), pending);
        }
    }

    /// Writes a text of ours about a host, as whole lines.
    pub(crate) fn text(&mut self, index: usize, host: &str, fd: u8, text: &str) {
        self.end(index, host);
        let mut line = text.strip_suffix('\n').unwrap_or(text).as_bytes().to_vec();
        line.push(b'\n');
        if self.prefix {
            line = self.prefixed(host, &line);
        }
        self.write(fd, &line);
    }

    /// Ends the lines that a host has left open.
    pub(crate) fn end(&mut self, index: usize, host: &str) {
        for fd in [1, 2] {
            if let Some(mut rest) = self.open.remove(&(index, fd)) {
                rest.push(b'\n');
                let text = self.prefixed(host, &rest);
                self.write(fd, &text);
            }
        }
    }

    fn prefixed(&self, host: &str, lines: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(lines.len() + host.len() + 2);
        for line in lines.split_inclusive(|&b| b == b'\n') {
            out.extend_from_slice(host.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(line);
        }
        if !out.is_empty() && !out.ends_with(b"\n") {
            out.push(b'\n');
        }
        out
    }

    pub(crate) fn write(&mut self, fd: u8, data: &[u8]) {
        let on_terminal = self.terminal[usize::from(fd == 2)];
        let harmless;
        let data = if on_terminal {
            harmless = make_harmless(data);
            &harmless
        } else {
            data
        };
        if fd == 2 {
            // With stderr gone there is nobody to tell.
            let _ = io::stderr().write_all(data);
        } else {
            let mut stdout = io::stdout().lock();
            if stdout.write_all(data).and_then(|()| stdout.flush()).is_err() {
                self.broken = true;
            }
        }
    }
}

fn memrchr(data: &[u8]) -> Option<usize> {
    data.iter().rposition(|&b| b == b'\n')
}

/// Control characters as `^[`, so that a host cannot drive the terminal. Tab, line feed and carriage return stay.
fn make_harmless(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len());
    for &byte in data {
        match byte {
            b'\n' | b'\t' | b'\r' => out.push(byte),
            0..0x20 => out.extend_from_slice(&[b'^', byte + 0x40]),
            0x7f => out.extend_from_slice(b"^?"),
            _ => out.push(byte),
        }
    }
    // C1 controls, in UTF-8: U+0080 to U+009F.
    let mut at = 0;
    while at + 1 < out.len() {
        if out[at] == 0xc2 && (0x80..0xa0).contains(&out[at + 1]) {
            out.splice(at..at + 2, *b"?");
        }
        at += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_are_harmless() {
        assert_eq!(make_harmless(b"a\x1b[31m\tb\r\n\x7f\xc2\x9bx\xc3\xa9"), b"a^[[31m\tb\r\n^??x\xc3\xa9");
    }
}
