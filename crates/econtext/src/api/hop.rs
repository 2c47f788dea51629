//! A transport beside a hop: the stream of a child goes through a process of another child.

use super::context::Context;
use super::process::{Command, RemoteProcess};
use crate::broker::Shared;
use crate::child::{Carrier, Link};
use crate::error::Error;
use crate::status::Status;
use crate::transport::Launch;
use econtext_proto::Session;
use std::sync::{Arc, OnceLock, Weak};

/// A transport that is about to be started beside a hop.
pub(super) struct HopLaunch {
    command: Command,
    process: RemoteProcess,
    link: Arc<OnceLock<Weak<Link>>>,
    pub(super) hop: String,
}

impl HopLaunch {
    pub(super) fn prepare(hop: &Context, launch: &Launch, shared: &Arc<Shared>) -> Self {
        let (program, args) = launch.argv.split_first().map_or(("", &[][..]), |(p, args)| (p, args));
        let mut command = hop.command(program).args(args).transport();
        for (name, value) in &launch.env {
            command = command.env(name, value);
        }
        if launch.dialog.is_some() {
            command = command.terminal_beside();
        }
        let link: Arc<OnceLock<Weak<Link>>> = Arc::default();
        let (found, shared) = (link.clone(), Arc::downgrade(shared));
        let process = command.prepare(false, move |event| {
            if let (Some(link), Some(shared)) = (found.get().and_then(Weak::upgrade), shared.upgrade()) {
                link.on_relay(event, &*shared);
            }
        });
        HopLaunch { command, process, link, hop: hop.name().to_owned() }
    }

    pub(super) fn carrier(&self) -> HopCarrier {
        HopCarrier { process: self.process.clone(), hop: self.hop.clone(), owed: 0, ended: None }
    }

    pub(super) fn start(self, link: &Arc<Link>) -> Result<(), Error> {
        // The link is set only here.
        let _ = self.link.set(Arc::downgrade(link));
        self.command.launch_prepared(&self.process)
    }
}

/// A process beside a hop. Its output arrives as events.
pub(super) struct HopCarrier {
    process: RemoteProcess,
    /// The hop's name.
    hop: String,
    /// The bytes that were received and not granted anew: a child that asks too much is not heard
    /// for a while.
    owed: usize,
    /// The way it ended, once it has.
    ended: Option<Result<Status, Error>>,
}

impl Carrier for HopCarrier {
    fn hop(&self) -> &str {
        &self.hop
    }

    fn flush(&self, session: &mut Session, _: u64) {
        loop {
            let written = match session.transmit_piece() {
                ([], _) => return,
                (piece, true) => self.process.try_repeat(piece),
                (bytes, false) => self.process.try_write(bytes),
            };
            match written {
                Ok(n @ 1..) => session.advance(n),
                _ => return,
            }
        }
    }

    fn received(&mut self, bytes: usize) {
        self.owed += bytes;
    }

    fn grant(&mut self) {
        let owed = std::mem::take(&mut self.owed);
        if owed > 0 {
            self.process.grant(owed);
        }
    }

    fn type_text(&self, text: &[u8]) {
        let _ = self.process.type_text(text); // a lost terminal is noticed elsewhere
    }

    fn shutdown(&self) {
        self.process.end_input();
    }

    fn kill(&mut self) {
        self.process.kill();
    }

    fn set_ended(&mut self, result: Result<Status, Error>) {
        self.ended = Some(result);
    }

    fn ended(&mut self) -> Option<Result<Status, Error>> {
        self.ended.clone()
    }
}
