//! Headers and small packets are read where they lie, if they are in the skb's linear part. Every length, and every
//! boundary between the linear part and pages, must give the same bytes.

use agent::capture::ebpf::LiveConfig;
use testkit::netns::VethPair;

use super::frames::{Wire, ethernet, ipv4, ipv6, tcp};
use super::rig::{Rig, Seen, on_client, settle, skipped};

/// Neighbours differ, so that no byte can stand for another.
fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + len) as u8).collect()
}

/// A frame of either kind; its port, hence its flow, is its own.
fn frame(six: bool, port: u16, len: usize) -> Vec<u8> {
    let segment = tcp(port, &payload(len));
    if six {
        ethernet(&[], 0x86DD, &ipv6(6, &segment))
    } else {
        ethernet(&[], 0x0800, &ipv4(6, 0, 0, &segment))
    }
}

fn sorted(mut frames: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    frames.sort();
    frames
}

fn data(seen: Vec<Seen>) -> Vec<Vec<u8>> {
    seen.into_iter().map(|packet| packet.data).collect()
}

#[test]
fn small_packets_of_every_length_are_captured_byte_for_byte() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    let mut rig = Rig::start(&pair.client, &LiveConfig { workers: 2, ..on_client() });
    settle(&mut rig.live);
    let wire = Wire::new(&pair.client);
    // Smaller and larger than what is copied without the helper.
    let lengths = (0..=110).flat_map(|len| [false, true].map(|six| frame(six, 20_000 + len as u16, len)));
    let frames: Vec<_> = lengths.collect();
    frames.iter().for_each(|frame| wire.send(frame));
    let outcome = rig.finish();
    outcome.assert_lossless();
    assert_eq!(sorted(data(outcome.seen)), sorted(frames));
}

#[test]
fn wherever_the_linear_part_ends_the_bytes_are_the_same() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    for (namespace, interface) in [(&pair.client, VethPair::CLIENT), (&pair.server, VethPair::SERVER)] {
        namespace.ip(&format!("link set {interface} mtu 9000")).unwrap();
    }
    for snap_len in [96, 70, 4_000] {
        let config = LiveConfig { workers: 2, snap_len: Some(snap_len), ports: vec![8080], ..on_client() };
        let mut rig = Rig::start(&pair.client, &config);
        settle(&mut rig.live);
        let wire = Wire::new(&pair.client);
        let mut expected = Vec::new();
        for linear in 14..=130 {
            for six in [false, true] {
                let frame = frame(six, 20_000 + linear, 4_200 + usize::from(linear));
                wire.send_paged(linear, &frame);
                expected.push(frame[..snap_len as usize].to_vec());
            }
        }
        let outcome = rig.finish();
        outcome.assert_lossless();
        assert_eq!(sorted(data(outcome.seen)), sorted(expected), "snap length {snap_len}");
    }
}
