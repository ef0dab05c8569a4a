//! One direction, situation by situation: bytes in any order, gaps, ends and budgets.

mod begin;
mod model;
mod told;

use std::time::Duration;

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
