//! One child, which several objects of Python may hold.

use crate::callback_thread::CallbackThread;
use crate::request::Sent;
use econtext::Context;
use econtext_fleet::Connection;
use std::sync::{Arc, Mutex};

/// One child, which several objects may hold.
pub(crate) struct Inner {
    pub(crate) context: Context,
    pub(crate) sent: Mutex<Sent>,
    pub(crate) callbacks: Arc<CallbackThread>,
    /// The connection, with the child that it was started from if this one runs as another user.
    connection: Option<Connection>,
}

impl Inner {
    pub(crate) fn new(
        context: Context,
        connection: Option<Connection>,
        callbacks: Arc<CallbackThread>,
    ) -> Arc<Self> {
        Arc::new(Inner { context, sent: Mutex::default(), callbacks, connection })
    }

    /// The connection, for closing it.
    pub(crate) fn connection(&self) -> Option<&Connection> {
        self.connection.as_ref()
    }
}
