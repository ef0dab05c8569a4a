//! Who is at the other end of a connection within the node: what the programs remember of clients.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use agent_common::config::Endpoint;
use agent_common::ends::Client;
use aya::maps::{HashMap, MapData};

use super::filters::endpoint;

/// The server's end of a connection that is captured at its client's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServerEnd {
    /// Its own address: behind a Service's, where there is one.
    pub address: SocketAddr,
    /// Its cgroup.
    pub cgroup: u64,
}

/// A handle for any thread.
pub struct OtherEnds {
    clients: HashMap<MapData, Endpoint, Client>,
}

impl OtherEnds {
    pub(super) fn new(clients: HashMap<MapData, Endpoint, Client>) -> Self {
        Self { clients }
    }

    /// Who answered `client` when it called `called`, both as the client's own packets show them. `None` if the
    /// server is in no watched cgroup, or the two were not tied: the connection is older than the capture, its source address
    /// was translated, or 32,768 other clients came since. Costs a system call, so keep what it tells.
    #[must_use]
    pub fn server(&self, client: SocketAddr, called: SocketAddr) -> Option<ServerEnd> {
        let found = self.clients.get(&endpoint(client), 0).ok()?;
        let calls = socket(found.called, found.called_port) == canonical(called);
        (found.met == 1 && calls).then(|| ServerEnd {
            address: socket(found.server, found.server_port),
            cgroup: found.server_cgroup,
        })
    }

    /// Forgets clients whose own end is not captured any more: what passes their servers' ends is from now on.
    pub(super) fn keep(&mut self, wanted: impl Fn([SocketAddr; 2]) -> bool) {
        let gone: Vec<Endpoint> = self
            .clients
            .iter()
            .filter_map(Result::ok)
            .filter(|(key, client)| {
                let [high, low] = words(key.address);
                let own = socket([high, low], key.port as u16);
                !wanted([own, socket(client.called, client.called_port)])
            })
            .map(|(key, _)| key)
            .collect();
        for key in gone {
            // Gone by itself: fine.
            let _ = self.clients.remove(&key);
        }
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.keep(|_| false);
    }
}

fn words(bytes: [u8; 16]) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = bytes;
    [u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes(rest)]
}

fn socket(address: [u64; 2], port: u16) -> SocketAddr {
    let [high, low] = address.map(u64::to_ne_bytes);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&high);
    bytes[8..].copy_from_slice(&low);
    canonical(SocketAddr::new(IpAddr::V6(Ipv6Addr::from(bytes)), port))
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
