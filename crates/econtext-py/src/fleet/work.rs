//! One job on some hosts: calls on children that are connected need no threads, all other work is done by a rollout.

use super::hosts::Hosts;
use super::results::{Done, Results};
use crate::inner::Inner;
use crate::process::{Command, kill};
use crate::request::Spec;
use econtext::internal::lock;
use econtext::transfer::TransferOptions;
use econtext::{Call, Error, Value};
use econtext_fleet::{Rollout, Target, Tries, below};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Wake, Waker};
use std::time::Duration;

/// The work that is done on each host.
pub(super) enum Job {
    Connect,
    Call(Arc<Spec>),
    Run(Command),
    Put(Vec<PathBuf>, OsString, TransferOptions),
    Get(Vec<OsString>, PathBuf, TransferOptions),
}

/// A job on some hosts.
pub(super) struct Work {
    pub(super) of: Arc<Hosts>,
    pub(super) job: Job,
    pub(super) timeout: Option<Duration>,
    pub(super) results: Arc<Results>,
}

impl Work {
    /// Begins the job. Calls on connected children need no threads; all other work has `limit` of them.
    pub(super) fn begin(self: &Arc<Self>, hosts: Vec<(usize, usize)>, rollout: Rollout) {
        self.results.expect(hosts.len());
        let at_once = rollout.batch.is_none() && rollout.fail_on.is_none();
        let (there, others): (Vec<_>, Vec<_>) = hosts.into_iter().partition(|(index, _)| {
            at_once && matches!(self.job, Job::Call(_)) && self.of.connected(*index).is_some()
        });
        if !there.is_empty() {
            let window = rollout.forks.min(there.len());
            let queue = Arc::new(Mutex::new(there.into()));
            for _ in 0..window {
                self.next(&queue);
            }
        }
        if others.is_empty() {
            return;
        }
        let work = self.clone();
        std::thread::spawn(move || {
            let refused = |host: &Target| Err(Error::Cancelled { host: host.name.clone() });
            rollout.run(
                others.len(),
                &work.results.stop,
                |i| {
                    let (index, position) = others[i];
                    let result = work.one(index, position);
                    let failed = result.is_err();
                    work.results.put(position, result);
                    failed
                },
                |failed| *failed,
                |i, _| {
                    let (index, position) = others[i];
                    work.results.put(position, refused(&work.of.targets[index]));
                    true
                },
            );
        });
    }

    /// Makes the next call; when it is done, the one after it.
    fn next(self: &Arc<Self>, queue: &Arc<Mutex<VecDeque<(usize, usize)>>>) {
        loop {
            let next = lock(queue).pop_front();
            let Some((index, position)) = next else { return };
            let host = || self.of.targets[index].name.clone();
            let error = match (&self.job, self.of.connected(index)) {
                _ if self.results.stop.is_stopped() => Error::Cancelled { host: host() },
                (Job::Call(spec), Some(child)) => match spec.check(&child.context) {
                    Ok(()) => {
                        let call = spec.start(&child.context, &child.sent);
                        self.results.running(position, Arc::new(call.clone()));
                        let running = Pumped { work: self.clone(), queue: queue.clone(), position, call };
                        return Arc::new(running).look();
                    }
                    Err(error) => error,
                },
                _ => {
                    // The child went in the meantime.
                    let message = "the child is gone".to_owned();
                    Error::Closed { host: host(), message, stderr: String::new() }
                }
            };
            self.results.put(position, Err(error));
        }
    }

    /// Does the job on one host, and connects it if necessary.
    fn one(&self, index: usize, position: usize) -> Result<Done, Error> {
        let of = &self.of;
        if let Some(child) = of.connected(index) {
            return self.on(&child, index, position);
        }
        let tries = Tries { timeout: self.timeout, ..of.tries };
        of.connector.persist(
            &of.targets[index],
            tries,
            |_, left, handshake| {
                let child = of.child(index, left, handshake)?;
                let result = self.on(&child, index, position);
                if result.as_ref().is_err_and(|error| error.kind().is_connect()) {
                    let mut known = lock(&of.children[index]);
                    if known.as_ref().is_some_and(|known| Arc::ptr_eq(known, &child)) {
                        *known = None;
                    }
                    drop(known);
                    child.connection().into_iter().for_each(|connection| of.connector.let_go(connection));
                }
                result
            },
            |result| result.as_ref().err(),
        )
    }

    fn on(&self, child: &Arc<Inner>, index: usize, position: usize) -> Result<Done, Error> {
        match &self.job {
            Job::Connect => child.context.wait_ready().map(|_| Done::Connected),
            Job::Call(spec) => {
                spec.check(&child.context)?;
                let call = spec.start(&child.context, &child.sent);
                self.results.running(position, Arc::new(call.clone()));
                call.wait().map(Done::Value)
            }
            Job::Run(command) => {
                let command = command.start(&child.context)?;
                self.results.running(position, Arc::new(command.clone()));
                let ended = match self.timeout {
                    None => Some(command.wait()),
                    Some(time) => command.wait_timeout(time),
                };
                ended
                    .unwrap_or_else(|| {
                        kill(&command);
                        let (host, after) =
                            (child.context.name().to_owned(), self.timeout.unwrap_or_default());
                        Err(Error::Timeout { host, phase: "the command", after, stderr: String::new() })
                    })
                    .map(|output| Done::Ended(Box::new(output)))
            }
            Job::Put(sources, to, options) => {
                self.results.running(position, options.stop.clone().unwrap_or_default());
                child.context.put(sources, to, options, |_| {}).map(Done::Transferred)
            }
            Job::Get(sources, to, options) => {
                self.results.running(position, options.stop.clone().unwrap_or_default());
                let directory = below(to, &self.of.targets[index].name);
                child.context.get(sources, &directory, options, |_| {}).map(Done::Transferred)
            }
        }
    }
}

/// A call without a thread that waits for it.
struct Pumped {
    work: Arc<Work>,
    queue: Arc<Mutex<VecDeque<(usize, usize)>>>,
    position: usize,
    call: Call<Value>,
}

impl Pumped {
    fn look(self: Arc<Self>) {
        let waker: Waker = self.clone().into();
        if let Poll::Ready(result) = self.call.poll_wait(&std::task::Context::from_waker(&waker)) {
            self.work.results.put(self.position, result.map(Done::Value));
            // The next call is not made here: Python may be asked for its imports, and this may be the broker's thread.
            let (work, queue) = (self.work.clone(), self.queue.clone());
            self.work.of.callbacks.tell(move |py| py.detach(|| work.next(&queue)));
        }
    }
}

impl Wake for Pumped {
    fn wake(self: Arc<Self>) {
        self.look();
    }
}
