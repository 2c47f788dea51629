//! The dialog of a login on a terminal.

use super::phase::{Link, Phase, State, Why};
use super::read::LinkEnd;
use super::scheduler::Scheduler;
use crate::transport::Step;
use std::time::{Duration, Instant};

/// The time that a line that ends like a prompt may stand before it is taken for one.
const SILENCE: Duration = Duration::from_secs(1);

impl Link {
    pub(crate) fn on_terminal(&self, buffer: &mut [u8], shared: &dyn Scheduler) -> LinkEnd {
        loop {
            let mut state = self.lock();
            let Some(terminal) =
                state.carrier().and_then(|carrier| carrier.local()).and_then(|p| p.terminal.as_ref())
            else {
                return LinkEnd::Alive;
            };
            let Ok(n @ 1..) = rustix::io::read(terminal, &mut *buffer) else { return LinkEnd::Alive };
            let wake = self.converse(&mut state, &buffer[..n]);
            drop(state);
            if let Some(at) = wake {
                shared.wake_at(at, self.index());
            }
        }
    }

    /// Handles the output of a tool on its terminal; returns the time at which the broker is to
    /// look at this link.
    pub(super) fn converse(&self, state: &mut State, text: &[u8]) -> Option<Instant> {
        let now = Instant::now();
        let Phase::Starting { dialog: Some(dialog), silence, .. } = &mut state.phase else {
            return None;
        };
        *silence = None;
        // The echo behind an answer, up to the end of the line, is private.
        let from =
            if dialog.is_muted() { text.iter().position(|&b| b == b'\n').unwrap_or(text.len()) } else { 0 };
        let shown = dialog.without_nonce(&text[from..]);
        let step = dialog.handle_bytes(text);
        state.keep_stderr(self, shown.as_bytes());
        let Phase::Starting { carrier, silence, .. } = &mut state.phase else { return None };
        match step {
            Step::Wait => None,
            Step::WaitBriefly => {
                *silence = Some(now + SILENCE);
                *silence
            }
            Step::Answer(answer) => {
                carrier.type_text(&answer);
                None
            }
            Step::Fail(kind, message) => {
                let error = self.connect_error(kind, message, state);
                state.end(Why::Given(error));
                Some(now)
            }
        }
    }
}
