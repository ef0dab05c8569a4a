//! Real connections over a veth pair: every byte is seen, once, in the ring where it belongs.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use agent::capture::ebpf::LiveConfig;
use agent_core::packet::{Direction, LinkType};
pub(crate) use testkit::echo::echo;
use testkit::netns::{NetNs, VethPair};

use super::rig::{Rig, Seen, on_client, skipped};
use super::tcp::directions;

/// What the `number`th exchange says: its number, then filler of a length of its own.
pub(crate) fn message(connection: usize, number: usize) -> Vec<u8> {
    let mut message = format!("[{connection}/{number}]").into_bytes();
    message.resize(16 + (number * 37 + connection) % 1800, b'.');
    message
}

/// Sends `count` numbered messages over one connection: see [`testkit::echo::exchange`].
pub(crate) fn exchange(
    namespace: &NetNs,
    server: SocketAddr,
    connection: usize,
    count: usize,
) -> (SocketAddr, Vec<u8>) {
    testkit::echo::exchange(namespace, server, (0..count).map(|number| message(connection, number)))
}

/// Segments that TCP sent again in this namespace: only then may a byte be seen twice.
fn retransmitted(namespace: &NetNs) -> u64 {
    let text = namespace.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp")).unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let index = names.split(' ').position(|name| name == "RetransSegs").unwrap();
    values.split(' ').nth(index).unwrap().parse().unwrap()
}

/// Both directions of the connection hold exactly `sent`, and all its packets came out of one ring, which is given.
fn assert_seen(pair: &VethPair, seen: &[Seen], ends: (SocketAddr, SocketAddr), sent: &[u8]) -> usize {
    let all = directions(seen);
    let (there, back) = (&all[&ends], &all[&(ends.1, ends.0)]);
    let again = retransmitted(&pair.client) + retransmitted(&pair.server);
    for direction in [there, back] {
        let (bytes, repeated) = direction.bytes();
        assert!(bytes == sent, "{} bytes seen, {} sent", bytes.len(), sent.len());
        assert!(repeated == 0 || again > 0, "{repeated} bytes seen twice, though nothing was sent twice");
    }
    let rings: HashSet<_> = there.rings.iter().chain(&back.rings).copied().collect();
    assert_eq!(rings.len(), 1, "one connection in several rings");
    rings.into_iter().next().unwrap()
}

#[test]
fn every_byte_of_numbered_exchanges_is_seen_once_in_one_ring() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    let rig = Rig::start(&pair.client, &on_client());
    const CONNECTIONS: usize = 24;
    let mut served = Vec::new();
    for (bind, count) in [("10.77.0.2:0", CONNECTIONS / 2), ("[fd77::2]:0", CONNECTIONS / 2)] {
        let (address, server) = echo(&pair.server, bind, count);
        for connection in 0..count {
            let (local, sent) = exchange(&pair.client, address, connection, 50);
            served.push((local, address, sent));
        }
        server.join().unwrap();
    }
    let outcome = rig.finish();
    outcome.assert_lossless();
    let rings: HashSet<_> = served
        .iter()
        .map(|(local, address, sent)| assert_seen(&pair, &outcome.seen, (*local, *address), sent))
        .collect();
    assert!(rings.len() > 1, "{CONNECTIONS} connections, all in ring {rings:?}");
    for packet in &outcome.seen {
        assert_eq!(packet.data.len(), packet.original_len as usize, "whole");
        assert_eq!(packet.link, LinkType::ETHERNET);
        let out = packet.data[6..12] == outcome.seen[0].data[6..12];
        let expected = if out { Direction::Egress } else { Direction::Ingress };
        assert_eq!(packet.origin.direction, Some(expected), "the first packet, a SYN, goes out");
    }
    assert!(outcome.balance.filtered.other_protocol.packets > 0, "ARP and neighbour discovery are not TCP");
}

/// Sends a megabyte as fast as it goes, and has it sent back in the same way. Gives the ends and what was sent.
fn rush(pair: &VethPair, bind: &str) -> ((SocketAddr, SocketAddr), Vec<u8>) {
    let listener = pair.server.run(|| TcpListener::bind(bind)).unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        stream.write_all(&received).unwrap();
    });
    let sent: Vec<u8> = (0..1_u32 << 18).flat_map(u32::to_be_bytes).collect();
    let local = pair.client.run(|| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&sent).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        assert!(received == sent);
        stream.local_addr().unwrap()
    });
    server.join().unwrap();
    ((local, address), sent)
}

#[test]
fn super_packets_are_captured_whole() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    let rig = Rig::start(&pair.client, &on_client());
    let (ends, sent) = rush(&pair, "10.77.0.2:0");
    let outcome = rig.finish();
    outcome.assert_lossless();
    assert_seen(&pair, &outcome.seen, ends, &sent);
    for direction in [Direction::Egress, Direction::Ingress] {
        let of = outcome.seen.iter().filter(|p| p.origin.direction == Some(direction));
        let largest = of.map(|p| p.data.len()).max().unwrap();
        assert!(largest > 32_000, "no super-packet among those of {direction:?}: {largest}");
    }
    assert_eq!(outcome.balance.total().truncated.packets, 0);
}

/// BIG TCP, where it was switched on: longer than an IP header can say.
#[test]
fn packets_beyond_64_kib_are_captured_whole_or_say_so() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    for (namespace, interface) in [(&pair.client, VethPair::CLIENT), (&pair.server, VethPair::SERVER)] {
        namespace.ip(&format!("link set {interface} gso_max_size 200000 gro_max_size 200000")).unwrap();
    }
    let rig = Rig::start(&pair.client, &on_client());
    let (ends, sent) = rush(&pair, "[fd77::2]:0");
    let outcome = rig.finish();
    outcome.assert_lossless();
    assert_seen(&pair, &outcome.seen, ends, &sent);
    let longest = outcome.seen.iter().map(|p| p.original_len).max().unwrap();
    assert!(longest > 70_000, "no packet was longer than 64 KiB: {longest}");
    assert_eq!(outcome.balance.total().truncated.packets, 0);

    const MOST: u32 = 65_568;
    let rig = Rig::start(&pair.client, &LiveConfig { snap_len: Some(MOST), ..on_client() });
    rush(&pair, "[fd77::2]:0");
    let outcome = rig.finish();
    outcome.assert_lossless();
    let longer: Vec<_> = outcome.seen.iter().filter(|p| p.original_len > MOST).collect();
    assert!(!longer.is_empty());
    assert!(longer.iter().all(|p| p.data.len() == MOST as usize));
    assert_eq!(outcome.balance.total().truncated.packets, longer.len() as u64);
}

#[test]
fn a_snap_length_cuts_but_keeps_the_true_length() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    let rig = Rig::start(&pair.client, &LiveConfig { snap_len: Some(96), ..on_client() });
    let (address, server) = echo(&pair.server, "10.77.0.2:0", 1);
    exchange(&pair.client, address, 0, 20);
    server.join().unwrap();
    let outcome = rig.finish();
    outcome.assert_lossless();
    let cut = outcome.seen.iter().filter(|p| p.data.len() < p.original_len as usize).count();
    assert!(cut > 20);
    assert!(outcome.seen.iter().all(|p| p.data.len() == 96.min(p.original_len as usize)));
    assert_eq!(outcome.balance.total().truncated.packets, cut as u64);
}

#[test]
fn loopback_packets_are_seen_once() {
    if skipped() {
        return;
    }
    let namespace = NetNs::new().unwrap();
    let config = LiveConfig { interfaces: vec![String::from("lo")], workers: 2, ..LiveConfig::default() };
    let rig = Rig::start(&namespace, &config);
    let (address, server) = echo(&namespace, "127.0.0.1:0", 1);
    let (local, sent) = exchange(&namespace, address, 0, 100);
    server.join().unwrap();
    let outcome = rig.finish();
    outcome.assert_lossless();
    let all = directions(&outcome.seen);
    for ends in [(local, address), (address, local)] {
        assert_eq!(all[&ends].bytes(), (sent.clone(), 0));
    }
}

/// A packet waits in a quiet ring no longer than a tick, and the one that ends a long silence not even that.
#[test]
fn quiet_rings_are_drained_within_twenty_milliseconds() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    let rig = Rig::start(&pair.client, &on_client());
    let (address, server) = echo(&pair.server, "10.77.0.2:0", 12);
    for pause in [0, 5, 15, 40, 90, 180, 260, 300, 500, 700, 0, 600] {
        std::thread::sleep(Duration::from_millis(pause));
        exchange(&pair.client, address, 0, 3);
    }
    server.join().unwrap();
    let outcome = rig.finish();
    outcome.assert_lossless();
    // The machine may be busy with other things; a reader that woke too late by itself would be late nearly always.
    let late = outcome.seen.iter().filter(|p| p.delay > Duration::from_millis(20)).count();
    assert!(late * 4 <= outcome.seen.len(), "{late} of {} packets were late", outcome.seen.len());
    for ring in 0..4 {
        let mut times = outcome.seen.iter().filter(|p| p.ring == ring).map(|p| p.time);
        let mut last = times.next();
        for time in times {
            assert!(Some(time) >= last, "time went backwards");
            last = Some(time);
        }
    }
}
