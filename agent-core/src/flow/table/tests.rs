//! The table's places, lists and memory.

use super::*;
use crate::decode::{Decoded, decode};
use crate::packet::LinkType;
use crate::testing::{ACK, Seg};

fn key(port: u16) -> FlowKey {
    let data = Seg::c2s(0, 0, ACK, b"").port(port).ipv4();
    match decode(LinkType::RAW, &data, data.len() as u32) {
        Ok(Decoded::Tcp(t)) => FlowKey::of(&t).unwrap().0,
        other => panic!("{other:?}"),
    }
}

fn ms(n: u64) -> Timestamp {
    Timestamp(n * 1_000_000)
}

#[test]
fn both_directions_have_one_key() {
    let (there, back) = (Seg::c2s(0, 0, ACK, b"").ipv4(), Seg::s2c(0, 0, ACK, b"").ipv4());
    let of = |data: &[u8]| match decode(LinkType::RAW, data, data.len() as u32) {
        Ok(Decoded::Tcp(t)) => FlowKey::of(&t).unwrap(),
        other => panic!("{other:?}"),
    };
    let ((a, from_a), (b, from_b)) = (of(&there), of(&back));
    assert_eq!(a, b);
    assert_eq!((from_a, from_b), (0, 1));
    assert_eq!(a.addr(from_a).to_string(), "10.0.0.1");
    assert_eq!(a.port(from_b), 80);
}

#[test]
fn streams_are_found_until_removed_and_places_are_used_again() {
    let mut table = Table::new(7);
    let places: Vec<u32> = (1..1_000).map(|p| table.insert(key(p), p, Class::Handshake, ms(0))).collect();
    for p in 1..1_000 {
        let at = table.find(&key(p)).unwrap();
        assert_eq!(table.get(at), Some(&p));
    }
    assert_eq!(table.remove(places[10]).unwrap().1, 11);
    assert_eq!(table.find(&key(11)), None);
    assert!(table.remove(places[10]).is_none());
    assert_eq!(table.insert(key(5_000), 1, Class::Open, ms(0)), places[10]);
    assert_eq!(table.len(), 999);
}

#[test]
fn a_packets_stream_is_found_whatever_was_found_before() {
    let mut table = Table::new(7);
    let ports = || (1..3_000).step_by(2);
    for p in ports() {
        table.insert(key(p), p, Class::Open, ms(0));
    }
    for round in 1..4 {
        for p in ports().chain([1, 1, 3]) {
            let found = table.next(&key(p), ms(2 * round)).map(|found| (*found.value, found.stale));
            assert_eq!(found, Some((p, true)), "{round}");
            assert!(table.next(&key(p + 1), ms(0)).is_none());
        }
        assert!(ports().all(|p| table.next(&key(p), ms(0)).is_some_and(|found| !found.stale)));
        // Another one takes its place.
        let at = table.find(&key(5)).unwrap();
        table.remove(at);
        assert!(table.next(&key(5), ms(0)).is_none());
        assert_eq!(table.insert(key(5), 5, Class::Open, ms(0)), at);
    }
}

#[test]
fn connections_next_to_each_other_have_different_marks() {
    for step in [1, 2, 4] {
        let mut marks: Vec<u8> = (0..128).map(|n| key(40_000 + n * step).mark()).collect();
        marks.sort_unstable();
        marks.dedup();
        assert!(marks.len() >= 100, "{step}: {}", marks.len());
    }
}

#[test]
fn lists_are_in_order_of_the_last_packet() {
    let mut table = Table::new(7);
    let [a, b, c] = [1, 2, 3].map(|p| table.insert(key(p), p, Class::Open, ms(u64::from(p))));
    assert_eq!(table.oldest(Class::Open), Some((a, ms(1))));
    table.touch(a, ms(10));
    assert_eq!(table.oldest(Class::Open), Some((b, ms(2))));
    table.set_class(b, Class::Linger, ms(11));
    assert_eq!(table.oldest(Class::Open).unwrap().0, c);
    table.touch(b, ms(20));
    assert_eq!(table.oldest(Class::Linger), Some((b, ms(11))), "a closed stream is not kept by its packets");
    assert_eq!([Class::Handshake, Class::Open, Class::Linger].map(|c| table.len_of(c)), [0, 2, 1]);
    table.remove(c);
    table.remove(a);
    assert_eq!(table.oldest(Class::Open), None);
    assert_eq!(table.any().map(|(_, at, _)| at), Some(b));
}

#[test]
fn nothing_is_left_of_a_flood() {
    let mut table = Table::new(7);
    for p in 1..60_000 {
        table.insert(key(p), [0u8; 256], Class::Handshake, ms(0));
    }
    let full = table.memory();
    while let Some((_, at, _)) = table.any() {
        table.remove(at);
    }
    assert!(full > 60_000 * 256);
    assert!(table.memory() < 256 * 512, "{}", table.memory());
}
