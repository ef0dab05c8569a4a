//! A document: a JSON object with `@timestamp`, the index it goes to, and an id of our own.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::IgnoredAny;
use serde_json::{Map, json};

use crate::outbox::delivery::{Content, Job};
use crate::outbox::{OutboxError, check, stamp};

/// Longest name of an index, in bytes.
const MAX_INDEX: usize = 255;
/// Longest id, in bytes.
const MAX_ID: usize = 512;

/// What is to be indexed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ElasticDocument {
    pub(in crate::outbox) index: String,
    pub(in crate::outbox) id: String,
    pub(in crate::outbox) json: String,
}

impl ElasticDocument {
    /// A document for `index`, an index, alias or data stream. `data` is a JSON object, or a text that becomes its `message`.
    /// Without `@timestamp` it gets one: from `startTime` or `timestamp`, as items have them, else the present time.
    ///
    /// # Errors
    /// [`OutboxError::Invalid`] where the index cannot exist, or randomness cannot be had.
    pub fn new(index: &str, data: &str) -> Result<Self, OutboxError> {
        let mut random = [0; 16];
        getrandom::fill(&mut random)
            .map_err(|error| OutboxError::Invalid { argument: "data", cause: format!("no id: {error}") })?;
        Self::with_id(index, &URL_SAFE_NO_PAD.encode(random), data)
    }

    /// The same under an id that the caller knows to be unique: sent again, by whomever, it stays one document.
    ///
    /// # Errors
    /// As [`ElasticDocument::new`], and where the id cannot be one.
    pub fn with_id(index: &str, id: &str, data: &str) -> Result<Self, OutboxError> {
        let index = index.trim();
        index_name(index)?;
        if id.is_empty() || id.len() > MAX_ID || id.chars().any(char::is_control) {
            return check::invalid("id", format!("must be 1 to {MAX_ID} bytes without control characters"));
        }
        Ok(Self { index: index.to_owned(), id: id.to_owned(), json: document(data) })
    }

    /// The id that will be used.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// One line, an object, with a time.
fn document(data: &str) -> String {
    let data = data.trim();
    let is_object =
        data.starts_with('{') && serde_json::from_str::<Map<String, serde_json::Value>>(data).is_ok();
    let object = if is_object {
        // Inside strings JSON has no raw line ends.
        data.replace(['\n', '\r'], " ")
    } else {
        let value = serde_json::from_str::<IgnoredAny>(data).ok().filter(|_| !data.starts_with('"'));
        match value.and_then(|_| serde_json::from_str::<serde_json::Value>(data).ok()) {
            Some(value) => json!({ "message": value.to_string() }).to_string(),
            None => json!({ "message": data }).to_string(),
        }
    };
    let times: stamp::Times = serde_json::from_str(&object).unwrap_or_default();
    if times.stamped.is_some() {
        return object;
    }
    let comma = if object[1..].trim_start().starts_with('}') { "" } else { "," };
    format!("{{\"@timestamp\":\"{}\"{comma}{}", stamp::rfc3339(times.or_now()), &object[1..])
}

/// Elasticsearch's own rules; a name by date such as `<remora-{now/d}>` is its business.
fn index_name(name: &str) -> Result<(), OutboxError> {
    let wrong = |cause: &str| check::invalid("index", format!("{name:?} {cause}"));
    if name.is_empty() {
        return check::invalid("index", "is empty; is its variable set?".to_owned());
    }
    if name.len() > MAX_INDEX {
        return check::invalid("index", format!("is {} bytes long; at most {MAX_INDEX}", name.len()));
    }
    if name.starts_with('<') && name.ends_with('>') {
        return Ok(());
    }
    if name.chars().any(char::is_uppercase) {
        return wrong("has upper-case letters, which an index cannot have");
    }
    if name.contains('/') {
        return wrong("has a '/': there are no types any more, give the index alone");
    }
    let forbidden = |c: char| c.is_whitespace() || c.is_control() || "\\*?\"<>|,#:".contains(c);
    if name.chars().any(forbidden) || name.starts_with(['-', '_', '+']) || matches!(name, "." | "..") {
        return wrong("cannot be the name of an index");
    }
    Ok(())
}

/// The body of `_bulk`: two lines for each, the last one ended, too.
pub(super) fn lines(batch: &[Job]) -> Vec<u8> {
    let mut body = String::new();
    for job in batch {
        let mut add = |index: &str, id: &str, json: &str| {
            let action = json!({"create": {"_index": index, "_id": id}});
            body.push_str(&format!("{action}\n{json}\n"));
        };
        match &job.content {
            Content::Elastic { index, id, json } => add(index, id, json),
            Content::ElasticMany { index, documents } => {
                documents.iter().for_each(|(id, json)| add(index, id, json));
            }
            _ => {}
        }
    }
    body.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(data: &str) -> String {
        ElasticDocument::new("remora", data).unwrap().json
    }

    #[test]
    fn documents_are_objects_in_one_line_with_a_time() {
        let at = r#""@timestamp":"2026-11-21T14:00:00.123000000Z""#;
        let item = r#"{"startTime":"2026-11-21T14:00:00.123Z","a":1}"#;
        assert_eq!(json(item), format!(r#"{{{at},{}"#, &item[1..]));
        assert_eq!(json(r#"{"timestamp":1795269600123}"#), format!(r#"{{{at},"timestamp":1795269600123}}"#));
        let own = r#"{"a":"x\ny","@timestamp":"2020-01-01"}"#;
        assert_eq!(json(own), own, "a time of its own stays");
        for data in ["{}", "{\n}", "{\r\n \"a\":\t1 }"] {
            let line = json(data);
            assert!(!line.contains(['\n', '\r']), "{line}");
            assert!(
                serde_json::from_str::<serde_json::Value>(&line).unwrap()["@timestamp"].is_string(),
                "{line}"
            );
        }
        for (data, message) in
            [("hello \"x\"", "hello \"x\""), ("[1, 2]", "[1,2]"), ("{broken", "{broken"), ("5", "5")]
        {
            let value: serde_json::Value = serde_json::from_str(&json(data)).unwrap();
            assert_eq!(value["message"], message);
        }
    }

    #[test]
    fn ids_are_unique_and_indices_checked() {
        let ids: std::collections::HashSet<String> =
            (0..1000).map(|_| ElasticDocument::new("a", "{}").unwrap().id).collect();
        assert_eq!(ids.len(), 1000);
        for good in ["remora", "logs-remora-default", "remora-2026.11.21", "<remora-{now/d}>", ".hidden"] {
            assert!(ElasticDocument::new(good, "{}").is_ok(), "{good}");
        }
        for bad in ["", "Remora", "a/b", "a b", "_a", "-a", "a,b", "a*", "..", &"a".repeat(256), "a:b"] {
            let error = ElasticDocument::new(bad, "{}").unwrap_err().to_string();
            assert!(error.starts_with("index: "), "{bad}: {error}");
        }
    }
}
