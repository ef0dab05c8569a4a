//! What tests and people ask the fake itself: `/_fake/…`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::config::Channel;
use super::fault::Injection;
use super::state::{Message, Request, Shared};

/// `GET /_fake/messages`
pub(super) async fn messages(State(shared): State<Arc<Shared>>) -> Json<Vec<Message>> {
    Json(shared.lock().messages())
}

/// `GET /_fake/requests`
pub(super) async fn requests(State(shared): State<Arc<Shared>>) -> Json<Vec<Request>> {
    Json(shared.lock().requests.clone())
}

/// `GET /_fake/violations`
pub(super) async fn violations(State(shared): State<Arc<Shared>>) -> Json<Vec<String>> {
    Json(shared.lock().violations.clone())
}

/// `GET /_fake/files/{id}`
pub(super) async fn file(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Response {
    let state = shared.lock();
    let (Some(bytes), Some(view)) = (state.file_bytes(&id), state.file_view(&id)) else {
        return (StatusCode::NOT_FOUND, "no such file").into_response();
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let name: String = view.name.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    (headers, bytes).into_response()
}

/// `POST /_fake/fail`, an [`Injection`] as JSON.
pub(super) async fn fail(
    State(shared): State<Arc<Shared>>,
    Json(injection): Json<Injection>,
) -> &'static str {
    shared.lock().faults.push(injection);
    "ok"
}

/// `POST /_fake/channel`, a [`Channel`] as JSON: added, or put in the place of the one with its id.
pub(super) async fn channel(State(shared): State<Arc<Shared>>, Json(channel): Json<Channel>) -> &'static str {
    shared.lock().config.set_channel(channel);
    "ok"
}

/// `POST /_fake/reset`: forgets messages, files, calls, faults and violations.
pub(super) async fn reset(State(shared): State<Arc<Shared>>) -> &'static str {
    let mut state = shared.lock();
    state.messages.clear();
    state.files.clear();
    state.requests.clear();
    state.violations.clear();
    state.faults.clear();
    "ok"
}
