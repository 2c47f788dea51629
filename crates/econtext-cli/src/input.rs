//! This process's stdin, for the programs that run.

use econtext::Context;
use econtext::internal::lock;
use std::io::{self, IsTerminal as _, Read, Write as _};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// A destination of input, from which a program reads it.
pub(crate) trait Sink: Send + 'static {
    /// Copies all of the input, then its end.
    fn copy(self, reader: &mut dyn Read);
}

impl Sink for econtext::Input {
    fn copy(self, mut reader: &mut dyn Read) {
        // A program that reads no more needs no more input.
        let _ = self.copy_from(&mut reader);
    }
}

impl Sink for econtext::process::RemoteProcess {
    fn copy(mut self, reader: &mut dyn Read) {
        let _ = io::copy(reader, &mut self);
        self.end_input();
    }
}

impl Sink for std::process::ChildStdin {
    fn copy(mut self, reader: &mut dyn Read) {
        let _ = io::copy(reader, &mut self);
        let _ = self.flush();
    }
}

/// Passes stdin to every program: as it arrives to a single one, and from a complete copy to each
/// of several, because these start when their turn comes.
#[derive(Debug)]
pub(crate) enum Inputs {
    /// There is no stdin, or it is not meant for the programs.
    None,
    One,
    Many(Arc<Copy>),
}

impl Inputs {
    pub(crate) fn start(targets: usize, used: bool) -> Self {
        // Typed input for many hosts at a time is hardly meant; they get the end of input.
        if used || targets > 1 && io::stdin().is_terminal() {
            Inputs::None
        } else if targets == 1 {
            Inputs::One
        } else {
            let copy = Arc::new(Copy::default());
            let writer = copy.clone();
            std::thread::spawn(move || writer.fill(&mut io::stdin().lock()));
            Inputs::Many(copy)
        }
    }

    /// Starts to feed a program, beside a child if there is one.
    pub(crate) fn feed(&self, child: Option<&Context>, input: impl Sink) {
        // Input that was read from the only stdin must not be lost with a child that does not come
        // up.
        let child = child.filter(|_| matches!(self, Inputs::One)).cloned();
        let mut reader: Box<dyn Read + Send> = match self {
            Inputs::None => Box::new(io::empty()),
            Inputs::One => Box::new(io::stdin()),
            Inputs::Many(copy) => Box::new(Reader { copy: copy.clone(), at: 0 }),
        };
        std::thread::spawn(move || {
            if child.is_none_or(|child| child.wait_ready().is_ok()) {
                input.copy(&mut *reader);
            }
        });
    }
}

/// The part of stdin that was read so far.
#[derive(Debug, Default)]
pub(crate) struct Copy {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    data: Vec<u8>,
    ended: bool,
}

impl Copy {
    fn fill(&self, reader: &mut impl Read) {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = reader.read(&mut buffer);
            let mut state = lock(&self.state);
            match read {
                Ok(n @ 1..) => state.data.extend_from_slice(&buffer[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Ok(0) | Err(_) => state.ended = true,
            }
            let ended = state.ended;
            drop(state);
            self.changed.notify_all();
            if ended {
                return;
            }
        }
    }
}

/// One program's position in the copy.
struct Reader {
    copy: Arc<Copy>,
    at: usize,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = lock(&self.copy.state);
        while state.data.len() == self.at && !state.ended {
            state = self.copy.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let n = (&state.data[self.at..]).read(buffer)?;
        self.at += n;
        Ok(n)
    }
}
