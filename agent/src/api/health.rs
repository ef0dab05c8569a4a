//! `/healthz`, `/readyz` and `/metrics`: what the kubelet and Prometheus ask. In words, or as JSON where that is asked for.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;

use super::answer::{self, Failure, blocking};
use super::registry::{Registry, Verdict};
use crate::exposition;

pub(super) async fn healthz(
    State(registry): State<Arc<Registry>>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let verdict = blocking(move || registry.alive()).await?;
    Ok(told(&verdict, &headers, ["ok", "not alive"]))
}

pub(super) async fn readyz(
    State(registry): State<Arc<Registry>>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let verdict = blocking(move || registry.ready()).await?;
    Ok(told(&verdict, &headers, ["ready", "not ready"]))
}

pub(super) async fn metrics(State(registry): State<Arc<Registry>>) -> Result<Response, Failure> {
    let text = blocking(move || registry.metrics()).await?;
    Ok(answer::with_type(StatusCode::OK, exposition::CONTENT_TYPE, Body::from(text)))
}

fn told(verdict: &Verdict, headers: &HeaderMap, [good, bad]: [&str; 2]) -> Response {
    let status = if verdict.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if accept.contains("application/json") {
        return answer::json_of(status, verdict);
    }
    answer::with_type(status, "text/plain; charset=utf-8", Body::from(verdict.text(good, bad)))
}
