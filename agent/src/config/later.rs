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

/// Where items can be sent beside the scripts, by the `kind` of a sink.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum SinkKind {
    Elasticsearch,
    Splunk,
    Webhook,
    JsonFile,
}

/// A sink as it is written: its kind, and what is for the version that has it.
#[derive(Deserialize)]
struct Written {
    kind: SinkKind,
}

/// A sink: none can be had in this version.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "Written")]
pub(super) enum Sink {}

impl TryFrom<Written> for Sink {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        Err(format!("kind {:?} is {NOT_IN}", written.kind))
    }
}
