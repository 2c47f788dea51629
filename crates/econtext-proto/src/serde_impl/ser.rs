//! From Rust to values.

use super::error::{ConvertError, KIND_PREFIX};
use crate::value::Handle;
use crate::value::Value;
use num_bigint::BigInt;
use serde::ser::{self, Error as _, Serialize, Serializer};

/// The value that a Rust value is sent as.
///
/// Structs and maps become dicts, sequences lists, tuples tuples, `None` and `()` None, enum variants without data
/// their name, others a dict of one item. Bytes need `serde_bytes`, as everywhere in serde.
///
/// # Errors
/// The errors that a `Serialize` implementation reports.
pub fn to_value<T: Serialize + ?Sized>(value: &T) -> Result<Value, ConvertError> {
    value.serialize(ValueSerializer { kind: "" })
}

/// A serializer into a value; `kind` is the one that a [`KIND_PREFIX`] newtype around it asked for.
struct ValueSerializer {
    kind: &'static str,
}

fn key_value(name: &str, value: Value) -> Value {
    Value::Dict(vec![(Value::Str(name.to_owned()), value)])
}

/// A serializer of sequences, tuples, tuple structs and tuple variants.
struct SeqSerializer {
    items: Vec<Value>,
    wrap: fn(Vec<Value>) -> Value,
    variant: Option<&'static str>,
}

impl SeqSerializer {
    fn push<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), ConvertError> {
        self.items.push(to_value(item)?);
        Ok(())
    }

    fn finish(self) -> Value {
        let value = (self.wrap)(self.items);
        match self.variant {
            Some(name) => key_value(name, value),
            None => value,
        }
    }
}

/// A serializer of maps, structs and struct variants.
struct MapSerializer {
    items: Vec<(Value, Value)>,
    key: Option<Value>,
    variant: Option<&'static str>,
}

impl MapSerializer {
    fn finish(self) -> Value {
        let value = Value::Dict(self.items);
        match self.variant {
            Some(name) => key_value(name, value),
            None => value,
        }
    }
}

impl Serializer for ValueSerializer {
    type Ok = Value;
    type Error = ConvertError;
    type SerializeSeq = SeqSerializer;
    type SerializeTuple = SeqSerializer;
    type SerializeTupleStruct = SeqSerializer;
    type SerializeTupleVariant = SeqSerializer;
    type SerializeMap = MapSerializer;
    type SerializeStruct = MapSerializer;
    type SerializeStructVariant = MapSerializer;

    fn serialize_bool(self, v: bool) -> Result<Value, ConvertError> {
        Ok(Value::Bool(v))
    }
    fn serialize_i8(self, v: i8) -> Result<Value, ConvertError> {
        Ok(Value::Int(v.into()))
    }
    fn serialize_i16(self, v: i16) -> Result<Value, ConvertError> {
        Ok(Value::Int(v.into()))
    }
    fn serialize_i32(self, v: i32) -> Result<Value, ConvertError> {
        Ok(Value::Int(v.into()))
    }
    fn serialize_i64(self, v: i64) -> Result<Value, ConvertError> {
        match self.kind {
            "Channel" => Ok(Value::Channel(Handle(v))),
            _ => Ok(Value::Int(v)),
        }
    }
    fn serialize_i128(self, v: i128) -> Result<Value, ConvertError> {
        Ok(Value::int(v.into()))
    }
    fn serialize_u8(self, v: u8) -> Result<Value, ConvertError> {
        Ok(Value::Int(v.into()))
    }
    fn serialize_u16(self, v: u16) -> Result<Value, ConvertError> {
        Ok(Value::Int(v.into()))
    }
    fn serialize_u32(self, v: u32) -> Result<Value, ConvertError> {
        Ok(Value::Int(v.into()))
    }
    fn serialize_u64(self, v: u64) -> Result<Value, ConvertError> {
        Ok(Value::int(v.into()))
    }
    fn serialize_u128(self, v: u128) -> Result<Value, ConvertError> {
        Ok(Value::int(v.into()))
    }
    fn serialize_f32(self, v: f32) -> Result<Value, ConvertError> {
        Ok(Value::Float(v.into()))
    }
    fn serialize_f64(self, v: f64) -> Result<Value, ConvertError> {
        Ok(Value::Float(v))
    }
    fn serialize_char(self, v: char) -> Result<Value, ConvertError> {
        Ok(Value::Str(v.to_string()))
    }
    fn serialize_str(self, v: &str) -> Result<Value, ConvertError> {
        Ok(Value::Str(v.to_owned()))
    }
    fn serialize_bytes(self, v: &[u8]) -> Result<Value, ConvertError> {
        Ok(match self.kind {
            "WideStr" => Value::WideStr(v.to_vec()),
            "NativeStr" => Value::NativeStr(v.to_vec()),
            "BigInt" => Value::int(BigInt::from_signed_bytes_le(v)),
            _ => Value::Bytes(v.to_vec()),
        })
    }
    fn serialize_none(self) -> Result<Value, ConvertError> {
        Ok(Value::None)
    }
    fn serialize_some<T: Serialize + ?Sized>(self, v: &T) -> Result<Value, ConvertError> {
        to_value(v)
    }
    fn serialize_unit(self) -> Result<Value, ConvertError> {
        Ok(if self.kind == "Dead" { Value::Dead } else { Value::None })
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<Value, ConvertError> {
        Ok(Value::None)
    }
    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<Value, ConvertError> {
        Ok(Value::Str(variant.to_owned()))
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        v: &T,
    ) -> Result<Value, ConvertError> {
        v.serialize(ValueSerializer { kind: name.strip_prefix(KIND_PREFIX).unwrap_or("") })
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        v: &T,
    ) -> Result<Value, ConvertError> {
        Ok(key_value(variant, to_value(v)?))
    }
    fn serialize_seq(self, n: Option<usize>) -> Result<SeqSerializer, ConvertError> {
        let wrap = match self.kind {
            "Set" => Value::Set,
            "FrozenSet" => Value::FrozenSet,
            _ => Value::List,
        };
        Ok(SeqSerializer { items: Vec::with_capacity(n.unwrap_or(0).min(4096)), wrap, variant: None })
    }
    fn serialize_tuple(self, n: usize) -> Result<SeqSerializer, ConvertError> {
        let wrap = match self.kind {
            "Complex" => complex,
            _ => Value::Tuple,
        };
        Ok(SeqSerializer { items: Vec::with_capacity(n), wrap, variant: None })
    }
    fn serialize_tuple_struct(self, _: &'static str, n: usize) -> Result<SeqSerializer, ConvertError> {
        self.serialize_tuple(n)
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        n: usize,
    ) -> Result<SeqSerializer, ConvertError> {
        Ok(SeqSerializer { items: Vec::with_capacity(n), wrap: Value::Tuple, variant: Some(variant) })
    }
    fn serialize_map(self, _: Option<usize>) -> Result<MapSerializer, ConvertError> {
        Ok(MapSerializer { items: Vec::new(), key: None, variant: None })
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<MapSerializer, ConvertError> {
        self.serialize_map(None)
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<MapSerializer, ConvertError> {
        Ok(MapSerializer { items: Vec::new(), key: None, variant: Some(variant) })
    }
}

fn complex(parts: Vec<Value>) -> Value {
    match parts.as_slice() {
        [Value::Float(re), Value::Float(im)] => Value::Complex(*re, *im),
        _ => Value::Tuple(parts),
    }
}

impl ser::SerializeSeq for SeqSerializer {
    type Ok = Value;
    type Error = ConvertError;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, v: &T) -> Result<(), ConvertError> {
        self.push(v)
    }
    fn end(self) -> Result<Value, ConvertError> {
        Ok(self.finish())
    }
}

impl ser::SerializeTuple for SeqSerializer {
    type Ok = Value;
    type Error = ConvertError;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, v: &T) -> Result<(), ConvertError> {
        self.push(v)
    }
    fn end(self) -> Result<Value, ConvertError> {
        Ok(self.finish())
    }
}

impl ser::SerializeTupleStruct for SeqSerializer {
    type Ok = Value;
    type Error = ConvertError;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, v: &T) -> Result<(), ConvertError> {
        self.push(v)
    }
    fn end(self) -> Result<Value, ConvertError> {
        Ok(self.finish())
    }
}

impl ser::SerializeTupleVariant for SeqSerializer {
    type Ok = Value;
    type Error = ConvertError;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, v: &T) -> Result<(), ConvertError> {
        self.push(v)
    }
    fn end(self) -> Result<Value, ConvertError> {
        Ok(self.finish())
    }
}

impl ser::SerializeMap for MapSerializer {
    type Ok = Value;
    type Error = ConvertError;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), ConvertError> {
        self.key = Some(to_value(key)?);
        Ok(())
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, v: &T) -> Result<(), ConvertError> {
        let key = self.key.take().ok_or_else(|| ConvertError::custom("a map value without its key"))?;
        self.items.push((key, to_value(v)?));
        Ok(())
    }
    fn end(self) -> Result<Value, ConvertError> {
        Ok(self.finish())
    }
}

impl ser::SerializeStruct for MapSerializer {
    type Ok = Value;
    type Error = ConvertError;
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        v: &T,
    ) -> Result<(), ConvertError> {
        self.items.push((Value::Str(name.to_owned()), to_value(v)?));
        Ok(())
    }
    fn end(self) -> Result<Value, ConvertError> {
        Ok(self.finish())
    }
}

impl ser::SerializeStructVariant for MapSerializer {
    type Ok = Value;
    type Error = ConvertError;
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        v: &T,
    ) -> Result<(), ConvertError> {
        ser::SerializeStruct::serialize_field(self, name, v)
    }
    fn end(self) -> Result<Value, ConvertError> {
        Ok(self.finish())
    }
}

struct Raw<'a>(&'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(self.0)
    }
}

impl Serialize for Value {
    /// Serializes kinds that serde lacks as newtypes with names that [`to_value`] knows; other formats see the inner value.
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::None => s.serialize_unit(),
            Value::Bool(b) => s.serialize_bool(*b),
            Value::Int(n) => s.serialize_i64(*n),
            Value::BigInt(n) => {
                s.serialize_newtype_struct("$econtext::BigInt", &Raw(&n.to_signed_bytes_le()))
            }
            Value::Float(x) => s.serialize_f64(*x),
            Value::Complex(re, im) => s.serialize_newtype_struct("$econtext::Complex", &(re, im)),
            Value::Str(text) => s.serialize_str(text),
            Value::WideStr(b) => s.serialize_newtype_struct("$econtext::WideStr", &Raw(b)),
            Value::NativeStr(b) => s.serialize_newtype_struct("$econtext::NativeStr", &Raw(b)),
            Value::Bytes(b) => s.serialize_bytes(b),
            Value::List(items) => items.serialize(s),
            Value::Tuple(items) => {
                use ser::SerializeTuple as _;
                let mut tuple = s.serialize_tuple(items.len())?;
                items.iter().try_for_each(|item| tuple.serialize_element(item))?;
                tuple.end()
            }
            Value::Set(items) => s.serialize_newtype_struct("$econtext::Set", items),
            Value::FrozenSet(items) => s.serialize_newtype_struct("$econtext::FrozenSet", items),
            Value::Dict(items) => s.collect_map(items.iter().map(|(k, v)| (k, v))),
            Value::Dead => s.serialize_newtype_struct("$econtext::Dead", &()),
            Value::Channel(handle) => s.serialize_newtype_struct("$econtext::Channel", &handle.0),
            Value::CallError(_) | Value::Object(_) => {
                Err(S::Error::custom(format_args!("a {} cannot be sent", self.type_name())))
            }
        }
    }
}
