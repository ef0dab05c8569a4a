//! A script on trial: every call is told, and no webhook goes out. The outbox that only takes notes is
//! [`crate::outbox::RecordingOutbox`].

use std::fmt::Write as _;
use std::time::Duration;

use crate::view::text_line;

use super::worker::Event;

/// Longest body of a webhook that is noted, in bytes.
pub(crate) const NOTED: usize = 64 << 10;

/// Is told of what scripts do, in `remora scripts test`. Calls of one script come from its own thread, one after the other.
pub trait Rehearsal: Send + Sync {
    /// A hook or job is called, with what is known of the occasion.
    fn begins(&self, script: &str, call: &str, about: &str);

    /// It is over; `failure` says what was thrown or which limit was hit, and where.
    fn ended(&self, script: &str, call: &str, took: Duration, failure: Option<&str>);

    /// A webhook that is not sent: what the script is given for an answer.
    ///
    /// # Errors
    /// What the script is thrown instead.
    fn webhook(&self, script: &str, request: &WebhookRequest) -> Result<String, String>;
}

/// A request of `vendor.webhook` or `vendor.webhookForm`.
#[derive(Clone, Debug)]
pub struct WebhookRequest {
    /// GET, POST, ….
    pub method: String,
    /// Scheme, host and port: the rest of a URL may be a secret.
    pub to: String,
    /// The body, or its beginning.
    pub body: String,
    /// Bytes of the whole body.
    pub size: usize,
}

impl WebhookRequest {
    pub(crate) fn new(method: String, to: String, body: &[u8]) -> Self {
        let body_text = String::from_utf8_lossy(body.get(..NOTED).unwrap_or(body)).into_owned();
        Self { method, to, body: body_text, size: body.len() }
    }
}

/// What an event is about, in a line.
pub(super) fn about(event: &Event) -> String {
    let mut text = String::new();
    match event {
        Event::Item(item, _) => {
            let mut line = Vec::new();
            text_line(item, &mut line);
            text = String::from_utf8_lossy(&line).into_owned();
        }
        Event::Closed(stream) => {
            let summary = &stream.summary;
            let _ = write!(text, "{}  {}, {} items", summary.stream, summary.reason.as_str(), summary.items);
        }
        Event::Packets(_) => text.push_str("a packet"),
        Event::Pod(event, _) => text.push_str(event.as_str()),
        Event::Queried(..) => text.push_str("an item"),
        Event::Jobs => {}
    }
    text
}
