//! Which path is answered by whom.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, FromRef};
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde_json::json;

use super::access::{Guard, guard};
use super::answer::Failure;
use super::bind::Listen;
use super::counts::Counts;
use super::feed::Feed;
use super::registry::Registry;
use super::services::Services;
use super::{health, items, sse, state, streams, websocket};

/// Nothing that is asked has a body.
const BODY: usize = 1024;

/// What requests are answered from.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) registry: Arc<Registry>,
    pub(super) feed: Arc<Feed>,
    pub(super) services: Arc<Services>,
    pub(super) counts: Arc<Counts>,
}

macro_rules! parts {
    ($($part:ident: $type:ty),*) => {$(
        impl FromRef<Context> for Arc<$type> {
            fn from_ref(context: &Context) -> Self {
                Arc::clone(&context.$part)
            }
        }
    )*};
}

parts! { registry: Registry, feed: Feed, services: Services, counts: Counts }

/// The routes of one address.
pub(super) fn router(
    listen: &Listen,
    patience: Duration,
    counts: &Arc<Counts>,
    registry: &Arc<Registry>,
    feed: Option<&Arc<Feed>>,
    services: &Arc<Services>,
) -> Router {
    let probes = Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .with_state(Arc::clone(registry));
    let mut all = Router::new().merge(probes);
    if let Some(feed) = feed.filter(|_| listen.everything) {
        let context = Context {
            registry: Arc::clone(registry),
            feed: Arc::clone(feed),
            services: Arc::clone(services),
            counts: Arc::clone(counts),
        };
        all = all.merge(api().with_state(context));
    }
    let guarding = Arc::new(Guard::new(listen, patience, Arc::clone(counts)));
    all.fallback(missing)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY))
        .layer(from_fn_with_state(guarding, guard))
}

fn api() -> Router<Context> {
    Router::new()
        .route("/", get(index))
        .route("/api", get(index))
        .route("/api/status", get(state::status))
        .route("/api/items", get(items::recent))
        .route("/api/items/stream", get(sse::stream))
        .route("/api/items/ws", get(websocket::stream))
        .route("/api/items/{id}", get(items::one))
        .route("/api/streams", get(streams::list))
        .route("/api/streams/{id}/pcap", get(streams::pcap))
        .route("/api/scripts", get(state::scripts))
        .route("/api/outbox", get(state::outbox))
        .route("/api/outbox/{id}", delete(state::drop_letter))
        .route("/api/outbox/{id}/retry", post(state::retry_letter))
}

async fn index() -> Response {
    Json(json!({
        "what": "remora's API: docs/api.md",
        "paths": [
            "/healthz", "/readyz", "/metrics", "/api/status",
            "/api/items?filter=&limit=&before=", "/api/items/ID",
            "/api/items/stream?filter=&recent=", "/api/items/ws?filter=&recent=",
            "/api/streams?limit=&before=", "/api/streams/ID/pcap?redact=true",
            "/api/scripts", "/api/outbox?state=&limit=",
        ],
    }))
    .into_response()
}

async fn missing() -> Failure {
    Failure::missing("there is nothing at this path: /api lists what there is")
}

async fn wrong_method() -> Failure {
    Failure::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "this path is not for this method: docs/api.md says which is",
    )
}
