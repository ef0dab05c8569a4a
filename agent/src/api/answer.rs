//! Answers: JSON, and errors that say what to do.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use tokio::sync::Semaphore;

/// What went wrong, for whoever asked.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    error: String,
}

impl Failure {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into() }
    }

    /// The question is wrong.
    pub(super) fn bad(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    /// There is no such thing.
    pub(super) fn missing(error: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error)
    }

    /// A thread of ours failed: the log says why.
    pub(super) fn broken(error: &tokio::task::JoinError) -> Self {
        tracing::error!("api: a request failed: {error}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "this is a defect of remora; its log says more")
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = json_of(self.status, &json!({ "error": self.error }));
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A JSON answer.
pub(super) fn json_of(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(text) => json_text(status, text),
        Err(error) => {
            tracing::error!("api: an answer cannot be written: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// A JSON answer that is text already.
pub(super) fn json_text(status: StatusCode, text: Vec<u8>) -> Response {
    with_type(status, "application/json", Body::from(text))
}

/// An answer of that media type.
pub(super) fn with_type(status: StatusCode, media: &'static str, body: Body) -> Response {
    let headers: [(HeaderName, &str); 3] = [
        (header::CONTENT_TYPE, media),
        // What is shown here came out of traffic: no browser may take it for a page, or keep it.
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, body).into_response()
}

/// Threads that questions which take their time may hold: fewer than there are, so that health is always told.
const PLACES: usize = 6;

static HEAVY: Semaphore = Semaphore::const_new(PLACES);

/// As [`blocking`], for what reads the disk, asks scripts, or makes much JSON: so many at a time.
pub(super) async fn heavy<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    // Err: it is never closed.
    let place = HEAVY.acquire().await.ok();
    blocking(move || {
        // Held to the end, also when nobody waits for the answer any more.
        let _place = place;
        work()
    })
    .await
}

/// Runs what takes a moment on a thread for that.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Failure::broken(&error))
}
