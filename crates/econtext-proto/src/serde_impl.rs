//! Values and serde: arguments are anything `Serialize`, results anything `DeserializeOwned`.

mod de;
mod error;
mod ser;

pub use de::from_value;
pub use error::ConvertError;
pub use ser::to_value;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::{Object, Value};
    use num_bigint::BigInt;
    use serde::{Deserialize, Serialize};
    use std::collections::{BTreeMap, BTreeSet};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Usage {
        total: u64,
        name: String,
        tag: Option<char>,
        kind: Kind,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Kind {
        Plain,
        Sized(u8),
        Pair(u8, u8),
        Named { a: i32 },
    }

    fn round_trip<T: Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(value: T) {
        let there = to_value(&value).expect("serializes");
        assert_eq!(from_value::<T>(there.clone()).as_ref(), Ok(&value), "{there:?}");
    }

    #[test]
    fn rust_types_come_back_as_they_went() {
        for kind in [Kind::Plain, Kind::Sized(3), Kind::Pair(1, 2), Kind::Named { a: -1 }] {
            round_trip(Usage { total: u64::MAX, name: "é".into(), tag: Some('x'), kind });
        }
        round_trip((1u8, -5i64, i128::MIN, u128::MAX, 1.5f64, true));
        round_trip(vec![Some(1), None]);
        round_trip(BTreeMap::from([("a".to_owned(), 1)]));
        round_trip(BTreeMap::from([((1, 2), BTreeSet::from([1u8]))]));
        round_trip(serde_bytes::ByteBuf::from(vec![0, 255]));
        round_trip(());
    }

    #[test]
    fn every_kind_of_value_survives_serde() {
        let value = Value::List(vec![
            Value::None,
            Value::Bool(true),
            Value::Int(-1),
            Value::BigInt(BigInt::from(1) << 200),
            Value::Float(0.5),
            Value::Complex(1.0, -1.0),
            Value::Str("x".into()),
            Value::WideStr(vec![0xed, 0xb2, 0x80]),
            Value::NativeStr(vec![255]),
            Value::Bytes(vec![1]),
            Value::Tuple(vec![Value::Int(1)]),
            Value::Set(vec![Value::Int(1)]),
            Value::FrozenSet(vec![]),
            Value::Dict(vec![
                (Value::Tuple(vec![]), Value::Set(vec![])),
                (Value::Str("$set".into()), Value::None),
            ]),
        ]);
        assert_eq!(to_value(&value), Ok(value.clone()));
        assert_eq!(from_value::<Value>(value.clone()), Ok(value));
        let object = Object {
            module: "m".into(),
            name: "N".into(),
            args: vec![Value::Tuple(vec![])],
            state: Value::None,
        };
        let lookalike = Value::Dict(vec![("\0int".into(), Value::Bytes(vec![1]))]);
        let value = Value::List(vec![Value::Object(Box::new(object)), lookalike]);
        assert_eq!(from_value::<Value>(value.clone()), Ok(value));
    }

    #[test]
    fn sets_and_native_strings_fit_the_rust_types_one_would_use() {
        assert_eq!(from_value(Value::Set(vec![Value::Int(2)])), Ok(vec![2]));
        assert_eq!(from_value(Value::NativeStr(b"abc".to_vec())), Ok("abc".to_owned()));
        assert_eq!(from_value(Value::NativeStr(vec![255])), Ok(serde_bytes::ByteBuf::from(vec![255])));
        assert!(from_value::<String>(Value::NativeStr(vec![255])).is_err());
        assert!(from_value::<String>(Value::Bytes(b"abc".to_vec())).is_err());
        assert_eq!(from_value(Value::Int(3)), Ok(3.0f64));
    }

    #[test]
    fn what_does_not_fit_says_so() {
        let error = from_value::<u8>(Value::Int(300)).unwrap_err();
        assert!(error.to_string().contains("300"), "{error}");
        let error = from_value::<Vec<u8>>(Value::Dict(vec![])).unwrap_err();
        assert!(error.to_string().contains("map"), "{error}");
        let error = from_value::<u64>(Value::BigInt(BigInt::from(1) << 70)).unwrap_err();
        assert!(error.to_string().contains("1180591620717411303424"), "{error}");
    }
}
