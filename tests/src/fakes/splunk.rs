//! Splunk's HTTP Event Collector: events, raw text, acknowledgement, health.
//!
//! It refuses what Splunk refuses, with Splunk's codes: no or unknown token, no channel, arrays, blank events, nested fields,
//! indices that the token may not write to. As with Splunk, events before a bad one are taken.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::{Asked, Service};

/// The collector.
#[derive(Debug, Default)]
pub struct Splunk {
    /// Tokens that are valid; true: enabled.
    pub tokens: BTreeMap<String, bool>,
    /// Indices that may be written to; none: all.
    pub indices: BTreeSet<String>,
    /// Tokens use acknowledgement; an event counts as indexed after it was asked for so often.
    pub ack_after: Option<u32>,
    /// Queues are full: health and events answer 503.
    pub unhealthy: bool,
    /// Largest body taken, in bytes.
    pub max_bytes: Option<usize>,
    /// What was taken: the whole object of an event; raw text with its query as `{raw, …}`.
    pub events: Vec<Value>,
    /// Questions so far by channel and number.
    pub acks: BTreeMap<(String, u64), u32>,
}

type Refusal = (StatusCode, u64, &'static str, Option<usize>);

impl Service for Splunk {
    fn call(&self, asked: &Asked) -> &'static str {
        match asked.uri.path().rsplit('/').next() {
            Some("raw") => "raw",
            Some("ack") => "ack",
            Some("health") => "health",
            _ => "event",
        }
    }

    fn answer(&mut self, asked: &Asked) -> Response {
        match self.judge(asked) {
            Ok(body) => Json(body).into_response(),
            Err((status, code, text, number)) => {
                let mut body = json!({"text": text, "code": code});
                if let Some(number) = number {
                    body["invalid-event-number"] = number.into();
                }
                (status, Json(body)).into_response()
            }
        }
    }
}

const BAD: StatusCode = StatusCode::BAD_REQUEST;

impl Splunk {
    fn judge(&mut self, asked: &Asked) -> Result<Value, Refusal> {
        let Some(endpoint) = asked.uri.path().strip_prefix("/services/collector") else {
            return Err((
                StatusCode::NOT_FOUND,
                404,
                "The requested URL was not found on this server.",
                None,
            ));
        };
        if endpoint == "/health" && asked.method == "GET" {
            return if self.unhealthy {
                Err((StatusCode::SERVICE_UNAVAILABLE, 18, "HEC is unhealthy, queues are full", None))
            } else {
                Ok(json!({"text": "HEC is healthy", "code": 17}))
            };
        }
        if asked.method != "POST" {
            return Err((StatusCode::METHOD_NOT_ALLOWED, 405, "The requested method is not allowed", None));
        }
        self.authorize(asked)?;
        if self.max_bytes.is_some_and(|most| asked.body.len() > most) {
            return Err((StatusCode::PAYLOAD_TOO_LARGE, 27, "Request entity too large", None));
        }
        let channel = channel(asked)?;
        if (self.ack_after.is_some() || endpoint.starts_with("/raw") || endpoint == "/ack")
            && channel.is_none()
        {
            return Err((BAD, 10, "Data channel is missing", None));
        }
        let channel = channel.unwrap_or_default();
        if endpoint == "/ack" {
            return self.acknowledge(asked, &channel);
        }
        if self.unhealthy {
            return Err((StatusCode::SERVICE_UNAVAILABLE, 9, "Server is busy", None));
        }
        match endpoint {
            "" | "/" | "/event" | "/event/1.0" => self.take_events(&asked.body)?,
            "/raw" | "/raw/1.0" => self.take_raw(asked)?,
            _ => {
                return Err((
                    StatusCode::NOT_FOUND,
                    404,
                    "The requested URL was not found on this server.",
                    None,
                ));
            }
        }
        let mut answer = json!({"text": "Success", "code": 0});
        if self.ack_after.is_some() {
            let number = self.acks.keys().filter(|(known, _)| *known == channel).count() as u64;
            self.acks.insert((channel, number), 0);
            answer["ackId"] = number.into();
        }
        Ok(answer)
    }

    fn authorize(&self, asked: &Asked) -> Result<(), Refusal> {
        match asked.header("authorization") {
            "" => Err((StatusCode::UNAUTHORIZED, 2, "Token is required", None)),
            given => {
                let token = given.strip_prefix("Splunk ").ok_or((
                    StatusCode::UNAUTHORIZED,
                    3,
                    "Invalid authorization",
                    None,
                ))?;
                match self.tokens.get(token) {
                    None => Err((StatusCode::FORBIDDEN, 4, "Invalid token", None)),
                    Some(false) => Err((StatusCode::FORBIDDEN, 1, "Token disabled", None)),
                    Some(true) => Ok(()),
                }
            }
        }
    }

    fn take_events(&mut self, body: &[u8]) -> Result<(), Refusal> {
        let mut number = 0;
        for value in serde_json::Deserializer::from_slice(body).into_iter::<Value>() {
            let Ok(Value::Object(object)) = value else {
                return Err((BAD, 6, "Invalid data format", Some(number)));
            };
            self.check(&object, number)?;
            self.events.push(Value::Object(object));
            number += 1;
        }
        if number == 0 { Err((BAD, 5, "No data", None)) } else { Ok(()) }
    }

    fn check(&self, object: &Map<String, Value>, number: usize) -> Result<(), Refusal> {
        let at = Some(number);
        let known = ["time", "host", "source", "sourcetype", "index", "fields", "event"];
        let invalid = (BAD, 6, "Invalid data format", at);
        if object.keys().any(|key| !known.contains(&key.as_str())) {
            return Err(invalid);
        }
        let texts = ["host", "source", "sourcetype", "index"];
        if texts.iter().any(|key| object.get(*key).is_some_and(|value| !value.is_string())) {
            return Err(invalid);
        }
        let is_time = |value: &Value| {
            value.is_number() || value.as_str().is_some_and(|text| text.parse::<f64>().is_ok())
        };
        if object.get("time").is_some_and(|time| !is_time(time)) {
            return Err(invalid);
        }
        match object.get("event") {
            None => return Err((BAD, 12, "Event field is required", at)),
            Some(Value::Null) => return Err((BAD, 12, "Event field is required", at)),
            Some(Value::String(text)) if text.trim().is_empty() => {
                return Err((BAD, 13, "Event field cannot be blank", at));
            }
            Some(_) => {}
        }
        let flat = |fields: &Value| fields.as_object().is_some_and(|f| f.values().all(|v| !v.is_object()));
        if object.get("fields").is_some_and(|fields| !flat(fields)) {
            return Err((BAD, 15, "Error in handling indexed fields", at));
        }
        self.check_index(object.get("index").and_then(Value::as_str), at)
    }

    fn check_index(&self, index: Option<&str>, at: Option<usize>) -> Result<(), Refusal> {
        let known = index.is_none_or(|index| self.indices.is_empty() || self.indices.contains(index));
        if known { Ok(()) } else { Err((BAD, 7, "Incorrect index", at)) }
    }

    fn take_raw(&mut self, asked: &Asked) -> Result<(), Refusal> {
        if asked.body.is_empty() {
            return Err((BAD, 5, "No data", None));
        }
        self.check_index(asked.query("index").as_deref(), Some(0))?;
        let mut event = json!({"raw": String::from_utf8_lossy(&asked.body)});
        for name in ["host", "source", "sourcetype", "index"] {
            if let Some(value) = asked.query(name) {
                event[name] = value.into();
            }
        }
        self.events.push(event);
        Ok(())
    }

    fn acknowledge(&mut self, asked: &Asked, channel: &str) -> Result<Value, Refusal> {
        let Some(after) = self.ack_after else { return Err((BAD, 14, "ACK is disabled", None)) };
        let body: Value =
            serde_json::from_slice(&asked.body).map_err(|_| (BAD, 6, "Invalid data format", None))?;
        let asked_for = body["acks"].as_array().ok_or((BAD, 6, "Invalid data format", None))?;
        let mut answer = Map::new();
        for number in asked_for.iter().filter_map(Value::as_u64) {
            // Of another channel, or told before: Splunk does not know it.
            let known = self.acks.get_mut(&(channel.to_owned(), number));
            let indexed = known.is_some_and(|asked| {
                *asked += 1;
                *asked == after
            });
            answer.insert(number.to_string(), indexed.into());
        }
        Ok(json!({ "acks": answer }))
    }
}

/// From the header or the query.
fn channel(asked: &Asked) -> Result<Option<String>, Refusal> {
    let given = Some(asked.header("x-splunk-request-channel").to_owned()).filter(|text| !text.is_empty());
    let Some(channel) = given.or_else(|| asked.query("channel")) else { return Ok(None) };
    let lengths: Vec<usize> = channel.split('-').map(str::len).collect();
    if lengths == [8, 4, 4, 4, 12] && channel.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
        Ok(Some(channel))
    } else {
        Err((BAD, 11, "Invalid data channel", None))
    }
}
