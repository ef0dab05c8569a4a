//! The pods of this node: in full, for there are few of them, and scripts see them.
//!
//! Invariants: a script hears of a pod for as long as it is a target, with ADDED first and DELETED last, also when the watch had
//! to begin anew; a pod is held as JSON text, without what only tells who wrote which of its fields.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use agent_core::Timestamp;
use serde_json::Value;

use super::book::{Book, Key, NodePod};
use super::objects::PodOfNode;
use super::targets::Targets;
use crate::hooks::PodEvent;
use crate::process::PodUid;

/// The annotation of a static pod's object that says what the kubelet itself calls the pod.
const CONFIG_HASH: &str = "kubernetes.io/config.hash";
/// Pods of one node; the kubelet's own limit is 110 unless it is told another one.
const MOST: usize = 4096;

/// Hears what happens to pods. It is called while the pods are locked, so it must not wait.
pub type Listener = dyn Fn(PodEvent, &Arc<Value>) + Send + Sync;

struct Held {
    /// As JSON.
    text: Box<str>,
    uid: Option<String>,
    version: Option<String>,
    labels: BTreeMap<String, String>,
    watched: bool,
}

/// What is to be captured: see [`super::Kube::wanted`].
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Wanted {
    /// Of pods that are targets.
    pub uids: HashSet<PodUid>,
    /// Their addresses, sorted; without those in the node's own network, whose address is not theirs alone.
    pub ips: Vec<IpAddr>,
    /// Targets in the node's own network.
    pub on_host: usize,
}

#[derive(Default)]
pub(super) struct NodePods {
    held: HashMap<Key, Held>,
    targets: Targets,
    listener: Option<Arc<Listener>>,
    refused: u64,
}

impl NodePods {
    pub(super) fn new(targets: Targets) -> Self {
        Self { targets, ..Self::default() }
    }

    /// Takes a pod as it is now.
    pub(super) fn apply(&mut self, object: PodOfNode, book: &mut Book, at: Timestamp) {
        let PodOfNode { metadata, short, json } = object;
        let (namespace, name) = (metadata.namespace.unwrap_or_default(), metadata.name.unwrap_or_default());
        let key: Key = (book.intern(&namespace), book.intern(&name));
        // Another one of the same name, as a StatefulSet makes them, where nobody saw the first one go.
        if self.held.get(&key).is_some_and(|held| held.uid != metadata.uid) {
            self.remove(&key, None, book, at);
        }
        let before = self.held.get(&key);
        if before.is_none() && self.held.len() >= MOST {
            self.refused += 1;
            return;
        }
        let labels = metadata.labels.unwrap_or_default();
        let watched = self.targets.wants(&namespace, &name, &labels);
        let hash = json["metadata"]["annotations"][CONFIG_HASH].as_str();
        let uid = hash.or(metadata.uid.as_deref()).and_then(PodUid::parse);
        let status = &short.status;
        book.node_ips(&status.host_ips());
        let ips = if status.is_over() { Vec::new() } else { status.ips() };
        let host = short.spec.host_network;
        book.pod(NodePod { namespace: key.0.clone(), name: key.1.clone(), uid, ips, host, watched });
        // Who hears of it finds its name.
        book.flush(at);
        let event = match before {
            Some(held) if held.version == metadata.resource_version && held.watched == watched => None,
            before => event(before.is_some_and(|held| held.watched), watched),
        };
        let text = json.to_string().into_boxed_str();
        let (uid, version) = (metadata.uid, metadata.resource_version);
        self.held.insert(key, Held { text, uid, version, labels, watched });
        if let (Some(event), Some(listener)) = (event, &self.listener) {
            listener(event, &Arc::new(json));
        }
    }

    /// A pod is gone; `json` is its last state, where that was told.
    pub(super) fn remove(&mut self, key: &Key, json: Option<Value>, book: &mut Book, at: Timestamp) {
        book.no_pod(key);
        book.flush(at);
        let Some(held) = self.held.remove(key).filter(|held| held.watched) else { return };
        self.tell(PodEvent::Deleted, &held, json);
    }

    /// All but these are gone: so a new list has shown.
    pub(super) fn keep(&mut self, seen: &HashSet<Key>, book: &mut Book, at: Timestamp) {
        let gone: Vec<Key> = self.held.keys().filter(|key| !seen.contains(*key)).cloned().collect();
        gone.iter().for_each(|key| self.remove(key, None, book, at));
    }

    fn tell(&self, event: PodEvent, held: &Held, json: Option<Value>) {
        let Some(listener) = &self.listener else { return };
        let json = json.or_else(|| serde_json::from_str(&held.text).ok()).unwrap_or_default();
        listener(event, &Arc::new(json));
    }

    /// From now on another choice of pods is wanted.
    pub(super) fn retarget(&mut self, targets: Targets, book: &mut Book) {
        self.targets = targets;
        let mut held = std::mem::take(&mut self.held);
        for (key, held) in &mut held {
            let watched = self.targets.wants(&key.0, &key.1, &held.labels);
            if watched == held.watched {
                continue;
            }
            held.watched = watched;
            if let Some(pod) = book.pods().get(key).cloned() {
                book.pod(NodePod { watched, ..pod });
            }
            if let Some(event) = event(!watched, watched) {
                self.tell(event, held, None);
            }
        }
        self.held = held;
    }

    /// Who hears of pods from now on: first of all that are there.
    pub(super) fn listen(&mut self, listener: Arc<Listener>) {
        self.listener = Some(listener);
        let watched = self.held.values().filter(|held| held.watched);
        watched.for_each(|held| self.tell(PodEvent::Added, held, None));
    }

    /// Nobody hears of pods from now on.
    pub(super) fn silence(&mut self) {
        self.listener = None;
    }

    /// What is to be captured.
    pub(super) fn wanted(book: &Book) -> Wanted {
        let watched: Vec<&NodePod> = book.pods().values().filter(|pod| pod.watched).collect();
        let mut ips: Vec<IpAddr> =
            watched.iter().filter(|pod| !pod.host).flat_map(|pod| pod.ips.iter().copied()).collect();
        ips.sort();
        Wanted {
            uids: watched.iter().filter_map(|pod| pod.uid).collect(),
            ips,
            on_host: watched.iter().filter(|pod| pod.host && !pod.ips.is_empty()).count(),
        }
    }

    /// Pods held, and pods that there was no room for.
    pub(super) fn sizes(&self) -> (usize, u64) {
        (self.held.len(), self.refused)
    }
}

/// What is told of a pod that was, or is, a target.
fn event(was: bool, is: bool) -> Option<PodEvent> {
    match (was, is) {
        (false, true) => Some(PodEvent::Added),
        (true, true) => Some(PodEvent::Modified),
        (true, false) => Some(PodEvent::Deleted),
        (false, false) => None,
    }
}
