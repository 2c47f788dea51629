//! The output of a process as readers.

use super::remote::RemoteProcess;
use crate::broker::check_thread;
use crate::status::ProcessEvent;
use crate::sync::lock;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// The buffers between the output of a process and its readers.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    state: Mutex<PipesState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct PipesState {
    /// The buffers by file descriptor, stdout first.
    data: [VecDeque<u8>; 2],
    ended: bool,
}

impl Pipes {
    pub(super) fn take_in(&self, event: ProcessEvent) {
        let mut state = lock(&self.state);
        match event {
            ProcessEvent::Output { fd, data } => state.data[usize::from(fd == 2)].extend(data),
            ProcessEvent::Ended(_) => state.ended = true,
            ProcessEvent::Started(_) | ProcessEvent::InputWanted => return,
        }
        drop(state);
        self.changed.notify_all();
    }
}

/// A process whose input is written and whose output is read. Reading gives the process credit for more.
#[derive(Debug)]
pub struct Streams {
    /// The process: its input is written through this.
    pub process: RemoteProcess,
    /// The stdout of the process.
    pub stdout: OutputStream,
    /// The stderr of the process.
    pub stderr: OutputStream,
}

/// A reader of the output of a process; its end is that of the process.
#[derive(Debug)]
pub struct OutputStream {
    pub(super) process: RemoteProcess,
    pub(super) pipes: Arc<Pipes>,
    pub(super) fd: u8,
}

impl io::Read for OutputStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        check_thread().map_err(io::Error::other)?;
        let mut state = lock(&self.pipes.state);
        let index = usize::from(self.fd == 2);
        while state.data[index].is_empty() && !state.ended {
            state = self.pipes.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let n = io::Read::read(&mut state.data[index], buffer)?;
        drop(state);
        if n > 0 {
            self.process.grant(n);
        }
        Ok(n)
    }
}
