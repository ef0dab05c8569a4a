//! Holding what came too early, and giving up what does not come; where a direction without SYN begins.

use super::Seq;
use super::receiver::{Extra, Figures, JOIN_BUDGET, Mark, Outcome, Receiver, Rules, Segment};
use crate::dissect::{Arrival, Chunk};
use crate::limits::Limits;
use crate::time::Timestamp;

/// Fewer bytes than this are not worth telling that they are not needed.
const TRIM_LEAST: u64 = 1 << 20;
/// So many are told at once, at most: a small part of the sequence numbers, so that a connection that follows on the same
/// ports hardly ever falls into it.
const TRIM_MOST: u64 = 256 << 20;

impl Receiver {
    /// More was lost than sequence numbers can tell: goes on at `seq`.
    pub(super) fn jump(&mut self, seq: Seq, rules: Rules<'_>, sink: &mut impl FnMut(Chunk<'_>, Arrival)) {
        self.flush(rules, sink);
        self.wild = 0;
        let distance = u64::from(seq.forward(self.base.plus(self.next)));
        self.end = self.next + distance;
        self.give_up_to(self.end, rules.now, rules, sink);
    }

    pub(super) fn hold(&mut self, start: u64, segment: &Segment<'_>, now: Timestamp, outcome: &mut Outcome) {
        let Segment { payload, wire, at, .. } = *segment;
        self.end = self.end.max(start + wire);
        let fresh = !self.waiting;
        self.waiting = true;
        let extra = self.extra();
        if fresh {
            extra.since = now;
        }
        extra.saw(start);
        let lost = wire.saturating_sub(payload.len() as u64);
        // The one byte of a keep-alive probe is arbitrary (RFC 9293 section 3.8.4).
        let overlap = extra.held.insert(start, payload, lost, at);
        outcome.repeated += overlap.repeated;
        extra.repeated += overlap.repeated;
        outcome.differs = overlap.differs && wire > 1;
        extra.overlaps += u32::from(outcome.differs);
    }

    /// Hands on bytes at `next`.
    pub(super) fn pass(
        &mut self,
        data: &[u8],
        at: Arrival,
        rules: Rules<'_>,
        sink: &mut impl FnMut(Chunk<'_>, Arrival),
    ) {
        if data.is_empty() {
            return;
        }
        let offset = self.next;
        if rules.hash {
            self.extra().hash.get_or_insert_default().data(offset, data);
        }
        self.next += data.len() as u64;
        self.bytes += data.len() as u64;
        sink(Chunk::Data(data), Arrival { offset, ..at });
    }

    /// Gives up what is missing between `next` and `to`, but nothing that is held.
    pub(super) fn give_up_to(
        &mut self,
        to: u64,
        time: Timestamp,
        rules: Rules<'_>,
        sink: &mut impl FnMut(Chunk<'_>, Arrival),
    ) {
        let to = self.first_held().map_or(to, |first| first.min(to));
        if to <= self.next {
            return;
        }
        let (offset, length) = (self.next, to - self.next);
        let limit = rules.limits.listed_gaps;
        let extra = self.extra();
        extra.gaps.add(offset, length, limit);
        if let Some(hash) = extra.hash.as_mut() {
            hash.gap(limit);
        }
        self.next = to;
        sink(Chunk::Gap(length), Arrival { time, offset, acked: None, truncated: false });
    }

    /// A segment was captured up to `next` only, and goes on to `to`.
    pub(super) fn cut_to(
        &mut self,
        to: u64,
        at: Arrival,
        rules: Rules<'_>,
        sink: &mut impl FnMut(Chunk<'_>, Arrival),
    ) {
        let to = self.first_held().map_or(to, |first| first.min(to));
        let unneeded = to > self.next && self.extra.as_ref().is_some_and(|x| to <= x.unneeded);
        if !unneeded {
            return self.give_up_to(to, at.time, rules, sink);
        }
        let (offset, length) = (self.next, to - self.next);
        self.extra().trimmed += length;
        self.next = to;
        sink(Chunk::Gap(length), Arrival { time: at.time, offset, acked: None, truncated: true });
    }

    /// The next `bytes` bytes are not needed (0: all are). What has changed by that, if anything: where that begins, and for
    /// how many bytes.
    pub(crate) fn trim(&mut self, bytes: u64) -> Option<(Seq, u32)> {
        let (next, until) = (self.next, self.extra.as_ref().map_or(0, |x| x.unneeded));
        let ahead = until.saturating_sub(next);
        if bytes < TRIM_LEAST && (until == 0 || ahead > 0) {
            return None;
        }
        let wanted = if bytes < TRIM_LEAST { 0 } else { bytes.min(TRIM_MOST) };
        if wanted > 0 && ahead >= wanted.div_ceil(2) {
            return None;
        }
        self.extra().unneeded = if wanted == 0 { 0 } else { next + wanted };
        Some((self.base.plus(next), wanted as u32))
    }

    /// All bytes are needed. Whether they were not.
    pub(crate) fn untrim(&mut self) -> bool {
        self.extra.as_mut().is_some_and(|x| std::mem::take(&mut x.unneeded) > 0)
    }

    /// Hands on what is held and no longer has a hole before it.
    pub(super) fn drain(&mut self, rules: Rules<'_>, sink: &mut impl FnMut(Chunk<'_>, Arrival)) {
        while self.first_held().is_some_and(|first| first <= self.next) {
            let Some((start, segment)) = self.extra.as_mut().and_then(|x| x.held.pop()) else { return };
            let known = (self.next - start) as usize;
            let data = segment.data.get(known..).unwrap_or_default();
            self.pass(data, segment.at, rules, sink);
            if segment.lost > 0 {
                let end = start + segment.data.len() as u64 + segment.lost;
                self.cut_to(end, segment.at, rules, sink);
            }
        }
    }

    /// Works out anew whether something is waited for.
    pub(super) fn refresh(&mut self, now: Timestamp) {
        let (next, end, started, waited) = (self.next, self.end, self.started, self.waiting);
        let Some(extra) = self.extra.as_mut() else {
            self.waiting = started && end > next;
            if self.waiting {
                let extra = self.extra();
                extra.since = now;
            }
            return;
        };
        self.waiting = !extra.held.is_empty() || (started && end.max(extra.sent) > next);
        if self.waiting {
            let since = extra.held.first_at().map_or(if waited { extra.since } else { now }, |a| a.time);
            extra.since = since;
        }
    }

    /// Gives up holes until the budget of the direction is kept.
    pub(super) fn squeeze(
        &mut self,
        rules: Rules<'_>,
        sink: &mut impl FnMut(Chunk<'_>, Arrival),
        outcome: &mut Outcome,
    ) {
        let limits = rules.limits;
        while self.extra.as_ref().is_some_and(|x| {
            x.held.memory() > limits.reassembly_per_direction || x.held.holes() > limits.holes
        }) {
            self.give_up_first(rules, sink);
            outcome.squeezed += 1;
        }
    }

    /// Gives up the first hole, whatever the reason, and hands on what it kept back.
    pub(crate) fn give_up_first(&mut self, rules: Rules<'_>, sink: &mut impl FnMut(Chunk<'_>, Arrival)) {
        if !self.started {
            self.begin(rules.now, sink);
        } else {
            let to =
                self.first_held().unwrap_or_else(|| self.end.max(self.extra.as_ref().map_or(0, |x| x.sent)));
            let time = self.first_time().unwrap_or(rules.now);
            self.give_up_to(to, time, rules, sink);
        }
        self.drain(rules, sink);
        self.refresh(rules.now);
    }

    /// Capture time of the first held segment.
    pub(crate) fn first_time(&self) -> Option<Timestamp> {
        self.extra.as_ref().and_then(|x| x.held.first_at()).map(|a| a.time)
    }

    /// The other end's SYN was seen.
    pub(crate) fn answers_syn(&mut self) {
        self.answering = true;
    }

    /// Whether the other end had received less when it sent this acknowledgement than lies before where this direction
    /// was taken to begin.
    pub(crate) fn began_before(&self, ack: Seq) -> bool {
        self.started && !self.syn && self.near(ack).is_some_and(|offset| offset < self.origin)
    }

    /// The other end, which has sent nothing yet, told by its acknowledgement where this direction begins.
    pub(crate) fn told_start(&mut self, ack: Seq) {
        self.told |= self.near(ack).is_some_and(|offset| offset == self.next);
    }

    /// Whether bytes at the start may have been sent within the capture, and missed.
    pub(super) fn start_unknown(&self) -> bool {
        self.answering && !self.told
    }

    /// Whether a number is that of its first byte, where the SYN was seen.
    pub(crate) fn is_first(&self, seq: Seq) -> bool {
        self.syn && self.base.plus(self.origin) == seq
    }

    /// Begins at `at`, and tells what is known to be lost before. That is no gap of the summary, for the direction is
    /// not known from its beginning, and offsets count from its first byte: it is told by a figure of its own.
    pub(super) fn start_at(&mut self, at: u64, time: Timestamp, sink: &mut impl FnMut(Chunk<'_>, Arrival)) {
        let unknown = self.start_unknown();
        if unknown {
            // How much is missing is not known, but whoever takes this for the beginning would pair wrongly.
            self.next = self.next.min(at.saturating_sub(1));
        }
        let (offset, missed) = (self.next, at.saturating_sub(self.next));
        self.start(at);
        if missed > 0 {
            if !unknown {
                self.extra().before = missed;
            }
            sink(Chunk::Gap(missed), Arrival { time, offset, acked: None, truncated: false });
        }
    }

    /// A direction without SYN begins at the lowest byte seen.
    pub(super) fn begin(&mut self, now: Timestamp, sink: &mut impl FnMut(Chunk<'_>, Arrival)) {
        let Some(extra) = self.extra.as_mut() else { return };
        if let Some((start, segment)) = extra.held.pop() {
            // A keep-alive probe repeats one byte from before the beginning, as a zero.
            let zero = *segment.data == [0] && segment.lost == 0;
            let probe = zero && extra.held.first_segment().is_some_and(|(s, l)| s == start + 1 && l > 1);
            if probe {
                self.next = self.next.max(start + 1);
            } else {
                extra.held.insert(start, &segment.data, segment.lost, segment.at);
            }
            self.start_at(start + u64::from(probe), now, sink);
        }
    }

    /// Gives up the holes that are ripe or too old. Nothing to do unless [`Self::waiting`].
    pub(crate) fn settle(&mut self, rules: Rules<'_>, sink: &mut impl FnMut(Chunk<'_>, Arrival)) {
        let limits = rules.limits;
        loop {
            let (next, end, started) = (self.next, self.end, self.started);
            let Some(extra) = self.extra.as_mut().filter(|_| self.waiting) else { return };
            if !started {
                let patience =
                    rules.now.since(extra.since) >= limits.reorder_time || extra.held.memory() > JOIN_BUDGET;
                let wait = extra.held.first().is_none_or(|first| extra.ripe <= first && !patience);
                if wait || extra.held.perhaps_probe() {
                    return;
                }
                self.give_up_first(rules, sink);
                continue;
            }
            extra.ripen(rules.now, limits);
            let hole_end = extra.held.first().unwrap_or_else(|| end.max(extra.sent));
            if hole_end <= next {
                return;
            }
            let expired = rules.now.since(extra.since) >= limits.hole_timeout;
            let to = if expired { hole_end } else { hole_end.min(extra.ripe) };
            if to <= next {
                return;
            }
            let time = extra.held.first_at().map_or(rules.now, |a| a.time);
            self.give_up_to(to, time, rules, sink);
            self.drain(rules, sink);
            self.refresh(rules.now);
        }
    }

    /// When [`Self::settle`] must be called again at the latest.
    pub(crate) fn deadline(&self, limits: &Limits) -> Option<Timestamp> {
        let extra = self.extra.as_ref().filter(|_| self.waiting)?;
        if !self.started {
            return Some(extra.since.after(limits.reorder_time)).filter(|_| !extra.held.perhaps_probe());
        }
        let hole = extra.since.after(limits.hole_timeout);
        let mark = extra.mark.filter(|m| m.ack > self.next).map(|m| m.at.after(limits.reorder_time));
        Some(mark.map_or(hole, |m| m.min(hole)))
    }

    /// Hands on all that is held, holes as gaps.
    pub(crate) fn flush(&mut self, rules: Rules<'_>, sink: &mut impl FnMut(Chunk<'_>, Arrival)) {
        while self.waiting {
            self.give_up_first(rules, sink);
        }
    }

    /// Figures for the summary; the receiver is of no use after.
    pub(crate) fn figures(&mut self) -> Figures {
        let (next, end, origin) = (self.next, self.end, self.origin);
        let Some(mut extra) = self.extra.take() else { return Figures::default() };
        // Bytes that only empty packets and acknowledgements tell of, with no data behind them.
        let mut unseen = if self.started { next.saturating_sub(end) } else { 0 };
        extra.gaps.shorten(next, unseen);
        if self.bytes == 0 {
            // With no byte captured there is nothing for a gap to be between.
            unseen += std::mem::take(&mut extra.gaps).bytes;
        }
        let shift = |offset: u64| offset.saturating_sub(origin);
        let runs = extra.hash.take().map(|h| h.finish()).unwrap_or_default();
        Figures {
            gaps: extra.gaps.list.iter().map(|&(o, l)| (shift(o), l)).collect(),
            gaps_total: extra.gaps.total,
            gap_bytes: extra.gaps.bytes,
            before: extra.before,
            unseen,
            trimmed: extra.trimmed,
            repeated: extra.repeated,
            overlaps: u64::from(extra.overlaps),
            runs: runs.into_iter().map(|(o, l, h)| (shift(o), l, h)).collect(),
        }
    }
}

impl Extra {
    /// Notes a packet that begins at `start`.
    pub(super) fn saw(&mut self, start: u64) {
        if let Some(mark) = self.mark.as_mut().filter(|m| start >= m.ack) {
            mark.beyond += 1;
        }
    }

    /// Lets the mark ripen, and sets the next one.
    pub(super) fn ripen(&mut self, now: Timestamp, limits: &Limits) {
        let Some(mark) = self.mark else { return };
        let due = mark.beyond >= limits.reorder_packets || now.since(mark.at) >= limits.reorder_time;
        if due {
            self.ripe = self.ripe.max(mark.ack);
            self.mark =
                (self.acked > mark.ack).then_some(Mark { ack: self.acked, at: now, answer: 0, beyond: 0 });
        }
    }
}
