//! The failure of a conversion, and the names by which our own types are told to serde.

/// A newtype name that asks our own serializer for a kind of value which serde does not have.
pub(crate) const KIND_PREFIX: &str = "$econtext::";
/// A newtype name that asks our own deserializer to keep every kind apart, for `Value` itself.
pub(crate) const VALUE_NAME: &str = "$econtext::Value";

/// A Rust value that cannot be sent, or a Python value that does not fit the Rust type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConvertError(String);

impl serde::ser::Error for ConvertError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        ConvertError(message.to_string())
    }
}

impl serde::de::Error for ConvertError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        ConvertError(message.to_string())
    }
}
