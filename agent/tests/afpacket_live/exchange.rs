//! Real connections: every byte is seen, once, by the worker where it belongs.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use agent::capture::afpacket::{AfPacket, AfPacketConfig};
use agent_core::packet::{Direction, LinkType};
use testkit::netns::{NetNs, VethPair};

use super::rig::{Outcome, Rig, bytes, echo, exchange, on_client, segment, skipped};

/// Both directions hold exactly `sent`, and one worker saw both, which is given.
fn assert_seen(outcome: &Outcome, local: SocketAddr, server: SocketAddr, sent: &[u8]) -> usize {
    let (there, by) = bytes(&outcome.seen, local, server);
    let (back, and_by) = bytes(&outcome.seen, server, local);
    assert!(there == sent && back == sent, "{} sent, {} and {} seen", sent.len(), there.len(), back.len());
    assert_eq!(by, and_by, "one connection, two workers");
    let [worker] = by.as_slice() else { panic!("one connection, workers {by:?}") };
    assert_eq!(outcome.balance.total().ring_full, 0);
    *worker
}

#[test]
fn every_byte_is_seen_once_and_both_ways_by_one_worker() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    let rig = Rig::start(&pair.client, &on_client());
    let mut served = Vec::new();
    for bind in ["10.77.0.2:0", "[fd77::2]:0"] {
        let (address, server) = echo(&pair.server, bind, 12);
        for _ in 0..12 {
            let (local, sent) = exchange(&pair.client, address, 30, 400);
            served.push((local, address, sent));
        }
        server.join().unwrap();
    }
    let outcome = rig.finish();
    let workers: HashSet<_> = served.iter().map(|(a, b, sent)| assert_seen(&outcome, *a, *b, sent)).collect();
    assert!(workers.len() > 1, "24 connections, all to worker {workers:?}");
    for packet in &outcome.seen {
        assert_eq!((packet.data.len(), packet.link), (packet.original_len as usize, LinkType::ETHERNET));
        let out = packet.data[6..12] == outcome.seen[0].data[6..12];
        let first = outcome.seen[0].origin.direction;
        assert_eq!(packet.origin.direction == first, out);
        assert!(packet.origin.direction.is_some() && packet.origin.interface > 0);
    }
    for worker in 0..4 {
        let times: Vec<_> = outcome.seen.iter().filter(|p| p.worker == worker).map(|p| p.time).collect();
        assert!(times.is_sorted(), "time went backwards");
        assert!(times.iter().any(|time| time.0 % 1000 != 0) || times.is_empty(), "not nanoseconds");
    }
}

#[test]
fn super_packets_are_captured_whole_and_a_snap_length_cuts() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    for (namespace, interface) in [(&pair.client, VethPair::CLIENT), (&pair.server, VethPair::SERVER)] {
        namespace.ip(&format!("link set {interface} gso_max_size 200000 gro_max_size 200000")).unwrap();
    }
    for (bind, longer_than) in [("10.77.0.2:0", 32_000), ("[fd77::2]:0", 70_000)] {
        let rig = Rig::start(&pair.client, &on_client());
        let (address, server) = echo(&pair.server, bind, 1);
        let (local, sent) = exchange(&pair.client, address, 4, 900_000);
        server.join().unwrap();
        let outcome = rig.finish();
        assert_seen(&outcome, local, address, &sent);
        assert!(outcome.seen.iter().any(|p| p.data.len() > longer_than), "none over {longer_than}");
        assert_eq!(outcome.balance.total().truncated.packets, 0);
    }
    let rig = Rig::start(&pair.client, &AfPacketConfig { snap_len: Some(96), ..on_client() });
    let (address, server) = echo(&pair.server, "10.77.0.2:0", 1);
    exchange(&pair.client, address, 10, 4000);
    server.join().unwrap();
    let outcome = rig.finish();
    assert!(outcome.seen.iter().all(|p| p.data.len() == 96.min(p.original_len as usize)));
    let cut = outcome.seen.iter().filter(|p| p.data.len() < p.original_len as usize).count();
    assert!(cut >= 20);
    assert_eq!(outcome.balance.total().truncated.packets, cut as u64);
}

#[test]
fn loopback_is_seen_once_alone_and_beside_others() {
    if skipped() {
        return;
    }
    for interfaces in [vec!["lo"], vec!["lo", "veth0"]] {
        let pair = VethPair::new().unwrap();
        let interfaces = interfaces.into_iter().map(str::to_owned).collect();
        let rig = Rig::start(&pair.client, &AfPacketConfig { interfaces, ..on_client() });
        let (address, server) = echo(&pair.client, "127.0.0.1:0", 1);
        let (local, sent) = exchange(&pair.client, address, 50, 100);
        server.join().unwrap();
        let outcome = rig.finish();
        assert_seen(&outcome, local, address, &sent);
        let payload: usize = outcome.seen.iter().map(|p| segment(p).payload.len()).sum();
        assert_eq!(payload, 2 * sent.len(), "seen more than once");
        assert!(outcome.seen.iter().all(|p| p.origin.direction == Some(Direction::Ingress)));
    }
}

/// A stream whose directions pass different interfaces goes to one worker, in order; interfaces that nobody named are not seen.
#[test]
fn several_interfaces_are_one_capture() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    let router = NetNs::new().unwrap();
    // client veth0 ── veth1 server; beside it client more0 ── more1 router, which nobody captures.
    let path = router.path();
    pair.client.ip(&format!("link add more0 type veth peer name more1 netns {}", path.display())).unwrap();
    for (namespace, interface, address) in
        [(&pair.client, "more0", "10.78.0.1/24"), (&router, "more1", "10.78.0.2/24")]
    {
        namespace.ip(&format!("addr add {address} dev {interface}")).unwrap();
        namespace.ip(&format!("link set {interface} up")).unwrap();
    }
    let (near, near_server) = echo(&pair.server, "10.77.0.2:0", 1);
    let (far, far_server) = echo(&router, "10.78.0.2:0", 2);
    let both = AfPacketConfig { interfaces: vec!["veth0".into(), "more0".into()], ..on_client() };
    let rig = Rig::start(&pair.client, &both);
    let a = exchange(&pair.client, near, 20, 100);
    let b = exchange(&pair.client, far, 20, 100);
    let outcome = rig.finish();
    assert_seen(&outcome, a.0, near, &a.1);
    assert_seen(&outcome, b.0, far, &b.1);
    let interfaces: HashSet<_> = outcome.seen.iter().map(|p| p.origin.interface).collect();
    assert_eq!(interfaces.len(), 2);

    let without = AfPacketConfig { interfaces: vec!["veth0".into(), "lo".into()], ..on_client() };
    let rig = Rig::start(&pair.client, &without);
    exchange(&pair.client, far, 20, 100);
    assert_eq!(rig.finish().seen.len(), 0);
    for server in [near_server, far_server] {
        server.join().unwrap();
    }
}

#[test]
fn filters_are_those_of_ebpf_and_change_while_it_runs() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    let binds = ["10.77.0.2:0", "10.77.0.2:0", "[fd77::2]:0"];
    let (servers, threads): (Vec<_>, Vec<_>) = binds.iter().map(|bind| echo(&pair.server, bind, 5)).unzip();
    let run = |config: AfPacketConfig| -> HashSet<SocketAddr> {
        let rig = Rig::start(&pair.client, &config);
        servers.iter().for_each(|server| drop(exchange(&pair.client, *server, 3, 100)));
        let outcome = rig.finish();
        let ends = outcome.seen.iter().flat_map(|p| [segment(p).src, segment(p).dst]);
        ends.filter(|end| servers.contains(end)).collect()
    };
    let only = |indices: &[usize]| indices.iter().map(|i| servers[*i]).collect::<HashSet<_>>();
    assert_eq!(run(AfPacketConfig { ports: vec![servers[0].port(), 1], ..on_client() }), only(&[0]));
    assert_eq!(run(AfPacketConfig { nets: vec!["fd77::/16".parse().unwrap()], ..on_client() }), only(&[2]));
    assert_eq!(run(AfPacketConfig { exclude: vec![servers[0], servers[2]], ..on_client() }), only(&[1]));
    // Too long for the kernel: the same, in user space, and counted there.
    let many: Vec<u16> = (0..3000).map(|n| n * 2 + 1).filter(|p| *p != servers[0].port()).collect();
    let ports = [many, vec![servers[0].port()]].concat();
    let found = run(AfPacketConfig { ports: ports.clone(), ..on_client() });
    assert_eq!(found, servers.iter().copied().filter(|s| ports.contains(&s.port())).collect());

    let mut rig = Rig::start(&pair.client, &AfPacketConfig { ports: ports.clone(), ..on_client() });
    exchange(&pair.client, servers[1], 3, 100);
    std::thread::sleep(Duration::from_millis(50));
    rig.capture.set_filter(&[servers[1].port()], &[], &[]).unwrap();
    let (local, sent) = {
        let (address, server) = echo(&pair.server, &format!("10.77.0.2:{}", 0), 1);
        rig.capture.set_filter(&[address.port()], &[], &[]).unwrap();
        let done = exchange(&pair.client, address, 10, 100);
        server.join().unwrap();
        (done.0, (address, done.1))
    };
    let outcome = rig.finish();
    let wanted_first = ports.contains(&servers[1].port());
    assert_eq!(outcome.balance.total().filtered.packets > 0, !wanted_first, "{:?}", outcome.balance);
    assert_seen(&outcome, local, sent.0, &sent.1);
    drop(threads);
}

/// Interfaces that a pattern fits come and go; what is new is captured, what does not fit never is.
#[test]
fn interfaces_of_a_pattern_come_and_go() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    let router = NetNs::new().unwrap();
    let path = router.path();
    let pattern = AfPacketConfig { interfaces: vec!["more*".into()], ..on_client() };
    let mut rig = Rig::start(&pair.client, &pattern);
    assert!(rig.capture.attachments().is_empty() && !rig.capture.is_bereft());
    let (near, near_server) = echo(&pair.server, "10.77.0.2:0", 1);
    exchange(&pair.client, near, 5, 100);
    near_server.join().unwrap();
    let mut served = Vec::new();
    for name in ["more0", "more7", "more0"] {
        pair.client.ip(&format!("link add {name} type veth peer name far netns {}", path.display())).unwrap();
        for (namespace, name, address) in
            [(&pair.client, name, "10.78.0.1/24"), (&router, "far", "10.78.0.2/24")]
        {
            namespace.ip(&format!("addr add {address} dev {name}")).unwrap();
            namespace.ip(&format!("link set {name} up")).unwrap();
        }
        let changes = pair.client.run(|| rig.capture.look()).unwrap();
        assert_eq!((changes.come, changes.gone), (vec![name.to_owned()], vec![]));
        let (far, server) = echo(&router, "10.78.0.2:0", 1);
        let (local, sent) = exchange(&pair.client, far, 10, 100);
        server.join().unwrap();
        served.push((local, far, sent));
        pair.client.ip(&format!("link del {name}")).unwrap();
        let changes = pair.client.run(|| rig.capture.look()).unwrap();
        assert_eq!((changes.come, changes.gone), (vec![], vec![name.to_owned()]));
        assert!(!rig.capture.is_bereft());
    }
    let outcome = rig.finish();
    for (local, far, sent) in served {
        assert_seen(&outcome, local, far, &sent);
    }
    assert!(outcome.seen.iter().all(|p| segment(p).src != near && segment(p).dst != near));
}

/// What sockets are bound to is gone for good, even if something else is made under its name.
#[test]
fn a_single_interface_made_anew_is_another() {
    if skipped() {
        return;
    }
    let namespace = NetNs::new().unwrap();
    let make = || namespace.ip("link add one0 type veth peer name two0").unwrap();
    make();
    let config = AfPacketConfig { interfaces: vec!["one0".into()], ..on_client() };
    let (mut capture, _sources) = namespace.run(|| AfPacket::start(&config)).unwrap();
    namespace.ip("link del one0").unwrap();
    make();
    for gone in [vec!["one0".to_owned()], vec![]] {
        let changes = namespace.run(|| capture.look()).unwrap();
        assert_eq!((changes.gone, changes.come), (gone, vec![]));
        assert!(capture.is_bereft());
    }
}

#[test]
fn promiscuous_mode_is_for_those_who_ask_and_ends_with_the_capture() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    let promiscuity = || {
        let text = pair.client.ip("-d link show veth0").unwrap();
        text.split_once("promiscuity ").unwrap().1.split(' ').next().unwrap().to_owned()
    };
    for (promiscuous, expected) in [(false, "0"), (true, "2")] {
        let config = AfPacketConfig { promiscuous, workers: 2, ..on_client() };
        let (capture, sources) = pair.client.run(|| AfPacket::start(&config)).unwrap();
        assert_eq!(promiscuity(), expected);
        drop((capture, sources));
        assert_eq!(promiscuity(), "0");
    }
}

/// A lone packet waits no longer than a block's patience.
#[test]
fn lone_packets_arrive_within_twenty_milliseconds() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    let rig = Rig::start(&pair.client, &on_client());
    let (address, server) = echo(&pair.server, "10.77.0.2:0", 10);
    for pause in [0, 5, 15, 40, 90, 180, 260, 300, 500, 0] {
        std::thread::sleep(Duration::from_millis(pause));
        exchange(&pair.client, address, 3, 100);
    }
    server.join().unwrap();
    let outcome = rig.finish();
    let mut delays: Vec<_> = outcome.seen.iter().map(|p| p.delay).collect();
    delays.sort_unstable();
    eprintln!("delays: median {:?}, most {:?}", delays[delays.len() / 2], delays[delays.len() - 1]);
    // The machine may be busy with other things; a reader that woke too late by itself would be late nearly always.
    let late = delays.iter().filter(|delay| **delay > Duration::from_millis(20)).count();
    assert!(late * 4 <= delays.len(), "{late} of {} packets were late", delays.len());
}
