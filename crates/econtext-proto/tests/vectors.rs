//! Frames and pickles, against vectors that the agent's tests (`crates/econtext/agent-tests`) read too.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::with_native_strings;
use econtext_proto::frame::{FrameDecoder, FrameEncoder};
use econtext_proto::mac::Sender;
use econtext_proto::pickle::{AllowList, Pickle, PickleLimits, encode};
use econtext_proto::{Secret, Value};
use econtext_testkit::repository;
use num_bigint::BigInt;
use serde_json::Value as Json;

fn vectors(name: &str) -> Json {
    let text = std::fs::read_to_string(repository("testdata/vectors").join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn unhex(digits: &str) -> Vec<u8> {
    digits
        .as_bytes()
        .chunks(2)
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The value that a vector describes.
fn value(spec: &Json) -> Value {
    let Some(spec) = spec.as_object() else {
        return spec.as_bool().map_or(Value::None, Value::Bool);
    };
    let (kind, content) = spec.iter().next().unwrap();
    let text = || content.as_str().unwrap();
    let items = || content.as_array().unwrap().iter().map(value).collect();
    match kind.as_str() {
        "int" => Value::int(text().parse::<BigInt>().unwrap()),
        "float" => Value::Float(text().parse().unwrap()),
        "complex" => {
            let part = |i: usize| content[i].as_str().unwrap().parse().unwrap();
            Value::Complex(part(0), part(1))
        }
        "text" => Value::Str(text().to_owned()),
        "bytes" => Value::Bytes(unhex(text())),
        "list" => Value::List(items()),
        "tuple" => Value::Tuple(items()),
        "set" => Value::Set(items()),
        "frozenset" => Value::FrozenSet(items()),
        "dict" => {
            let pairs = content.as_array().unwrap().iter();
            Value::Dict(pairs.map(|pair| (value(&pair[0]), value(&pair[1]))).collect())
        }
        "dead" => Value::Dead,
        other => panic!("an unknown kind: {other}"),
    }
}

fn secret(vectors: &Json) -> Secret {
    let bytes: [u8; 32] = unhex(vectors["key"].as_str().unwrap()).try_into().unwrap();
    Secret::new(bytes)
}

#[test]
fn frames_are_those_of_the_vectors() {
    let vectors = vectors("frames.json");
    for (name, sender) in [("controller", Sender::Controller), ("child", Sender::Child)] {
        let mut encoder = FrameEncoder::new(&secret(&vectors), sender);
        for vector in vectors[name].as_array().unwrap() {
            let mut frame = Vec::new();
            encoder.encode(&unhex(vector["data"].as_str().unwrap()), &mut frame);
            assert_eq!(hex(&frame), vector["frame"].as_str().unwrap(), "{name}");
        }
    }
}

#[test]
fn frames_of_the_vectors_are_read_split_at_every_byte() {
    let vectors = vectors("frames.json");
    for (name, sender) in [("controller", Sender::Controller), ("child", Sender::Child)] {
        let all = vectors[name].as_array().unwrap();
        let part =
            |key: &str| -> Vec<Vec<u8>> { all.iter().map(|v| unhex(v[key].as_str().unwrap())).collect() };
        let (wanted, whole) = (part("data"), part("frame").concat());
        for at in 0..=whole.len() {
            let mut decoder = FrameDecoder::new(&secret(&vectors), sender, 1 << 20);
            let mut found = Vec::new();
            for piece in [&whole[..at], &whole[at..]] {
                decoder.push(piece);
                while let Some(data) = decoder.next_frame().unwrap() {
                    found.push(data.to_vec());
                }
            }
            assert_eq!(found, wanted, "{name}, split at {at}");
        }
    }
}

#[test]
fn values_are_written_as_in_the_vectors() {
    for vector in vectors("pickles.json")["pickles"].as_array().unwrap() {
        let mut written = Vec::new();
        encode(1000, &value(&vector["value"]), &PickleLimits::default(), &mut written).unwrap();
        assert_eq!(hex(&written), vector["controller"].as_str().unwrap(), "{}", vector["name"]);
    }
}

#[test]
fn values_that_children_wrote_are_read() {
    for vector in vectors("pickles.json")["pickles"].as_array().unwrap() {
        for (major, data) in vector["child"].as_object().unwrap() {
            let data = unhex(data.as_str().unwrap());
            let pickle = Pickle::parse(&data, &PickleLimits::default()).unwrap();
            let read = pickle.value(pickle.root(), &AllowList::default()).unwrap();
            let wanted = value(&vector["value"]);
            let wanted = if major == "2" { with_native_strings(wanted) } else { wanted };
            assert_eq!(
                read,
                Value::Tuple(vec![Value::Int(1000), wanted]),
                "{} of Python {major}",
                vector["name"]
            );
        }
    }
}
