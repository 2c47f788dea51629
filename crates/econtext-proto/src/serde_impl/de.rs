//! From values to Rust.

use super::error::{ConvertError, VALUE_NAME};
use crate::value::{Object, Value};
use num_bigint::BigInt;
use serde::de::{
    self, Deserialize, DeserializeOwned, DeserializeSeed, Error as _, IntoDeserializer, Visitor,
};
use serde::forward_to_deserialize_any;
use std::fmt;

/// The Rust value that a value stands for.
///
/// Lists, tuples and sets fit every sequence; an int fits a float; a Python 2 `str` fits text and bytes.
///
/// # Errors
/// Where it does not fit, with both sides named.
///
/// ```
/// use econtext_proto::{Value, from_value};
/// let usage = Value::Tuple(vec![Value::Int(10), Value::Int(3)]);
/// assert_eq!(from_value::<(u64, u64)>(usage), Ok((10, 3)));
/// ```
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, ConvertError> {
    T::deserialize(ValueDeserializer { value, exact: false })
}

struct ValueDeserializer {
    value: Value,
    /// Whether the visitor is `Value`'s own, which is told every kind apart.
    exact: bool,
}

/// Shows a kind that serde lacks to `Value`'s visitor: as a map of one key that starts with NUL.
fn tagged<'de, V: Visitor<'de>>(
    tag: &'static str,
    value: Value,
    visitor: V,
) -> Result<V::Value, ConvertError> {
    visitor.visit_map(Tagged { tag: Some(tag), value: Some(value) })
}

struct Tagged {
    tag: Option<&'static str>,
    value: Option<Value>,
}

impl<'de> de::MapAccess<'de> for Tagged {
    type Error = ConvertError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ConvertError> {
        match self.tag.take() {
            Some(tag) => {
                seed.deserialize(ValueDeserializer { value: Value::Str(tag.into()), exact: true }).map(Some)
            }
            None => Ok(None),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, ConvertError> {
        let value = self.value.take().ok_or_else(|| ConvertError::custom("a value was asked for twice"))?;
        seed.deserialize(ValueDeserializer { value, exact: true })
    }
}

impl<'de> de::Deserializer<'de> for ValueDeserializer {
    type Error = ConvertError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConvertError> {
        let exact = self.exact;
        match self.value {
            Value::None => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(b),
            Value::Int(n) if n >= 0 && !exact => visitor.visit_u64(n as u64),
            Value::Int(n) => visitor.visit_i64(n),
            Value::BigInt(n) if exact => tagged("\0int", Value::Bytes(n.to_signed_bytes_le()), visitor),
            Value::BigInt(n) => match (u64::try_from(&n), i128::try_from(&n), u128::try_from(&n)) {
                (Ok(n), ..) => visitor.visit_u64(n),
                (_, Ok(n), _) => visitor.visit_i128(n),
                (.., Ok(n)) => visitor.visit_u128(n),
                _ => Err(ConvertError::custom(format_args!("the integer {n} does not fit"))),
            },
            Value::Float(x) => visitor.visit_f64(x),
            Value::Complex(re, im) if exact => {
                tagged("\0complex", Value::Tuple(vec![Value::Float(re), Value::Float(im)]), visitor)
            }
            Value::Complex(re, im) => visit_seq(vec![Value::Float(re), Value::Float(im)], false, visitor),
            Value::Str(s) => visitor.visit_string(s),
            Value::WideStr(b) if exact => tagged("\0wide", Value::Bytes(b), visitor),
            Value::WideStr(b) => Err(ConvertError::custom(format_args!(
                "text with lone surrogates: {:?}",
                String::from_utf8_lossy(&b)
            ))),
            Value::NativeStr(b) if exact => tagged("\0native", Value::Bytes(b), visitor),
            Value::NativeStr(b) => match String::from_utf8(b) {
                Ok(s) => visitor.visit_string(s),
                Err(e) => visitor.visit_byte_buf(e.into_bytes()),
            },
            Value::Bytes(b) => visitor.visit_byte_buf(b),
            Value::Tuple(v) if exact => tagged("\0tuple", Value::List(v), visitor),
            Value::Set(v) if exact => tagged("\0set", Value::List(v), visitor),
            Value::FrozenSet(v) if exact => tagged("\0frozenset", Value::List(v), visitor),
            Value::List(v) | Value::Tuple(v) | Value::Set(v) | Value::FrozenSet(v) => {
                visit_seq(v, exact, visitor)
            }
            // A dict that looks like one of our tags is not a tag.
            Value::Dict(items)
                if exact && matches!(items.first(), Some((Value::Str(k), _)) if k.starts_with('\0')) =>
            {
                let pairs = items.into_iter().map(|(k, v)| Value::List(vec![k, v])).collect();
                tagged("\0dict", Value::List(pairs), visitor)
            }
            Value::Object(object) if exact => {
                let Object { module, name, args, state } = *object;
                let parts = vec![Value::Str(module), Value::Str(name), Value::List(args), state];
                tagged("\0object", Value::List(parts), visitor)
            }
            Value::Dict(items) => {
                let wrap = move |v| Item { value: v, exact };
                let mut map =
                    de::value::MapDeserializer::new(items.into_iter().map(|(k, v)| (wrap(k), wrap(v))));
                let value = visitor.visit_map(&mut map)?;
                map.end()?;
                Ok(value)
            }
            Value::Dead | Value::Channel(_) | Value::CallError(_) | Value::Object(_) => {
                Err(ConvertError::custom(format_args!(
                    "a {} is only to be had as a Value",
                    self.value.type_name()
                )))
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConvertError> {
        match self.value {
            Value::None => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ConvertError> {
        visitor.visit_newtype_struct(ValueDeserializer { value: self.value, exact: name == VALUE_NAME })
    }

    /// Refuses bytes as text, even where serde's own `String` would take them.
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConvertError> {
        match &self.value {
            Value::Bytes(b) => Err(de::Error::invalid_type(de::Unexpected::Bytes(b), &visitor)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConvertError> {
        self.deserialize_string(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConvertError> {
        self.deserialize_byte_buf(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConvertError> {
        match self.value {
            Value::NativeStr(b) => visitor.visit_byte_buf(b),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ConvertError> {
        match self.value {
            Value::Dict(mut items) if items.len() == 1 => match items.pop() {
                Some((name, value)) => visitor.visit_enum(EnumAccess { name, value: Some(value) }),
                None => Err(ConvertError::custom("an empty dict")),
            },
            name => visitor.visit_enum(EnumAccess { name, value: None }),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

fn visit_seq<'de, V: Visitor<'de>>(
    items: Vec<Value>,
    exact: bool,
    visitor: V,
) -> Result<V::Value, ConvertError> {
    let items = items.into_iter().map(move |value| Item { value, exact });
    let mut seq = de::value::SeqDeserializer::new(items);
    let value = visitor.visit_seq(&mut seq)?;
    seq.end()?;
    Ok(value)
}

struct Item {
    value: Value,
    exact: bool,
}

impl IntoDeserializer<'_, ConvertError> for Item {
    type Deserializer = ValueDeserializer;
    fn into_deserializer(self) -> ValueDeserializer {
        ValueDeserializer { value: self.value, exact: self.exact }
    }
}

struct EnumAccess {
    name: Value,
    value: Option<Value>,
}

impl<'de> de::EnumAccess<'de> for EnumAccess {
    type Error = ConvertError;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(mut self, seed: S) -> Result<(S::Value, Self), ConvertError> {
        let name = std::mem::replace(&mut self.name, Value::None);
        Ok((seed.deserialize(ValueDeserializer { value: name, exact: false })?, self))
    }
}

impl<'de> de::VariantAccess<'de> for EnumAccess {
    type Error = ConvertError;

    fn unit_variant(self) -> Result<(), ConvertError> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, ConvertError> {
        let value = self.value.ok_or_else(|| ConvertError::custom("a variant without its data"))?;
        seed.deserialize(ValueDeserializer { value, exact: false })
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, ConvertError> {
        self.struct_variant(&[], visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ConvertError> {
        let value = self.value.ok_or_else(|| ConvertError::custom("a variant without its data"))?;
        de::Deserializer::deserialize_any(ValueDeserializer { value, exact: false }, visitor)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(VALUE_NAME, ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_newtype_struct<D: de::Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        d.deserialize_any(self)
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::None)
    }
    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::None)
    }
    fn visit_some<D: de::Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        Value::deserialize(d)
    }
    fn visit_bool<E>(self, b: bool) -> Result<Value, E> {
        Ok(Value::Bool(b))
    }
    fn visit_i64<E>(self, n: i64) -> Result<Value, E> {
        Ok(Value::Int(n))
    }
    fn visit_u64<E>(self, n: u64) -> Result<Value, E> {
        Ok(Value::int(n.into()))
    }
    fn visit_i128<E>(self, n: i128) -> Result<Value, E> {
        Ok(Value::int(n.into()))
    }
    fn visit_u128<E>(self, n: u128) -> Result<Value, E> {
        Ok(Value::int(n.into()))
    }
    fn visit_f64<E>(self, x: f64) -> Result<Value, E> {
        Ok(Value::Float(x))
    }
    fn visit_str<E>(self, s: &str) -> Result<Value, E> {
        Ok(Value::Str(s.to_owned()))
    }
    fn visit_string<E>(self, s: String) -> Result<Value, E> {
        Ok(Value::Str(s))
    }
    fn visit_bytes<E>(self, b: &[u8]) -> Result<Value, E> {
        Ok(Value::Bytes(b.to_vec()))
    }
    fn visit_byte_buf<E>(self, b: Vec<u8>) -> Result<Value, E> {
        Ok(Value::Bytes(b))
    }
    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }
    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut items: Vec<(Value, Value)> = Vec::new();
        while let Some(entry) = map.next_entry::<Value, Value>()? {
            match entry {
                (Value::Str(tag), value) if tag.starts_with('\0') && items.is_empty() => {
                    match untag(&tag, value) {
                        Ok(value) => return Ok(value),
                        Err(value) => items.push((Value::Str(tag), value)),
                    }
                }
                entry => items.push(entry),
            }
        }
        Ok(Value::Dict(items))
    }
}

/// The value that was given to [`tagged`] under a tag; the value itself if the tag is not one of those.
fn untag(tag: &str, value: Value) -> Result<Value, Value> {
    Ok(match (tag, value) {
        ("\0int", Value::Bytes(b)) => Value::int(BigInt::from_signed_bytes_le(&b)),
        ("\0wide", Value::Bytes(b)) => Value::WideStr(b),
        ("\0native", Value::Bytes(b)) => Value::NativeStr(b),
        ("\0tuple", Value::List(v)) => Value::Tuple(v),
        ("\0set", Value::List(v)) => Value::Set(v),
        ("\0frozenset", Value::List(v)) => Value::FrozenSet(v),
        ("\0complex", Value::Tuple(v)) => match v.as_slice() {
            [Value::Float(re), Value::Float(im)] => Value::Complex(*re, *im),
            _ => return Err(Value::Tuple(v)),
        },
        ("\0dict", Value::List(v)) => Value::Dict(v.into_iter().filter_map(into_pair).collect()),
        ("\0object", Value::List(v)) => match <[Value; 4]>::try_from(v) {
            Ok([Value::Str(module), Value::Str(name), Value::List(args), state]) => {
                Value::Object(Box::new(Object { module, name, args, state }))
            }
            Ok(other) => return Err(Value::List(other.into())),
            Err(v) => return Err(Value::List(v)),
        },
        (_, value) => return Err(value),
    })
}

fn into_pair(value: Value) -> Option<(Value, Value)> {
    match value {
        Value::List(v) => <[Value; 2]>::try_from(v).ok().map(|[k, v]| (k, v)),
        _ => None,
    }
}
