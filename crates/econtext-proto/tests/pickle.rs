//! The pickle decoder and encoder: against themselves, against every CPython, against hostile input.
#![allow(missing_docs, clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "a test feeds a process from a thread")]

mod common;

use common::with_native_strings;
use econtext_proto::Value;
use econtext_proto::pickle::{AllowList, Pickle, PickleError, PickleLimits, encode};
use econtext_testkit::pythons;
use num_bigint::BigInt;
use proptest::prelude::*;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

fn decode(data: &[u8]) -> Result<Value, PickleError> {
    decode_within(data, &PickleLimits::default())
}

fn decode_within(data: &[u8], limits: &PickleLimits) -> Result<Value, PickleError> {
    let pickle = Pickle::parse(data, limits)?;
    pickle.value(pickle.root(), &AllowList::default())
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    encode(1000, value, &PickleLimits::default(), &mut out).unwrap();
    out
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::None),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (-300..300_i64).prop_map(Value::Int),
        proptest::collection::vec(any::<u8>(), 9..40)
            .prop_map(|b| Value::int(BigInt::from_signed_bytes_le(&b))),
        any::<f64>().prop_filter("NaN is not equal to itself", |x| !x.is_nan()).prop_map(Value::Float),
        (-1e9..1e9, -1e9..1e9).prop_map(|(re, im)| Value::Complex(re, im)),
        ".{0,20}".prop_map(Value::Str),
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(Value::Bytes),
    ];
    leaf.prop_recursive(5, 64, 8, |inner| {
        let items = || proptest::collection::vec(inner.clone(), 0..8);
        prop_oneof![
            items().prop_map(Value::List),
            items().prop_map(Value::Tuple),
            proptest::collection::vec((inner.clone(), inner.clone()), 0..8).prop_map(Value::Dict),
            items().prop_map(Value::Set),
            items().prop_map(Value::FrozenSet),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(value in values()) {
        let data = encoded(&value);
        prop_assert_eq!(decode(&data), Ok(Value::Tuple(vec![Value::Int(1000), with_native_strings(value)])));
    }

    #[test]
    fn a_cut_at_any_byte_is_an_error(value in values()) {
        let data = encoded(&value);
        for at in 0..data.len() {
            prop_assert!(decode(&data[..at]).is_err());
        }
    }

    #[test]
    fn no_bytes_panic(data in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode(&data);
    }

    #[test]
    fn no_mutation_panics(value in values(), at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
        let mut data = encoded(&value);
        let at = at.index(data.len());
        data[at] = byte;
        let _ = decode(&data);
    }
}

/// Runs a script in a Python with this on its stdin.
fn python(python: &pythons::Python, script: &str, input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(&python.path)
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let mut output = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut output).unwrap();
    writer.join().unwrap().unwrap();
    assert!(child.wait().unwrap().success());
    output
}

#[test]
fn every_python_reads_what_we_write() {
    let script = r#"
import pickle, sys
stdin = getattr(sys.stdin, 'buffer', sys.stdin)
options = {'encoding': 'bytes'} if sys.version_info > (3,) else {}
handle, value = pickle.loads(stdin.read(), **options)
assert handle == 1000
text = type(u'')
assert value == [None, True, False, 0, 255, 256, 65535, 65536, -1, 2**31, -2**31 - 1, 2**63 - 1, 2**63, -2**63, -2**63 - 1,
                 2**4000, 1.5, float('inf'), 1 - 2j, u'', u'\xe9\U0001f40d', b'', b'\xff' * 255, b'\0' * 256,
                 [], [1], (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), {}, {u'k': b'v'}, set(), set([1]), frozenset([2])], value
assert type(value[20]) is text and type(value[22]) is bytes
"#;
    let int = |n: i64| Value::Int(n);
    let value = Value::List(vec![
        Value::None,
        Value::Bool(true),
        Value::Bool(false),
        int(0),
        int(255),
        int(256),
        int(65535),
        int(65536),
        int(-1),
        int(1 << 31),
        int(-(1 << 31) - 1),
        int(i64::MAX),
        Value::BigInt(BigInt::from(1) << 63),
        int(i64::MIN),
        Value::BigInt(BigInt::from(i64::MIN) - 1),
        Value::BigInt(BigInt::from(1) << 4000),
        Value::Float(1.5),
        Value::Float(f64::INFINITY),
        Value::Complex(1.0, -2.0),
        "".into(),
        "é🐍".into(),
        Value::Bytes(vec![]),
        Value::Bytes(vec![255; 255]),
        Value::Bytes(vec![0; 256]),
        Value::List(vec![]),
        Value::List(vec![int(1)]),
        Value::Tuple(vec![]),
        Value::Tuple(vec![int(1)]),
        Value::Tuple(vec![int(1), int(2)]),
        Value::Tuple(vec![int(1), int(2), int(3)]),
        Value::Tuple(vec![int(1), int(2), int(3), int(4)]),
        Value::Dict(vec![]),
        Value::Dict(vec![("k".into(), Value::Bytes(b"v".to_vec()))]),
        Value::Set(vec![]),
        Value::Set(vec![int(1)]),
        Value::FrozenSet(vec![int(2)]),
    ]);
    for interpreter in pythons::all() {
        python(&interpreter, script, &encoded(&value));
    }
}

#[test]
fn we_read_what_every_python_writes_in_every_protocol_and_pickler() {
    let script = r#"
import pickle, struct, sys
out = getattr(sys.stdout, 'buffer', sys.stdout)
text = type(u'')
shared = [1, 2]
value = [None, True, False, 0, -1, 255, 65536, 2**31, -2**63, 2**63, -2**63 - 1, 2**2100, 1.5, u'\xe9', b'\xff\0', [], [1, [2]], (), (1,),
         (1, 2), (1, 2, 3), (1, 2, 3, 4), {}, {u'k': (1, u'x')}, set([1]), frozenset([2]), shared, shared, list(range(3000)),
         dict((n, u'v') for n in range(2000)), u'l' * 300, b'b' * 300]
picklers = [pickle.dumps]
try:
    import cPickle
    picklers.append(cPickle.dumps)
except ImportError:
    picklers.append(pickle._dumps)
for dumps in picklers:
    for protocol in range(3 + (sys.version_info > (3,))):
        data = dumps(value, protocol)
        out.write(struct.pack('>L', len(data)) + data)
"#;
    for interpreter in pythons::all() {
        let output = python(&interpreter, script, b"");
        let mut rest = &output[..];
        let mut seen = 0;
        while let Some((size, behind)) = rest.split_first_chunk() {
            let (data, next) = behind.split_at(u32::from_be_bytes(*size) as usize);
            rest = next;
            seen += 1;
            // Protocols below 3 have no bytes: Python 3 writes a call of _codecs.encode, which we do not make.
            let value = match decode(data) {
                Ok(value) => value,
                Err(PickleError::Unpermitted { module, name }) if interpreter.is_3() => {
                    assert_eq!((&*module, &*name), ("_codecs", "encode"));
                    continue;
                }
                Err(error) => panic!("Python {}: {error}", interpreter.minor),
            };
            let items = value.as_seq().unwrap();
            assert_eq!(items.len(), 32);
            assert_eq!(items[8], Value::Int(i64::MIN));
            assert_eq!(items[9], Value::BigInt(BigInt::from(1) << 63));
            assert_eq!(items[11], Value::BigInt(BigInt::from(1) << 2100));
            assert_eq!(items[13].as_str(), Some("é"));
            assert_eq!(items[14].as_bytes(), Some(&b"\xff\0"[..]));
            assert_eq!(items[24], Value::Set(vec![Value::Int(1)]));
            assert_eq!(items[25], Value::FrozenSet(vec![Value::Int(2)]));
            assert_eq!(items[26], items[27]);
            assert_eq!(items[28].as_seq().map(<[Value]>::len), Some(3000));
            assert_eq!(items[30].as_str().map(str::len), Some(300));
        }
        assert!(seen >= 6, "Python {}: {seen}", interpreter.minor);
    }
}

fn refused(data: &[u8]) -> String {
    match decode(data) {
        Err(error) => error.to_string(),
        Ok(value) => panic!("{} was accepted", value.type_name()),
    }
}

#[test]
fn every_global_but_our_own_is_refused_by_name() {
    for (data, name) in [
        (&b"cos\nsystem\n(S'id'\ntR."[..], "os.system"),
        (b"c__builtin__\neval\n(S'1'\ntR.", "__builtin__.eval"),
        (b"cbuiltins\nexec\n(S'1'\ntR.", "builtins.exec"),
        (b"]cposix\nsystem\na.", "posix.system"),
        (b"cecontext.core\nChannel\nK\x01\x85R.", "econtext.core.Channel"),
        (b"ccollections\nOrderedDict\n)R.", "collections.OrderedDict"),
        (b"cdatetime\ndate\nU\x04\x07\xe8\x01\x01\x85R.", "datetime.date"),
        (b"c__builtin__\nset\n.", "set"),
    ] {
        let error = refused(data);
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn bombs_stay_within_their_limits() {
    let limits = PickleLimits { nodes: 10_000, depth: 100, expanded: 1 << 20, digits: 1000 };
    // Each tuple holds the one before twice: 2^64 values from 200 bytes.
    let doubling = [b"(l".as_slice(), &b"2\x86".repeat(64), b"."].concat();
    // The same by memo.
    let mut memo = b"]q\x000".to_vec();
    for n in 0..100_u8 {
        memo.extend_from_slice(&[b'h', n, b'h', n, 0x86, b'q', n + 1, b'0']);
    }
    memo.extend_from_slice(b"hd.");
    let text = [b"X\x00\x40\x00\x00".as_slice(), &[b'x'; 0x4000], &b"2\x86".repeat(20), b"."].concat();
    let deep = [b"]".repeat(5000).as_slice(), &b"a".repeat(4999), b"."].concat();
    let digits = [b"L".as_slice(), &b"9".repeat(100_000), b"L\n."].concat();
    let many = [b"(".as_slice(), &b"N".repeat(20_000), b"t."].concat();
    for (what, data) in [
        ("tuples", doubling),
        ("memo", memo),
        ("text", text),
        ("depth", deep),
        ("digits", digits),
        ("count", many),
    ] {
        let error = decode_within(&data, &limits).expect_err(what);
        assert!(
            matches!(error, PickleError::TooLarge { .. } | PickleError::TooDeep { .. }),
            "{what}: {error}"
        );
    }
}

#[test]
fn a_value_that_contains_itself_is_refused() {
    assert!(refused(b"]q\0h\0a.").contains("contains itself"));
    assert!(refused(b"}q\0K\x01h\0s.").contains("contains itself"));
}

#[test]
fn a_length_beyond_the_data_is_an_error_before_memory_is_taken() {
    for data in
        [&b"X\xff\xff\xff\xff."[..], b"T\xff\xff\xff\x7f.", b"B\xff\xff\xff\xff.", b"\x8b\xff\xff\xff\xff."]
    {
        assert!(refused(data).contains("ends early"));
    }
}

#[test]
fn strange_but_wrong_integers_are_refused() {
    for data in [&b"L7_0L\n."[..], b"I1_0\n.", b"I+1\n.", b"L\n.", b"I0x10\n.", b"L--1L\n."] {
        assert!(refused(data).contains("decimal"), "{data:?}");
    }
}
