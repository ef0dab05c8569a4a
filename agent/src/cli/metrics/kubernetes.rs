//! Metrics of names and targets.

use crate::exposition::Exposition;

/// What there is of Kubernetes, and what happened.
#[derive(Clone, Copy, Default, Debug)]
pub(in super::super) struct Counts {
    /// Whether all that is watched is known and followed.
    pub(in super::super) followed: bool,
    pub(in super::super) requests: u64,
    pub(in super::super) errors: u64,
    pub(in super::super) broken: u64,
    pub(in super::super) lists: u64,
    pub(in super::super) events: u64,
    pub(in super::super) found: u64,
    pub(in super::super) nobody: u64,
    pub(in super::super) failed: u64,
    pub(in super::super) refused: u64,
    pub(in super::super) cached: u64,
    pub(in super::super) pods: u64,
    pub(in super::super) pods_wanted: u64,
    pub(in super::super) services: u64,
    pub(in super::super) slices: u64,
    pub(in super::super) no_room: u64,
    pub(in super::super) addresses: u64,
    pub(in super::super) nameless: u64,
}

/// `None`: the API is not asked.
pub(super) fn all(to: &mut Exposition, counts: Option<&Counts>) {
    type Of = fn(&Counts) -> u64;
    let mut one = |counter: bool, name, help, of: Of| {
        let mut family = if counter { to.counter(name, help) } else { to.gauge(name, help) };
        if let Some(counts) = counts {
            family.value(of(counts));
        }
    };
    one(
        false,
        "remora_kubernetes_followed",
        "Whether pods, services and endpoints are known and followed.",
        |c| c.followed.into(),
    );
    one(true, "remora_kubernetes_requests_total", "Requests to the API server.", |c| c.requests);
    one(
        true,
        "remora_kubernetes_errors_total",
        "Of these: answered by an error, or never to the end.",
        |c| c.errors,
    );
    one(
        true,
        "remora_kubernetes_watches_broken_total",
        "Connections that broke while something was watched.",
        |c| c.broken,
    );
    one(true, "remora_kubernetes_lists_total", "Lists that were begun, the first ones included.", |c| {
        c.lists
    });
    one(true, "remora_kubernetes_events_total", "Objects that were listed, changed or went.", |c| c.events);
    one(false, "remora_kubernetes_pods", "Pods of this node that are known.", |c| c.pods);
    one(false, "remora_kubernetes_pods_wanted", "Of these: captured.", |c| c.pods_wanted);
    one(false, "remora_kubernetes_services", "Services that are known.", |c| c.services);
    one(false, "remora_kubernetes_endpoint_slices", "Slices of endpoints that are known.", |c| c.slices);
    one(
        true,
        "remora_kubernetes_refused_total",
        "Pods, services and slices that there was no room for.",
        |c| c.no_room,
    );
    one(false, "remora_names_addresses", "Addresses that have a name.", |c| c.addresses);
    one(true, "remora_names_refused_total", "Addresses whose name there was no room for.", |c| c.nameless);
    let mut lookups =
        to.counter("remora_kubernetes_lookups_total", "Pods looked up by their address, by what came of it.");
    if let Some(c) = counts {
        for (result, value) in [
            ("found", c.found),
            ("nobody", c.nobody),
            ("failed", c.failed),
            ("refused", c.refused),
            ("cached", c.cached),
        ] {
            lookups.with(&[("result", result)], value);
        }
    }
}
