//! The messages to the controller's own handles, as events.

use super::event::{Event, SessionError};
use crate::pickle::PickleError;
use crate::value::{Handle, Value};
use crate::wire::handles::{BACK, FORWARD_LOG, GET_FILE, GET_MODULE, GET_TREE, HAVE, STDIO};
use crate::wire::logs::LogRecord;

/// A message that is not the answer to a call.
pub(super) enum Decoded {
    /// One to a handle of the controller's own.
    Event(Event),
    /// One to another handle.
    Other(Result<Value, PickleError>),
}

/// Decodes a message to `handle`.
///
/// # Errors
/// The shape is not that of messages to this handle.
pub(super) fn decode(handle: Handle, value: Result<Value, PickleError>) -> Result<Decoded, SessionError> {
    let malformed = SessionError::Malformed(handle.0);
    let event = match handle {
        FORWARD_LOG => {
            value.ok().as_ref().and_then(LogRecord::from_value).map(Event::Log).ok_or(malformed)?
        }
        STDIO => match value {
            Ok(Value::Tuple(items)) => match <[Value; 2]>::try_from(items) {
                Ok([Value::Int(fd @ 1..=2), Value::Bytes(b) | Value::NativeStr(b)]) => {
                    Event::Output(fd as u8, b)
                }
                _ => return Err(malformed),
            },
            _ => return Err(malformed),
        },
        GET_MODULE => match value.as_ref().map(Value::as_seq) {
            Ok(Some([Value::Int(reply_to), name])) => Event::ModuleRequested {
                reply_to: Handle(*reply_to),
                name: name.as_str().ok_or(malformed)?.to_owned(),
            },
            _ => return Err(malformed),
        },
        BACK => match value.as_ref().map(|v| (v, v.as_str())) {
            Ok((Value::None, _)) => Event::MovedBack(None),
            Ok((_, Some(reason))) => Event::MovedBack(Some(reason.to_owned())),
            _ => return Err(malformed),
        },
        HAVE => match value.as_ref().map(Value::as_str) {
            Ok(Some(name)) => Event::ModulePresent(name.to_owned()),
            _ => return Err(malformed),
        },
        GET_FILE | GET_TREE => match value.as_ref().map(Value::as_seq) {
            Ok(Some([Value::Int(reply_to), path, Value::Int(number)])) => {
                let reply_to = Handle(*reply_to);
                let path = path.as_str().ok_or(malformed.clone())?.to_owned();
                let number = u64::try_from(*number).map_err(|_| malformed)?;
                match handle {
                    GET_FILE => Event::FileRequested { reply_to, path, offset: number },
                    _ => Event::TreeRequested { reply_to, path, limit: number },
                }
            }
            _ => return Err(malformed),
        },
        _ => return Ok(Decoded::Other(value)),
    };
    Ok(Decoded::Event(event))
}
