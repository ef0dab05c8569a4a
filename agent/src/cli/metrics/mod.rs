//! The agent's metrics: which there are, and where their values come from. docs/api.md lists them; a test holds the two
//! against each other.

mod capture;
mod engine;
mod kubernetes;
mod outputs;
mod process;

use std::sync::{Arc, Weak};

use super::kubernetes::Kubernetes;
use super::vitals::Vitals;
use crate::api::Registry;
use crate::hooks::Scripts;
use crate::outbox::DurableOutbox;
use crate::pcap::SegmentStore;
use crate::pipeline::ItemSinks;

pub(super) use self::kubernetes::Counts as KubernetesCounts;

/// Where values come from. What is not there has no samples.
pub(super) struct Sources {
    pub(super) vitals: Arc<Vitals>,
    pub(super) store: Option<Arc<SegmentStore>>,
    pub(super) outbox: Option<Arc<DurableOutbox>>,
    /// They end while metrics are still served.
    pub(super) scripts: Option<Weak<Scripts>>,
    pub(super) sinks: Option<Arc<ItemSinks>>,
    pub(super) kubernetes: Option<Arc<Kubernetes>>,
}

/// Has them exported.
pub(super) fn add(registry: &Registry, sources: Sources) {
    let Sources { vitals, store, outbox, scripts, sinks, kubernetes } = sources;
    registry.add_metrics(process::all);
    registry.add_metrics(move |to| {
        capture::all(to, &vitals.books());
        engine::all(to, &vitals.workers());
    });
    registry.add_metrics(move |to| kubernetes::all(to, kubernetes.as_ref().map(|of| of.counts()).as_ref()));
    registry.add_metrics(move |to| outputs::store(to, store.as_ref().map(|store| store.stats())));
    registry.add_metrics(move |to| outputs::outbox(to, outbox.as_ref().map(|outbox| outbox.stats())));
    registry.add_metrics(move |to| outputs::sinks(to, sinks.as_ref().map(|sinks| sinks.stats())));
    registry.add_metrics(move |to| outputs::scripts(to, scripts.as_ref().and_then(Weak::upgrade).as_deref()));
}
