//! Who an address is: the node itself, and what Kubernetes calls the others.

mod history;
mod names;

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::SystemTime;

use agent_core::Timestamp;
use agent_core::item::Endpoint;

use crate::captured::{Known, Name, Node};

pub use history::NameHistory;
pub use names::{Ask, Called, GRACE, Names, NamesStats};

/// Names for addresses, and the node's own.
#[derive(Clone, Debug)]
pub struct Resolver {
    node: Arc<Node>,
    local: Arc<HashSet<IpAddr>>,
    history: Arc<NameHistory>,
    names: Arc<Names>,
}

impl Resolver {
    /// What this machine (this network namespace) says of itself; in a pod, which has a name and an address of its own,
    /// what `REMORA_NODE_NAME` and `REMORA_NODE_IP` say.
    #[must_use]
    pub fn of_this_node() -> Self {
        let told = |variable| std::env::var(variable).ok().filter(|text| !text.is_empty());
        let name = told("REMORA_NODE_NAME")
            .or_else(|| Some(nix::unistd::gethostname().ok()?.to_string_lossy().into_owned()))
            .unwrap_or_default();
        let local = local_addresses();
        let found = || {
            let usual = local.iter().copied().filter(|ip| !ip.is_loopback() && !is_link_local(*ip));
            usual.min_by_key(|ip| (ip.is_ipv6(), *ip))
        };
        let ip = told("REMORA_NODE_IP")
            .and_then(|text| text.parse().ok())
            .or_else(found)
            .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let history = Arc::new(NameHistory::default());
        let mut own: Vec<IpAddr> = local.iter().copied().filter(|ip| !ip.is_loopback()).collect();
        own.sort();
        for ip in own {
            history.record(SystemTime::now(), ip, &name);
        }
        Self { node: Arc::new(Node { name, ip }), local: Arc::new(local), history, names: Arc::default() }
    }

    /// Which names became known when.
    #[must_use]
    pub fn history(&self) -> &Arc<NameHistory> {
        &self.history
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Whether the address is one of this node's own.
    #[must_use]
    pub fn is_local(&self, ip: IpAddr) -> bool {
        self.local.contains(&ip)
    }

    /// With names that somebody else keeps up to date.
    #[must_use]
    pub fn with_names(self, names: Arc<Names>) -> Self {
        Self { names, ..self }
    }

    /// What Kubernetes calls addresses and pods.
    #[must_use]
    pub fn names(&self) -> &Arc<Names> {
        &self.names
    }

    /// What Kubernetes calls an end, of whose cgroup and process `name` tells: of traffic at that time. The second is what
    /// its address is called.
    ///
    /// The cgroup is the better witness: an address may be shared by pods, or be another pod's before anybody has told.
    #[must_use]
    pub fn known(
        &self,
        name: &Name,
        end: &Endpoint,
        at: Timestamp,
    ) -> (Option<Arc<Known>>, Option<Arc<Known>>) {
        let by_address = self.names.of_address(end.addr, end.port, at);
        let Some(uid) = name.pod_uid() else { return (by_address.clone(), by_address) };
        let Some(pod) = self.names.of_pod(&uid) else {
            // A pod that nobody has told of yet: whose address it was before is of no importance.
            let its_own = by_address.filter(|known| known.uid.is_none_or(|of| of == uid));
            return (its_own.clone(), its_own);
        };
        // The address of a service: which one was asked for is known better than by its endpoints.
        let asked =
            by_address.as_ref().filter(|known| known.pod.is_none() && known.namespace == pod.namespace);
        let known = match asked {
            Some(asked) if asked.service != pod.service => {
                Arc::new(Known { service: asked.service.clone(), ..Known::clone(&pod) })
            }
            _ => pod,
        };
        (Some(known), by_address)
    }
}

fn local_addresses() -> HashSet<IpAddr> {
    let Ok(all) = nix::ifaddrs::getifaddrs() else { return HashSet::new() };
    all.filter_map(|interface| {
        let address = interface.address?;
        address
            .as_sockaddr_in()
            .map(|v4| IpAddr::V4(v4.ip()))
            .or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    })
    .collect()
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => (v6.segments()[0] & 0xffc0) == 0xfe80,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_node_has_a_name_and_an_address_of_its_own() {
        let resolver = Resolver::of_this_node();
        assert!(!resolver.node().name.is_empty());
        assert!(resolver.is_local(resolver.node().ip) || resolver.node().ip.is_loopback());
        assert!(!resolver.is_local("192.0.2.1".parse().unwrap()), "TEST-NET-1 is nobody's");
    }
}
