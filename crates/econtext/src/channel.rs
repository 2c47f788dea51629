//! Ordered messages between one function and its caller.

use crate::context::{Context, check_thread};
use crate::error::Error;
use crate::sync::lock;
use econtext_proto::{Handle, Value, from_value};
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::time::Duration;

/// Ordered messages, both ways, until one side closes it.
///
/// As an argument of a call it becomes the child's end, an `econtext.core.Channel`.
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
    /// The receiver is behind a lock so that a channel can be shared; one caller at a time gets a
    /// message.
    messages: Mutex<Receiver<Option<Value>>>,
}

impl Channel {
    pub(crate) fn new(context: &Context) -> Self {
        let (sender, messages) = channel();
        // The receiver is gone once the channel is dropped: a failed send is no error then.
        let handle = context.add_handle(move |value| drop(sender.send(value)));
        Channel { context: context.clone(), handle, messages: Mutex::new(messages) }
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
        let messages = lock(&self.messages);
        self.convert(messages.recv().ok().flatten())
    }

    /// Waits as [`recv`](Channel::recv) does, but no longer than `timeout`.
    ///
    /// # Errors
    /// [`Error::Timeout`] if no value came.
    pub fn recv_timeout<T: DeserializeOwned>(&self, timeout: Duration) -> Result<Option<T>, Error> {
        check_thread()?;
        let messages = lock(&self.messages);
        match messages.recv_timeout(timeout) {
            Ok(value) => self.convert(value),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => Err(self.nothing_came(timeout)),
        }
    }

    /// The next value, if it is there already.
    ///
    /// # Errors
    /// The errors of [`recv_timeout`](Channel::recv_timeout).
    pub fn try_recv<T: DeserializeOwned>(&self) -> Result<Option<T>, Error> {
        let messages = lock(&self.messages);
        match messages.try_recv() {
            Ok(value) => self.convert(value),
            Err(TryRecvError::Disconnected) => Ok(None),
            Err(TryRecvError::Empty) => Err(self.nothing_came(Duration::ZERO)),
        }
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
        let convert =
            |v| from_value(v).map_err(|error| Error::Convert { host: self.context.name().to_owned(), error });
        value.map(convert).transpose()
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
