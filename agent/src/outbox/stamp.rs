//! When what a document tells of happened: scripts mostly send items, or things made of them.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::Value;

use crate::utc;

/// The members of a document that may tell.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Times {
    #[serde(rename = "@timestamp")]
    pub(super) stamped: Option<Value>,
    #[serde(rename = "startTime")]
    started: Option<Value>,
    timestamp: Option<Value>,
}

/// Nanoseconds since 1970 of a JSON document, or else now.
pub(super) fn of(json: &str) -> u64 {
    // The parser would take an array for the members in order.
    let object = json.trim_start().starts_with('{').then_some(json);
    object.and_then(|json| serde_json::from_str::<Times>(json).ok()).unwrap_or_default().or_now()
}

impl Times {
    pub(super) fn or_now(&self) -> u64 {
        let tells = [&self.stamped, &self.started, &self.timestamp];
        tells.into_iter().flatten().find_map(nanoseconds).unwrap_or_else(now)
    }
}

/// RFC 3339 as a text, milliseconds as a number.
fn nanoseconds(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => utc::parse(text),
        Value::Number(number) => match number.as_u64() {
            Some(whole) => whole.checked_mul(1_000_000),
            None => number.as_f64().filter(|ms| (0.0..9e12).contains(ms)).map(|ms| (ms * 1e6) as u64),
        },
        _ => None,
    }
}

pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_nanos().try_into().unwrap_or(u64::MAX)
}

/// `2026-11-21T14:00:00.000000001Z`
pub(super) fn rfc3339(nanoseconds: u64) -> String {
    let whole = utc::text(nanoseconds / 1_000_000_000);
    format!("{}.{:09}Z", whole.trim_end_matches('Z'), nanoseconds % 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_documents_own_time_is_found() {
        let at = 1_795_269_600_123_456_789;
        for json in [
            r#"{"startTime":"2026-11-21T14:00:00.123456789Z","timestamp":5}"#,
            r#"{"@timestamp":"2026-11-21T14:00:00.123456789Z","startTime":"2020-01-01T00:00:00Z"}"#,
        ] {
            assert_eq!(of(json), at, "{json}");
        }
        assert_eq!(of(r#"{"timestamp":1795269600123}"#), 1_795_269_600_123_000_000);
        assert_eq!(rfc3339(at), "2026-11-21T14:00:00.123456789Z");
        let before = now();
        for json in
            [r#"{"timestamp":-1}"#, r#"{"startTime":"yesterday"}"#, "[1]", "5", r#"{"timestamp":1e300}"#]
        {
            let at = of(json);
            assert!((before..=now()).contains(&at), "{json}");
        }
    }
}
