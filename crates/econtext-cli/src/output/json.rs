//! Python values as JSON and back, with the one-key objects of the output contract for values that
//! JSON lacks.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use econtext::Value;
use serde_json::Value as Json;

/// Appends `value`.
pub(crate) fn write_value(out: &mut String, value: &Value) {
    match value {
        Value::None => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Int(n) => out.push_str(&n.to_string()),
        Value::BigInt(n) => out.push_str(&n.to_string()),
        Value::Float(x) => write_float(out, *x),
        Value::Complex(re, im) => {
            out.push_str("{\"$complex\":[");
            write_float(out, *re);
            out.push(',');
            write_float(out, *im);
            out.push_str("]}");
        }
        Value::Str(s) => write_str(out, s),
        Value::WideStr(b) => write_wide(out, b),
        Value::NativeStr(b) => match std::str::from_utf8(b) {
            Ok(s) => write_str(out, s),
            Err(_) => write_bytes(out, b),
        },
        Value::Bytes(b) => write_bytes(out, b),
        Value::List(items) | Value::Tuple(items) => write_items(out, items),
        Value::Set(items) => write_tagged(out, "$set", items),
        Value::FrozenSet(items) => write_tagged(out, "$frozenset", items),
        Value::Dict(items) => write_dict(out, items),
        Value::Object(object) => {
            out.push_str("{\"$object\":");
            write_str(out, &format!("{}.{}", object.module, object.name));
            out.push_str(",\"args\":");
            write_items(out, &object.args);
            out.push_str(",\"state\":");
            write_value(out, &object.state);
            out.push('}');
        }
        other => write_str(out, &format!("<{}>", other.type_name())),
    }
}

/// Appends a string.
pub(crate) fn write_str(out: &mut String, s: &str) {
    // Text always has a JSON form.
    out.push_str(&serde_json::to_string(s).unwrap_or_default());
}

/// Appends output of a program, as a string where it is text.
pub(crate) fn write_data(out: &mut String, data: &[u8]) {
    match std::str::from_utf8(data) {
        Ok(s) => write_str(out, s),
        Err(_) => write_bytes(out, data),
    }
}

fn write_bytes(out: &mut String, bytes: &[u8]) {
    out.push_str("{\"$bytes\":\"");
    BASE64_STANDARD.encode_string(bytes, out);
    out.push_str("\"}");
}

/// Appends text with lone surrogates as escapes, which Python's `json` reads back as they were.
fn write_wide(out: &mut String, bytes: &[u8]) {
    out.push('"');
    let mut rest = bytes;
    while !rest.is_empty() {
        match std::str::from_utf8(rest) {
            Ok(s) => {
                push_inner(out, s);
                return out.push('"');
            }
            Err(error) => {
                let (good, bad) = rest.split_at(error.valid_up_to());
                push_inner(out, &String::from_utf8_lossy(good));
                match bad {
                    [0xed, b, c, ..] => {
                        let unit = 0xd000 | (u32::from(b & 0x3f) << 6) | u32::from(c & 0x3f);
                        out.push_str(&format!("\\u{unit:04x}"));
                        rest = &bad[3..];
                    }
                    _ => {
                        out.push('\u{fffd}');
                        rest = &bad[1..];
                    }
                }
            }
        }
    }
    out.push('"');
}

fn push_inner(out: &mut String, s: &str) {
    let quoted = serde_json::to_string(s).unwrap_or_default();
    out.push_str(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default());
}

fn write_float(out: &mut String, x: f64) {
    if x.is_finite() {
        out.push_str(&serde_json::to_string(&x).unwrap_or_default());
    } else {
        let name = if x.is_nan() {
            "nan"
        } else if x > 0.0 {
            "inf"
        } else {
            "-inf"
        };
        out.push_str(&format!("{{\"$float\":\"{name}\"}}"));
    }
}

fn write_items(out: &mut String, items: &[Value]) {
    out.push('[');
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        write_value(out, item);
    }
    out.push(']');
}

fn write_tagged(out: &mut String, tag: &str, items: &[Value]) {
    out.push_str(&format!("{{\"{tag}\":"));
    write_items(out, items);
    out.push('}');
}

fn write_dict(out: &mut String, items: &[(Value, Value)]) {
    let plain = items.iter().all(|(key, _)| key.as_str().is_some() || matches!(key, Value::WideStr(_)));
    // A dict that looks like one of our forms must not be read as one.
    let lookalike = items.len() == 1 && items[0].0.as_str().is_some_and(is_form);
    if plain && !lookalike {
        out.push('{');
        for (i, (key, value)) in items.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            write_value(out, key);
            out.push(':');
            write_value(out, value);
        }
        out.push('}');
    } else {
        out.push_str("{\"$dict\":[");
        for (i, (key, value)) in items.iter().enumerate() {
            out.push_str(if i > 0 { ",[" } else { "[" });
            write_value(out, key);
            out.push(',');
            write_value(out, value);
            out.push(']');
        }
        out.push_str("]}");
    }
}

fn is_form(key: &str) -> bool {
    matches!(key, "$bytes" | "$set" | "$frozenset" | "$dict" | "$complex" | "$float")
}

/// The argument that a word stands for: JSON if it is JSON, else itself.
///
/// # Errors
/// The reason why a one-key object of ours is invalid.
pub(crate) fn argument(word: &str) -> Result<Value, String> {
    match serde_json::from_str(word)
        .or_else(|error| without_surrogates(word).map_or(Err(error), |w| serde_json::from_str(&w)))
    {
        Ok(json) => from_json(json),
        Err(_) => Ok(Value::from(word)),
    }
}

/// Characters of private use that stand for the 2,048 lone surrogates while JSON is read; our own
/// results contain such surrogates.
const STAND_INS: std::ops::RangeInclusive<u32> = 0x10_f000..=0x10_f7ff;

/// JSON with stand-ins for the escapes of lone surrogates; `None` if it has no such escapes, or
/// stand-ins of its own.
fn without_surrogates(json: &str) -> Option<String> {
    let unit = |at: usize| {
        let escape = json.get(at..at + 6)?.strip_prefix("\\u")?;
        u32::from_str_radix(escape, 16).ok()
    };
    if json.chars().any(|c| STAND_INS.contains(&u32::from(c))) {
        return None;
    }
    let (mut out, mut at, mut any) = (String::new(), 0, false);
    while let Some(c) = json[at..].chars().next() {
        let next = at + c.len_utf8();
        let end = match (unit(at), unit(at + 6)) {
            (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => at + 12,
            (Some(lone @ 0xd800..0xe000), _) => {
                out.extend(char::from_u32(STAND_INS.start() + (lone - 0xd800)));
                (at, any) = (at + 6, true);
                continue;
            }
            // The character after a backslash begins no escape.
            _ if c == '\\' => next + json[next..].chars().next().map_or(0, char::len_utf8),
            _ => next,
        };
        out.push_str(&json[at..end]);
        at = end;
    }
    any.then_some(out)
}

/// A string value, in which surrogates replace their stand-ins.
fn text(s: String) -> Value {
    if !s.chars().any(|c| STAND_INS.contains(&u32::from(c))) {
        return Value::Str(s);
    }
    let mut wide = Vec::with_capacity(s.len());
    for c in s.chars() {
        match u32::from(c) {
            n if STAND_INS.contains(&n) => {
                let unit = 0xd800 + (n - STAND_INS.start());
                let low = |shift: u32| 0x80 | (unit >> shift & 0x3f) as u8;
                wide.extend([0xe0 | (unit >> 12) as u8, low(6), low(0)]);
            }
            _ => wide.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Value::WideStr(wide)
}

fn from_json(json: Json) -> Result<Value, String> {
    Ok(match json {
        Json::Null => Value::None,
        Json::Bool(b) => Value::Bool(b),
        Json::Number(n) => number(&n.to_string())?,
        Json::String(s) => text(s),
        Json::Array(items) => Value::List(list(items)?),
        Json::Object(map) if map.len() == 1 && map.keys().all(|k| is_form(k)) => {
            let (form, content) = map.into_iter().next().ok_or("an empty object")?;
            return special(&form, content)
                .ok_or_else(|| format!("{form:?} is not followed by what it needs"))?;
        }
        Json::Object(map) => {
            let items = map.into_iter().map(|(k, v)| Ok((text(k), from_json(v)?)));
            Value::Dict(items.collect::<Result<_, String>>()?)
        }
    })
}

fn list(items: Vec<Json>) -> Result<Vec<Value>, String> {
    items.into_iter().map(from_json).collect()
}

fn number(text: &str) -> Result<Value, String> {
    if let Ok(n) = text.parse() {
        return Ok(Value::Int(n));
    }
    if text.contains(['.', 'e', 'E']) {
        return text.parse().map(Value::Float).map_err(|e| format!("{text}: {e}"));
    }
    let n = text.parse().map_err(|e| format!("{text}: {e}"))?;
    Ok(Value::BigInt(n))
}

fn special(form: &str, content: Json) -> Option<Result<Value, String>> {
    let pair = |items: Vec<Json>| <[Json; 2]>::try_from(items).ok();
    Some(Ok(match (form, content) {
        ("$bytes", Json::String(s)) => Value::Bytes(BASE64_STANDARD.decode(s).ok()?),
        ("$float", Json::String(s)) => match &*s.to_ascii_lowercase() {
            "nan" => Value::Float(f64::NAN),
            "inf" | "infinity" => Value::Float(f64::INFINITY),
            "-inf" | "-infinity" => Value::Float(f64::NEG_INFINITY),
            _ => return None,
        },
        ("$complex", Json::Array(items)) => {
            let [re, im] = pair(items)?;
            Value::Complex(re.as_f64()?, im.as_f64()?)
        }
        ("$set", Json::Array(items)) => return Some(list(items).map(Value::Set)),
        ("$frozenset", Json::Array(items)) => return Some(list(items).map(Value::FrozenSet)),
        ("$dict", Json::Array(items)) => {
            let mut dict = Vec::new();
            for item in items {
                let Json::Array(item) = item else { return None };
                let [key, value] = pair(item)?;
                match (from_json(key), from_json(value)) {
                    (Ok(key), Ok(value)) => dict.push((key, value)),
                    (Err(error), _) | (_, Err(error)) => return Some(Err(error)),
                }
            }
            Value::Dict(dict)
        }
        _ => return None,
    }))
}

/// A value for people: text as it is, all else as JSON.
pub(crate) fn plain(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None => {
            let mut out = String::new();
            write_value(&mut out, value);
            out
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(value: &Value) -> String {
        let mut out = String::new();
        write_value(&mut out, value);
        out
    }

    #[test]
    fn values_survive_the_way_out_and_in() {
        for text in [
            "null",
            "true",
            "-5",
            "123456789012345678901234567890",
            "1.5",
            "\"a\\\"\\u0001é\"",
            "\"caf\\udce9 \\\\udce9\"",
            "{\"\\ud800\":[\"\\udfff\"]}",
            "[1,[2],{}]",
            r#"{"a":{"$bytes":"AP8="},"b":{"$set":[1]}}"#,
            r#"{"$frozenset":[]}"#,
            r#"{"$dict":[[1,2],[[],"x"]]}"#,
            r#"{"$complex":[1.0,-2.5]}"#,
            r#"{"$float":"nan"}"#,
            r#"{"$float":"-inf"}"#,
            r#"{"$dict":[["$bytes","no form"]]}"#,
            r#"{"$other":1}"#,
        ] {
            assert_eq!(json(&argument(text).unwrap()), text, "{text}");
        }
        assert_eq!(json(&Value::Tuple(vec![Value::Int(1)])), "[1]");
        assert_eq!(json(&Value::NativeStr(vec![255])), r#"{"$bytes":"/w=="}"#);
        assert_eq!(json(&Value::WideStr(b"a\xed\xb2\x80\"".to_vec())), r#""a\udc80\"""#);
    }

    #[test]
    fn what_is_no_json_is_a_string_and_what_is_no_form_an_error() {
        assert_eq!(argument("/tmp"), Ok("/tmp".into()));
        assert_eq!(argument("1.2.3"), Ok("1.2.3".into()));
        assert!(argument(r#"{"$bytes":"*"}"#).is_err());
        assert!(argument(r#"{"$complex":[1]}"#).is_err());
        assert_eq!(argument("99999999999999999999").map(|v| v.type_name()), Ok("int"));
    }
}
