//! One child, which several objects of Python may hold.

use crate::request::Sent;
use crate::teller::Teller;
use econtext::Context;
use econtext_fleet::Connection;
use std::sync::{Arc, Mutex};

/// One child, which several objects may hold.
pub(crate) struct Inner {
    pub(crate) context: Context,
    pub(crate) sent: Mutex<Sent>,
    pub(crate) teller: Arc<Teller>,
    /// The connection, with the child that it was started from if this one runs as another user.
    connection: Option<Connection>,
}

impl Inner {
    pub(crate) fn new(context: Context, connection: Option<Connection>, teller: Arc<Teller>) -> Arc<Self> {
        Arc::new(Inner { context, sent: Mutex::default(), teller, connection })
    }

    /// The connection, for closing it.
    pub(crate) fn connection(&self) -> Option<&Connection> {
        self.connection.as_ref()
    }
}
