//! The mangler against a capture whose bytes are known.

use std::collections::BTreeMap;

use super::segment::Flow;
use super::*;
use crate::synth;

const PAYLOAD: usize = 4000;

/// Three connections, one after the other, with 20 exchanges each.
fn capture() -> Capture<'static> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut synth = synth::Capture::create(file.path()).unwrap();
    for port in 1000..1003 {
        let mut connection = synth.open(port).unwrap();
        for n in 0..20_u8 {
            let body: Vec<u8> = (0..PAYLOAD).map(|i| (i as u8).wrapping_mul(n)).collect();
            synth.exchange(&mut connection, &[n; 100], &body).unwrap();
        }
        synth.close(connection).unwrap();
    }
    drop(synth);
    Capture::read(file.path()).unwrap()
}

/// Each direction's bytes, put together by a naive model: the first copy of each byte wins.
fn streams(capture: &Capture<'_>) -> Vec<(Flow, Vec<u8>)> {
    let mut starts: Vec<(Flow, u32)> = Vec::new();
    let mut bytes: Vec<BTreeMap<u32, u8>> = Vec::new();
    for packet in &capture.packets {
        let Some(segment) = Segment::find(capture.link, &packet.data) else { continue };
        let known = starts.iter().position(|(flow, _)| *flow == segment.flow);
        let at = known.unwrap_or_else(|| {
            starts.push((segment.flow, segment.seq));
            bytes.push(BTreeMap::new());
            starts.len() - 1
        });
        for (i, &byte) in (0..).zip(segment.payload(&packet.data)) {
            bytes[at].entry(segment.seq.wrapping_sub(starts[at].1).wrapping_add(i)).or_insert(byte);
        }
    }
    starts.iter().zip(bytes).map(|((flow, _), bytes)| (*flow, bytes.into_values().collect())).collect()
}

fn all_damage_without_loss() -> Mangle {
    Mangle {
        seed: 3,
        split: Some(100),
        overlap: 0.3,
        duplicate: 0.2,
        reorder: 0.2,
        window: 5,
        ..Mangle::default()
    }
}

#[test]
fn nothing_asked_nothing_done_and_a_file_comes_back_as_written() {
    let capture = capture();
    assert_eq!(Mangle::default().apply(&capture), capture);
    let file = tempfile::NamedTempFile::new().unwrap();
    capture.save(file.path()).unwrap();
    assert_eq!(Capture::read(file.path()).unwrap(), capture);
}

#[test]
fn the_same_seed_does_the_same_and_another_does_not() {
    let capture = capture();
    let mangle = |seed| Mangle { seed, drop: 0.1, ..all_damage_without_loss() }.apply(&capture);
    assert_eq!(mangle(1), mangle(1));
    assert_ne!(mangle(1), mangle(2));
}

#[test]
fn every_damage_but_loss_keeps_the_streams() {
    let capture = capture();
    let before = streams(&capture);
    assert_eq!(before.len(), 6);
    assert_eq!(before[1].1.len(), 20 * PAYLOAD);
    let nothing = Mangle::default;
    let ways = [
        Mangle { split: Some(1), ..nothing() },
        Mangle { split: Some(7), overlap: 0.5, ..nothing() },
        Mangle { duplicate: 0.5, window: 3, ..nothing() },
        Mangle { reorder: 0.5, window: 8, ..nothing() },
        all_damage_without_loss(),
    ];
    for way in ways {
        let mangled = way.apply(&capture);
        assert_ne!(mangled, capture, "{way:?}");
        assert_eq!(streams(&mangled), before, "{way:?}");
        assert!(mangled.packets.is_sorted_by_key(|p| p.time));
    }
}

#[test]
fn segments_are_no_longer_than_asked_and_carry_the_ending_flags_once() {
    let capture = capture();
    let mangled = Mangle { split: Some(100), ..Mangle::default() }.apply(&capture);
    let segments: Vec<_> =
        mangled.packets.iter().map(|p| Segment::find(mangled.link, &p.data).unwrap()).collect();
    assert!(segments.iter().all(|s| s.len() <= 100));
    let count = |capture: &Capture<'_>, flag| {
        capture
            .packets
            .iter()
            .filter(|p| Segment::find(capture.link, &p.data).unwrap().flags & flag != 0)
            .count()
    };
    assert_eq!(count(&mangled, FIN), 6);
    assert_eq!(count(&mangled, PSH), count(&capture, PSH));
}

#[test]
fn nothing_moves_past_the_other_direction_of_its_connection() {
    let capture = capture();
    // A run is what one end sends before the other does: within it order may change, its bounds stay.
    let runs = |capture: &Capture<'_>, client: Flow| {
        let mut runs: Vec<(Flow, usize)> = Vec::new();
        for packet in &capture.packets {
            let flow = Segment::find(capture.link, &packet.data).unwrap().flow;
            match runs.last_mut() {
                _ if flow != client && flow != client.reverse() => {}
                Some((last, count)) if *last == flow => *count += 1,
                _ => runs.push((flow, 1)),
            }
        }
        runs
    };
    let mangled = Mangle { reorder: 0.9, window: 50, seed: 9, ..Mangle::default() }.apply(&capture);
    assert_ne!(mangled, capture);
    for (flow, _) in streams(&capture) {
        assert_eq!(runs(&mangled, flow), runs(&capture, flow));
    }
}

#[test]
fn loss_takes_its_share_and_cutting_keeps_the_true_length() {
    let capture = capture();
    let lost = Mangle { drop: 0.1, seed: 5, ..Mangle::default() }.apply(&capture);
    let share = lost.packets.len() as f64 / capture.packets.len() as f64;
    assert!((0.86..0.94).contains(&share), "{share}");
    assert!(lost.packets.iter().all(|p| capture.packets.contains(p)));
    assert_eq!(Mangle { drop: 1.0, ..Mangle::default() }.apply(&capture).packets, []);
    let cut = Mangle { snap: Some(96), split: Some(700), ..Mangle::default() }.apply(&capture);
    assert!(cut.packets.iter().all(|p| p.data.len() <= 96));
    assert!(cut.packets.iter().any(|p| p.original == 754 && p.data.len() == 96));
}
