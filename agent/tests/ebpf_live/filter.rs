//! Filters in the kernel: either end may match; what does not is counted by reason.

use std::net::SocketAddr;

use agent::capture::ebpf::LiveConfig;
use testkit::netns::VethPair;

use super::exchange::{echo, exchange};
use super::rig::{Outcome, Rig, on_client, skipped};
use super::tcp::segment;

/// Exchanges over IPv4 and IPv6 with two servers each; gives the servers' addresses (v4, v4, v6, v6) and the outcome.
fn run(filter: impl FnOnce(&[SocketAddr]) -> LiveConfig) -> (Vec<SocketAddr>, Outcome) {
    let pair = VethPair::new().unwrap();
    let binds = ["10.77.0.2:0", "10.77.0.2:0", "[fd77::2]:0", "[fd77::2]:0"];
    let (addresses, servers): (Vec<_>, Vec<_>) = binds.iter().map(|bind| echo(&pair.server, bind, 2)).unzip();
    let rig = Rig::start(&pair.client, &filter(&addresses));
    for connection in 0..2 {
        for address in &addresses {
            exchange(&pair.client, *address, connection, 5);
        }
    }
    servers.into_iter().for_each(|server| server.join().unwrap());
    let outcome = rig.finish();
    outcome.assert_lossless();
    (addresses, outcome)
}

/// Exactly these servers were captured, both ways.
fn assert_only(outcome: &Outcome, expected: &[SocketAddr]) {
    for packet in &outcome.seen {
        let s = segment(packet);
        assert!(expected.contains(&s.src) || expected.contains(&s.dst), "{} to {}", s.src, s.dst);
    }
    for address in expected {
        // Two connections, each with handshake, five exchanges and farewell.
        let there = outcome.seen.iter().filter(|p| segment(p).dst == *address).count();
        let back = outcome.seen.iter().filter(|p| segment(p).src == *address).count();
        assert!(there >= 2 * 8 && back >= 2 * 7, "{address}: {there} there, {back} back");
    }
}

#[test]
fn ports_match_either_end() {
    if skipped() {
        return;
    }
    let (addresses, outcome) =
        run(|a| LiveConfig { ports: vec![a[0].port(), a[3].port(), 1], ..on_client() });
    // Ports are chosen by the kernel: by chance a server of the other family may have one of them too.
    let ports = [addresses[0].port(), addresses[3].port()];
    let expected: Vec<_> = addresses.into_iter().filter(|a| ports.contains(&a.port())).collect();
    assert_only(&outcome, &expected);
    assert!(outcome.balance.filtered.port.packets > 0);
    assert_eq!(outcome.balance.filtered.net.packets, 0);
}

#[test]
fn nets_match_either_end_in_both_families() {
    if skipped() {
        return;
    }
    let (addresses, outcome) =
        run(|_| LiveConfig { nets: vec!["10.0.0.0/8".parse().unwrap()], ..on_client() });
    assert_only(&outcome, &addresses[..2]);
    assert!(outcome.balance.filtered.net.packets > 0);
    let nets = vec!["fd77::2/128".parse().unwrap(), "10.78.0.0/16".parse().unwrap()];
    let (addresses, outcome) = run(|_| LiveConfig { nets, ..on_client() });
    assert_only(&outcome, &addresses[2..]);
    // All of IPv4 is not all of IPv6.
    let (addresses, outcome) =
        run(|_| LiveConfig { nets: vec!["0.0.0.0/0".parse().unwrap()], ..on_client() });
    assert_only(&outcome, &addresses[..2]);
}

#[test]
fn excluded_endpoints_are_left_out() {
    if skipped() {
        return;
    }
    let (addresses, outcome) = run(|a| LiveConfig { exclude: vec![a[0], a[2]], ..on_client() });
    assert_only(&outcome, &[addresses[1], addresses[3]]);
    assert!(outcome.balance.filtered.excluded.packets >= 2 * 2 * 15);
}

#[test]
fn endpoints_are_excluded_and_included_while_it_runs() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    let (address, server) = echo(&pair.server, "10.77.0.2:0", 3);
    let mut rig = Rig::start(&pair.client, &on_client());
    let (first, _) = exchange(&pair.client, address, 0, 3);
    super::rig::settle(&mut rig.live);
    rig.live.exclude(address).unwrap();
    let (second, _) = exchange(&pair.client, address, 1, 3);
    super::rig::settle(&mut rig.live);
    rig.live.include(address);
    let (third, _) = exchange(&pair.client, address, 2, 3);
    server.join().unwrap();
    let outcome = rig.finish();
    outcome.assert_lossless();
    let count = |end: SocketAddr| outcome.seen.iter().filter(|p| segment(p).src == end).count();
    assert!(count(first) > 5 && count(third) > 5);
    assert_eq!(count(second), 0);
    assert!(outcome.balance.filtered.excluded.packets > 10);
}
