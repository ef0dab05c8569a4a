//! What a name stands for in one item, and how two such values compare: as CEL says.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::Value;

/// A value read from an item. What is not scalar comes as JSON.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Datum<'a> {
    /// The item has no such thing.
    Missing,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(Cow<'a, str>),
    /// Nanoseconds since the epoch.
    Time(i64),
    Json(Cow<'a, Value>),
}

impl<'a> Datum<'a> {
    /// Text from traffic: what is not UTF-8 is read as Latin-1, as in the item's JSON.
    pub(super) fn bytes(bytes: &'a [u8]) -> Self {
        Self::Text(lossless(bytes))
    }

    pub(super) fn text(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    pub(super) fn owned(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }

    pub(super) fn unsigned(number: u64) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }

    pub(super) fn list(values: impl IntoIterator<Item = Value>) -> Self {
        Self::Json(Cow::Owned(Value::Array(values.into_iter().collect())))
    }

    /// A JSON scalar as what CEL knows it as; the rest as it is.
    pub(super) fn of_json(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Missing,
            Value::Bool(value) => Self::Bool(*value),
            Value::String(text) => Self::text(text),
            Value::Number(number) => match number.as_i64() {
                Some(number) => Self::Int(number),
                None => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::Array(_) | Value::Object(_) => Self::Json(Cow::Borrowed(value)),
        }
    }

    /// The same value, without a copy.
    pub(super) fn borrowed(&self) -> Datum<'_> {
        match self {
            Self::Missing => Datum::Missing,
            Self::Bool(value) => Datum::Bool(*value),
            Self::Int(value) => Datum::Int(*value),
            Self::Double(value) => Datum::Double(*value),
            Self::Text(text) => Datum::text(text),
            Self::Time(value) => Datum::Time(*value),
            Self::Json(value) => Datum::Json(Cow::Borrowed(value)),
        }
    }

    fn number(&self) -> Option<f64> {
        match *self {
            Self::Int(number) => Some(number as f64),
            Self::Double(number) => Some(number),
            _ => None,
        }
    }

    /// `self == other`, neither of them missing: what differs in type differs.
    pub(super) fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Time(a), Self::Time(b)) => a == b,
            _ => matches!((self.number(), other.number()), (Some(a), Some(b)) if a == b),
        }
    }

    /// The order of two values that have one.
    pub(super) fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Time(a), Self::Time(b)) => Some(a.cmp(b)),
            _ => self.number()?.partial_cmp(&other.number()?),
        }
    }
}

/// UTF-8 as it is; other bytes as Latin-1.
pub(super) fn lossless(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(bytes.iter().map(|&byte| char::from(byte)).collect()),
    }
}

/// What an expression came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    True,
    False,
    /// Something missing, or of another type than was asked for.
    Error,
}

impl From<bool> for Outcome {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

impl From<Option<bool>> for Outcome {
    fn from(value: Option<bool>) -> Self {
        value.map_or(Self::Error, Self::from)
    }
}
