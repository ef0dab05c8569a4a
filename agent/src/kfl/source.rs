//! Where the values of names come from: an item in memory, or an object of the same shape that a script holds.

use std::borrow::Cow;

use serde_json::Value;

use super::names::{Field, Kind, Name};
use super::value::Datum;

/// Something that a filter is asked of.
pub(super) trait Source {
    /// What the name stands for; defaults are not this one's affair.
    fn read(&self, name: &'static Name) -> Datum<'_>;

    /// An entry of a map, and whether the map itself is there.
    fn member<'a>(&'a self, name: &'static Name, key: &str) -> (Datum<'a>, bool);
}

/// What the name stands for, KFL2's defaults included.
pub(super) fn value<'a>(source: &'a (impl Source + ?Sized), name: &'static Name) -> Datum<'a> {
    match source.read(name) {
        Datum::Missing if name.kfl2 => default(name),
        value => value,
    }
}

fn default(name: &'static Name) -> Datum<'static> {
    match name.kind {
        Kind::Bool => Datum::Bool(false),
        // As KFL2 documents it: 0 is a status of its own.
        Kind::Int if name.name == "grpc_status" => Datum::Int(-1),
        Kind::Int => Datum::Int(0),
        Kind::Double => Datum::Double(0.0),
        Kind::Text => Datum::text(""),
        Kind::Time => Datum::Time(0),
        Kind::List => Datum::list([]),
        Kind::Map | Kind::Object => Datum::Json(Cow::Owned(Value::Object(serde_json::Map::new()))),
    }
}

/// A plain object, such as the `data` of a hook.
pub(super) struct Plain<'a>(pub(super) &'a Value);

impl<'a> Plain<'a> {
    fn at(&self, path: &str) -> Option<&'a Value> {
        let found = path.split('.').try_fold(self.0, |value, key| value.get(key))?;
        (!found.is_null()).then_some(found)
    }

    fn scalar(&self, path: &str) -> Datum<'a> {
        self.at(path).map_or(Datum::Missing, Datum::of_json)
    }

    fn number(&self, path: &str, scale: f64) -> Option<f64> {
        self.at(path)?.as_f64().map(|number| number * scale)
    }

    fn same(&self, path: &str, text: &str) -> Datum<'a> {
        Datum::Bool(self.at(path).and_then(Value::as_str) == Some(text))
    }

    fn of_end(&self, side: &str, key: &str) -> Option<&'a str> {
        self.at(side)?.get(key).and_then(Value::as_str)
    }

    fn both(&self, of: impl Fn(&str) -> Option<&'a str>) -> Datum<'a> {
        let mut found: Vec<&str> =
            ["src", "dst"].into_iter().filter_map(of).filter(|t| !t.is_empty()).collect();
        found.dedup();
        Datum::list(found.into_iter().map(Value::from))
    }

    fn backend(&self) -> Datum<'a> {
        match self.at("capture.source").and_then(Value::as_str) {
            Some("tls" | "ebpf") => Datum::text("ebpf"),
            Some(source) => Datum::text(source),
            None => Datum::Missing,
        }
    }
}

impl Source for Plain<'_> {
    fn read(&self, name: &'static Name) -> Datum<'_> {
        match name.field {
            Field::Never => Datum::Missing,
            Field::Http => self.same(name.path, "http"),
            Field::Tcp => self.same(name.path, "tcp"),
            Field::Port(_) => match self.at(name.path) {
                Some(Value::String(text)) => text.parse().map_or(Datum::Missing, Datum::Int),
                _ => self.scalar(name.path),
            },
            Field::PortText(_) | Field::WorkerText => match self.at(name.path) {
                Some(Value::Number(number)) => Datum::owned(number.to_string()),
                _ => self.scalar(name.path),
            },
            Field::Micros => {
                // A millisecond's fraction has six digits at most: less than half of one is noise.
                let micros = self.number(name.path, 1000.0);
                micros.map_or(Datum::Missing, |micros| Datum::Int((micros + 1e-4).floor() as i64))
            }
            Field::Time => self
                .number(name.path, 1.0)
                .map_or(Datum::Missing, |millis| Datum::Time((millis as i64).saturating_mul(1_000_000))),
            Field::Millis => self.number(name.path, 1.0).map_or(Datum::Missing, Datum::Double),
            Field::Namespaces => self.both(|side| self.of_end(side, "namespace")),
            Field::Pods => self.both(|side| self.of_end(side, "pod")),
            Field::Services => self.both(|side| self.of_end(side, "service")),
            Field::AnyVersion => match self.scalar(name.path) {
                Datum::Missing => self.scalar("response.httpVersion"),
                version => version,
            },
            Field::QueryFirst => match self.at(name.path) {
                Some(Value::Object(map)) => {
                    let first = map.iter().map(|(key, value)| (key.clone(), first(value).clone()));
                    Datum::Json(Cow::Owned(Value::Object(first.collect())))
                }
                _ => Datum::Missing,
            },
            Field::Backend => self.backend(),
            Field::SourceKfl => match self.at(name.path).and_then(Value::as_str) {
                Some("tls") => Datum::text("ebpf_tls"),
                Some("ebpf") if self.at("tls") == Some(&Value::Bool(true)) => Datum::text("ebpf_tls"),
                _ => self.scalar(name.path),
            },
            _ => self.scalar(name.path),
        }
    }

    fn member<'a>(&'a self, name: &'static Name, key: &str) -> (Datum<'a>, bool) {
        let Some(map) = self.at(name.path).and_then(Value::as_object) else { return (Datum::Missing, false) };
        let mut found = map.get(key);
        if matches!(name.field, Field::Headers(_)) && found.is_none() {
            found = map.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value);
        }
        let found = if name.field == Field::QueryFirst { found.map(first) } else { found };
        (found.map_or(Datum::Missing, Datum::of_json), true)
    }
}

/// Of several values of one name the first.
fn first(value: &Value) -> &Value {
    value.as_array().and_then(|values| values.first()).unwrap_or(value)
}
