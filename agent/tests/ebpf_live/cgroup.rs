//! `cgroup_skb`: a child process in a cgroup of the test's own.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use agent::capture::ebpf::LiveConfig;
use agent_core::packet::{Direction, LinkType};
use testkit::netns::{Cgroup, VethPair};

use super::exchange::echo;
use super::rig::{Rig, skipped};
use super::tcp::{directions, segment};

const SERVER: &str = "REMORA_TEST_SERVER";
const MESSAGE: &[u8] = b"from inside the cgroup";

/// Not a test: what the child process of the tests below does.
#[test]
fn child_says_something_and_hears_it_back() {
    let Ok(server) = std::env::var(SERVER) else {
        return;
    };
    let mut stream = TcpStream::connect(server).unwrap();
    for _ in 0..10 {
        stream.write_all(MESSAGE).unwrap();
        let mut answer = vec![0; MESSAGE.len()];
        stream.read_exact(&mut answer).unwrap();
    }
}

pub(crate) fn run_child(pair: &VethPair, cgroup: &Cgroup, server: &str) {
    let this = std::env::current_exe().unwrap();
    let arguments =
        ["--exact", "cgroup::child_says_something_and_hears_it_back", "--test-threads=1", "--quiet"];
    let mut child = pair.client.run(|| cgroup.spawn(&this, &arguments, &[(SERVER, server)])).unwrap();
    assert!(child.wait().unwrap().success());
}

fn config(path: &Path) -> LiveConfig {
    LiveConfig { cgroups: vec![path.to_owned()], workers: 2, ..LiveConfig::default() }
}

#[test]
fn both_directions_of_a_cgroup_are_seen_with_its_id() {
    if skipped() {
        return;
    }
    let (pair, cgroup) = (VethPair::new().unwrap(), Cgroup::new("both").unwrap());
    // Relative to where cgroup2 is mounted.
    let rig = Rig::start(&pair.client, &config(Path::new(cgroup.path().file_name().unwrap())));
    let (address, server) = echo(&pair.server, "10.77.0.2:0", 2);
    run_child(&pair, &cgroup, &address.to_string());
    // The same from outside is not seen.
    super::exchange::exchange(&pair.client, address, 0, 5);
    server.join().unwrap();
    let outcome = rig.finish();
    outcome.assert_lossless();
    let all = directions(&outcome.seen);
    assert_eq!(all.len(), 2, "one connection, both ways");
    let sent = MESSAGE.repeat(10);
    for direction in all.values() {
        assert_eq!(direction.bytes().0, sent);
        assert!(direction.rings.iter().all(|ring| *ring == outcome.seen[0].ring));
    }
    let id = cgroup.id().unwrap();
    for packet in &outcome.seen {
        assert_eq!(packet.origin.cgroup, id);
        assert_eq!(packet.link, LinkType::RAW);
        let out = segment(packet).dst == address;
        assert_eq!(packet.origin.direction, Some(if out { Direction::Egress } else { Direction::Ingress }));
    }
}

#[test]
fn a_cgroup_covers_its_children_once() {
    if skipped() {
        return;
    }
    let (pair, outer) = (VethPair::new().unwrap(), Cgroup::new("outer").unwrap());
    let inner = outer.child("inner").unwrap();
    let mut config = config(outer.path());
    config.cgroups.extend([inner.path().to_owned(), outer.path().to_owned()]);
    let rig = Rig::start(&pair.client, &config);
    let (address, server) = echo(&pair.server, "[fd77::2]:0", 1);
    run_child(&pair, &inner, &address.to_string());
    server.join().unwrap();
    let outcome = rig.finish();
    outcome.assert_lossless();
    for direction in directions(&outcome.seen).values() {
        assert_eq!(direction.bytes(), (MESSAGE.repeat(10), 0));
    }
    assert!(outcome.seen.iter().all(|p| p.origin.cgroup == inner.id().unwrap()));
}

#[test]
fn the_agents_own_cgroup_is_left_out() {
    if skipped() {
        return;
    }
    let (pair, outer) = (VethPair::new().unwrap(), Cgroup::new("own").unwrap());
    let (agent, other) = (outer.child("agent").unwrap(), outer.child("other").unwrap());
    let config = LiveConfig { own_cgroup: Some(agent.id().unwrap()), ..config(outer.path()) };
    let rig = Rig::start(&pair.client, &config);
    let (address, server) = echo(&pair.server, "10.77.0.2:0", 2);
    run_child(&pair, &agent, &address.to_string());
    run_child(&pair, &other, &address.to_string());
    server.join().unwrap();
    let outcome = rig.finish();
    outcome.assert_lossless();
    assert!(outcome.balance.filtered.excluded.packets > 20);
    assert!(!outcome.seen.is_empty());
    assert!(outcome.seen.iter().all(|p| p.origin.cgroup == other.id().unwrap()));
}

#[test]
fn the_agents_own_traffic_is_left_out_at_interfaces_and_nobody_elses_on_its_ports() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    let (agent, other) = (Cgroup::new("own-agent").unwrap(), Cgroup::new("own-other").unwrap());
    // Both have to take the same port.
    let range = || std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "45000 45000");
    pair.client.run(range).unwrap();
    let config = LiveConfig { own_cgroup: Some(agent.id().unwrap()), ..super::rig::on_client() };
    let rig = Rig::start(&pair.client, &config);
    let (first, first_server) = echo(&pair.server, "10.77.0.2:0", 1);
    let (second, second_server) = echo(&pair.server, "10.77.0.2:0", 1);
    run_child(&pair, &agent, &first.to_string());
    run_child(&pair, &other, &second.to_string());
    first_server.join().unwrap();
    second_server.join().unwrap();
    let outcome = rig.finish();
    outcome.assert_lossless();
    assert!(
        outcome.balance.filtered.excluded.packets > 20,
        "both directions: {:?}",
        outcome.balance.filtered
    );
    let ends = |p| (segment(p).src, segment(p).dst);
    assert!(outcome.seen.iter().map(ends).all(|(src, dst)| src != first && dst != first));
    let all = directions(&outcome.seen);
    assert_eq!(all.len(), 2);
    for direction in all.values() {
        assert_eq!(direction.bytes(), (MESSAGE.repeat(10), 0));
    }
}
