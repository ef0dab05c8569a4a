//! The API's own metrics.

use std::sync::Arc;

use super::counts::{Counts, value};
use super::feed::Feed;
use super::registry::Registry;
use crate::exposition::Exposition;

/// Has them exported.
pub(super) fn add(registry: &Registry, counts: &Arc<Counts>, feed: Option<&Arc<Feed>>) {
    let (counts, feed) = (Arc::clone(counts), feed.map(Arc::clone));
    registry.add_metrics(move |to| {
        requests(to, &counts);
        let stats = feed.as_ref().map(|feed| feed.stats()).unwrap_or_default();
        let [sse, websocket] = stats.clients;
        to.gauge("remora_api_clients", "Clients that follow items.")
            .with(&[("kind", "sse")], sse)
            .with(&[("kind", "websocket")], websocket);
        to.counter("remora_api_items_sent_total", "Items queued for clients that follow them.")
            .value(stats.sent);
        to.counter(
            "remora_api_items_dropped_total",
            "Items that found a client's queue full, or the one before all of them.",
        )
        .value(stats.dropped);
        to.gauge("remora_api_recent_items", "Latest items that are kept for /api/items.")
            .value(stats.recent.items);
        to.gauge("remora_api_recent_bytes", "Memory of the latest items.").value(stats.recent.bytes);
        to.counter("remora_api_recent_evicted_total", "Items that are no longer among the latest.")
            .value(stats.recent.evicted);
    });
}

fn requests(to: &mut Exposition, counts: &Counts) {
    let mut answers = to.counter("remora_api_answers_total", "Answers to HTTP requests, by class of status.");
    for (class, counter) in ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(&counts.answers) {
        answers.with(&[("status", class)], value(counter));
    }
    to.counter("remora_api_refused_total", "Requests, connections and clients that were refused, by reason.")
        .with(&[("reason", "token")], value(&counts.unauthorised))
        .with(&[("reason", "origin")], value(&counts.foreign))
        .with(&[("reason", "timeout")], value(&counts.timed_out))
        .with(&[("reason", "connections")], value(&counts.connections_refused))
        .with(&[("reason", "clients")], value(&counts.clients_refused));
    to.gauge("remora_api_connections", "Open connections.").value(value(&counts.connections));
}
