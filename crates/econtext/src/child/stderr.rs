//! The last output of a transport on its stderr.

use crate::transport::Note;

/// The bytes of stderr that are kept for errors.
const STDERR_TAIL: usize = 16 << 10;

/// The last output of a transport on its stderr, and the progress that it reports.
#[derive(Default)]
pub(super) struct Stderr {
    kept: Vec<u8>,
    /// A line whose end has not come.
    line: Vec<u8>,
    pub(super) phase: Option<&'static str>,
}

impl Stderr {
    pub(super) fn take_in(&mut self, data: &[u8], note: impl Fn(&str) -> Note) {
        for part in data.split_inclusive(|&b| b == b'\n') {
            self.line.extend_from_slice(part);
            if !part.ends_with(b"\n") && self.line.len() < STDERR_TAIL {
                continue;
            }
            let line = std::mem::take(&mut self.line);
            match note(&String::from_utf8_lossy(&line)) {
                Note::Text => self.kept.extend_from_slice(&line),
                Note::Noise => {}
                Note::Phase(phase) => self.phase = Some(phase),
            }
            let over = self.kept.len().saturating_sub(STDERR_TAIL);
            self.kept.drain(..over);
        }
    }

    pub(super) fn text(&self) -> String {
        let text = [self.kept.as_slice(), &self.line].concat();
        String::from_utf8_lossy(&text).trim_end().replace('\r', "")
    }
}
