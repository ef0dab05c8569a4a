//! What the HTTP API shows of a run's parts, and when the run is not ready: the parts as the API's own words.

use std::path::Path;
use std::sync::{Arc, Weak};

use serde_json::json;

use super::settings::Settings;
use super::stats;
use crate::api::{Registry, ScriptState, Services};
use crate::captured::Node;
use crate::hooks::{ScriptStats, Scripts};
use crate::outbox::DurableOutbox;
use crate::pcap::{PcapStore, SegmentStore};

/// The parts of a run.
pub(super) struct Parts<'a> {
    pub(super) settings: &'a Settings,
    /// Folder of outbox and scripts.
    pub(super) data: &'a Path,
    /// Folder of the PCAP store.
    pub(super) pcap: &'a Path,
    pub(super) node: &'a Node,
    pub(super) scripts: Option<&'a Arc<Scripts>>,
    pub(super) store: Option<&'a Arc<SegmentStore>>,
    pub(super) outbox: Option<&'a Arc<DurableOutbox>>,
}

impl Parts<'_> {
    /// Adds their reasons not to be ready.
    pub(super) fn checked_by(&self, registry: &Registry) {
        if let Some(store) = self.store.map(Arc::clone) {
            let down = "the disk takes no packets: it is full or failing (store.reserve, store.maxBytes); the latest \
                        are in memory, and the log says more";
            registry.add_ready(
                "store",
                move || if store.stats().down { vec![down.to_owned()] } else { Vec::new() },
            );
        }
        if let Some(scripts) = self.scripts.map(Arc::downgrade) {
            registry
                .add_ready("scripts", move || scripts.upgrade().map_or_else(Vec::new, |of| none_runs(&of)));
        }
    }

    /// What is shown of them.
    pub(super) fn services(&self) -> Services {
        let weak = self.scripts.map(Arc::downgrade);
        // Scripts end before the API does.
        let scripts = weak.clone().map(|weak| {
            let list = move || {
                Weak::upgrade(&weak).map_or_else(Vec::new, |of| of.stats().iter().map(state).collect())
            };
            Arc::new(list) as Arc<dyn Fn() -> Vec<ScriptState> + Send + Sync>
        });
        let script_failures = weak.clone().map(|weak| {
            let list = move || Weak::upgrade(&weak).map_or_else(Vec::new, |of| failures(&of));
            Arc::new(list) as Arc<dyn Fn() -> Vec<String> + Send + Sync>
        });
        let outbox = self.outbox.map(Arc::clone);
        Services {
            about: json!({
                "version": env!("CARGO_PKG_VERSION"),
                "node": { "name": self.node.name, "ip": self.node.ip },
                "pid": std::process::id(),
            }),
            view: Arc::clone(&self.settings.view),
            store: self.store.map(|store| Arc::clone(store) as Arc<dyn PcapStore>),
            store_folder: self.store.map(|_| self.pcap.to_owned()),
            ask_scripts: weak.map(|weak| {
                Arc::new(move |item: &_, patience| Weak::upgrade(&weak)?.item_queried(item, patience)) as _
            }),
            scripts,
            script_failures,
            outbox_folder: outbox.as_ref().map(|_| self.data.to_owned()),
            outbox: outbox.map(|outbox| Arc::new(move || stats::deliveries(&outbox.stats())) as _),
        }
    }
}

/// Why no script runs though some are configured; nothing if one does.
fn none_runs(scripts: &Scripts) -> Vec<String> {
    if !scripts.is_empty() {
        return Vec::new();
    }
    let why = failures(scripts);
    let why = if why.is_empty() {
        "there is none in the folders of scripts.paths".to_owned()
    } else {
        why.join("; ")
    };
    vec![format!("none runs: {why}")]
}

fn failures(scripts: &Scripts) -> Vec<String> {
    scripts.failures().iter().map(ToString::to_string).collect()
}

fn state(stats: &ScriptStats) -> ScriptState {
    let state = match (stats.running, stats.paused) {
        (false, _) => "ended",
        (true, true) => "paused",
        (true, false) => "running",
    };
    ScriptState {
        name: stats.name.clone(),
        title: stats.title.clone(),
        state,
        counters: stats::script(stats),
    }
}
