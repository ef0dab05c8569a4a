//! The Web API: who may call, and what each method does and refuses.
//!
//! Errors are Slack's words, HTTP 200 with `{"ok": false, "error": …}`, but for the rate: 429 and `Retry-After`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::args::{self, Args};
use super::config::{Channel, Token};
use super::fault;
use super::state::{Shared, State as FakeState, Stored};
use super::upload;

/// Characters of `text` that Slack keeps.
const MAX_TEXT: usize = 40_000;
/// Attachments of one message.
const MAX_ATTACHMENTS: usize = 100;
/// Bytes of all attachments together. Slack has such a limit but does not give it; this is the fake's.
const MAX_ATTACHMENT_BYTES: usize = 256 * 1024;

/// A refusal: Slack's word, and what else the answer carries.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) error: &'static str,
    pub(super) extra: Vec<(&'static str, Value)>,
}

impl From<&'static str> for Refusal {
    fn from(error: &'static str) -> Self {
        Self { error, extra: Vec::new() }
    }
}

impl Refusal {
    pub(super) fn invalid(message: &str) -> Self {
        let metadata = json!({"messages": [format!("[ERROR] {message}")]});
        Self { error: "invalid_arguments", extra: vec![("response_metadata", metadata)] }
    }

    fn into_response(self) -> Response {
        let mut body = json!({"ok": false, "error": self.error});
        for (name, value) in self.extra {
            body[name] = value;
        }
        if self.error == "ratelimited" {
            return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")], Json(body)).into_response();
        }
        Json(body).into_response()
    }
}

/// What a method works on.
pub(super) struct Call<'a> {
    pub(super) state: &'a mut FakeState,
    pub(super) args: &'a Args,
    pub(super) token: Token,
    /// How the caller calls the fake, for URLs that lead back to it.
    pub(super) base: String,
}

/// `ANY /api/{method}`
pub(super) async fn call(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let takes_json = !matches!(name.as_str(), "files.getUploadURLExternal" | "files.info");
    let args = args::read(&method, &uri, &headers, &body, takes_json).await;
    let channel = args.as_ref().ok().and_then(|a| a.text("channel").or_else(|| a.text("channel_id")));
    let host = headers.get(header::HOST).and_then(|v| v.to_str().ok()).unwrap_or("127.0.0.1");
    let base = format!("http://{host}");

    let injection = {
        let mut state = shared.lock();
        let injection = fault::next(&mut state.faults, &name, channel.as_deref());
        if let Some(injection) = &injection {
            state.record(&name, channel.as_deref(), &injection.outcome());
        }
        injection
    };
    let apply = || {
        let mut state = shared.lock();
        let answer = args.map_err(Refusal::from).and_then(|args| run(&mut state, &name, &args, base));
        let outcome = answer.as_ref().map_or_else(|refusal| refusal.error, |_| "ok");
        state.record(&name, channel.as_deref(), outcome);
        answer.map_or_else(Refusal::into_response, |body| Json(body).into_response())
    };
    match injection {
        Some(injection) => fault::answer(injection, apply).await,
        None => apply(),
    }
}

fn run(state: &mut FakeState, name: &str, args: &Args, base: String) -> Result<Value, Refusal> {
    let given = args.token.as_deref().ok_or("not_authed")?;
    let token = state.config.tokens.iter().find(|t| t.token == given).cloned().ok_or("invalid_auth")?;
    let mut call = Call { state, args, token, base };
    match name {
        "auth.test" => Ok(json!({"ok": true, "url": call.base + "/", "team": "Fake", "user": "remora",
            "team_id": "T00000000", "user_id": "U00000000", "bot_id": "B00000000"})),
        "chat.postMessage" => call.post_message(),
        "conversations.join" => call.join(),
        "files.getUploadURLExternal" => upload::begin(&mut call),
        "files.completeUploadExternal" => upload::complete(&mut call),
        "files.info" => upload::info(&call),
        _ => Err("unknown_method".into()),
    }
}

impl Call<'_> {
    pub(super) fn need(&self, scope: &'static str) -> Result<(), Refusal> {
        if self.token.scopes.iter().any(|s| s == scope) {
            return Ok(());
        }
        let provided = Value::from(self.token.scopes.join(","));
        Err(Refusal { error: "missing_scope", extra: vec![("needed", scope.into()), ("provided", provided)] })
    }

    /// The channel, if the bot can see it.
    pub(super) fn visible(&self, id: &str) -> Result<Channel, Refusal> {
        let channel = self.state.config.channel(id).filter(|c| c.member || !c.private);
        Ok(channel.cloned().ok_or("channel_not_found")?)
    }

    fn post_message(&mut self) -> Result<Value, Refusal> {
        self.need("chat:write")?;
        let wanted = self.args.text("channel").ok_or("channel_not_found")?;
        let channel = self.visible(&wanted)?;
        if channel.archived {
            return Err("is_archived".into());
        }
        if !channel.member {
            self.need("chat:write.public").map_err(|_| "not_in_channel")?;
        }
        let attachments = match self.args.list("attachments") {
            None => Vec::new(),
            Some(list) => list.ok_or("invalid_attachments")?,
        };
        check_attachments(&attachments)?;
        let text = self.args.text("text").unwrap_or_default();
        if text.is_empty() && !attachments.iter().any(says_something) {
            return Err("no_text".into());
        }
        let thread_ts = self.args.text("thread_ts");
        if thread_ts.as_deref().is_some_and(|ts| !self.state.has_thread(&channel.id, ts)) {
            return Err("thread_not_found".into());
        }
        if !self.state.within_rate(&channel.id) {
            return Err("ratelimited".into());
        }
        let text: String = text.chars().take(MAX_TEXT).collect();
        let message = json!({"type": "message", "text": text, "attachments": attachments});
        let ts = self.store(&channel.id, thread_ts, text, attachments);
        Ok(json!({"ok": true, "channel": channel.id, "ts": ts, "message": message}))
    }

    fn store(
        &mut self,
        channel: &str,
        thread_ts: Option<String>,
        text: String,
        attachments: Vec<Value>,
    ) -> String {
        let names = ["parse", "link_names", "unfurl_links", "unfurl_media", "mrkdwn"];
        let sent = names.iter().filter_map(|n| Some(((*n).to_owned(), self.args.raw(n)?.clone())));
        let options: BTreeMap<String, Value> = sent.collect();
        let ts = self.state.next_ts();
        let stored = Stored {
            ts: ts.clone(),
            thread_ts,
            channel: channel.to_owned(),
            via: "bot",
            text,
            attachments,
            files: Vec::new(),
            received_us: self.state.now_us(),
            options,
        };
        self.state.messages.push(stored);
        ts
    }

    fn join(&mut self) -> Result<Value, Refusal> {
        self.need("channels:join")?;
        let wanted = self.args.text("channel").ok_or("channel_not_found")?;
        let channel = self.visible(&wanted)?;
        if channel.private {
            return Err("method_not_supported_for_channel_type".into());
        }
        if channel.archived {
            return Err("is_archived".into());
        }
        let id = channel.id.clone();
        self.state.config.set_channel(Channel { member: true, ..channel });
        Ok(json!({"ok": true, "channel": {"id": id, "is_member": true}}))
    }
}

/// What Slack refuses in a list of attachments.
pub(super) fn check_attachments(attachments: &[Value]) -> Result<(), Refusal> {
    if attachments.len() > MAX_ATTACHMENTS {
        return Err("too_many_attachments".into());
    }
    for attachment in attachments {
        let object = attachment.as_object().ok_or("invalid_attachments")?;
        for name in ["fallback", "color", "pretext", "text", "footer", "title"] {
            if object.get(name).is_some_and(|v| !v.is_string()) {
                return Err("invalid_attachments".into());
            }
        }
        let fields = object.get("fields").map_or(Some(&[][..]), |f| f.as_array().map(Vec::as_slice));
        if !fields.ok_or("invalid_attachments")?.iter().all(is_field) {
            return Err("invalid_attachments".into());
        }
    }
    let bytes: usize = attachments.iter().map(|a| a.to_string().len()).sum();
    if bytes > MAX_ATTACHMENT_BYTES {
        return Err("attachment_payload_limit_exceeded".into());
    }
    Ok(())
}

fn is_field(field: &Value) -> bool {
    field["title"].is_string()
        && field["value"].is_string()
        && (field["short"].is_boolean() || field["short"].is_null())
}

/// Whether an attachment has anything to show.
pub(super) fn says_something(attachment: &Value) -> bool {
    let text = ["fallback", "pretext", "text", "title"]
        .iter()
        .any(|name| attachment[*name].as_str().is_some_and(|t| !t.is_empty()));
    text || attachment["fields"].as_array().is_some_and(|f| !f.is_empty())
}
