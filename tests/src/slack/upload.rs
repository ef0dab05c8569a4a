//! The three-step upload: `files.getUploadURLExternal`, the bytes, `files.completeUploadExternal`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::api::{Call, Refusal};
use super::fault;
use super::state::{File, Shared, State as FakeState, Stored};

/// Snippets have a far smaller cap than files.
const MAX_SNIPPET: usize = 1024 * 1024;

/// `files.getUploadURLExternal`
pub(super) fn begin(call: &mut Call<'_>) -> Result<Value, Refusal> {
    call.need("files:write")?;
    let name =
        call.args.text("filename").ok_or_else(|| Refusal::invalid("missing required field: filename"))?;
    let length =
        call.args.text("length").ok_or_else(|| Refusal::invalid("missing required field: length"))?;
    let length: usize = length.parse().map_err(|_| Refusal::invalid("must be an integer: length"))?;
    if length == 0 {
        return Err(Refusal::invalid("must be greater than 0: length"));
    }
    let snippet = call.args.text("snippet_type").is_some();
    if length > call.state.config.max_file || (snippet && length > MAX_SNIPPET) {
        return Err("file_upload_size_restricted".into());
    }
    let token = call.token.token.clone();
    let file = File { name, length, token, bytes: None, title: None, completed: false, shared_in: None };
    let id = call.state.new_file(file);
    Ok(json!({"ok": true, "upload_url": format!("{}/upload/v1/{id}", call.base), "file_id": id}))
}

/// `POST /upload/v1/{id}`: the raw bytes.
pub(super) async fn take(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let injection = {
        let mut state = shared.lock();
        if headers.contains_key(header::AUTHORIZATION) {
            state.violations.push(format!("upload of {id}: a token was sent to the upload URL"));
        }
        let injection = fault::next(&mut state.faults, "upload", None);
        if let Some(injection) = &injection {
            state.record("upload", None, &injection.outcome());
        }
        injection
    };
    let apply = || {
        let mut state = shared.lock();
        let length = body.len();
        let answer = store(&mut state, &id, &method, &headers, body);
        state.record("upload", None, answer.err().map_or("ok", |(_, word)| word));
        match answer {
            Ok(()) => format!("OK - {length}").into_response(),
            Err((status, word)) => (status, word).into_response(),
        }
    };
    match injection {
        Some(injection) => fault::answer(injection, apply).await,
        None => apply(),
    }
}

fn store(
    state: &mut FakeState,
    id: &str,
    method: &Method,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<(), (StatusCode, &'static str)> {
    if *method != Method::POST {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "post_only"));
    }
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if content_type.starts_with("multipart/") {
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "the fake takes raw bytes only"));
    }
    if !headers.contains_key(header::CONTENT_LENGTH) {
        return Err((StatusCode::LENGTH_REQUIRED, "length_required"));
    }
    let file = state.files.get_mut(id).ok_or((StatusCode::NOT_FOUND, "upload_not_found"))?;
    if file.bytes.is_some() {
        return Err((StatusCode::BAD_REQUEST, "already_uploaded"));
    }
    if body.len() != file.length {
        return Err((StatusCode::BAD_REQUEST, "length_mismatch"));
    }
    file.bytes = Some(body);
    Ok(())
}

/// `files.completeUploadExternal`
pub(super) fn complete(call: &mut Call<'_>) -> Result<Value, Refusal> {
    call.need("files:write")?;
    let list = call.args.list("files").ok_or_else(|| Refusal::invalid("missing required field: files"))?;
    let list = list.filter(|l| !l.is_empty()).ok_or_else(|| Refusal::invalid("must be an array: files"))?;
    let files = wanted_files(call, &list)?;
    let place = place(call)?;
    for (id, title) in &files {
        if let Some(file) = call.state.files.get_mut(id) {
            file.completed = true;
            file.title.clone_from(title);
        }
    }
    if let Some((channel, thread_ts)) = place {
        share(call, channel, thread_ts, &files);
    }
    let answer: Vec<Value> = files.iter().map(|(id, title)| json!({"id": id, "title": title})).collect();
    Ok(json!({"ok": true, "files": answer}))
}

/// Each id once, uploaded by this token, its bytes there, not completed before.
fn wanted_files(call: &Call<'_>, list: &[Value]) -> Result<Vec<(String, Option<String>)>, Refusal> {
    let mut files: Vec<(String, Option<String>)> = Vec::with_capacity(list.len());
    for entry in list {
        let id = entry["id"].as_str().ok_or_else(|| Refusal::invalid("missing required field: id"))?;
        let file = call.state.files.get(id).filter(|f| f.token == call.token.token);
        let file = file.filter(|f| f.bytes.is_some() && !f.completed).ok_or("file_not_found")?;
        if files.iter().any(|(known, _)| known == id) {
            return Err(Refusal::invalid("the same file twice: files"));
        }
        let title = entry["title"].as_str().unwrap_or(&file.name);
        files.push((id.to_owned(), Some(title.to_owned())));
    }
    Ok(files)
}

/// Channel and thread to share into; none for a private upload.
fn place(call: &Call<'_>) -> Result<Option<(String, Option<String>)>, Refusal> {
    let thread_ts = call.args.text("thread_ts");
    let Some(id) = call.args.text("channel_id") else {
        return match thread_ts {
            Some(_) => Err(Refusal::invalid("thread_ts needs a channel_id")),
            None => Ok(None),
        };
    };
    if !is_channel_id(&id) {
        return Err(Refusal::invalid("must match a pattern: ^[CGDZ][A-Z0-9]{8,}$: channel_id"));
    }
    let channel = call.visible(&id)?;
    if channel.archived {
        return Err("is_archived".into());
    }
    if !channel.member {
        return Err("not_in_channel".into());
    }
    if thread_ts.as_deref().is_some_and(|ts| !call.state.has_thread(&id, ts)) {
        return Err("thread_not_found".into());
    }
    Ok(Some((id, thread_ts)))
}

fn is_channel_id(id: &str) -> bool {
    let plain = id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    id.len() >= 9 && plain && id.starts_with(['C', 'G', 'D', 'Z'])
}

fn share(
    call: &mut Call<'_>,
    channel: String,
    thread_ts: Option<String>,
    files: &[(String, Option<String>)],
) {
    let ts = call.state.next_ts();
    for (id, _) in files {
        if let Some(file) = call.state.files.get_mut(id) {
            file.shared_in = Some((channel.clone(), ts.clone()));
        }
    }
    let stored = Stored {
        ts,
        thread_ts,
        channel,
        via: "upload",
        text: call.args.text("initial_comment").unwrap_or_default(),
        attachments: Vec::new(),
        files: files.iter().map(|(id, _)| id.clone()).collect(),
        received_us: call.state.now_us(),
        options: BTreeMap::new(),
    };
    call.state.messages.push(stored);
}

/// `files.info`
pub(super) fn info(call: &Call<'_>) -> Result<Value, Refusal> {
    call.need("files:read")?;
    let id = call.args.text("file").ok_or_else(|| Refusal::invalid("missing required field: file"))?;
    let file = call.state.files.get(&id).filter(|f| f.completed).ok_or("file_not_found")?;
    let shares = file.shared_in.as_ref().map_or_else(
        || json!({}),
        |(channel, ts)| {
            let private = call.state.config.channel(channel).is_some_and(|c| c.private);
            json!({(if private { "private" } else { "public" }): {channel.as_str(): [{"ts": ts}]}})
        },
    );
    let channels: Vec<&str> = file.shared_in.iter().map(|(channel, _)| channel.as_str()).collect();
    Ok(json!({"ok": true, "file": {"id": id, "name": file.name, "title": file.title, "size": file.length,
        "url_private": format!("{}/_fake/files/{id}", call.base), "channels": channels, "shares": shares}}))
}
