//! Loss is counted to the packet.

use std::time::{Duration, Instant};

use agent::capture::PacketSource as _;
use agent::capture::afpacket::{AfPacket, AfPacketConfig};
use testkit::netns::VethPair;

use super::rig::{Rig, echo, exchange, hush, on_client, passed, skipped};

#[test]
fn a_full_ring_loses_what_it_says_and_goes_on() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    hush(&pair);
    let config = AfPacketConfig { workers: 2, ring_bytes: Some(1), ..on_client() };
    let (capture, sources) = pair.client.run(|| AfPacket::start(&config)).unwrap();
    let (address, server) = echo(&pair.server, "10.77.0.2:0", 24);
    let before = passed(&pair.client, VethPair::CLIENT);
    for _ in 0..24 {
        exchange(&pair.client, address, 60, 1200);
    }
    server.join().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let sent = passed(&pair.client, VethPair::CLIENT) - before;
    // Nobody has read so far: the rings are full.
    let full = capture.balance().unwrap();
    let total = full.total();
    assert!(full.rings.iter().all(|ring| ring.ring_full > 100 && ring.freezes > 0), "{full:?}");
    for (books, source) in full.rings.iter().zip(&sources) {
        assert_eq!((source.loss().packets, source.loss().bytes), (books.ring_full, None));
    }
    assert_eq!(total.taken, sent, "{full:?}");

    // Once it is read, capture goes on.
    let rig = Rig::read(capture, sources);
    let deadline = Instant::now() + Duration::from_secs(10);
    let drained = loop {
        let now = rig.capture.balance().unwrap().total();
        if now.taken == now.accounted() {
            break now;
        }
        assert!(Instant::now() < deadline, "{now:?}");
        std::thread::sleep(Duration::from_millis(10));
    };
    let (address, server) = echo(&pair.server, "10.77.0.2:0", 1);
    let (local, said) = exchange(&pair.client, address, 5, 100);
    server.join().unwrap();
    let outcome = rig.finish();
    let after = outcome.balance.total();
    assert_eq!(after.taken, after.captured.packets + after.ring_full);
    assert_eq!(after.ring_full, drained.ring_full, "nothing more was lost");
    assert_eq!(super::rig::bytes(&outcome.seen, local, address).0, said);
}
