//! Incoming webhooks: JSON in, `ok` or an error out, both as plain text.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::api::{check_attachments, says_something};
use super::fault;
use super::state::{Shared, State as FakeState, Stored};

/// `POST /services/T…/B…/…`
pub(super) async fn take(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (channel, injection) = {
        let mut state = shared.lock();
        let webhook = state.config.webhooks.iter().find(|w| w.path == uri.path());
        let channel = webhook.map(|w| w.channel.clone());
        let injection = fault::next(&mut state.faults, "webhook", channel.as_deref());
        if let Some(injection) = &injection {
            state.record("webhook", channel.as_deref(), &injection.outcome());
        }
        (channel, injection)
    };
    let apply = || {
        let mut state = shared.lock();
        let answer = post(&mut state, channel.as_deref(), &method, &headers, &body);
        state.record("webhook", channel.as_deref(), answer.err().map_or("ok", |(_, word)| word));
        match answer {
            Ok(()) => "ok".into_response(),
            Err((StatusCode::TOO_MANY_REQUESTS, word)) => {
                (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")], word).into_response()
            }
            Err(refusal) => refusal.into_response(),
        }
    };
    match injection {
        Some(injection) => fault::answer(injection, apply).await,
        None => apply(),
    }
}

fn post(
    state: &mut FakeState,
    channel: Option<&str>,
    method: &Method,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(), (StatusCode, &'static str)> {
    let invalid = (StatusCode::BAD_REQUEST, "invalid_payload");
    let channel = channel.ok_or((StatusCode::NOT_FOUND, "no_service"))?;
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if *method != Method::POST || !content_type.starts_with("application/json") {
        return Err(invalid);
    }
    let payload: Value = serde_json::from_slice(body).map_err(|_| invalid)?;
    let object = payload.as_object().ok_or(invalid)?;
    let known = state.config.channel(channel).ok_or((StatusCode::NOT_FOUND, "channel_not_found"))?;
    if known.archived {
        return Err((StatusCode::GONE, "channel_is_archived"));
    }
    let channel = known.id.clone();
    let attachments = match object.get("attachments") {
        None => Vec::new(),
        Some(list) => list.as_array().ok_or(invalid)?.clone(),
    };
    check_attachments(&attachments).map_err(|refusal| (StatusCode::BAD_REQUEST, refusal.error))?;
    let text = object.get("text").and_then(Value::as_str).unwrap_or_default().to_owned();
    if text.is_empty() && !attachments.iter().any(says_something) {
        return Err((StatusCode::BAD_REQUEST, "no_text"));
    }
    if !state.within_rate(&channel) {
        return Err((StatusCode::TOO_MANY_REQUESTS, "rate_limited"));
    }
    let stored = Stored {
        ts: state.next_ts(),
        thread_ts: None,
        channel,
        via: "webhook",
        text,
        attachments,
        files: Vec::new(),
        received_us: state.now_us(),
        options: BTreeMap::new(),
    };
    state.messages.push(stored);
    Ok(())
}
