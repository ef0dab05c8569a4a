//! One direction, situation by situation, and against a naive model.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::{Receiver, Rules, Segment, Seq};
use crate::dissect::{Arrival, Chunk};
use crate::limits::Limits;
use crate::tcp::receiver::Outcome;
use crate::time::Timestamp;

/// What was handed on.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Got {
    Data(String),
    Gap(u64),
}

/// A receiver, and what it handed on.
struct Bench {
    receiver: Receiver,
    limits: Limits,
    now: Timestamp,
    out: Vec<(Arrival, Result<Vec<u8>, u64>)>,
    base: u32,
}

impl Bench {
    /// A direction whose SYN was seen; offsets below count from there.
    fn with_syn(isn: u32) -> Self {
        let mut bench = Self::joined(isn.wrapping_add(1));
        bench.receiver.syn(Seq(isn));
        bench
    }

    fn joined(base: u32) -> Self {
        let (limits, now) = (Limits::default(), Timestamp::new(1_000, 0));
        Self { receiver: Receiver::default(), limits, now, out: Vec::new(), base }
    }

    fn run<R>(
        &mut self,
        f: impl FnOnce(&mut Receiver, Rules<'_>, &mut dyn FnMut(Chunk<'_>, Arrival)) -> R,
    ) -> R {
        let Self { receiver, limits, now, out, .. } = self;
        let rules = Rules { limits, hash: true, trim: false, now: *now };
        f(receiver, rules, &mut |chunk, at| {
            out.push((
                at,
                match chunk {
                    Chunk::Data(data) => Ok(data.to_vec()),
                    Chunk::Gap(n) => Err(n),
                },
            ));
        })
    }

    fn seq(&self, offset: u64) -> Seq {
        Seq(self.base).plus(offset)
    }

    fn cut(&mut self, offset: u64, data: &[u8], wire: usize) -> Outcome {
        let at = Arrival { time: self.now, offset: 0, acked: None, truncated: false };
        let segment = Segment { seq: self.seq(offset), payload: data, wire: wire as u64, at };
        self.receiver.packets += 1;
        self.run(|r, rules, mut sink| {
            let outcome = r.segment(segment, rules, &mut sink);
            r.settle(rules, &mut sink);
            outcome
        })
    }

    fn data(&mut self, offset: u64, data: &str) -> Outcome {
        self.cut(offset, data.as_bytes(), data.len())
    }

    fn ack(&mut self, offset: u64, answer: Option<u64>) {
        let (seq, now) = (self.seq(offset), self.now);
        self.receiver.acknowledged(seq, answer, now);
        self.settle();
    }

    fn settle(&mut self) {
        self.run(|r, rules, mut sink| r.settle(rules, &mut sink));
    }

    fn wait(&mut self, by: Duration) {
        self.now = self.now.after(by);
        self.settle();
    }

    fn fin(&mut self, offset: u64) {
        let (seq, now) = (self.seq(offset), self.now);
        self.receiver.fin(seq, 0, now);
    }

    fn flush(&mut self) {
        self.run(|r, rules, mut sink| r.flush(rules, &mut sink));
    }

    /// All that was handed on, data joined.
    fn got(&self) -> Vec<Got> {
        let mut all: Vec<Got> = Vec::new();
        for (_, piece) in &self.out {
            match (all.last_mut(), piece) {
                (Some(Got::Data(before)), Ok(data)) => before.push_str(&String::from_utf8_lossy(data)),
                (_, Ok(data)) => all.push(Got::Data(String::from_utf8_lossy(data).into_owned())),
                (_, Err(n)) => all.push(Got::Gap(*n)),
            }
        }
        all
    }
}

fn text(s: &str) -> Got {
    Got::Data(s.into())
}

#[test]
fn in_order_bytes_are_handed_on_where_they_lie() {
    let mut receiver = Receiver::default();
    receiver.syn(Seq(9));
    let limits = Limits::default();
    let rules = Rules { limits: &limits, hash: false, trim: false, now: Timestamp(1) };
    let payload = b"hello".to_vec();
    let at = Arrival { time: Timestamp(1), offset: 0, acked: Some(7), truncated: false };
    let mut seen = None;
    let segment = Segment { seq: Seq(10), payload: &payload, wire: 5, at };
    receiver.segment(segment, rules, &mut |chunk, at| {
        if let Chunk::Data(data) = chunk {
            seen = Some((data.as_ptr(), at));
        }
    });
    assert_eq!(seen, Some((payload.as_ptr(), at)));
    assert_eq!(receiver.memory(), 0, "nothing is kept of a stream in order");
}

#[test]
fn out_of_order_over_the_wrap() {
    let mut b = Bench::with_syn(u32::MAX - 3);
    b.data(6, "gh");
    b.data(2, "cdef");
    assert_eq!(b.got(), []);
    b.data(0, "ab");
    assert_eq!(b.got(), [text("abcdefgh")]);
    assert!(!b.receiver.waiting());
    assert_eq!(b.receiver.held_memory(), 0);
}

#[test]
fn offsets_go_on_past_many_wraps() {
    let mut b = Bench::with_syn(5);
    let (step, mut at) = (512 << 20, 0u64);
    // 10 GiB, of which the snap length leaves the first byte of each 512 MiB.
    for _ in 0..20 {
        b.cut(at, b"x", step);
        at += step as u64;
    }
    assert_eq!(at, 10 << 30);
    assert_eq!(b.receiver.bytes, 20);
    assert_eq!(b.out.last().map(|(a, _)| a.offset), Some((10 << 30) - (512 << 20) + 1));
    assert_eq!(b.receiver.held_memory(), 0);
}

#[test]
fn retransmissions_are_counted_and_give_nothing() {
    let mut b = Bench::with_syn(0);
    b.data(0, "abcd");
    assert_eq!(b.data(0, "abcd").repeated, 4);
    let outcome = b.data(2, "cdef");
    assert_eq!((outcome.repeated, outcome.differs), (2, false));
    assert_eq!(b.got(), [text("abcdef")]);
    assert_eq!(b.receiver.figures().repeated, 6);
}

#[test]
fn the_first_copy_wins_and_a_different_one_is_told() {
    let mut b = Bench::with_syn(0);
    b.data(4, "EFGH");
    let outcome = b.data(2, "cdefgh");
    assert!(outcome.differs);
    assert_eq!(outcome.repeated, 4);
    b.data(0, "ab");
    assert_eq!(b.got(), [text("abcdEFGH")]);
    assert_eq!(b.receiver.figures().overlaps, 1);
}

#[test]
fn a_segment_over_several_held_ones_fills_the_holes_between() {
    let mut b = Bench::with_syn(0);
    b.data(2, "c");
    b.data(4, "e");
    b.data(6, "g");
    let outcome = b.data(0, "abcdefghij");
    assert_eq!((outcome.repeated, outcome.differs), (3, false));
    assert_eq!(b.got(), [text("abcdefghij")]);
}

#[test]
fn keep_alive_probes_give_nothing_and_differ_from_nothing() {
    let mut b = Bench::with_syn(0);
    b.data(0, "abc");
    assert!(!b.data(2, "\0").differs);
    let seq = b.seq(2);
    b.receiver.empty(seq, b.now);
    assert!(!b.receiver.waiting());
    b.data(3, "def");
    assert_eq!(b.got(), [text("abcdef")]);
}

#[test]
fn a_join_at_a_keep_alive_probe_does_not_begin_with_its_zero() {
    let mut b = Bench::joined(100);
    b.data(0, "\0");
    b.wait(Duration::from_secs(1));
    b.data(1, "GET /");
    b.ack(6, None);
    assert_eq!(b.got(), [text("GET /")]);
    // What is just one zero byte to the end may as well be data.
    let mut b = Bench::joined(100);
    b.data(0, "\0");
    b.flush();
    assert_eq!(b.got(), [text("\0")]);
}

#[test]
fn a_packet_without_payload_captured_before_the_data_before_it_loses_nothing() {
    let mut b = Bench::with_syn(0);
    let seq = b.seq(4);
    b.receiver.empty(seq, b.now);
    b.settle();
    assert_eq!(b.got(), []);
    assert!(b.receiver.deadline(&b.limits).is_some_and(|due| due > b.now));
    b.data(0, "late");
    assert_eq!(b.got(), [text("late")]);
}

#[test]
fn a_packet_without_payload_at_the_end_of_a_gap_tells_nothing_new() {
    let mut b = Bench::with_syn(0);
    let seq = b.seq(4);
    b.receiver.empty(seq, b.now);
    b.wait(Duration::from_secs(11));
    assert_eq!(b.got(), [Got::Gap(4)]);
    b.receiver.empty(seq, b.now);
    assert!(!b.receiver.waiting());
    assert_eq!(b.receiver.deadline(&b.limits), None);
}

#[test]
fn bytes_beyond_a_fin_are_not_taken() {
    for mut b in [Bench::with_syn(99), Bench::joined(100)] {
        b.data(0, "ab");
        b.fin(4);
        b.data(4, "no");
        b.data(2, "cdno");
        b.flush();
        assert_eq!(b.got(), [text("abcd")]);
        assert!(b.receiver.done());
    }
}

#[test]
fn a_hole_that_nobody_acknowledged_is_waited_for() {
    let mut b = Bench::with_syn(0);
    b.data(3, "def");
    for i in 2..60 {
        b.data(3 * i, "xyz");
    }
    b.wait(Duration::from_secs(9));
    assert_eq!(b.got(), []);
    assert!(b.receiver.deadline(&b.limits).is_some());
    b.wait(Duration::from_secs(2));
    assert_eq!(b.got()[0], Got::Gap(3));
    assert!(!b.receiver.waiting());
}

#[test]
fn an_acknowledged_hole_is_a_gap_once_the_acknowledgement_was_answered() {
    let mut b = Bench::with_syn(0);
    // The other side's packet acknowledges 10 bytes that were not captured; its own payload ends at 50.
    b.ack(10, Some(50));
    assert_eq!(b.got(), []);
    // This side goes on and has received those 50 bytes: what it sent before is not just late.
    b.receiver.answers(50);
    b.data(10, "next");
    assert_eq!(b.got(), [Got::Gap(10), text("next")]);
}

#[test]
fn an_acknowledgement_seen_before_its_data_loses_nothing() {
    let mut b = Bench::with_syn(0);
    // One direction lags in the capture: all of 200 bytes are acknowledged before the first of them is seen.
    b.ack(200, None);
    b.data(2, "cd");
    b.data(0, "ab");
    for at in (4..200).step_by(2) {
        b.data(at, "zz");
    }
    assert!(b.out.iter().all(|(_, piece)| piece.is_ok()), "no gap");
    assert_eq!(b.receiver.bytes, 200);
}

#[test]
fn an_acknowledged_hole_is_a_gap_after_enough_from_beyond_or_a_little_time() {
    let mut b = Bench::with_syn(0);
    b.data(2, "cd");
    b.ack(4, None);
    for i in 0..7 {
        b.data(4 + 2 * i, "..");
    }
    assert_eq!(b.got(), []);
    b.data(18, "!!");
    assert_eq!(b.got()[0], Got::Gap(2));

    let mut b = Bench::with_syn(0);
    b.data(2, "cd");
    b.ack(4, None);
    assert_eq!(b.receiver.deadline(&b.limits), Some(b.now.after(b.limits.reorder_time)));
    b.wait(b.limits.reorder_time);
    assert_eq!(b.got(), [Got::Gap(2), text("cd")]);
}

#[test]
fn only_what_was_acknowledged_is_given_up() {
    let mut b = Bench::with_syn(0);
    b.data(6, "gh");
    b.ack(4, None);
    b.wait(b.limits.reorder_time);
    assert_eq!(b.got(), [Got::Gap(4)]);
    b.data(4, "ef");
    assert_eq!(b.got(), [Got::Gap(4), text("efgh")]);
}

#[test]
fn a_cut_segment_is_data_and_a_gap() {
    let mut b = Bench::with_syn(0);
    b.cut(0, b"GET ", 100);
    b.cut(100, b"", 50);
    b.cut(200, b"later", 60);
    b.cut(150, b"mid", 50);
    assert_eq!(
        b.got(),
        [text("GET "), Got::Gap(96), Got::Gap(50), text("mid"), Got::Gap(47), text("later"), Got::Gap(55)]
    );
    assert!(b.out[0].0.truncated);
    let figures = b.receiver.figures();
    assert_eq!(figures.gaps, [(4, 146), (153, 47), (205, 55)]);
    assert_eq!((figures.gaps_total, figures.gap_bytes, figures.unseen), (3, 248, 0));
    assert_eq!(figures.runs.iter().map(|r| (r.0, r.1)).collect::<Vec<_>>(), [(0, 4), (150, 3), (200, 5)]);
}

#[test]
fn a_stream_joined_in_the_middle_begins_at_its_lowest_byte() {
    let mut b = Bench::joined(7_000);
    b.data(4, "efgh");
    b.data(0, "abcd");
    assert_eq!(b.got(), []);
    b.ack(8, None);
    assert_eq!(b.got(), [text("abcdefgh")]);
    // Where an acknowledgement has told the place, nothing is waited for.
    let mut b = Bench::joined(7_000);
    b.ack(0, None);
    b.data(0, "at once");
    assert_eq!(b.got(), [text("at once")]);
    // Without any acknowledgement, a moment.
    let mut b = Bench::joined(7_000);
    b.data(0, "one side");
    assert_eq!(b.got(), []);
    b.wait(b.limits.reorder_time);
    assert_eq!(b.got(), [text("one side")]);
    assert_eq!(b.receiver.figures().runs[0].0, 0);
}

#[test]
fn what_is_lost_before_a_joined_direction_is_told_and_is_no_gap() {
    let mut b = Bench::joined(7_000);
    b.ack(0, None);
    b.ack(30, None);
    b.data(30, "behind");
    assert_eq!(b.got(), [Got::Gap(30), text("behind")]);
    let figures = b.receiver.figures();
    assert_eq!((figures.before, figures.gaps_total, figures.runs[0].0), (30, 0, 0));
    // A SYN that comes later makes it one.
    let mut b = Bench::joined(7_000);
    b.ack(0, None);
    b.ack(30, None);
    b.data(30, "behind");
    b.receiver.syn(Seq(6_999));
    let figures = b.receiver.figures();
    assert_eq!((figures.before, &figures.gaps[..], figures.runs[0].0), (0, &[(0, 30)][..], 30));
}

#[test]
fn a_syn_that_comes_late_tells_the_beginning() {
    let mut b = Bench::joined(11);
    b.data(3, "def");
    assert!(b.receiver.same_syn(Seq(10)));
    assert!(!b.receiver.same_syn(Seq(10_000_000)));
    b.receiver.syn(Seq(10));
    b.data(0, "abc");
    assert_eq!(b.got(), [text("abcdef")]);
    assert!(b.receiver.same_syn(Seq(10)));
    assert!(!b.receiver.same_syn(Seq(11)));
}

#[test]
fn fin_is_done_when_all_before_it_was_handed_on() {
    let mut b = Bench::with_syn(0);
    b.fin(4);
    assert!(!b.receiver.done());
    b.data(2, "cd");
    b.data(0, "ab");
    assert!(b.receiver.done());
    // Data past a FIN is no data of this connection.
    b.data(4, "evil");
    assert_eq!(b.got(), [text("abcd")]);
    // A FIN after lost bytes: a gap at the end.
    let mut b = Bench::with_syn(0);
    b.data(0, "ab");
    b.fin(10);
    b.flush();
    assert!(b.receiver.done());
    assert_eq!(b.got(), [text("ab"), Got::Gap(8)]);
    assert_eq!(b.receiver.figures().gap_bytes, 8);
}

#[test]
fn bytes_only_known_from_empty_packets_are_told_apart() {
    let mut b = Bench::with_syn(0);
    b.data(0, "ab");
    let seq = b.seq(50);
    b.receiver.empty(seq, b.now);
    b.flush();
    assert_eq!(b.got(), [text("ab"), Got::Gap(48)]);
    let figures = b.receiver.figures();
    assert_eq!((figures.gaps_total, figures.gap_bytes, figures.unseen), (0, 0, 48));
    assert_eq!(figures.runs.len(), 1);
}

#[test]
fn far_segments_are_not_taken_unless_they_go_on() {
    let mut b = Bench::with_syn(0);
    b.data(0, "ab");
    assert!(b.data(2 << 30, "wild").wild);
    b.data(2, "cd");
    assert_eq!(b.got(), [text("abcd")]);
    // Sixteen in a row: two GiB were lost, not sixteen packets forged.
    for i in 0..16 {
        b.data((2 << 30) + 4 * i, "more");
    }
    assert_eq!(b.got(), [text("abcd"), Got::Gap((2 << 30) + 60 - 4), text("more")]);
}

#[test]
fn budgets_of_a_direction_are_kept() {
    let mut b = Bench::with_syn(0);
    b.limits.reassembly_per_direction = 10_000;
    let mut squeezed = 0;
    for i in 1..1_000u64 {
        squeezed += b.data(i * 100, &"x".repeat(50)).squeezed;
        assert!(b.receiver.held_memory() <= 10_000);
    }
    assert!(squeezed > 900);
    b.flush();
    assert_eq!(b.receiver.bytes, 999 * 50);
    let mut b = Bench::with_syn(0);
    b.limits.holes = 10;
    let squeezed: u64 = (1..100u64).map(|i| b.data(i * 2, "y").squeezed).sum();
    assert_eq!(squeezed, 89);
    // One long hole with much behind it counts as one.
    let mut b = Bench::with_syn(0);
    b.limits.holes = 10;
    assert_eq!((1..100u64).rev().map(|i| b.data(i, "y").squeezed).sum::<u64>(), 0);
}

#[test]
fn no_more_gaps_are_listed_than_the_limit() {
    let mut b = Bench::with_syn(0);
    b.limits.listed_gaps = 3;
    for i in 0..10 {
        b.cut(i * 10, b"abcde", 10);
    }
    let figures = b.receiver.figures();
    assert_eq!((figures.gaps.len(), figures.gaps_total, figures.gap_bytes), (3, 10, 50));
    assert_eq!(figures.runs.len(), 4);
    // The last run, which no gap ends, is none too many.
    let mut b = Bench::with_syn(0);
    b.limits.listed_gaps = 3;
    for i in 0..10 {
        b.cut(i * 10, b"abcde", 10);
    }
    b.data(100, "the last run");
    assert_eq!(b.receiver.figures().runs.len(), 4);
}

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
