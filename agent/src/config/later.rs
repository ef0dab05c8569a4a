//! Keys of parts that this version does not have: refused, so that nobody takes them for heeded.

use std::fmt;

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

const NOT_IN: &str = concat!("not in this version (remora ", env!("CARGO_PKG_VERSION"), "): remove it");

/// A key that nothing heeds yet; only null is let pass.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct NotYet;

impl<'de> Deserialize<'de> for NotYet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Refused while it is read, so that the error has its line.
        deserializer.deserialize_any(Nothing)
    }
}

struct Nothing;

impl<'de> Visitor<'de> for Nothing {
    type Value = NotYet;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing")
    }

    fn visit_unit<E: Error>(self) -> Result<NotYet, E> {
        Ok(NotYet)
    }

    fn visit_none<E: Error>(self) -> Result<NotYet, E> {
        Ok(NotYet)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<NotYet, E> {
        Err(E::custom(NOT_IN))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<NotYet, E> {
        Err(E::custom(NOT_IN))
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<NotYet, E> {
        Err(E::custom(NOT_IN))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<NotYet, A::Error> {
        Err(A::Error::custom(NOT_IN))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<NotYet, A::Error> {
        Err(A::Error::custom(NOT_IN))
    }
}
