//! Writes plain values as protocol 2.

use super::limits::{PickleError, PickleLimits};
use crate::value::Value;
use num_bigint::BigInt;
use std::ops::Range;

/// Appends the pickle of the 2-tuple `(handle, value)` to `out`: the data of a frame.
///
/// # Errors
/// [`PickleError::TooDeep`] if the value is nested deeper than the limit, [`PickleError::Unpermitted`] for a
/// [`Value::Object`], which only travels from the child; `out` must then be discarded.
pub fn encode(
    handle: i64,
    value: &Value,
    limits: &PickleLimits,
    out: &mut Vec<u8>,
) -> Result<(), PickleError> {
    encode_marked(handle, value, limits, out).map(drop)
}

/// Encodes as [`encode`] does, and returns where in `out` large byte strings are: many children may be sent the same ones.
pub(crate) fn encode_marked(
    handle: i64,
    value: &Value,
    limits: &PickleLimits,
    out: &mut Vec<u8>,
) -> Result<Vec<Range<usize>>, PickleError> {
    let mut out = Out { bytes: out, large: Vec::new(), left_out: None };
    encode_message(handle, value, limits, &mut out)?;
    Ok(out.large)
}

/// Encodes as [`encode`] does, but leaves strings of `longest` bytes and more to [`take_long`]; returns where each belongs.
pub(crate) fn encode_around(
    handle: i64,
    value: &Value,
    longest: usize,
    limits: &PickleLimits,
    out: &mut Vec<u8>,
) -> Result<Vec<usize>, PickleError> {
    let mut out = Out { bytes: out, large: Vec::new(), left_out: Some((longest, Vec::new())) };
    encode_message(handle, value, limits, &mut out)?;
    Ok(out.left_out.map(|(_, places)| places).unwrap_or_default())
}

/// Takes the strings of `longest` bytes and more from a value, in the order in which they are written. The value was encoded
/// before, so the depth is bounded.
pub(crate) fn take_long(value: Value, longest: usize, found: &mut Vec<Vec<u8>>) {
    match value {
        Value::Bytes(bytes) | Value::NativeStr(bytes) if bytes.len() >= longest => found.push(bytes),
        Value::List(items) | Value::Tuple(items) | Value::Set(items) | Value::FrozenSet(items) => {
            items.into_iter().for_each(|item| take_long(item, longest, found));
        }
        Value::Dict(items) => {
            for (key, value) in items {
                take_long(key, longest, found);
                take_long(value, longest, found);
            }
        }
        _ => {}
    }
}

fn encode_message(
    handle: i64,
    value: &Value,
    limits: &PickleLimits,
    out: &mut Out<'_>,
) -> Result<(), PickleError> {
    out.bytes.extend_from_slice(b"\x80\x02");
    encode_int(handle, out);
    encode_value(value, limits.depth, limits, out)?;
    out.bytes.extend_from_slice(b"\x86.");
    Ok(())
}

/// The number of bytes from which on a string is large.
const LARGE: usize = 1024;

/// The output, and where large strings are in it.
struct Out<'a> {
    bytes: &'a mut Vec<u8>,
    large: Vec<Range<usize>>,
    /// The length from which on strings are left out, if they are, and the places of those.
    left_out: Option<(usize, Vec<usize>)>,
}

fn encode_value(
    value: &Value,
    depth: usize,
    limits: &PickleLimits,
    out: &mut Out<'_>,
) -> Result<(), PickleError> {
    let depth = depth.checked_sub(1).ok_or(PickleError::TooDeep { limit: limits.depth })?;
    let each = |items: &[Value], out: &mut Out<'_>| {
        items.iter().try_for_each(|v| encode_value(v, depth, limits, out))
    };
    match value {
        Value::None => out.bytes.push(b'N'),
        Value::Bool(true) => out.bytes.push(0x88),
        Value::Bool(false) => out.bytes.push(0x89),
        Value::Int(n) => encode_int(*n, out),
        Value::BigInt(n) => encode_big(n, out),
        Value::Float(x) => encode_float(*x, out),
        Value::Complex(re, im) => {
            out.bytes.extend_from_slice(b"c__builtin__\ncomplex\n");
            encode_float(*re, out);
            encode_float(*im, out);
            out.bytes.extend_from_slice(b"\x86R");
        }
        Value::Str(s) => encode_text(s.as_bytes(), out)?,
        Value::WideStr(s) => encode_text(s, out)?,
        Value::Bytes(b) | Value::NativeStr(b) => encode_bytes(b, out)?,
        Value::List(items) => {
            out.bytes.extend_from_slice(b"](");
            each(items, out)?;
            out.bytes.push(b'e');
        }
        Value::Tuple(items) => {
            if !(1..=3).contains(&items.len()) {
                out.bytes.push(b'(');
            }
            each(items, out)?;
            out.bytes.push(match items.len() {
                1 => 0x85,
                2 => 0x86,
                3 => 0x87,
                _ => b't',
            });
        }
        Value::Dict(items) => {
            out.bytes.extend_from_slice(b"}(");
            for (k, v) in items {
                encode_value(k, depth, limits, out)?;
                encode_value(v, depth, limits, out)?;
            }
            out.bytes.push(b'u');
        }
        Value::Set(items) | Value::FrozenSet(items) => {
            let name: &[u8] = if matches!(value, Value::Set(_)) { b"set" } else { b"frozenset" };
            out.bytes.extend_from_slice(b"c__builtin__\n");
            out.bytes.extend_from_slice(name);
            out.bytes.extend_from_slice(b"\n](");
            each(items, out)?;
            out.bytes.extend_from_slice(b"e\x85R");
        }
        Value::Dead => out.bytes.extend_from_slice(b"cecontext.core\n_DEAD\n"),
        Value::Channel(handle) => {
            out.bytes.extend_from_slice(b"cecontext.core\nChannel\n");
            encode_int(handle.0, out);
            out.bytes.extend_from_slice(b"\x85R");
        }
        Value::CallError(_) => return Err(unpermitted("econtext.core", "CallError")),
        Value::Object(object) => return Err(unpermitted(&object.module, &object.name)),
    }
    Ok(())
}

fn unpermitted(module: &str, name: &str) -> PickleError {
    PickleError::Unpermitted { module: module.to_owned(), name: name.to_owned() }
}

fn length(n: usize) -> Result<[u8; 4], PickleError> {
    // BINSTRING's length is signed.
    match i32::try_from(n) {
        Ok(n) => Ok(n.to_le_bytes()),
        Err(_) => Err(PickleError::TooLarge { what: "bytes in one string", limit: i32::MAX as usize }),
    }
}

fn encode_text(utf8: &[u8], out: &mut Out<'_>) -> Result<(), PickleError> {
    out.bytes.push(b'X');
    out.bytes.extend_from_slice(&length(utf8.len())?);
    out.bytes.extend_from_slice(utf8);
    Ok(())
}

fn encode_bytes(bytes: &[u8], out: &mut Out<'_>) -> Result<(), PickleError> {
    if let Ok(n) = u8::try_from(bytes.len()) {
        out.bytes.extend_from_slice(&[b'U', n]);
    } else {
        out.bytes.push(b'T');
        out.bytes.extend_from_slice(&length(bytes.len())?);
    }
    if let Some((longest, places)) = &mut out.left_out
        && bytes.len() >= *longest
    {
        places.push(out.bytes.len());
        return Ok(());
    }
    if bytes.len() >= LARGE {
        out.large.push(out.bytes.len()..out.bytes.len() + bytes.len());
    }
    out.bytes.extend_from_slice(bytes);
    Ok(())
}

fn encode_float(x: f64, out: &mut Out<'_>) {
    out.bytes.push(b'G');
    out.bytes.extend_from_slice(&x.to_be_bytes());
}

fn encode_int(n: i64, out: &mut Out<'_>) {
    if let Ok(n) = u8::try_from(n) {
        out.bytes.extend_from_slice(&[b'K', n]);
    } else if let Ok(n) = u16::try_from(n) {
        out.bytes.push(b'M');
        out.bytes.extend_from_slice(&n.to_le_bytes());
    } else if let Ok(n) = i32::try_from(n) {
        out.bytes.push(b'J');
        out.bytes.extend_from_slice(&n.to_le_bytes());
    } else {
        out.bytes.extend_from_slice(b"\x8a\x08");
        out.bytes.extend_from_slice(&n.to_le_bytes());
    }
}

fn encode_big(n: &BigInt, out: &mut Out<'_>) {
    let bytes = n.to_signed_bytes_le();
    if let Ok(n) = u8::try_from(bytes.len()) {
        out.bytes.extend_from_slice(&[0x8a, n]);
    } else {
        out.bytes.push(0x8b);
        out.bytes.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    }
    out.bytes.extend_from_slice(&bytes);
}
