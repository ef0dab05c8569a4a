//! One direction against a naive model of it, for tests and fuzzing.
//!
//! The model knows nothing of holes, acknowledgements or time. It keeps the first copy of every byte that arrived where
//! bytes were still taken, and holds the receiver to this:
//! - What is handed on has no break and repeats nothing.
//! - A byte that is handed on is its first copy.
//! - A byte that arrived before its place was given up is handed on, at the latest in the end.
//! - Where only whole segments come and no budget is spent, all is handed on as soon as nothing before it is missing,
//!   and nothing is given up.
//! - What is held stays within its budget; in the end nothing is.

use std::collections::BTreeMap;
use std::time::Duration;

use super::receiver::JOINED;
use super::{Receiver, Rules, Segment, Seq};
use crate::dissect::{Arrival, Chunk};
use crate::limits::Limits;
use crate::time::Timestamp;

/// How the direction begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Start {
    /// Its SYN was not seen.
    pub joined: bool,
    /// Sequence number of offset 0.
    pub base: u32,
    /// Limits so small that they are reached.
    pub tight: bool,
    /// Whether its bytes are hashed.
    pub hash: bool,
}

/// Something that the receiver is told. Offsets count from the direction's first byte, and are below 2^20.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A segment of which `length` bytes were captured and `lost` more were on the wire. Copies of the same range
    /// differ if their versions do.
    Cut {
        /// Where it begins.
        offset: u32,
        /// Bytes captured.
        length: u16,
        /// Bytes cut by the snap length.
        lost: u16,
        /// Which copy.
        version: u8,
    },
    /// The peer acknowledges up to `offset`, in a packet whose own payload ends at `answer`.
    Ack {
        /// Offset acknowledged.
        offset: u32,
        /// End of its payload in the other direction.
        answer: Option<u32>,
    },
    /// A packet acknowledged the other direction up to here.
    Answers(u32),
    /// Time passes.
    Wait {
        /// Milliseconds.
        millis: u32,
    },
    /// A packet without payload.
    Empty(u32),
    /// A FIN.
    Fin(u32),
    /// A segment with any sequence number. From there on only breaks and budgets are looked at.
    Far {
        /// Its sequence number.
        seq: u32,
        /// Its length.
        length: u8,
    },
}

/// The byte at an offset, in one of its versions. Never zero: one alone could be a keep-alive probe's, which is no data.
fn byte(offset: u64, version: u8) -> u8 {
    (offset.wrapping_mul(31) as u8 ^ version.wrapping_mul(0x54)) | 1
}

#[derive(Debug, Default)]
struct Model {
    /// First copy of each byte taken.
    first: BTreeMap<u64, u8>,
    /// Offset that the receiver gives to the model's offset 0.
    shift: u64,
    /// Where what was handed on ends, in the receiver's offsets.
    at: Option<u64>,
    gaps: u64,
    data: u64,
    /// Whether the receiver's offsets are no longer those of the model.
    lost_track: bool,
    /// Whether something came that can make it give up a hole.
    gave_reason: bool,
}

impl Model {
    fn handed_on(&mut self, chunk: Chunk<'_>, at: Arrival) {
        let begins = self.at.unwrap_or(at.offset);
        assert_eq!(at.offset, begins, "a break in what is handed on");
        match chunk {
            Chunk::Data(data) => {
                assert!(!data.is_empty(), "an empty chunk");
                self.data += data.len() as u64;
                for (offset, byte) in (begins..).zip(data).filter(|_| !self.lost_track) {
                    let first = self.first.remove(&(offset - self.shift));
                    assert_eq!(first, Some(*byte), "offset {} of the direction", offset - self.shift);
                }
                self.at = Some(begins + data.len() as u64);
            }
            Chunk::Gap(n) => {
                assert!(n > 0, "an empty gap");
                self.gaps += 1;
                self.at = Some(begins + n);
            }
        }
    }

    /// A segment came, of which the receiver is past `next` and takes nothing from `end` on.
    fn arrived(&mut self, offset: u64, data: &[u8], next: u64, end: u64) {
        if offset + self.shift > end {
            return;
        }
        for (at, byte) in (offset..).zip(data) {
            if at + self.shift >= next && at + self.shift < end {
                self.first.entry(at).or_insert(*byte);
            }
        }
    }
}

struct Bench {
    receiver: Receiver,
    model: Model,
    limits: Limits,
    now: Timestamp,
    start: Start,
}

/// Tells a receiver `steps`, and checks it after each and at the end.
pub fn run(start: Start, steps: &[Step]) {
    let mut bench = Bench::new(start);
    for step in steps {
        bench.step(*step);
        bench.check();
    }
    bench.finish();
}

impl Bench {
    fn new(start: Start) -> Self {
        let mut limits = Limits::default();
        if start.tight {
            (limits.reassembly_per_direction, limits.holes, limits.listed_gaps) = (3_000, 5, 4);
        }
        let mut receiver = Receiver::default();
        if !start.joined {
            receiver.syn(Seq(start.base.wrapping_sub(1)));
        }
        let model = Model { gave_reason: start.joined || start.tight, ..Model::default() };
        Self { receiver, model, limits, now: Timestamp::new(1_000, 0), start }
    }

    /// The first number that a joined direction meets gets a fixed offset.
    fn seq(&mut self, offset: u32) -> Seq {
        if !self.receiver.known() {
            self.model.shift = JOINED.saturating_sub(u64::from(offset));
        }
        Seq(self.start.base).plus(u64::from(offset))
    }

    fn step(&mut self, step: Step) {
        let now = self.now;
        if !matches!(step, Step::Cut { length: 1.., lost: 0, .. }) {
            self.model.gave_reason = true;
        }
        match step {
            Step::Cut { offset, length, lost, version } => {
                let begins = u64::from(offset);
                let data: Vec<u8> = (begins..begins + u64::from(length)).map(|o| byte(o, version)).collect();
                let seq = self.seq(offset);
                let next = if self.receiver.started { self.receiver.next } else { 0 };
                self.model.arrived(begins, &data, next, self.receiver.fin);
                self.segment(seq, &data, u64::from(length) + u64::from(lost));
            }
            Step::Far { seq, length } => {
                self.model.lost_track = true;
                self.segment(Seq(seq), &vec![0; usize::from(length)], u64::from(length));
            }
            Step::Ack { offset, answer } => {
                let seq = self.seq(offset);
                self.receiver.acknowledged(seq, answer.map(u64::from), now);
            }
            Step::Answers(offset) => self.receiver.answers(u64::from(offset)),
            Step::Wait { millis } => self.now = now.after(Duration::from_millis(u64::from(millis))),
            Step::Empty(offset) => {
                let seq = self.seq(offset);
                self.receiver.empty(seq, now);
            }
            Step::Fin(offset) => {
                let seq = self.seq(offset);
                self.receiver.fin(seq, 0, now);
            }
        }
        self.with(|receiver, rules, model| {
            if receiver.waiting() {
                receiver.settle(rules, &mut |chunk, at| model.handed_on(chunk, at));
            }
        });
    }

    fn segment(&mut self, seq: Seq, payload: &[u8], wire: u64) {
        if wire == 0 {
            return self.receiver.empty(seq, self.now);
        }
        let at = Arrival { time: self.now, offset: 0, acked: None, truncated: false };
        let segment = Segment { seq, payload, wire, at };
        self.with(|receiver, rules, model| {
            receiver.segment(segment, rules, &mut |chunk, at| model.handed_on(chunk, at));
        });
    }

    fn with(&mut self, f: impl FnOnce(&mut Receiver, Rules<'_>, &mut Model)) {
        let Self { receiver, model, limits, now, start } = self;
        f(receiver, Rules { limits, hash: start.hash, trim: false, now: *now }, model);
    }

    fn check(&self) {
        let Self { receiver, model, limits, .. } = self;
        let held = receiver.held_memory();
        assert!(held <= limits.reassembly_per_direction, "{held} bytes are held");
        assert_eq!(receiver.bytes, model.data);
        assert!(model.at.is_none_or(|at| at == receiver.next), "{:?} is not {}", model.at, receiver.next);
        if !model.gave_reason {
            assert_eq!(model.gaps, 0, "a hole was given up for no reason");
            assert!(!model.first.contains_key(&receiver.next), "offset {} is kept back", receiver.next);
            assert_eq!(receiver.waiting(), !model.first.is_empty());
        }
        if receiver.waiting() {
            let due = receiver.deadline(limits);
            assert!(due.is_none_or(|due| due > self.now), "what is due was not done");
        }
    }

    fn finish(mut self) {
        self.with(|receiver, rules, model| {
            receiver.flush(rules, &mut |chunk, at| model.handed_on(chunk, at));
        });
        let Self { mut receiver, model, limits, .. } = self;
        assert!(!receiver.waiting());
        assert_eq!(receiver.held_memory(), 0);
        assert!(model.lost_track || model.first.is_empty(), "kept back to the end: {:?}", model.first);
        let figures = receiver.figures();
        assert!(figures.gaps.len() <= limits.listed_gaps && figures.runs.len() <= limits.listed_gaps + 1);
        assert!(figures.gaps.windows(2).all(|w| w[0].0 + w[0].1 < w[1].0), "{:?}", figures.gaps);
    }
}
