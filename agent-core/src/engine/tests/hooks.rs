//! One packet seen at several places on its way counts once.

use proptest::prelude::*;

use super::*;
use crate::packet::Origin;

/// A packet as an interface shows it.
fn on(packet: Packet<'_>, interface: u32, direction: Direction) -> Packet<'_> {
    let origin = Origin { interface, direction: Some(direction), ..Origin::default() };
    Packet { origin, ..packet }
}

/// The places on the way of a request; a response takes them the other way round: in from one container's end, over
/// the bridge, out to the other's.
const WAY: [(u32, Direction); 3] =
    [(11, Direction::Ingress), (12, Direction::Egress), (13, Direction::Egress)];

fn way(from_client: bool, place: usize) -> (u32, Direction) {
    if from_client {
        return WAY[place];
    }
    let (interface, direction) = WAY[WAY.len() - 1 - place];
    (interface, if direction == Direction::Ingress { Direction::Egress } else { Direction::Ingress })
}

impl Bench {
    /// The packet at these places, in the order of its way. Whether each was a copy.
    fn along(&mut self, seg: &Seg, places: &[usize]) -> Vec<bool> {
        self.at_ms += 1;
        let data = seg.ethernet();
        let at = self.at_ms;
        let see = |&place: &usize| {
            let (interface, direction) = way(seg.from_client, place);
            self.raw(&on(packet(LinkType::ETHERNET, &data, at), interface, direction)).copy
        };
        places.iter().map(see).collect()
    }
}

/// Two exchanges and a close, with the acknowledgements of real ends.
fn conversation() -> Vec<Seg> {
    let (q, r) = (REQUEST.len() as u32, RESPONSE.len() as u32);
    let mut segs =
        vec![Seg::c2s(100, 0, SYN, b""), Seg::s2c(500, 101, SYN | ACK, b""), Seg::c2s(101, 501, ACK, b"")];
    for n in 0..2 {
        let (c, s) = (101 + n * q, 501 + n * r);
        segs.push(Seg::c2s(c, s, ACK, REQUEST));
        segs.push(Seg::s2c(s, c + q, ACK, b""));
        segs.push(Seg::s2c(s, c + q, ACK, RESPONSE));
        segs.push(Seg::c2s(c + q, s + r, ACK, b""));
    }
    let (c, s) = (101 + 2 * q, 501 + 2 * r);
    segs.push(Seg::c2s(c, s, FIN | ACK, b""));
    segs.push(Seg::s2c(s, c + 1, FIN | ACK, b""));
    segs.push(Seg::c2s(c + 1, s + 1, ACK, b""));
    segs
}

#[test]
fn a_packet_on_veth_bridge_and_nic_counts_once() {
    let (mut b, segs) = (Bench::new(), conversation());
    for seg in &segs {
        assert_eq!(b.along(seg, &[0, 1, 2]), [false, true, true], "{seg:?}");
    }
    b.finish();
    let s = &b.closed[0];
    assert_eq!((b.items.len(), b.closed.len(), s.packets), (2, 1, segs.len() as u64));
    assert_eq!((b.stats().copies, b.stats().retransmitted), (2 * segs.len() as u64, 0));
    assert_eq!((s.syn, s.synack, s.fin, s.c2s.gaps_total + s.s2c.gaps_total), (1, 1, 2, 0));
}

#[test]
fn what_is_sent_twice_is_no_copy() {
    let mut b = Bench::new();
    let segs = conversation();
    for seg in &segs[..3] {
        b.along(seg, &[0, 1]);
    }
    let request = &segs[3];
    assert_eq!(b.along(request, &[0, 1]), [false, true]);
    assert_eq!(
        b.along(request, &[0, 1]),
        [false, true],
        "sent again: counted where it counts, and only there"
    );
    assert_eq!(b.stats().retransmitted, REQUEST.len() as u64);
}

#[test]
fn what_one_place_missed_another_fills_in() {
    let (mut b, segs) = (Bench::new(), conversation());
    for (n, seg) in segs.iter().enumerate() {
        // The first place misses every third packet, the second every packet but those.
        let copies = if n % 3 == 2 { b.along(seg, &[1]) } else { b.along(seg, &[0]) };
        assert_eq!(copies, [false], "{seg:?}");
    }
    b.finish();
    let s = &b.closed[0];
    assert_eq!((b.items.len(), s.packets, b.stats().copies), (2, segs.len() as u64, 0));
    assert_eq!((b.stats().gaps, b.stats().retransmitted), (0, 0));
}

/// The first packets were seen at the last place only: the others were watched a little later.
#[test]
fn a_place_earlier_on_the_way_takes_over() {
    let (mut b, segs) = (Bench::new(), conversation());
    for seg in &segs[..3] {
        assert_eq!(b.along(seg, &[2]), [false]);
    }
    for seg in &segs[3..] {
        assert_eq!(b.along(seg, &[0, 1, 2]), [false, true, true], "{seg:?}");
    }
    b.finish();
    assert_eq!((b.items.len(), b.closed[0].packets, b.stats().retransmitted), (2, segs.len() as u64, 0));
}

/// Also a direction that only acknowledges.
#[test]
fn a_stream_is_read_on_when_its_place_is_gone() {
    for gone_at in 1..conversation().len() {
        let (mut b, segs) = (Bench::new(), conversation());
        for seg in &segs[..gone_at] {
            b.along(seg, &[0, 1]);
        }
        for seg in &segs[gone_at..] {
            b.along(seg, &[1]);
        }
        b.finish();
        let s = &b.closed[0];
        assert_eq!((b.items.len(), b.stats().closed_fin, b.stats().gaps), (2, 1, 0), "from {gone_at}");
        assert_eq!(s.packets, segs.len() as u64, "from {gone_at}");
    }
    let mut b = Bench::new();
    b.along(&Seg::c2s(100, 0, SYN, b""), &[0]);
    b.along(&Seg::s2c(500, 101, SYN | ACK, b""), &[0]);
    for ack in 1..100 {
        assert_eq!(b.along(&Seg::c2s(101, 501 + ack, ACK, b""), &[1, 2]), [false, true]);
    }
}

#[test]
fn resets_count_once_plausible_or_not() {
    let (mut b, segs) = (Bench::new(), conversation());
    for seg in &segs[..5] {
        b.along(seg, &[0, 1]);
    }
    let wild = Seg::s2c(0x7000_0000, 0, RST, b"");
    assert_eq!((b.along(&wild, &[0, 1]), b.stats().rst_ignored), (vec![false, true], 1));
    let reset = Seg::s2c(501, 0, RST, b"");
    assert_eq!((b.along(&reset, &[0, 1]), b.stats().closed_reset), (vec![false, true], 1));
}

proptest! {
    /// Each packet is seen at any of the places, at least one, in the order of its way.
    #[test]
    fn any_places_give_what_one_gives(seen in proptest::collection::vec(1_u8..8, 14)) {
        let segs = conversation();
        let mut b = Bench::new();
        let mut total = 0;
        for (seg, mask) in segs.iter().zip(&seen) {
            let places: Vec<_> = (0..3).filter(|place| mask >> place & 1 != 0).collect();
            total += places.len() as u64;
            b.along(seg, &places);
        }
        b.finish();
        let s = &b.closed[0];
        prop_assert_eq!((b.closed.len(), b.items.len(), b.stats().closed_fin), (1, 2, 1));
        prop_assert!(b.items.iter().all(|item| item.error.is_none()));
        prop_assert_eq!((b.stats().gaps, b.stats().retransmitted), (0, 0));
        prop_assert_eq!((s.c2s.bytes, s.s2c.bytes), (2 * REQUEST.len() as u64, 2 * RESPONSE.len() as u64));
        prop_assert_eq!(s.packets + b.stats().copies, total);
        prop_assert_eq!(s.packets, segs.len() as u64);
    }
}
