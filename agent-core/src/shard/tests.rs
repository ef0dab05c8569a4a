//! Where packets are put: both ways of a flow together, fragments with their whole, bounds kept.

use std::time::Duration;

use super::*;
use crate::testing::{ACK, Seg, ethernet, ipv4, packet, udp};

const ENGINES: u16 = 7;

fn sharder() -> Sharder {
    Sharder::new(ENGINES, Limits::default(), 5)
}

/// Where a packet goes, and what is given out before it.
fn deal(all: &mut Sharder, data: &[u8], at_ms: u64) -> (Place, Vec<(Place, Vec<u8>)>) {
    let p = packet(LinkType::RAW, data, at_ms);
    let mut released = Vec::new();
    let place = all.place(&p, p.time, &mut |place, held| released.push((place, held.packet().data.to_vec())));
    (place, released)
}

fn place(all: &mut Sharder, link: LinkType, data: &[u8]) -> Place {
    let p = packet(link, data, 0);
    all.place(&p, p.time, &mut |_, _| panic!("nothing is held"))
}

/// Cuts an IPv4 packet into fragments of at most `size` payload bytes.
fn fragments(packet: &[u8], size: usize, id: u8) -> Vec<Vec<u8>> {
    let (head, payload) = packet.split_at(20);
    let count = payload.len().div_ceil(size);
    let piece = |i: usize| {
        let mut data = [head, &payload[i * size..((i + 1) * size).min(payload.len())]].concat();
        let field = (i * size / 8) as u16 | if i + 1 < count { 0x2000 } else { 0 };
        let length = data.len() as u16;
        data[2..4].copy_from_slice(&length.to_be_bytes());
        (data[4], data[5]) = (0, id);
        data[6..8].copy_from_slice(&field.to_be_bytes());
        data
    };
    (0..count).map(piece).collect()
}

fn vxlan(inner: &[u8], vni: u8) -> Vec<u8> {
    let header = [8, 0, 0, 0, 0, 0, vni, 0];
    ipv4(17, [172, 16, 0, 1], [172, 16, 0, 2], &udp(4789, &[&header[..], inner].concat()))
}

#[test]
fn both_directions_go_to_one_engine_and_flows_to_all() {
    let mut all = sharder();
    let mut used = [0; ENGINES as usize];
    for port in 0..7_000u16 {
        let there = Seg::c2s(1, 1, ACK, b"x").port(port + 1_024);
        let back = Seg::s2c(1, 1, ACK, b"y").port(port + 1_024);
        let to = place(&mut all, LinkType::RAW, &there.ipv4());
        assert_eq!(to, place(&mut all, LinkType::RAW, &back.ipv4()));
        let Place::To(engine) = to else { panic!("{to:?}") };
        used[usize::from(engine)] += 1;
    }
    assert!(used.iter().all(|n| (800..1_200).contains(n)), "{used:?}");
}

#[test]
fn the_innermost_ends_count_and_the_tags_around_them() {
    let mut all = sharder();
    let seg = |port| Seg::c2s(1, 1, ACK, b"x").port(port);
    let back = |port| Seg::s2c(1, 1, ACK, b"x").port(port);
    let mut by_tunnel = std::collections::BTreeSet::new();
    for port in 40_000..40_040 {
        let to = place(&mut all, LinkType::RAW, &vxlan(&seg(port).ethernet(), 7));
        assert_eq!(to, place(&mut all, LinkType::RAW, &vxlan(&back(port).ethernet(), 7)));
        let Place::To(engine) = to else { panic!("{to:?}") };
        by_tunnel.insert(engine);
        // GRE without a key has no tag: the flow is the one outside of it.
        let gre = ipv4(47, [1, 1, 1, 1], [2, 2, 2, 2], &[&[0, 0, 8, 0][..], &seg(port).ipv4()].concat());
        assert_eq!(place(&mut all, LinkType::RAW, &gre), place(&mut all, LinkType::RAW, &seg(port).ipv4()));
        let tagged = |seg: &Seg| ethernet(0x8100, &[&[0, 9, 8, 0][..], &seg.ipv4()].concat());
        let (there, again) = (tagged(&seg(port)), tagged(&back(port)));
        assert_eq!(place(&mut all, LinkType::ETHERNET, &there), place(&mut all, LinkType::ETHERNET, &again));
    }
    assert!(by_tunnel.len() > 3, "one tunnel is not one engine: {by_tunnel:?}");
}

#[test]
fn fragments_follow_their_flow_in_any_order() {
    for port in 40_000..40_020 {
        let whole = Seg::c2s(1, 2, ACK, &[b'a'; 200]).port(port).ipv4();
        let mut pieces = fragments(&whole, 64, 1);
        let count = pieces.len();
        for _ in 0..count {
            pieces.rotate_left(1);
            let mut all = sharder();
            let expected = place(&mut all, LinkType::RAW, &whole);
            let mut given = Vec::new();
            for piece in &pieces {
                let (to, released) = deal(&mut all, piece, 0);
                given.extend(released);
                if to != Place::Held {
                    given.push((to, piece.clone()));
                }
            }
            assert_eq!(given.len(), count);
            assert!(given.iter().all(|(to, _)| *to == expected), "{given:?}");
            assert!(given.iter().map(|(_, data)| data).eq(&pieces), "in the order of capture");
            assert_eq!((all.held(), all.held_bytes), (0, 0));
        }
    }
}

#[test]
fn fragments_of_a_tunnel_wait_for_the_whole() {
    for port in 40_000..40_020 {
        let inner = Seg::c2s(1, 2, ACK, &[b'a'; 300]).port(port).ethernet();
        let outer = vxlan(&inner, 3);
        let mut all = sharder();
        let expected = place(&mut all, LinkType::RAW, &outer);
        let pieces = fragments(&outer, 128, 9);
        let (last, others) = pieces.split_last().unwrap();
        for piece in others {
            assert_eq!(deal(&mut all, piece, 0), (Place::Held, Vec::new()));
        }
        let (to, released) = deal(&mut all, last, 0);
        assert_eq!(to, expected);
        assert!(released.iter().map(|(_, data)| data).eq(others));
        assert!(released.iter().all(|(to, _)| *to == expected));
    }
}

#[test]
fn a_first_fragment_that_was_forged_later_does_not_lead_away() {
    let honest = Seg::c2s(1, 2, ACK, &[b'a'; 100]).port(41_000).ipv4();
    // The first copy wins: its eight bytes hold the ports.
    let tiny = fragments(&honest, 8, 1);
    for port in 42_000..42_020 {
        let mut all = sharder();
        let expected = place(&mut all, LinkType::RAW, &honest);
        assert_eq!(deal(&mut all, &tiny[0], 0).0, Place::Held);
        let forged = &fragments(&Seg::c2s(1, 2, ACK, &[b'a'; 100]).port(port).ipv4(), 64, 1)[0];
        assert_eq!(deal(&mut all, forged, 0).0, Place::Held);
        let mut given = Vec::new();
        for piece in &tiny[8..] {
            let (to, released) = deal(&mut all, piece, 0);
            given.extend(released.into_iter().map(|(to, _)| to));
            if to != Place::Held {
                given.push(to);
            }
        }
        assert!(!given.is_empty() && given.iter().all(|to| *to == expected), "{given:?}");
    }
}

#[test]
fn what_stays_in_pieces_is_given_up_with_the_time_and_at_the_end_given_out() {
    let whole = Seg::c2s(1, 2, ACK, &[b'a'; 200]).ipv4();
    let mut all = sharder();
    assert_eq!(deal(&mut all, &fragments(&whole, 64, 1)[1], 0).0, Place::Held);
    assert_eq!(deal(&mut all, &fragments(&whole, 64, 2)[1], 20_000).0, Place::Held);
    let (to, released) = deal(&mut all, &fragments(&whole, 64, 3)[2], 31_000);
    assert_eq!(to, Place::Held);
    assert!(matches!(released[..], [(Place::GivenUp(_), _)]), "{released:?}");
    assert_eq!((all.stats().fragments_timed_out, all.held()), (1, 2));
    // Its number again: it begins anew.
    let (to, released) = deal(&mut all, &fragments(&whole, 64, 1)[0], 32_000);
    assert!(matches!(to, Place::To(_)) && released.is_empty());
    let mut left = Vec::new();
    all.finish(Timestamp::new(1_700_000_000, 0).after(Duration::from_secs(33)), &mut |to, _| left.push(to));
    assert!(matches!(left[..], [Place::To(_), Place::To(_)]), "{left:?}");
    assert_eq!((all.held(), all.held_bytes), (0, 0));
}

#[test]
fn what_is_held_is_bounded_and_every_piece_is_given_out_once() {
    let limits = Limits { fragment_memory: 10_000, ..Limits::default() };
    let mut all = Sharder::new(ENGINES, limits, 5);
    let whole = Seg::c2s(1, 2, ACK, &[b'a'; 2_000]).ipv4();
    let mut given = 0;
    let mut dealt = 0;
    for id in 0..100 {
        // The same piece again and again is charged for nothing where datagrams are put together.
        for _ in 0..3 {
            let (to, released) = deal(&mut all, &fragments(&whole, 1_024, id)[1], u64::from(id));
            assert!(released.iter().all(|(to, _)| matches!(to, Place::GivenUp(_))));
            given += released.len() + usize::from(to != Place::Held);
            dealt += 1;
            assert!(all.held_bytes <= 10_000);
        }
    }
    let stats = all.stats();
    assert!(stats.fragments_evicted > 50 && stats.fragments_refused > 0, "{stats:?}");
    all.finish(Timestamp(0), &mut |_, _| given += 1);
    assert_eq!(given, dealt);
}

#[test]
fn packets_of_no_flow_are_spread() {
    let mut all = sharder();
    let same = ipv4(6, [10, 0, 0, 1], [10, 0, 0, 1], &{
        let mut tcp = Seg::c2s(1, 1, ACK, b"").tcp();
        tcp.copy_within(0..2, 2);
        tcp
    });
    for data in [&ipv4(17, [1, 1, 1, 1], [2, 2, 2, 2], &udp(53, b"?"))[..], b"", &same] {
        let places: Vec<_> = (0..ENGINES).map(|_| place(&mut all, LinkType::RAW, data)).collect();
        let different: std::collections::BTreeSet<_> = places.iter().map(|p| format!("{p:?}")).collect();
        assert_eq!(different.len(), usize::from(ENGINES), "{places:?}");
    }
}
