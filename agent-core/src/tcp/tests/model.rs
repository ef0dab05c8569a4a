//! Against a naive model, and the short way against the long one.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Offset, length and version of segments, in order of arrival. Versions give the same range different bytes.
fn segments() -> impl Strategy<Value = Vec<(u64, usize, u8)>> {
    prop::collection::vec((0..300u64, 1..60usize, 0..3u8), 1..60)
}

fn byte(offset: u64, version: u8) -> u8 {
    (offset.wrapping_mul(31) as u8) ^ version
}

fn bytes(offset: u64, length: usize, version: u8) -> Vec<u8> {
    (0..length as u64).map(|i| byte(offset + i, version)).collect()
}

/// What was handed on has no break, and its sum is right; gives each byte with its offset.
fn check(b: &Bench) -> BTreeMap<u64, u8> {
    let mut map = BTreeMap::new();
    let (mut at, mut gaps) = (0, 0);
    for (arrival, piece) in &b.out {
        assert_eq!(arrival.offset, at);
        match piece {
            Ok(data) => {
                assert!(!data.is_empty());
                map.extend(data.iter().enumerate().map(|(i, byte)| (at + i as u64, *byte)));
                at += data.len() as u64;
            }
            Err(n) => {
                assert!(*n > 0);
                gaps += n;
                at += n;
            }
        }
    }
    assert_eq!(b.receiver.bytes, map.len() as u64);
    assert_eq!(b.receiver.bytes + gaps, at);
    map
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// The assembler against a map of bytes: with nothing given up before the end, it hands on exactly the first copy
    /// of every byte, and gaps for the rest.
    #[test]
    fn equals_a_map_of_bytes(isn: u32, segments in segments()) {
        let mut b = Bench::with_syn(isn);
        let mut model = BTreeMap::new();
        for &(offset, length, version) in &segments {
            b.cut(offset, &bytes(offset, length, version), length);
            for i in offset..offset + length as u64 {
                model.entry(i).or_insert(byte(i, version));
            }
        }
        b.flush();
        prop_assert_eq!(check(&b), model);
        prop_assert_eq!(b.receiver.held_memory(), 0);
    }

    /// However the same bytes are cut, repeated and shuffled, the same bytes are handed on, and no gap.
    #[test]
    fn any_segmentation_and_order_gives_the_same(
        isn: u32,
        cuts in prop::collection::vec((0..300u64, 1..60usize), 0..40),
        order in any::<u64>(),
        size in 1..50usize,
    ) {
        let total = 360u64;
        let mut all: Vec<(u64, usize)> = (0..total).step_by(size).map(|o| (o, size.min((total - o) as usize))).collect();
        all.extend(cuts);
        // A shuffle that needs no random numbers but these.
        all.sort_by_key(|&(o, l)| (o ^ order).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(l as u32));
        let mut b = Bench::with_syn(isn);
        for (offset, length) in all {
            let outcome = b.cut(offset, &bytes(offset, length, 0), length);
            prop_assert!(!outcome.differs);
        }
        let map = check(&b);
        prop_assert_eq!(map.len() as u64, total);
        prop_assert!(map.iter().all(|(o, v)| *v == byte(*o, 0)));
        prop_assert!(!b.receiver.waiting());
    }

    /// Whatever comes, acknowledgements and time included: what is handed on has no break, is a first copy, and
    /// memory stays within its budget.
    #[test]
    fn nothing_breaks_it(
        joined: bool,
        base: u32,
        steps in prop::collection::vec((0..6u8, 0..2_000u64, 0..80usize, 0..3u8), 1..120),
    ) {
        let mut b = if joined { Bench::joined(base) } else { Bench::with_syn(base) };
        b.limits.reassembly_per_direction = 4_000;
        b.limits.holes = 8;
        let mut sent: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for (what, offset, length, version) in steps {
            match what {
                0 => b.ack(offset, Some(length as u64)),
                1 => b.receiver.answers(offset),
                2 => b.wait(Duration::from_millis(offset)),
                3 if length == 0 => b.fin(offset),
                3 => { let seq = b.seq(offset); b.receiver.empty(seq, b.now); }
                _ => {
                    let data = bytes(offset, length.max(1) / 2 + 1, version);
                    for (i, byte) in data.iter().enumerate() {
                        sent.entry(offset + i as u64).or_default().push(*byte);
                    }
                    b.cut(offset, &data, length.max(1) / 2 + 1 + usize::from(version));
                }
            }
            prop_assert!(b.receiver.held_memory() <= 4_000);
        }
        b.flush();
        prop_assert!(!b.receiver.waiting());
        prop_assert_eq!(b.receiver.held_memory(), 0);
        if !joined {
            for (offset, byte) in check(&b) {
                prop_assert!(sent.get(&offset).is_some_and(|copies| copies.contains(&byte)));
            }
        }
    }
}

proptest! {
    /// Both ends by turns: the short way, where it may be taken, leaves what the long one leaves.
    #[test]
    fn the_short_way_comes_to_what_the_long_one_does(
        steps in prop::collection::vec((0..2usize, 1..5u64, prop::option::weighted(0.1, -3..4i64)), 1..40),
        syn in any::<bool>(),
    ) {
        let limits = Limits::default();
        let now = Timestamp::new(1, 0);
        let rules = Rules { limits: &limits, hash: false, trim: false, now };
        let bytes = [7; 4];
        let mut ways: [[Receiver; 2]; 2] = Default::default();
        for receiver in ways.iter_mut().flatten().filter(|_| syn) {
            receiver.syn(Seq(99));
        }
        let mut next = [Seq(100); 2];
        for (from, length, off) in steps {
            let seq = next[from].plus(off.unwrap_or(0).cast_unsigned());
            let (ack, payload) = (next[1 - from], &bytes[..length as usize]);
            next[from] = seq.plus(length);
            for (way, [a, b]) in ways.iter_mut().enumerate() {
                let (own, peer) = if from == 0 { (a, b) } else { (b, a) };
                if way == 0 && own.expects(peer, seq, ack) {
                    own.take_expected(peer, seq, length);
                    continue;
                }
                let answer = own.end_of(seq, length as usize);
                let acked = peer.acknowledged(ack, answer, now);
                if own.is_first(seq) {
                    peer.told_start(ack);
                }
                acked.into_iter().for_each(|acked| own.answers(acked));
                let at = Arrival { time: now, offset: 0, acked, truncated: false };
                own.segment(Segment { seq, payload, wire: length, at }, rules, &mut |_, _| {});
            }
            prop_assert_eq!(format!("{:?}", ways[0]), format!("{:?}", ways[1]));
        }
    }
}
