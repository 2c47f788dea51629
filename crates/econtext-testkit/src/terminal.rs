//! A program on a terminal of its own, as a person would use it.

use crate::processes::HANGS;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A running program; ended when dropped.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    keys: File,
    seen: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Starts a program, in a session of its own with this terminal, so that Ctrl-C there is a signal.
    ///
    /// # Panics
    /// If there is no terminal, or no `setsid`.
    pub fn start(command: &Command, columns: u16, rows: u16) -> Self {
        let main = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&main).expect("granted");
        unlockpt(&main).expect("unlocked");
        let name = ptsname(&main, Vec::new()).expect("a name").into_string().expect("text");
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&main, size).expect("sized");
        let open = || OpenOptions::new().read(true).write(true).open(&name).expect("opened");
        // setsid does not fork here, so the pid is the program's own.
        let mut with = Command::new("setsid");
        with.arg("--ctty").arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => with.env(name, value),
                None => with.env_remove(name),
            };
        }
        if let Some(directory) = command.get_current_dir() {
            with.current_dir(directory);
        }
        with.stdin(open()).stdout(open()).stderr(open());
        let child = with.spawn().expect("it starts");
        drop(with); // our ends of the terminal are closed with it
        let keys = File::from(main.try_clone().expect("duplicated"));
        let seen: Arc<Mutex<Vec<u8>>> = Arc::default();
        let (mut from, to) = (File::from(main), seen.clone());
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = from.read(&mut buffer) {
                to.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..n]);
            }
        });
        Terminal { child, keys, seen, reader: Some(reader) }
    }

    /// The whole output so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Waits until `text` was written, after `from` bytes; returns where it ends.
    ///
    /// # Panics
    /// If it does not come.
    pub fn wait_for(&self, text: &str, from: usize) -> usize {
        let until = Instant::now() + HANGS;
        loop {
            let seen = self.text();
            if let Some(at) = seen.get(from..).and_then(|rest| rest.find(text)) {
                return from + at + text.len();
            }
            assert!(Instant::now() < until, "no {text:?} in {:?}", seen.get(from..).unwrap_or(&seen));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Types keys.
    ///
    /// # Panics
    /// If no program can read it any more.
    pub fn type_keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("typed");
    }

    /// Waits for the end; returns the status, and the whole output.
    ///
    /// # Panics
    /// If it does not end.
    pub fn finish(mut self) -> (ExitStatus, String) {
        let until = Instant::now() + HANGS;
        let status = loop {
            match self.child.try_wait().expect("a child") {
                Some(status) => break status,
                None => assert!(Instant::now() < until, "it does not end: {}", self.text()),
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        if let Some(reader) = self.reader.take() {
            reader.join().expect("read");
        }
        (status, self.text())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A hang-up ends the programs on this terminal.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
