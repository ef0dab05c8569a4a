//! Who claims which address: pods of this node, services, endpoints, look-ups; and what that makes the address called.
//!
//! ```text
//! Service ─► its addresses        ┐
//! EndpointSlice ─► pods, by name  ├─► claims by address ─► Called ─► Names, which workers read
//! pods of this node, look-ups     ┘
//! ```
//! Invariants:
//! - Of an endpoint its address and its pod's name and UID are kept, and nothing else: some 60 bytes. What is said once for a
//!   slice or a service is held once.
//! - An address that several pods share (those in a node's own network) names nobody by itself, only by the ports that they
//!   listen on. It is known by: two pods at it; this node's own; a pod's name that ends in its node's (static pods); a service that
//!   has a pod of this node in the node's network, for a DaemonSet's pods are alike; `default/kubernetes`.
//! - What an address is called is told again only where something about it has changed.
//! - [`Bounds`] on slices and services; [`Names`] has its own on addresses.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use agent_core::Timestamp;

use super::objects;
use crate::captured::Known;
use crate::process::PodUid;
use crate::resolve::{Called, Names};

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) slices: usize,
    pub(super) services: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { slices: 1 << 16, services: 1 << 16 }
    }
}

/// Namespace and name.
pub(super) type Key = (Arc<str>, Arc<str>);

/// A pod of this node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct NodePod {
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
    /// As cgroups have it.
    pub(super) uid: Option<PodUid>,
    /// None once it is over.
    pub(super) ips: Vec<IpAddr>,
    /// Whether it is in the node's own network.
    pub(super) host: bool,
    /// Whether it is one of the targets.
    pub(super) watched: bool,
}

#[derive(Default)]
struct Service {
    cluster: Vec<IpAddr>,
    outer: Vec<IpAddr>,
    ports: Vec<u16>,
}

struct Slice {
    service: Option<Arc<Key>>,
    namespace: Arc<str>,
    ports: Box<[u16]>,
    endpoints: Box<[Endpoint]>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Endpoint {
    ip: IpAddr,
    pod: Option<Arc<str>>,
    uid: Option<PodUid>,
    /// By its name a static pod, which is in the node's network.
    fixed: bool,
}

/// The claims.
pub(super) struct Book {
    names: Arc<Names>,
    bounds: Bounds,
    /// Names that several share.
    interned: HashSet<Arc<str>>,
    keys: HashSet<Arc<Key>>,
    services: HashMap<Arc<Key>, Service>,
    /// Services by address: `true` for those from outside, which hold for the service's ports.
    service_ips: HashMap<IpAddr, Vec<(Arc<Key>, bool)>>,
    slices: HashMap<u32, Slice>,
    slice_numbers: HashMap<Key, u32>,
    next_slice: u32,
    /// Slices by address.
    endpoints: HashMap<IpAddr, Vec<u32>>,
    /// Services whose pods are in their nodes' networks.
    host_services: HashSet<Arc<Key>>,
    pods: HashMap<Key, NodePod>,
    /// Pods of this node by address, the newest last.
    pod_ips: HashMap<IpAddr, Vec<Key>>,
    node_ips: HashSet<IpAddr>,
    looked_up: HashMap<IpAddr, Arc<Known>>,
    dirty: BTreeSet<IpAddr>,
    dirty_pods: BTreeSet<Key>,
    /// Services that became headless or ceased to be: their endpoints may be named by another one.
    turned: HashSet<Arc<Key>>,
    /// Pods of this node that are gone since the last flush.
    gone: Vec<PodUid>,
    refused: u64,
}

impl Book {
    pub(super) fn new(names: Arc<Names>, bounds: Bounds) -> Self {
        Self {
            names,
            bounds,
            interned: HashSet::new(),
            keys: HashSet::new(),
            services: HashMap::new(),
            service_ips: HashMap::new(),
            slices: HashMap::new(),
            slice_numbers: HashMap::new(),
            next_slice: 0,
            endpoints: HashMap::new(),
            host_services: HashSet::new(),
            pods: HashMap::new(),
            pod_ips: HashMap::new(),
            node_ips: HashSet::new(),
            looked_up: HashMap::new(),
            dirty: BTreeSet::new(),
            dirty_pods: BTreeSet::new(),
            turned: HashSet::new(),
            gone: Vec::new(),
            refused: 0,
        }
    }

    /// One string for all that are the same.
    pub(super) fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.interned.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = Arc::from(text);
        self.interned.insert(Arc::clone(&new));
        new
    }

    fn key(&mut self, namespace: &str, name: &str) -> Arc<Key> {
        let key = (self.intern(namespace), self.intern(name));
        if let Some(known) = self.keys.get(&key) {
            return Arc::clone(known);
        }
        let new = Arc::new(key);
        self.keys.insert(Arc::clone(&new));
        new
    }

    /// Takes a service as it is now.
    pub(super) fn service(&mut self, namespace: &str, name: &str, of: &objects::Service) {
        let key = self.key(namespace, name);
        if !self.services.contains_key(&key) && self.services.len() >= self.bounds.services {
            self.refused += 1;
            return;
        }
        self.forget_service_ips(&key);
        let mut ports: Vec<u16> = of.spec.ports.iter().filter_map(|port| port.port).collect();
        ports.sort_unstable();
        let service = Service { cluster: of.cluster_ips(), outer: of.outer_ips(), ports };
        for (ips, outer) in [(&service.cluster, false), (&service.outer, true)] {
            for ip in ips {
                self.service_ips.entry(*ip).or_default().push((Arc::clone(&key), outer));
                self.dirty.insert(*ip);
            }
        }
        if self.is_headless(&key) != service.cluster.is_empty() {
            self.turned.insert(Arc::clone(&key));
        }
        self.services.insert(key, service);
    }

    /// A service is gone.
    pub(super) fn no_service(&mut self, namespace: &str, name: &str) {
        let key = self.key(namespace, name);
        self.forget_service_ips(&key);
        if !self.is_headless(&key) {
            self.turned.insert(Arc::clone(&key));
        }
        self.services.remove(&key);
    }

    fn is_headless(&self, key: &Arc<Key>) -> bool {
        self.services.get(key).is_none_or(|service| service.cluster.is_empty())
    }

    /// All services but these are gone.
    pub(super) fn keep_services(&mut self, seen: &HashSet<Key>) {
        let gone: Vec<_> = self.services.keys().filter(|key| !seen.contains(&***key)).cloned().collect();
        gone.iter().for_each(|key| self.no_service(&key.0, &key.1));
    }

    fn forget_service_ips(&mut self, key: &Arc<Key>) {
        let Some(service) = self.services.get(key) else { return };
        for ip in service.cluster.iter().chain(&service.outer) {
            if let Some(claims) = self.service_ips.get_mut(ip) {
                claims.retain(|(of, _)| of != key);
                if claims.is_empty() {
                    self.service_ips.remove(ip);
                }
            }
            self.dirty.insert(*ip);
        }
    }

    /// Takes an EndpointSlice as it is now.
    pub(super) fn slice(&mut self, namespace: &str, name: &str, of: &objects::Slice) {
        let id = (self.intern(namespace), Arc::<str>::from(name));
        let number = match self.slice_numbers.get(&id) {
            Some(number) => *number,
            None if self.slices.len() >= self.bounds.slices => {
                self.refused += 1;
                return;
            }
            None => {
                while self.slices.contains_key(&self.next_slice) {
                    self.next_slice = self.next_slice.wrapping_add(1);
                }
                self.slice_numbers.insert(id, self.next_slice);
                self.next_slice
            }
        };
        let service = of.service().map(|service| self.key(namespace, service));
        let old = self.slices.remove(&number);
        let endpoints = self.read_endpoints(of);
        let ports: Box<[u16]> = of.ports.iter().filter_map(|port| port.port).collect();
        let alike = old.as_ref().is_some_and(|old| old.service == service && old.ports == ports);
        let before = old.map(|old| old.endpoints).unwrap_or_default();
        for endpoint in &before {
            if endpoints.binary_search(endpoint).is_err() {
                self.unclaim(number, endpoint.ip);
            } else if !alike {
                self.dirty.insert(endpoint.ip);
            }
        }
        for endpoint in &endpoints {
            if before.binary_search(endpoint).is_err() {
                let claims = self.endpoints.entry(endpoint.ip).or_default();
                if !claims.contains(&number) {
                    claims.push(number);
                }
                self.dirty.insert(endpoint.ip);
            }
        }
        let namespace = self.intern(namespace);
        let on_host = endpoints.iter().any(|endpoint| self.is_of_host(&namespace, endpoint));
        self.slices.insert(number, Slice { service: service.clone(), namespace, ports, endpoints });
        if let Some(service) = service.filter(|_| on_host) {
            self.is_host_service(&service);
        }
    }

    /// Sorted; with the strings that are held already.
    fn read_endpoints(&self, of: &objects::Slice) -> Box<[Endpoint]> {
        let mut all: Vec<Endpoint> = Vec::with_capacity(of.endpoints.len());
        for endpoint in &of.endpoints {
            let pod = endpoint.target_ref.as_ref().filter(|target| target.kind == "Pod");
            let name = pod.map(|pod| pod.name.as_str()).filter(|name| !name.is_empty());
            let fixed = match (name, &endpoint.node_name) {
                (Some(name), Some(node)) => {
                    name.strip_suffix(node.as_str()).is_some_and(|front| front.ends_with('-'))
                }
                _ => false,
            };
            let mut shared = None;
            for ip in endpoint.addresses.iter().filter_map(|text| text.parse::<IpAddr>().ok()) {
                let ip = ip.to_canonical();
                let pod_name = name.map(|name| {
                    shared
                        .get_or_insert_with(|| self.held(ip, name).unwrap_or_else(|| Arc::from(name)))
                        .clone()
                });
                let uid = pod.and_then(|pod| PodUid::parse(&pod.uid));
                all.push(Endpoint { ip, pod: pod_name, uid, fixed });
            }
        }
        all.sort();
        all.dedup();
        all.into_boxed_slice()
    }

    /// The pod's name as another slice has it.
    fn held(&self, ip: IpAddr, name: &str) -> Option<Arc<str>> {
        self.at(ip).filter_map(|(_, endpoint)| endpoint.pod.as_ref()).find(|of| ***of == *name).cloned()
    }

    fn unclaim(&mut self, number: u32, ip: IpAddr) {
        if let Some(claims) = self.endpoints.get_mut(&ip) {
            claims.retain(|of| *of != number);
            if claims.is_empty() {
                self.endpoints.remove(&ip);
            }
        }
        self.dirty.insert(ip);
    }

    /// An EndpointSlice is gone.
    pub(super) fn no_slice(&mut self, namespace: &str, name: &str) {
        let id = (Arc::from(namespace), Arc::from(name));
        let Some(number) = self.slice_numbers.remove(&id) else { return };
        let Some(old) = self.slices.remove(&number) else { return };
        old.endpoints.iter().for_each(|endpoint| self.unclaim(number, endpoint.ip));
    }

    /// All slices but these are gone.
    pub(super) fn keep_slices(&mut self, seen: &HashSet<Key>) {
        let gone: Vec<Key> = self.slice_numbers.keys().filter(|key| !seen.contains(*key)).cloned().collect();
        gone.iter().for_each(|key| self.no_slice(&key.0, &key.1));
    }

    /// Takes a pod of this node as it is now.
    pub(super) fn pod(&mut self, pod: NodePod) {
        let key = (Arc::clone(&pod.namespace), Arc::clone(&pod.name));
        let old = self.pods.get(&key);
        if old == Some(&pod) {
            return;
        }
        // Another pod of the same name.
        self.gone.extend(old.and_then(|old| old.uid).filter(|uid| pod.uid != Some(*uid)));
        let before = old.map(|old| old.ips.clone()).unwrap_or_default();
        for ip in before.iter().filter(|ip| !pod.ips.contains(ip)) {
            self.forget_pod_ip(&key, *ip);
        }
        // An address that it has had stays in its place: a pod that ends may change after the next one has got its address.
        for ip in pod.ips.iter().filter(|ip| !before.contains(ip)) {
            self.pod_ips.entry(*ip).or_default().push(key.clone());
        }
        self.dirty.extend(&pod.ips);
        self.dirty_pods.insert(key.clone());
        let on_host = pod.host;
        self.pods.insert(key.clone(), pod);
        if on_host {
            let of_pod = |slice: &Slice| {
                slice.namespace == key.0 && slice.endpoints.iter().any(|e| e.pod.as_ref() == Some(&key.1))
            };
            let services: HashSet<_> =
                self.slices.values().filter(|s| of_pod(s)).filter_map(|s| s.service.clone()).collect();
            services.iter().for_each(|service| self.is_host_service(service));
        }
    }

    /// A pod of this node is gone.
    pub(super) fn no_pod(&mut self, key: &Key) {
        let Some(pod) = self.pods.remove(key) else { return };
        self.gone.extend(pod.uid);
        pod.ips.iter().for_each(|ip| self.forget_pod_ip(key, *ip));
    }

    fn forget_pod_ip(&mut self, key: &Key, ip: IpAddr) {
        if let Some(claims) = self.pod_ips.get_mut(&ip) {
            claims.retain(|of| of != key);
            if claims.is_empty() {
                self.pod_ips.remove(&ip);
            }
        }
        self.dirty.insert(ip);
    }

    /// The pods of this node.
    pub(super) fn pods(&self) -> &HashMap<Key, NodePod> {
        &self.pods
    }

    /// Whether a pod of this node is called so by its cgroup.
    pub(super) fn has_pod(&self, uid: &PodUid) -> bool {
        self.pods.values().any(|pod| pod.uid.as_ref() == Some(uid))
    }

    /// Addresses that are pods' own.
    pub(super) fn pod_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let own = self.pods.values().filter(|pod| !pod.host).flat_map(|pod| pod.ips.iter().copied());
        own.chain(self.endpoints.keys().copied().filter(|ip| !self.is_shared(*ip)))
    }

    /// These are addresses of this node.
    pub(super) fn node_ips(&mut self, ips: &[IpAddr]) {
        for ip in ips {
            if self.node_ips.insert(*ip) {
                self.dirty.insert(*ip);
            }
        }
    }

    /// What a look-up found, or that it holds no longer.
    pub(super) fn looked_up(&mut self, ip: IpAddr, known: Option<Arc<Known>>) {
        match known {
            // Events that came meanwhile are right: the answer may be older.
            Some(_) if self.is_claimed(ip) => return,
            Some(known) if self.names.was(ip).is_some_and(|gone| gone.uid == known.uid) => return,
            Some(known) => drop(self.looked_up.insert(ip, known)),
            None => drop(self.looked_up.remove(&ip)),
        }
        self.dirty.insert(ip);
    }

    fn is_claimed(&self, ip: IpAddr) -> bool {
        self.endpoints.contains_key(&ip)
            || self.pod_ips.contains_key(&ip)
            || self.service_ips.contains_key(&ip)
    }

    fn is_of_host(&self, namespace: &Arc<str>, endpoint: &Endpoint) -> bool {
        let Some(pod) = &endpoint.pod else { return false };
        self.pods.get(&(Arc::clone(namespace), Arc::clone(pod))).is_some_and(|pod| pod.host)
    }

    fn is_host_service(&mut self, service: &Arc<Key>) {
        if !self.host_services.insert(Arc::clone(service)) {
            return;
        }
        let of_service = self.slices.values().filter(|slice| slice.service.as_ref() == Some(service));
        let ips: Vec<IpAddr> = of_service.flat_map(|slice| slice.endpoints.iter().map(|e| e.ip)).collect();
        self.dirty.extend(ips);
    }

    /// The endpoints at an address, with their slices.
    fn at(&self, ip: IpAddr) -> impl Iterator<Item = (&Slice, &Endpoint)> {
        let numbers = self.endpoints.get(&ip).into_iter().flatten();
        numbers.filter_map(|number| self.slices.get(number)).flat_map(move |slice| {
            let from = slice.endpoints.partition_point(|endpoint| endpoint.ip < ip);
            slice.endpoints[from..].iter().take_while(move |e| e.ip == ip).map(move |e| (slice, e))
        })
    }

    /// Of several services the one that is named: one with an address before headless ones, then the first by name.
    fn best<'a>(&self, services: impl Iterator<Item = &'a Arc<Key>>) -> Option<Arc<str>> {
        services.min_by_key(|key| (self.is_headless(key), &key.1)).map(|key| Arc::clone(&key.1))
    }

    fn known_pod(&self, pod: &NodePod, ip: Option<IpAddr>) -> Known {
        let slices = ip.into_iter().flat_map(|ip| self.at(ip));
        let own = slices.filter(|(slice, endpoint)| {
            slice.namespace == pod.namespace && endpoint.pod.as_ref() == Some(&pod.name)
        });
        Known {
            pod: Some(Arc::clone(&pod.name)),
            service: self.best(own.filter_map(|(slice, _)| slice.service.as_ref())),
            namespace: Arc::clone(&pod.namespace),
            uid: pod.uid,
            watched: pod.watched,
        }
    }

    fn called(&self, ip: IpAddr) -> Called {
        let own = self.pod_ips.get(&ip).into_iter().flatten().filter_map(|key| self.pods.get(key));
        if let Some(pod) = own.filter(|pod| !pod.host).next_back() {
            return Called { known: Some(Arc::new(self.known_pod(pod, Some(ip)))), ports: Vec::new() };
        }
        let services = self.service_ips.get(&ip).map(Vec::as_slice).unwrap_or_default();
        let inner = services.iter().filter(|(_, outer)| !outer).map(|(key, _)| key);
        if let Some(key) = inner.min() {
            return Called { known: Some(Arc::new(service_named(key))), ports: Vec::new() };
        }
        let mut called = Called::default();
        for (key, _) in services {
            let known = Arc::new(service_named(key));
            let ports = self.services.get(key).map(|service| service.ports.as_slice()).unwrap_or_default();
            called.ports.extend(ports.iter().map(|port| (*port, Arc::clone(&known))));
        }
        if self.is_shared(ip) {
            for (slice, endpoint) in self.at(ip) {
                let known = Arc::new(self.known_endpoint(slice, endpoint, slice.service.as_ref()));
                called.ports.extend(slice.ports.iter().map(|port| (*port, Arc::clone(&known))));
            }
            // Of two that claim a port, always the same one.
            called
                .ports
                .sort_by(|(a, x), (b, y)| (a, &x.namespace, x.name()).cmp(&(b, &y.namespace, y.name())));
            called.ports.dedup_by_key(|(port, _)| *port);
            return called;
        }
        called.known = self.at(ip).next().map(|(slice, endpoint)| {
            let service = self.best(self.at(ip).filter_map(|(slice, _)| slice.service.as_ref()));
            Arc::new(Known { service, ..self.known_endpoint(slice, endpoint, None) })
        });
        called.known = called.known.or_else(|| self.looked_up.get(&ip).cloned());
        called
    }

    fn known_endpoint(&self, slice: &Slice, endpoint: &Endpoint, service: Option<&Arc<Key>>) -> Known {
        Known {
            pod: endpoint.pod.clone(),
            service: service.map(|key| Arc::clone(&key.1)),
            namespace: Arc::clone(&slice.namespace),
            uid: endpoint.uid,
            watched: false,
        }
    }

    /// Whether it is a node's address, which names nobody by itself.
    fn is_shared(&self, ip: IpAddr) -> bool {
        if self.node_ips.contains(&ip) {
            return true;
        }
        let mut first = None;
        self.at(ip).any(|(slice, endpoint)| {
            let pod = (&slice.namespace, &endpoint.pod);
            let another = *first.get_or_insert(pod) != pod;
            let host = slice.service.as_ref().is_some_and(|service| {
                self.host_services.contains(service)
                    || (&*service.0, &*service.1) == ("default", "kubernetes")
            });
            another || host || endpoint.fixed
        })
    }

    /// Tells [`Names`] what has changed.
    pub(super) fn flush(&mut self, at: Timestamp) {
        let turned = std::mem::take(&mut self.turned);
        if !turned.is_empty() {
            let of_them = |slice: &&Slice| slice.service.as_ref().is_some_and(|key| turned.contains(key));
            let slices = self.slices.values().filter(of_them);
            self.dirty.extend(slices.flat_map(|slice| slice.endpoints.iter().map(|endpoint| endpoint.ip)));
        }
        let dirty = std::mem::take(&mut self.dirty);
        let mut pods = std::mem::take(&mut self.dirty_pods);
        if dirty.is_empty() && pods.is_empty() && self.gone.is_empty() {
            return;
        }
        for ip in &dirty {
            pods.extend(self.pod_ips.get(ip).into_iter().flatten().cloned());
        }
        // The pods first: who has a cgroup is known by it.
        let mut changes: Vec<_> = self.gone.drain(..).map(|uid| (uid, None)).collect();
        for key in &pods {
            if let Some(pod) = self.pods.get(key)
                && let Some(uid) = pod.uid
            {
                changes.push((uid, Some(Arc::new(self.known_pod(pod, pod.ips.first().copied())))));
            }
        }
        if !changes.is_empty() {
            self.names.change_pods(at, changes);
        }
        for ip in &dirty {
            // What is told by events ends by events.
            if self.is_claimed(*ip) {
                self.looked_up.remove(ip);
            }
        }
        let changes: Vec<_> = dirty.iter().map(|ip| (*ip, self.called(*ip))).collect();
        self.names.change(at, changes);
    }

    /// Forgets strings that nobody holds any more; to be called now and then.
    pub(super) fn tidy(&mut self) {
        let slices: HashSet<&Arc<Key>> = self.slices.values().filter_map(|s| s.service.as_ref()).collect();
        self.host_services.retain(|key| slices.contains(key));
        self.keys.retain(|key| Arc::strong_count(key) > 1);
        self.interned.retain(|text| Arc::strong_count(text) > 1);
        self.endpoints.shrink_to(self.endpoints.len() * 2);
        self.slices.shrink_to(self.slices.len() * 2);
    }

    /// Slices and services that there was no room for.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// Services, slices and addresses with endpoints that are held.
    pub(super) fn sizes(&self) -> [usize; 3] {
        [self.services.len(), self.slices.len(), self.endpoints.len()]
    }
}

fn service_named(key: &Key) -> Known {
    Known { service: Some(Arc::clone(&key.1)), namespace: Arc::clone(&key.0), ..Known::default() }
}
