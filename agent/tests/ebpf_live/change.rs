//! Filters that are changed while packets come: what passes the old and the new one is all there.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use agent::capture::ebpf::{Filter, LiveConfig};
use agent_common::config::MAX_EXCLUDED;
use agent_core::packet::Direction;
use testkit::echo::{self, echo};
use testkit::netns::{Cgroup, VethPair};

use super::exchange::{exchange, message};
use super::rig::{Rig, on_client, settle, skipped};
use super::tcp::{directions, segment};

fn nets(texts: &[&str]) -> Vec<agent::capture::net::Net> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Filters of every kind that the first server passes, and the second one mostly not.
fn filters(watched: SocketAddr) -> Vec<Filter> {
    let port = watched.port();
    let few = ["10.77.0.2/32", "fd77::/16"];
    let many = ["10.77.0.2/32", "1.0.0.0/8", "2.0.0.0/8", "3.0.0.0/8", "4.0.0.0/8", "5.0.0.0/8"];
    vec![
        Filter { ports: vec![port], ..Filter::default() },
        Filter { nets: nets(&few), ..Filter::default() },
        Filter { ports: vec![1, port, 65_535], nets: nets(&many), ..Filter::default() },
        Filter { exclude: vec!["10.77.0.9:1".parse().unwrap()], ports: vec![port, 2], ..Filter::default() },
        Filter { nets: nets(&["10.0.0.0/8"]), ..Filter::default() },
        Filter::default(),
        Filter { ports: vec![port], nets: nets(&many[..1]), ..Filter::default() },
    ]
}

#[test]
fn a_flow_that_every_filter_passes_is_seen_whole_through_all_changes() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    const CONNECTIONS: usize = 3;
    /// The filters twice, while all connections send.
    const CHANGES: usize = 14;
    let (watched, server) = echo(&pair.server, "10.77.0.2:0", CONNECTIONS);
    let (other, other_server) = echo(&pair.server, "10.77.0.2:0", 1);
    // All that is sent fits into one ring: a machine that has no time for the readers loses nothing.
    let config =
        LiveConfig { ports: vec![watched.port()], workers: 2, ring_bytes: Some(64 << 20), ..on_client() };
    let mut rig = Rig::start(&pair.client, &config);
    let (done, changes) = (AtomicBool::new(false), AtomicUsize::new(0));
    // Where a change takes long, the connections wait for it.
    let made = &changes;
    let messages = |connection, count| {
        let under_way = move |number| {
            let waits = number >= count && made.load(Ordering::Acquire) < CHANGES;
            if waits {
                std::thread::sleep(Duration::from_millis(1));
            }
            number < count || waits
        };
        (0..10_000)
            .take_while(move |&number| under_way(number))
            .map(move |number| message(connection, number))
    };
    let sent = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let threads: Vec<_> = (0..CONNECTIONS)
                .map(|n| {
                    let (pair, messages) = (&pair, &messages);
                    scope.spawn(move || echo::exchange(&pair.client, watched, messages(n, 4_000)))
                })
                .collect();
            echo::exchange(&pair.client, other, messages(9, 2_000));
            let sent: HashMap<_, _> = threads.into_iter().map(|t| t.join().unwrap()).collect();
            done.store(true, Ordering::Release);
            sent
        });
        while !done.load(Ordering::Acquire) {
            for filter in filters(watched) {
                rig.live.set_filter(&filter).unwrap();
                changes.fetch_add(1, Ordering::Release);
            }
        }
        load.join().unwrap()
    });
    server.join().unwrap();
    other_server.join().unwrap();
    let outcome = rig.finish();
    outcome.assert_lossless();
    let changes = changes.into_inner();
    assert!(changes >= CHANGES, "only {changes} changes under traffic");
    let (watched_ones, others): (Vec<_>, Vec<_>) =
        outcome.seen.into_iter().partition(|p| [segment(p).src, segment(p).dst].contains(&watched));
    let all = directions(&watched_ones);
    // It passes some of them.
    assert!(!others.is_empty());
    for (local, bytes) in &sent {
        for way in [(*local, watched), (watched, *local)] {
            assert!(all[&way].bytes().0 == *bytes, "{way:?}: bytes are missing");
        }
    }
    assert!(outcome.balance.filtered.port.packets + outcome.balance.filtered.net.packets > 0);
}

#[test]
fn a_new_filter_is_the_only_one_that_counts() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    let (a, a_server) = echo(&pair.server, "10.77.0.2:0", 4);
    let (b, b_server) = echo(&pair.server, "[fd77::2]:0", 4);
    let mut rig = Rig::start(&pair.client, &on_client());
    let mut expected = Vec::new();
    let cases = [
        (Filter { ports: vec![a.port()], ..Filter::default() }, true, a.port() == b.port()),
        (Filter { nets: nets(&["fd77::2"]), ..Filter::default() }, false, true),
        (Filter { exclude: vec![b], ..Filter::default() }, true, false),
        (Filter::default(), true, true),
    ];
    for (n, (filter, sees_a, sees_b)) in cases.into_iter().enumerate() {
        rig.live.set_filter(&filter).unwrap();
        for (server, sees) in [(a, sees_a), (b, sees_b)] {
            let (local, bytes) = exchange(&pair.client, server, n, 5);
            expected.push((local, server, bytes, sees));
        }
        settle(&mut rig.live);
    }
    a_server.join().unwrap();
    b_server.join().unwrap();
    let outcome = rig.finish();
    outcome.assert_lossless();
    let all = directions(&outcome.seen);
    for (local, server, bytes, sees) in expected {
        match all.get(&(local, server)) {
            Some(direction) => assert!(sees && direction.bytes().0 == bytes, "{local} to {server}"),
            None => assert!(!sees, "{local} to {server} is missing"),
        }
    }
}

#[test]
fn a_filter_that_was_refused_leaves_nothing_behind() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    let (wanted, server) = echo(&pair.server, "10.77.0.2:0", 1);
    let (unwanted, other_server) = echo(&pair.server, "10.77.0.2:0", 1);
    let config = LiveConfig { ports: vec![wanted.port()], ..on_client() };
    let mut rig = Rig::start(&pair.client, &config);
    let too_many = (1..=MAX_EXCLUDED as u16 + 1).map(|port| SocketAddr::from(([10, 99, 0, 1], port)));
    let refused = Filter {
        ports: vec![wanted.port(), unwanted.port()],
        exclude: too_many.collect(),
        ..Filter::default()
    };
    assert!(rig.live.set_filter(&refused).is_err());
    // There is room for all of them again.
    for port in 1..=MAX_EXCLUDED as u16 {
        rig.live.exclude(SocketAddr::from(([10, 99, 0, 2], port))).unwrap();
    }
    exchange(&pair.client, wanted, 0, 3);
    exchange(&pair.client, unwanted, 1, 3);
    server.join().unwrap();
    other_server.join().unwrap();
    let outcome = rig.finish();
    assert!(!outcome.seen.is_empty());
    let strays = outcome.seen.iter().filter(|p| [segment(p).src, segment(p).dst].contains(&unwanted));
    assert_eq!(strays.count(), 0, "its port was of the filter that was refused");
}

#[test]
fn one_way_only() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    for direction in [Direction::Ingress, Direction::Egress] {
        let (address, server) = echo(&pair.server, "10.77.0.2:0", 1);
        let rig = Rig::start(&pair.client, &LiveConfig { direction: Some(direction), ..on_client() });
        exchange(&pair.client, address, 0, 5);
        server.join().unwrap();
        let outcome = rig.finish();
        outcome.assert_lossless();
        assert!(outcome.seen.iter().all(|p| p.origin.direction == Some(direction)));
        assert!(outcome.seen.len() > 5 && outcome.balance.filtered.direction.packets > 5);
    }
}

#[test]
fn of_a_watched_tree_only_some_cgroups() {
    if skipped() {
        return;
    }
    let (pair, tree) = (VethPair::new().unwrap(), Cgroup::new("tree").unwrap());
    let (one, two) = (tree.child("one").unwrap(), tree.child("two").unwrap());
    let deep = one.child("deep").unwrap();
    let config = LiveConfig {
        cgroups: vec![tree.path().to_owned()],
        only_cgroups: vec![one.path().to_owned()],
        workers: 2,
        ..LiveConfig::default()
    };
    let mut rig = Rig::start(&pair.client, &config);
    let (address, server) = echo(&pair.server, "10.77.0.2:0", 5);
    let call = |cgroup: &Cgroup| super::cgroup::run_child(&pair, cgroup, &address.to_string());
    call(&two);
    call(&deep);
    call(&one);
    settle(&mut rig.live);
    rig.live.set_filter(&Filter { cgroups: vec![two.path().to_owned()], ..Filter::default() }).unwrap();
    call(&deep);
    call(&two);
    server.join().unwrap();
    let outcome = rig.finish();
    outcome.assert_lossless();
    let mut clients: Vec<_> = Vec::new();
    for packet in outcome.seen.iter().filter(|p| segment(p).syn && segment(p).dst == address) {
        clients.push(packet.origin.cgroup);
    }
    // By ring, not by time.
    clients.sort_unstable();
    let mut expected = [&deep, &one, &two].map(|cgroup| cgroup.id().unwrap());
    expected.sort_unstable();
    assert_eq!(clients, expected);
    assert!(outcome.balance.filtered.cgroup.packets > 40);
}
