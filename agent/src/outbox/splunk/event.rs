//! An event with what Splunk is to know of it, and bodies made of these.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::outbox::delivery::{Content, Job};
use crate::outbox::{OutboxError, check, stamp};

/// What is to be indexed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SplunkEvent(pub(in crate::outbox) Envelope);

/// Its stored form.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Envelope {
    /// ns since 1970.
    time: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    metadata: Vec<(String, String)>,
    body: Body,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Body {
    /// A JSON value.
    Event(String),
    /// JSON values, each with its time.
    Events(Vec<(u64, String)>),
    /// As it is.
    Raw(String),
}

impl SplunkEvent {
    /// An event: a JSON value, or a text. Its time is that of `startTime` or `timestamp`, as items have them, else the present.
    /// `metadata`: `index`, `sourcetype`, `source`, `host`; an empty value is left out.
    ///
    /// # Errors
    /// [`OutboxError::Invalid`] where the event is blank or the metadata cannot be.
    pub fn event(text: &str, is_json: bool, metadata: Vec<(String, String)>) -> Result<Self, OutboxError> {
        let json = if is_json { text.to_owned() } else { Value::from(text).to_string() };
        Self::made(stamp::of(&json), text, Body::Event(json), metadata)
    }

    /// Several JSON values as one, each with a time of its own as in [`SplunkEvent::event`].
    ///
    /// # Errors
    /// As there.
    pub fn events(texts: Vec<String>, metadata: Vec<(String, String)>) -> Result<Self, OutboxError> {
        let blank = texts.iter().find(|text| text.trim().is_empty()).or(texts.first()).cloned();
        let events = texts.into_iter().map(|text| (stamp::of(&text), text)).collect();
        Self::made(stamp::now(), &blank.unwrap_or_default(), Body::Events(events), metadata)
    }

    /// Text for the raw endpoint, which Splunk itself parts into events.
    ///
    /// # Errors
    /// As [`SplunkEvent::event`].
    pub fn raw(text: String, metadata: Vec<(String, String)>) -> Result<Self, OutboxError> {
        Self::made(stamp::now(), &text.clone(), Body::Raw(text), metadata)
    }

    fn made(
        time: u64,
        text: &str,
        body: Body,
        mut metadata: Vec<(String, String)>,
    ) -> Result<Self, OutboxError> {
        if text.trim().is_empty() {
            return check::invalid("event", "is blank, which Splunk refuses".to_owned());
        }
        metadata.retain(|(_, value)| !value.is_empty());
        for (name, value) in &metadata {
            let argument = match name.as_str() {
                "index" => "options.index",
                "sourcetype" => "options.sourcetype",
                "source" => "options.source",
                "host" => "options.host",
                _ => return check::invalid("options", format!("there is no option {name:?}")),
            };
            check::text(argument, value)?;
        }
        Ok(Self(Envelope { time, metadata, body }))
    }
}

impl Envelope {
    /// Bytes of text.
    pub(in crate::outbox) fn bytes(&self) -> usize {
        let text = match &self.body {
            Body::Event(text) | Body::Raw(text) => text.len(),
            Body::Events(events) => events.iter().map(|(_, text)| text.len()).sum(),
        };
        text + self.metadata.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
    }

    /// Query and body for the raw endpoint; `None`: it is an event.
    pub(super) fn raw(&self) -> Option<(&[(String, String)], &str)> {
        match &self.body {
            Body::Raw(text) => Some((&self.metadata, text)),
            Body::Event(_) | Body::Events(_) => None,
        }
    }

    fn write(&self, to: &mut String) {
        match &self.body {
            Body::Event(event) => self.write_one(self.time, event, to),
            Body::Events(events) => events.iter().for_each(|(time, event)| self.write_one(*time, event, to)),
            Body::Raw(_) => {}
        }
    }

    fn write_one(&self, time: u64, event: &str, to: &mut String) {
        // As decimals: a floating-point number would lose the microseconds.
        let (seconds, micros) = (time / 1_000_000_000, time / 1_000 % 1_000_000);
        to.push_str(&format!("{{\"time\":{seconds}.{micros:06}"));
        for (name, value) in &self.metadata {
            to.push_str(&format!(",\"{name}\":{}", Value::from(value.as_str())));
        }
        to.push_str(&format!(",\"event\":{event}}}\n"));
    }
}

/// JSON objects one after another, in no array.
pub(super) fn body(run: &[Job]) -> Vec<u8> {
    let mut body = String::new();
    for job in run {
        if let Content::Splunk { envelope } = &job.content {
            envelope.write(&mut body);
        }
    }
    body.into_bytes()
}

/// Neighbours that go in one call: events together, raw text alone.
pub(super) fn runs(batch: &[Job]) -> impl Iterator<Item = &[Job]> {
    let is_raw = |job: &Job| matches!(&job.content, Content::Splunk { envelope } if envelope.raw().is_some());
    batch.chunk_by(move |one, next| !is_raw(one) && !is_raw(next))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(event: &SplunkEvent) -> String {
        let mut text = String::new();
        event.0.write(&mut text);
        text
    }

    #[test]
    fn events_carry_time_and_metadata() {
        let metadata = vec![("index".to_owned(), "main".to_owned()), ("host".to_owned(), String::new())];
        let item = SplunkEvent::event(r#"{"timestamp":1795269600123,"a":1}"#, true, metadata).unwrap();
        let expected = "{\"time\":1795269600.123000,\"index\":\"main\",\"event\":{\"timestamp\":1795269600123,\"a\":1}}\n";
        assert_eq!(written(&item), expected);
        let text = SplunkEvent::event("say \"hi\"\n", false, Vec::new()).unwrap();
        let value: Value = serde_json::from_str(&written(&text)).unwrap();
        assert_eq!(value["event"], "say \"hi\"\n");
        for (text, metadata, part) in [
            (" \n", Vec::new(), "event: is blank"),
            ("x", vec![("indx".to_owned(), "a".to_owned())], "options: there is no option \"indx\""),
            ("x", vec![("source".to_owned(), "a\nb".to_owned())], "options.source: has control characters"),
        ] {
            let error = SplunkEvent::event(text, false, metadata).unwrap_err().to_string();
            assert!(error.starts_with(part), "{error}");
        }
    }
}
