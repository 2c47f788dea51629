//! Ordered messages between one function and its caller.

use super::context::Context;
use crate::broker::check_thread;
use crate::error::Error;
use crate::sync::Queue;
use econtext_proto::{Handle, Value};
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// Ordered messages, both ways, until one side closes it.
///
/// As an argument of a call it becomes the child's end, an `econtext.core.Channel`. Any number of
/// threads and tasks may share this end: each message goes to one of them, the end to all.
///
/// ```no_run
/// # fn f(child: &econtext::Context) -> Result<(), econtext::Error> {
/// let channel = child.channel();
/// // def squares(channel):
/// //     for n in channel: channel.send(n * n)
/// let call = child.call::<()>("worker:squares", (&channel,));
/// channel.send(&12)?;
/// assert_eq!(channel.recv::<i64>()?, Some(144));
/// channel.close();
/// call.wait()?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Channel {
    context: Context,
    handle: Handle,
    messages: Arc<Queue<Value>>,
}

impl Context {
    /// Opens a channel. Give it to a call as an argument: the function then has its other end.
    pub fn channel(&self) -> Channel {
        Channel::new(self)
    }
}

impl Channel {
    pub(crate) fn new(context: &Context) -> Self {
        let messages = Arc::new(Queue::default());
        let into = messages.clone();
        let handle = context.add_handle(move |value| into.put(value));
        Channel { context: context.clone(), handle, messages }
    }

    /// Sends a value to the child's end.
    ///
    /// # Errors
    /// If it cannot be sent, or the child is gone.
    pub fn send(&self, value: &impl Serialize) -> Result<(), Error> {
        self.context.send(self.handle, value)
    }

    /// Waits for the next value from the child's end; `None` once it is closed there, or the child
    /// is gone.
    ///
    /// # Errors
    /// If the value is no `T`.
    pub fn recv<T: DeserializeOwned>(&self) -> Result<Option<T>, Error> {
        check_thread()?;
        self.convert(self.messages.next(None).flatten())
    }

    /// Waits as [`recv`](Channel::recv) does, but no longer than `timeout`.
    ///
    /// # Errors
    /// [`Error::Timeout`] if no value came.
    pub fn recv_timeout<T: DeserializeOwned>(&self, timeout: Duration) -> Result<Option<T>, Error> {
        check_thread()?;
        match self.messages.next(Instant::now().checked_add(timeout)) {
            Some(value) => self.convert(value),
            None => Err(self.nothing_came(timeout)),
        }
    }

    /// The next value, if it is there already.
    ///
    /// # Errors
    /// The errors of [`recv_timeout`](Channel::recv_timeout).
    pub fn try_recv<T: DeserializeOwned>(&self) -> Result<Option<T>, Error> {
        match self.messages.next(Some(Instant::now())) {
            Some(value) => self.convert(value),
            None => Err(self.nothing_came(Duration::ZERO)),
        }
    }

    /// Polls for the next value, without blocking; the end is `Ok(None)`, as often as it is asked
    /// for.
    ///
    /// ```no_run
    /// # async fn f(channel: &econtext::Channel) -> Result<(), econtext::Error> {
    /// use std::future::poll_fn;
    /// while let Some(n) = poll_fn(|cx| channel.poll_recv::<i64>(cx)).await? {
    ///     println!("{n}");
    /// }
    /// # Ok(()) }
    /// ```
    pub fn poll_recv<T: DeserializeOwned>(
        &self,
        cx: &std::task::Context<'_>,
    ) -> Poll<Result<Option<T>, Error>> {
        self.messages.poll(cx).map(|value| self.convert(value))
    }

    /// The handle by which it goes as an argument.
    pub fn handle(&self) -> Handle {
        self.handle
    }

    /// Tells the child's end that no more will come.
    pub fn close(&self) {
        // If the child is gone, it knows.
        let _ = self.context.0.link.send(self.handle, &Value::Dead);
    }

    fn nothing_came(&self, after: Duration) -> Error {
        let host = self.context.name().to_owned();
        Error::Timeout { host, phase: "a message on a channel", after, stderr: String::new() }
    }

    fn convert<T: DeserializeOwned>(&self, value: Option<Value>) -> Result<Option<T>, Error> {
        value.map(|value| self.context.convert(value)).transpose()
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.close();
        self.context.remove_handle(self.handle);
    }
}

impl Serialize for Channel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Value::Channel(self.handle).serialize(serializer)
    }
}
