//! What the claims on an address make it called.

use std::net::IpAddr;
use std::sync::Arc;

use agent_core::Timestamp;

use super::{Book, Endpoint, Key, NodePod, Slice};
use crate::captured::Known;
use crate::resolve::Called;

impl Book {
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
        let mut own = self.pod_ips.get(&ip).into_iter().flatten().filter_map(|key| self.pods.get(key));
        if let Some(pod) = own.rfind(|pod| !pod.host) {
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
    pub(super) fn is_shared(&self, ip: IpAddr) -> bool {
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
    pub(in crate::kube) fn flush(&mut self, at: Timestamp) {
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
}

fn service_named(key: &Key) -> Known {
    Known { service: Some(Arc::clone(&key.1)), namespace: Arc::clone(&key.0), ..Known::default() }
}
