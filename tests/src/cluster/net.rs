//! The cluster's network: a bridge for the nodes, in each node a bridge for its pods, routes between them.
//!
//! ```text
//! outside: 172.31.0.2, .3, …            (Slack, the API server: whatever a test starts there)
//!    │ rack0
//!    ├── node 1  eth0 172.31.0.11 ── routes, nftables ── cni0 10.244.1.1 ──┬── pod 10.244.1.10
//!    │                                                                     └── pod 10.244.1.11
//!    └── node 2  eth0 172.31.0.12 ── …
//! ```
//! Services are what kube-proxy makes of them: destinations rewritten in the node, on the way from its pods and from itself. Pods
//! reach pods by their own addresses, and what is outside by their node's.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::netns::NetNs;

/// All pods' addresses.
const PODS: &str = "10.244.0.0/16";

/// Where what is outside of the cluster is, and the nodes' first bridge.
#[derive(Debug)]
pub struct Rack {
    /// Its namespace.
    pub outside: NetNs,
}

impl Rack {
    /// An address of the outside; more can be had by [`Rack::address`].
    ///
    /// # Errors
    /// When a namespace cannot be made.
    pub fn new() -> Result<Self> {
        let outside = NetNs::new()?;
        outside.ip("link add rack0 type bridge")?;
        outside.ip("link set rack0 up")?;
        Ok(Self { outside })
    }

    /// One more address outside, to listen at.
    ///
    /// # Errors
    /// When it is there already.
    pub fn address(&self, number: u8) -> Result<IpAddr> {
        let address = Ipv4Addr::new(172, 31, 0, number);
        self.outside.ip(&format!("addr add {address}/24 dev rack0"))?;
        Ok(address.into())
    }
}

/// A node's network.
#[derive(Debug)]
pub struct NodeNet {
    /// Its namespace.
    pub host: NetNs,
    /// Its address.
    pub ip: IpAddr,
    number: u8,
    next: u8,
}

impl NodeNet {
    /// The node of that number, from 1, joined to the rack; routes to nodes 1 to `nodes`.
    ///
    /// # Errors
    /// When the namespace cannot be made.
    pub fn new(rack: &Rack, number: u8, nodes: u8) -> Result<Self> {
        let host = NetNs::new()?;
        let ip = Self::address(number);
        let peer = rack.outside.path();
        host.ip(&format!("link add eth0 type veth peer name node{number} netns {}", peer.display()))?;
        rack.outside.ip(&format!("link set node{number} master rack0 up"))?;
        host.ip(&format!("addr add {ip}/24 dev eth0"))?;
        host.ip("link set eth0 up")?;
        host.ip("link add cni0 type bridge")?;
        host.ip(&format!("addr add 10.244.{number}.1/24 dev cni0"))?;
        host.ip("link set cni0 up")?;
        for other in (1..=nodes).filter(|other| *other != number) {
            // The other's bridge may not be there yet: its address is all that a route takes.
            host.ip(&format!("route add 10.244.{other}.0/24 via {}", Self::address(other)))?;
        }
        // What goes from one port of the bridge to another has to meet the rewriting, too, as kube-proxy asks for.
        for (key, value) in [("net/ipv4/ip_forward", "1"), ("net/bridge/bridge-nf-call-iptables", "1")] {
            let path = format!("/proc/sys/{key}");
            host.run(|| fs::write(&path, value)).with_context(|| path.clone())?;
        }
        let net = Self { host, ip: ip.into(), number, next: 10 };
        net.services(&[])?;
        Ok(net)
    }

    fn address(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(172, 31, 0, 10 + number)
    }

    /// A namespace for one more pod, and its address.
    ///
    /// # Errors
    /// When it cannot be made, or the node's addresses are used up.
    pub fn pod(&mut self) -> Result<(NetNs, IpAddr)> {
        ensure!(self.next < 250, "the node has no address left");
        let (node, own) = (self.number, self.next);
        self.next += 1;
        let pod = NetNs::new()?;
        let peer = self.host.path();
        pod.ip(&format!("link add eth0 type veth peer name veth{own} netns {}", peer.display()))?;
        self.host.ip(&format!("link set veth{own} master cni0 up"))?;
        pod.ip(&format!("addr add 10.244.{node}.{own}/24 dev eth0"))?;
        pod.ip("link set eth0 up")?;
        pod.ip(&format!("route add default via 10.244.{node}.1"))?;
        Ok((pod, Ipv4Addr::new(10, 244, node, own).into()))
    }

    /// Puts these services in force, and no others.
    ///
    /// # Errors
    /// When `nft` is not installed or refuses them.
    pub fn services(&self, services: &[Forwarded]) -> Result<()> {
        let text = ruleset(services);
        self.host.run(|| nft(&text))
    }
}

/// A port of a service, and where its connections go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Forwarded {
    /// The service's address and port.
    pub from: (IpAddr, u16),
    /// One of these is taken at random for each connection; none: it is refused.
    pub to: Vec<(IpAddr, u16)>,
}

fn ruleset(services: &[Forwarded]) -> String {
    let mut rules = String::new();
    for service in services {
        let (ip, port) = service.from;
        let _ = write!(rules, "    ip daddr {ip} tcp dport {port} ");
        if service.to.is_empty() {
            rules.push_str("drop\n");
            continue;
        }
        let _ = write!(rules, "dnat ip to numgen random mod {} map {{", service.to.len());
        for (number, (ip, port)) in service.to.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            let _ = write!(rules, "{comma} {number} : {ip} . {port}");
        }
        rules.push_str(" }\n");
    }
    format!(
        "table ip services {{}}
flush table ip services
table ip services {{
  chain services {{
{rules}  }}
  chain prerouting {{ type nat hook prerouting priority dstnat; jump services; }}
  chain output {{ type nat hook output priority -100; jump services; }}
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    ip saddr {PODS} ip daddr != {PODS} oifname \"eth0\" masquerade
  }}
}}
"
    )
}

fn nft(text: &str) -> Result<()> {
    let mut command = Command::new("nft");
    command.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("starting nft (`cargo xtask setup` installs it)")?;
    child.stdin.take().context("no pipe")?.write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "nft: {}\n{text}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::thread;

    use super::*;
    use crate::netns;

    /// Connects, and tells whom the server saw.
    fn seen(from: &NetNs, to: (IpAddr, u16), at: &TcpListener) -> (SocketAddr, SocketAddr) {
        thread::scope(|scope| {
            let server = scope.spawn(|| at.accept().unwrap().1);
            let client = from.run(|| TcpStream::connect(to).unwrap().local_addr().unwrap());
            (client, server.join().unwrap())
        })
    }

    #[test]
    fn pods_reach_pods_services_and_the_outside() {
        if !netns::is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let rack = Rack::new().unwrap();
        let mut nodes = [1, 2].map(|number| NodeNet::new(&rack, number, 2).unwrap());
        let (client, client_ip) = nodes[0].pod().unwrap();
        let (near, near_ip) = nodes[0].pod().unwrap();
        let (far, far_ip) = nodes[1].pod().unwrap();
        for (server, ip) in [(&near, near_ip), (&far, far_ip)] {
            let at = server.run(|| TcpListener::bind((ip, 8080)).unwrap());
            let (client_end, server_end) = seen(&client, (ip, 8080), &at);
            assert_eq!(client_end, server_end, "not translated");
            assert_eq!(client_end.ip(), client_ip);
            let service: IpAddr = "10.96.0.10".parse().unwrap();
            let forwarded = Forwarded { from: (service, 80), to: vec![(ip, 8080)] };
            nodes[0].services(&[forwarded]).unwrap();
            let (client_end, server_end) = seen(&client, (service, 80), &at);
            assert_eq!(client_end, server_end, "only the destination is");
        }
        let outside = rack.address(2).unwrap();
        let at = rack.outside.run(|| TcpListener::bind((outside, 443)).unwrap());
        let (_, server_end) = seen(&client, (outside, 443), &at);
        assert_eq!(server_end.ip(), nodes[0].ip, "by the node's address");
    }
}
