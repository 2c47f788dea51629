//! The controller's handle on one child.

use super::waiting;
use crate::broker::Shared;
use crate::child::Link;
use crate::error::Error;
use econtext_proto::{ConvertError, Handle, Hello, Value, from_value, to_value};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// The controller's handle on one child. Clones are the same child; when the last is dropped, the child is asked to
/// end, and ended two seconds later if it has not.
#[derive(Clone, Debug)]
pub struct Context(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) link: Arc<Link>,
    pub(crate) shared: Arc<Shared>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.link.disconnect(Duration::from_secs(2), &*self.shared);
    }
}

impl Context {
    /// The name of the child.
    pub fn name(&self) -> &str {
        &self.0.link.name
    }

    /// Whether the child is gone, or about to be.
    pub fn is_closed(&self) -> bool {
        self.0.link.is_closed()
    }

    /// A number that no other child has while this one exists; clones have the same.
    pub fn id(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// Waits until the child is up. Any number of threads may wait, at any time: the answer stays
    /// the same.
    ///
    /// ```no_run
    /// # fn f(web: &econtext::Context) -> Result<(), econtext::Error> {
    /// let hello = web.wait_ready()?;
    /// println!("Python {}, process {}", hello.python, hello.pid);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The reason why there is no child.
    pub fn wait_ready(&self) -> Result<Hello, Error> {
        waiting::wait(self.0.link.ready())
    }

    /// Polls for the result of [`wait_ready`](Context::wait_ready), without blocking.
    pub fn poll_ready(&self, cx: &mut std::task::Context<'_>) -> Poll<Result<Hello, Error>> {
        self.0.link.ready().poll(cx)
    }

    /// Calls `callback` on the broker's thread with each message the child sends to the handle
    /// returned; with `None` after the last.
    ///
    /// ```no_run
    /// # fn f(web: &econtext::Context) -> Result<(), econtext::Error> {
    /// // def watch(handle): econtext.core.child.context.send(handle, "changed")
    /// let handle = web.add_handle(|message| println!("{message:?}"));
    /// web.call::<()>("watcher:watch", (handle.0,)).wait()?;
    /// web.remove_handle(handle);
    /// # Ok(()) }
    /// ```
    pub fn add_handle(&self, callback: impl Fn(Option<Value>) + Send + Sync + 'static) -> Handle {
        self.0.link.add_handle(Arc::new(callback))
    }

    /// Removes a handle of [`add_handle`](Context::add_handle).
    pub fn remove_handle(&self, handle: Handle) {
        self.0.link.remove_handle(handle);
    }

    /// Sends a value to a handle of the child.
    ///
    /// # Errors
    /// If it cannot be sent, or the child is gone.
    pub fn send(&self, handle: Handle, value: &impl Serialize) -> Result<(), Error> {
        let value = to_value(value).map_err(|error| self.convert_error(error))?;
        self.0.link.send(handle, &value)
    }

    /// Converts a value of the child to the type that was asked for.
    pub(super) fn convert<T: DeserializeOwned>(&self, value: Value) -> Result<T, Error> {
        from_value(value).map_err(|error| self.convert_error(error))
    }

    fn convert_error(&self, error: ConvertError) -> Error {
        Error::Convert { host: self.name().to_owned(), error }
    }

    /// Lets results hold instances of a class; they arrive as [`Object`](crate::value::Object)s and none
    /// of their code is run.
    pub fn allow_class(&self, module: &str, name: &str) {
        self.0.link.allow_class(module, name);
    }

    /// The bytes that wait to be written to the child.
    pub fn queued_bytes(&self) -> usize {
        self.0.link.queued_bytes()
    }

    /// The bytes that were written to the child, including the payload and the data for children
    /// behind it.
    pub fn sent_bytes(&self) -> u64 {
        self.0.link.sent_bytes()
    }

    /// The id of the local process that carries the stream: the child itself, or its ssh.
    pub fn process_id(&self) -> Option<u32> {
        self.0.link.process_id()
    }

    /// Asks the child to end when its calls are done, and ends it after `grace`. Returns at once.
    pub fn shutdown(&self, grace: Duration) {
        self.0.link.disconnect(grace, &*self.0.shared);
    }

    /// The error that says why the child is gone, or only that it is.
    pub(crate) fn closed_error(&self) -> Error {
        self.0.link.closed_error()
    }
}
