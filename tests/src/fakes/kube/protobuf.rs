//! Bodies in protobuf, which typed clients of Go send whatever the server prefers: of the few kinds that Helm and kubectl
//! write by typed clients. Everything else is answered 415. (k8s.io/api's `generated.proto`.)

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Before every message.
const MAGIC: &[u8] = b"k8s\0";

/// What a field holds.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Texts,
    Number,
    Bool,
    Message(Fields),
    /// Texts by text; bytes as base64.
    TextMap,
    BytesMap,
    Time,
}

/// Number, name, kind.
type Fields = &'static [(u64, &'static str, Kind)];

const META: Fields = &[
    (1, "name", Kind::Text),
    (2, "generateName", Kind::Text),
    (3, "namespace", Kind::Text),
    (5, "uid", Kind::Text),
    (6, "resourceVersion", Kind::Text),
    (7, "generation", Kind::Number),
    (8, "creationTimestamp", Kind::Time),
    (11, "labels", Kind::TextMap),
    (12, "annotations", Kind::TextMap),
    (14, "finalizers", Kind::Texts),
];

const SECRET: Fields = &[
    (1, "metadata", Kind::Message(META)),
    (2, "data", Kind::BytesMap),
    (3, "type", Kind::Text),
    (4, "stringData", Kind::TextMap),
    (5, "immutable", Kind::Bool),
];

const CONFIG_MAP: Fields = &[
    (1, "metadata", Kind::Message(META)),
    (2, "data", Kind::TextMap),
    (3, "binaryData", Kind::BytesMap),
    (4, "immutable", Kind::Bool),
];

const META_ALONE: Fields = &[(1, "metadata", Kind::Message(META))];

const DELETE_OPTIONS: Fields = &[
    (1, "gracePeriodSeconds", Kind::Number),
    (2, "preconditions", Kind::Message(&[(1, "uid", Kind::Text), (2, "resourceVersion", Kind::Text)])),
    (4, "propagationPolicy", Kind::Text),
    (5, "dryRun", Kind::Texts),
];

const REVIEW_OF: Fields = &[
    (1, "namespace", Kind::Text),
    (2, "verb", Kind::Text),
    (3, "group", Kind::Text),
    (4, "version", Kind::Text),
    (5, "resource", Kind::Text),
    (6, "subresource", Kind::Text),
    (7, "name", Kind::Text),
];

const REVIEW: Fields = &[
    (1, "metadata", Kind::Message(META)),
    (2, "spec", Kind::Message(&[(1, "resourceAttributes", Kind::Message(REVIEW_OF))])),
];

/// The object in a body, or none if it cannot be read or is of another kind.
pub(super) fn read(body: &[u8]) -> Option<Value> {
    let unknown = Message::read(body.strip_prefix(MAGIC)?)?;
    let types = Message::read(unknown.bytes(1)?)?;
    let text = |number| String::from_utf8(types.bytes(number)?.to_vec()).ok();
    let (version, kind) = (text(1)?, text(2)?);
    let fields = match kind.as_str() {
        "Secret" => SECRET,
        "ConfigMap" => CONFIG_MAP,
        "Namespace" => META_ALONE,
        "DeleteOptions" => DELETE_OPTIONS,
        "SelfSubjectAccessReview" => REVIEW,
        _ => return None,
    };
    let mut object = message(unknown.bytes(2)?, fields)?;
    object["kind"] = json!(kind);
    object["apiVersion"] = json!(version);
    Some(object)
}

fn message(bytes: &[u8], fields: Fields) -> Option<Value> {
    let mut object = json!({});
    for (number, field) in Message::read(bytes)?.0 {
        let Some((_, name, kind)) = fields.iter().find(|(known, ..)| *known == number) else { continue };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        match (kind, field) {
            // Go writes what is empty, too.
            (Kind::Text, Field::Bytes([])) | (Kind::Number, Field::Number(0)) => {}
            (Kind::Text, Field::Bytes(bytes)) => object[name] = json!(text(bytes)?),
            (Kind::Number, Field::Number(number)) => object[name] = json!(number),
            (Kind::Bool, Field::Number(number)) => object[name] = json!(number != 0),
            (Kind::Message(fields), Field::Bytes(bytes)) => object[name] = message(bytes, fields)?,
            (Kind::Texts, Field::Bytes(bytes)) => {
                let mut all = object[name].as_array().cloned().unwrap_or_default();
                all.push(json!(text(bytes)?));
                object[name] = json!(all);
            }
            (Kind::TextMap | Kind::BytesMap, Field::Bytes(bytes)) => {
                let entry = Message::read(bytes)?;
                let value = entry.bytes(2).unwrap_or_default();
                let value =
                    if matches!(kind, Kind::BytesMap) { STANDARD.encode(value) } else { text(value)? };
                object[name][text(entry.bytes(1).unwrap_or_default())?] = json!(value);
            }
            (Kind::Time, Field::Bytes(bytes)) => {
                let seconds = Message::read(bytes)?.0.into_iter().find_map(|(number, field)| match field {
                    Field::Number(seconds) if number == 1 => i64::try_from(seconds).ok(),
                    _ => None,
                });
                if let Some(time) = seconds.and_then(|seconds| chrono::DateTime::from_timestamp(seconds, 0)) {
                    object[name] = json!(time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true));
                }
            }
            _ => return None,
        }
    }
    Some(object)
}

#[derive(Clone, Copy)]
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

struct Message<'a>(Vec<(u64, Field<'a>)>);

impl<'a> Message<'a> {
    fn read(mut bytes: &'a [u8]) -> Option<Self> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let tag = varint(&mut bytes)?;
            let field = match tag & 7 {
                0 => Field::Number(varint(&mut bytes)?),
                2 => {
                    let length = usize::try_from(varint(&mut bytes)?).ok()?;
                    let (field, rest) = bytes.split_at_checked(length)?;
                    bytes = rest;
                    Field::Bytes(field)
                }
                _ => return None,
            };
            fields.push((tag >> 3, field));
        }
        Some(Self(fields))
    }

    fn bytes(&self, wanted: u64) -> Option<&'a [u8]> {
        self.0.iter().find_map(|(number, field)| match field {
            Field::Bytes(bytes) if *number == wanted => Some(*bytes),
            _ => None,
        })
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 127) << shift;
        if first & 128 == 0 {
            return Some(value);
        }
    }
    None
}
