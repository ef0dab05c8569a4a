//! Loss is counted to the packet and to the byte.

use agent::capture::PacketSource as _;
use agent::capture::ebpf::{Live, LiveConfig};
use testkit::canary;
use testkit::netns::VethPair;

use super::exchange::{echo, exchange};
use super::rig::{Rig, on_client, settle, skipped};

#[test]
fn a_full_ring_loses_what_it_says() {
    if skipped() {
        return;
    }
    // What the programs themselves say comes through aya-log.
    canary::listen();
    let pair = VethPair::new().unwrap();
    let config = LiveConfig { workers: 2, ring_bytes: Some(4096), ..on_client() };
    let (mut live, sources) = pair.client.run(|| Live::start(&config)).unwrap();
    let (address, server) = echo(&pair.server, "10.77.0.2:0", 8);
    for connection in 0..8 {
        exchange(&pair.client, address, connection, 20);
    }
    server.join().unwrap();
    settle(&mut live);
    // Nobody has read so far: the rings are full.
    let full = live.balance().unwrap();
    assert!(full.rings.iter().all(|ring| ring.ring_full.packets > 10), "{full:?}");
    assert!(full.total().captured.packets < 2 * 4096 / 128, "{full:?}");
    for (books, source) in full.rings.iter().zip(&sources) {
        let loss = source.loss();
        assert_eq!((loss.packets, loss.bytes), (books.dropped().packets, Some(books.dropped().bytes)));
    }

    for ring in 0..2 {
        let said = canary::heard();
        let lines =
            said.lines().filter(|line| line.contains(&format!("ring {ring}: the first packet"))).count();
        // Once for each CPU that the traffic ran on, not once a packet.
        let cpus = std::thread::available_parallelism().unwrap().get();
        assert!((1..=cpus).contains(&lines), "{said}");
    }

    // Once it is read, capture goes on.
    let rig = Rig::read(live, sources);
    let (address, server) = echo(&pair.server, "10.77.0.2:0", 1);
    exchange(&pair.client, address, 0, 5);
    server.join().unwrap();
    let outcome = rig.finish();
    outcome.assert_balanced();
    assert!(outcome.balance.total().captured.packets > full.total().captured.packets);
    assert_eq!(
        outcome.balance.filtered.total().packets
            + outcome.balance.total().captured.packets
            + outcome.balance.total().dropped().packets,
        outcome.balance.offered.packets
    );
}
