//! Both ends of a connection in watched cgroups: seen once, at the client's end, with and without DNAT between.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use agent::capture::ebpf::{LiveConfig, ServerEnd};
use agent_core::packet::Direction;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
};
use testkit::netns::{Cgroup, NetNs};

use super::rig::{Outcome, Rig, settle, skipped};
use super::tcp::{directions, segment};

const LISTEN: &str = "REMORA_TEST_LISTEN";
const CALL: &str = "REMORA_TEST_CALL";
const FROM: &str = "REMORA_TEST_FROM_PORT";
const SERVER: &str = "10.78.2.2:8080";
const SERVICE: &str = "10.96.0.1:80";
const ROUNDS: usize = 30;

/// Not a test: a server in a cgroup of its own, until it is ended.
#[test]
fn child_answers() {
    let Ok(address) = std::env::var(LISTEN) else {
        return;
    };
    let listener = TcpListener::bind(address).unwrap();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        std::thread::spawn(move || {
            let mut reader = stream.try_clone().unwrap();
            // A client that resets ends it.
            let _ = std::io::copy(&mut reader, &mut stream);
        });
    }
}

/// Not a test: a client in a cgroup of its own.
#[test]
fn child_calls() {
    let Ok(address) = std::env::var(CALL) else {
        return;
    };
    call(address.parse().unwrap(), std::env::var(FROM).unwrap().parse().unwrap());
}

/// Exchanges some messages from a port, and resets, so that the port is free again.
fn call(address: SocketAddr, from: u16) {
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None).unwrap();
    setsockopt(&fd, sockopt::ReuseAddr, &true).unwrap();
    let SocketAddr::V4(v4) = address else { panic!() };
    bind(fd.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, from)).unwrap();
    connect(fd.as_raw_fd(), &SockaddrIn::from(v4)).unwrap();
    let mut stream = TcpStream::from(fd);
    for n in 0..ROUNDS {
        let message = format!("message {n:>4}");
        stream.write_all(message.as_bytes()).unwrap();
        let mut answer = vec![0; message.len()];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, message.as_bytes());
    }
    setsockopt(&stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
}

/// What one call says, in either direction.
fn said() -> Vec<u8> {
    (0..ROUNDS).flat_map(|n| format!("message {n:>4}").into_bytes()).collect()
}

/// A client's and a server's namespace, with a router between that knows the service's address; a cgroup for each end, and a
/// server that runs.
struct Node {
    client: NetNs,
    _router: NetNs,
    _server: NetNs,
    callers: Cgroup,
    server: Server,
}

struct Server {
    child: Child,
    cgroup: Cgroup,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Node {
    fn new() -> Self {
        let (client, router, server) = (NetNs::new().unwrap(), NetNs::new().unwrap(), NetNs::new().unwrap());
        for (other, name, net) in [(&client, "c", 1), (&server, "s", 2)] {
            let path = other.path();
            router.ip(&format!("link add {name} type veth peer name eth0 netns {}", path.display())).unwrap();
            router.ip(&format!("addr add 10.78.{net}.1/24 dev {name}")).unwrap();
            router.ip(&format!("link set {name} up")).unwrap();
            other.ip(&format!("addr add 10.78.{net}.2/24 dev eth0")).unwrap();
            other.ip("link set eth0 up").unwrap();
            other.ip(&format!("route add default via 10.78.{net}.1")).unwrap();
        }
        router.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")).unwrap();
        let rules = "add table ip t; add chain ip t p { type nat hook prerouting priority -100; }; \
                     add rule ip t p ip daddr 10.96.0.1 tcp dport 80 dnat to 10.78.2.2:8080";
        router.command("nft", &[rules]).unwrap();
        let cgroup = Cgroup::new("answers").unwrap();
        let child = server.run(|| spawn(&cgroup, "ends::child_answers", &[(LISTEN, SERVER)]));
        let node = Self {
            client,
            _router: router,
            _server: server,
            callers: Cgroup::new("calls").unwrap(),
            server: Server { child, cgroup },
        };
        node.wait_until_listening();
        node
    }

    fn wait_until_listening(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let listens = || {
            let text = std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
            text.lines().any(|line| line.contains(":1F90 00000000:0000 0A"))
        };
        while !self._server.run(listens) {
            assert!(Instant::now() < deadline, "the server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A call by a process in the callers' cgroup.
    fn call(&self, address: &str, from: u16) {
        let from = from.to_string();
        let mut child =
            self.client.run(|| spawn(&self.callers, "ends::child_calls", &[(CALL, address), (FROM, &from)]));
        assert!(child.wait().unwrap().success());
    }

    /// A call by a process in neither cgroup.
    fn call_unwatched(&self, address: &str, from: u16) {
        self.client.run(|| call(address.parse().unwrap(), from));
    }

    fn rig(&self, cgroups: &[&Cgroup], change: impl FnOnce(&mut LiveConfig)) -> Rig {
        let cgroups = cgroups.iter().map(|c| c.path().to_owned()).collect();
        let mut config =
            LiveConfig { cgroups, workers: 4, ring_bytes: Some(4 << 20), ..LiveConfig::default() };
        change(&mut config);
        Rig::start(&self.client, &config)
    }
}

fn spawn(cgroup: &Cgroup, test: &str, environment: &[(&str, &str)]) -> Child {
    let this = std::env::current_exe().unwrap();
    cgroup.spawn(Path::new(&this), &["--exact", test, "--test-threads=1", "--quiet"], environment).unwrap()
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Exactly these connections were captured, each byte of them once, and all with this cgroup.
fn assert_once(outcome: &Outcome, ends: &[(SocketAddr, SocketAddr)], cgroup: &Cgroup) {
    outcome.assert_lossless();
    let all = directions(&outcome.seen);
    assert_eq!(all.len(), 2 * ends.len(), "{:?}", all.keys());
    for &(client, server) in ends {
        for way in [(client, server), (server, client)] {
            assert_eq!(all[&way].bytes(), (said(), 0));
        }
    }
    assert!(outcome.seen.iter().all(|p| p.origin.cgroup == cgroup.id().unwrap()));
}

#[test]
fn a_call_through_a_service_is_seen_once_at_the_clients_end() {
    if skipped() {
        return;
    }
    let node = Node::new();
    let rig = node.rig(&[&node.callers, &node.server.cgroup], |_| ());
    node.call(SERVICE, 40_001);
    node.call(SERVER, 40_002);
    let (one, two) = (address("10.78.1.2:40001"), address("10.78.1.2:40002"));
    let ends = rig.live.other_ends().unwrap();
    let server = Some(ServerEnd { address: address(SERVER), cgroup: node.server.cgroup.id().unwrap() });
    assert_eq!(ends.server(one, address(SERVICE)), server);
    assert_eq!(ends.server(two, address(SERVER)), server);
    assert_eq!(ends.server(one, address(SERVER)), None, "it called the service");
    assert_eq!(ends.server(address("10.78.1.2:40003"), address(SERVICE)), None);
    let outcome = rig.finish();
    assert_once(&outcome, &[(one, address(SERVICE)), (two, address(SERVER))], &node.callers);
    for packet in &outcome.seen {
        let out = segment(packet).src.port() > 40_000;
        assert_eq!(packet.origin.direction, Some(if out { Direction::Egress } else { Direction::Ingress }));
    }
    assert!(outcome.balance.filtered.other_end.packets > 4 * ROUNDS as u64);
}

#[test]
fn with_one_end_watched_that_one_is_seen() {
    if skipped() {
        return;
    }
    let node = Node::new();
    let client = address("10.78.1.2:40001");
    for (cgroup, server) in [(&node.callers, SERVICE), (&node.server.cgroup, SERVER)] {
        let rig = node.rig(&[cgroup], |_| ());
        node.call(SERVICE, 40_001);
        let ends = rig.live.other_ends().unwrap();
        assert_eq!(ends.server(client, address(SERVICE)), None);
        let outcome = rig.finish();
        assert_once(&outcome, &[(client, address(server))], cgroup);
        assert_eq!(outcome.balance.filtered.other_end.packets, 0);
    }
}

/// The client's end does not pass the filter for the server's own port: then the server's end is the one.
#[test]
fn an_end_that_is_filtered_hides_nothing() {
    if skipped() {
        return;
    }
    let node = Node::new();
    let rig = node.rig(&[&node.callers, &node.server.cgroup], |config| config.ports = vec![8080]);
    node.call(SERVICE, 40_001);
    let outcome = rig.finish();
    assert_once(&outcome, &[(address("10.78.1.2:40001"), address(SERVER))], &node.server.cgroup);
    assert_eq!(outcome.balance.filtered.other_end.packets, 0);
}

/// A port that a watched client had is taken by one that is not watched: its server's end is seen.
#[test]
fn a_port_that_is_used_again_by_others_hides_nothing() {
    if skipped() {
        return;
    }
    let node = Node::new();
    let mut rig = node.rig(&[&node.callers, &node.server.cgroup], |_| ());
    node.call(SERVICE, 40_001);
    settle(&mut rig.live);
    node.call_unwatched(SERVICE, 40_001);
    settle(&mut rig.live);
    // And again by a watched one.
    node.call(SERVER, 40_001);
    let outcome = rig.finish();
    outcome.assert_lossless();
    let client = address("10.78.1.2:40001");
    let all = |cgroup: &Cgroup, server: &str| {
        let id = cgroup.id().unwrap();
        let seen = outcome.seen.iter().filter(|p| p.origin.cgroup == id);
        let seen: Vec<_> =
            seen.filter(|p| segment(p).src == client && segment(p).dst == address(server)).collect();
        seen.iter().flat_map(|p| segment(p).payload.to_vec()).collect::<Vec<u8>>()
    };
    assert_eq!(all(&node.callers, SERVICE), said());
    assert_eq!(all(&node.server.cgroup, SERVER), said());
    assert_eq!(all(&node.callers, SERVER), said());
}

/// What the client's end does not show any more is seen at the server's from then on.
#[test]
fn a_changed_filter_forgets_clients_whose_end_it_leaves_out() {
    if skipped() {
        return;
    }
    let node = Node::new();
    let mut rig = node.rig(&[&node.callers, &node.server.cgroup], |_| ());
    node.call(SERVICE, 40_001);
    let ends = rig.live.other_ends().unwrap();
    let client = address("10.78.1.2:40001");
    assert!(ends.server(client, address(SERVICE)).is_some());
    let filter = agent::capture::ebpf::Filter { ports: vec![80], ..Default::default() };
    rig.live.set_filter(&filter).unwrap();
    assert!(ends.server(client, address(SERVICE)).is_some(), "its own end passes");
    let filter = agent::capture::ebpf::Filter { ports: vec![8080], ..Default::default() };
    rig.live.set_filter(&filter).unwrap();
    assert!(ends.server(client, address(SERVICE)).is_none());
    rig.finish().assert_lossless();
}

/// What the other tests hold away.
#[test]
fn switched_off_both_ends_are_seen() {
    if skipped() {
        return;
    }
    let node = Node::new();
    let rig = node.rig(&[&node.callers, &node.server.cgroup], |config| config.one_end = false);
    node.call(SERVICE, 40_001);
    let outcome = rig.finish();
    outcome.assert_lossless();
    assert_eq!(directions(&outcome.seen).len(), 4, "two of the client's end, two of the server's");
    assert_eq!(outcome.balance.filtered.other_end.packets, 0);
}
