//! The receiver of one direction. See the module above for when a hole becomes a gap.

use super::Seq;
use super::held::Held;
use super::log::{GapLog, HashLog, HashedRun};
use crate::dissect::{Arrival, Chunk};
use crate::limits::Limits;
use crate::time::Timestamp;

/// Offset of the first byte known of a direction whose SYN was not seen. There is room below it for segments that were
/// captured after a later one.
pub(crate) const JOINED: u64 = 1 << 20;
/// Segments further from the expected offset are not of this connection's present (RFC 7323: no window is larger).
const WINDOW: i64 = 1 << 30;
/// After so many segments in a row outside the window, more was lost than the window holds: start again there.
const MAX_WILD: u8 = 16;
/// Held bytes at the start of a direction without SYN, past which an earlier segment is not waited for.
const JOIN_BUDGET: usize = 256 << 10;
/// Offset of a FIN that was not seen.
const NO_FIN: u64 = u64::MAX;

/// Bounds and wishes, the same for all receivers of an engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) hash: bool,
}

/// What became of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Outcome {
    /// Bytes that had come before.
    pub(crate) repeated: u64,
    /// Some of them differed.
    pub(crate) differs: bool,
    /// Outside the window; not taken.
    pub(crate) wild: bool,
    /// Holes given up because a budget was spent.
    pub(crate) squeezed: u64,
}

/// One direction. An idle one is this struct alone.
#[derive(Debug)]
pub(crate) struct Receiver {
    /// Sequence number of offset 0.
    base: Seq,
    /// Packets seen of this direction.
    pub(crate) packets: u32,
    /// Offset of the next byte to hand on. Before anything was, and without a SYN: where it is expected to begin.
    next: u64,
    /// One past the last byte that a segment or FIN was seen for.
    end: u64,
    fin: u64,
    /// Offset where the direction begins.
    origin: u64,
    /// Bytes handed on.
    pub(crate) bytes: u64,
    wild: u8,
    known: bool,
    syn: bool,
    /// Whether `next` is certain.
    started: bool,
    /// Whether the first byte is expected at `next`, for a direction whose SYN was not seen.
    hinted: bool,
    /// Whether something is held, or known to be missing.
    waiting: bool,
    extra: Option<Box<Extra>>,
}

/// An acknowledgement that passed what was captured.
#[derive(Clone, Copy, Debug)]
struct Mark {
    /// Offset acknowledged.
    ack: u64,
    at: Timestamp,
    /// End of that packet's own payload, in the other direction.
    answer: u64,
    /// Packets that were captured since and begin beyond `ack`.
    beyond: u64,
}

/// What only a direction with trouble (or hashing) has.
#[derive(Debug, Default)]
struct Extra {
    held: Held,
    /// Since when the first hole is waited for.
    since: Timestamp,
    /// Holes below this offset are not waited for.
    ripe: u64,
    /// Highest offset acknowledged.
    acked: u64,
    /// An acknowledgement that ripens with time, or with segments from beyond it.
    mark: Option<Mark>,
    /// Acknowledgements, the oldest and the newest, that ripen when the packet that carried them is answered.
    proofs: [Option<Mark>; 2],
    /// Offset that the sender's own packets without data have reached.
    sent: u64,
    repeated: u64,
    overlaps: u32,
    gaps: GapLog,
    hash: Option<Box<HashLog>>,
}

/// Raw figures for a stream's summary. Offsets count from the direction's first byte.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) gaps: Vec<(u64, u64)>,
    pub(crate) gaps_total: u64,
    pub(crate) gap_bytes: u64,
    pub(crate) unseen: u64,
    pub(crate) repeated: u64,
    pub(crate) overlaps: u64,
    pub(crate) runs: Vec<HashedRun>,
}

impl Default for Receiver {
    fn default() -> Self {
        Self {
            base: Seq(0),
            packets: 0,
            next: 0,
            end: 0,
            fin: NO_FIN,
            origin: 0,
            bytes: 0,
            wild: 0,
            known: false,
            syn: false,
            started: false,
            hinted: false,
            waiting: false,
            extra: None,
        }
    }
}

impl Receiver {
    /// Offset of a sequence number, near the expected one.
    fn offset(&self, seq: Seq) -> i64 {
        self.next.cast_signed() + i64::from(seq.distance(self.base.plus(self.next)))
    }

    /// The offset, if it is within the window.
    fn near(&self, seq: Seq) -> Option<u64> {
        let offset = self.offset(seq);
        let far = (offset - self.next.cast_signed()).abs() > WINDOW;
        u64::try_from(offset).ok().filter(|_| self.known && !far)
    }

    /// Whether anything is known of where this direction is.
    pub(crate) fn known(&self) -> bool {
        self.known
    }

    /// Whether its SYN was seen.
    pub(crate) fn syn_seen(&self) -> bool {
        self.syn
    }

    /// Whether its FIN was seen.
    pub(crate) fn fin_seen(&self) -> bool {
        self.fin != NO_FIN
    }

    /// Whether an acknowledgement of this number is plausible.
    pub(crate) fn in_window(&self, ack: Seq) -> bool {
        self.near(ack).is_some()
    }

    /// Whether `ack` acknowledges the SYN, or data that came with it, and no more.
    pub(crate) fn begins_at(&self, ack: Seq) -> bool {
        self.base.plus(self.origin) == ack || self.near(ack).is_some_and(|o| o <= self.end)
    }

    /// Offset of the end of a segment.
    pub(crate) fn end_of(&self, seq: Seq, wire: usize) -> Option<u64> {
        self.near(seq).map(|offset| offset + wire as u64)
    }

    /// Whether all bytes of a segment are there.
    pub(crate) fn has(&self, seq: Seq, wire: usize) -> bool {
        let Some(start) = self.near(seq) else { return false };
        let end = start + wire as u64;
        (self.started && end <= self.next) || self.extra.as_ref().is_some_and(|x| x.held.covers(start, end))
    }

    /// Whether it waits for missing bytes.
    pub(crate) fn waiting(&self) -> bool {
        self.waiting
    }

    /// Whether all up to its FIN was handed on.
    pub(crate) fn done(&self) -> bool {
        self.started && self.next >= self.fin
    }

    /// Whether any byte was handed on or is held.
    pub(crate) fn any_data(&self) -> bool {
        self.bytes > 0 || self.held_memory() > 0
    }

    /// Bytes charged for held segments.
    pub(crate) fn held_memory(&self) -> usize {
        self.extra.as_ref().map_or(0, |x| x.held.memory())
    }

    /// Heap memory, in bytes.
    #[cfg(test)]
    pub(crate) fn memory(&self) -> usize {
        self.extra.as_ref().map_or(0, |x| size_of::<Extra>() + x.held.memory())
    }

    fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// Whether a SYN with this number belongs to what is already known of the direction.
    pub(crate) fn same_syn(&self, seq: Seq) -> bool {
        let first = seq.plus(1);
        if !self.known {
            return true;
        }
        if self.syn {
            return self.base.plus(self.origin) == first;
        }
        let Some(offset) = self.near(first) else { return false };
        let lowest = if self.started { self.origin } else { self.first_held().unwrap_or(self.next) };
        offset <= lowest && lowest - offset <= JOINED
    }

    fn first_held(&self) -> Option<u64> {
        self.extra.as_ref().and_then(|x| x.held.first())
    }

    /// A SYN for which [`Self::same_syn`] holds.
    pub(crate) fn syn(&mut self, seq: Seq) {
        if self.syn {
            return;
        }
        self.syn = true;
        let first = seq.plus(1);
        if !self.known {
            (self.base, self.known) = (first, true);
            self.start(0);
        } else if let Some(offset) = self.near(first) {
            if !self.started {
                self.start(offset);
            } else if offset < self.origin {
                // What lies between the SYN and the first byte seen was missed without being known.
                let missed = self.origin - offset;
                self.origin = offset;
                let extra = self.extra();
                if extra.gaps.total == 0 {
                    extra.gaps.add(offset, missed, usize::MAX);
                }
            }
        }
    }

    fn start(&mut self, at: u64) {
        (self.started, self.next, self.origin) = (true, at, at);
        self.end = self.end.max(at);
    }

    /// Takes this number as the place where the direction, of which nothing was seen yet, goes on.
    fn hint(&mut self, seq: Seq) {
        if self.known {
            // Only ever forwards: a keep-alive probe names the byte before.
            if self.first_held().is_none() && self.offset(seq) > self.next.cast_signed() {
                self.next = self.offset(seq).cast_unsigned();
                self.end = self.next;
            }
        } else {
            self.base = Seq(seq.0.wrapping_sub(JOINED as u32));
            (self.next, self.end, self.known) = (JOINED, JOINED, true);
        }
        self.hinted = true;
    }

    /// The other side acknowledged up to `ack`, in a packet whose own payload, if any, ends at `answer`.
    /// Returns the offset, if the number is plausible.
    pub(crate) fn acknowledged(&mut self, ack: Seq, answer: Option<u64>, at: Timestamp) -> Option<u64> {
        if !self.known || (!self.started && self.first_held().is_none()) {
            self.hint(ack);
            return Some(self.next);
        }
        let Some(offset) = self.near(ack) else {
            // Two SYNs that contradict each other, say: the receiver knows better which one it took.
            if !self.any_data() && self.fin == NO_FIN && !self.waiting {
                self.base = Seq(ack.0.wrapping_sub(self.next as u32));
                return Some(self.next);
            }
            return None;
        };
        // The number after a FIN's is not an offset of a byte.
        let offset = if self.fin != NO_FIN { offset.min(self.fin) } else { offset };
        if offset > self.next || (self.waiting && !self.started) {
            self.note_ack(offset, answer, at);
        }
        Some(offset)
    }

    fn note_ack(&mut self, ack: u64, answer: Option<u64>, at: Timestamp) {
        let (next, started) = (self.next, self.started);
        let extra = self.extra();
        if !started {
            // What was acknowledged has nothing before it that is still to come.
            if extra.held.first().is_some_and(|first| ack > first) {
                extra.ripe = extra.ripe.max(ack);
            }
            return;
        }
        extra.acked = extra.acked.max(ack);
        let mark = Mark { ack, at, answer: answer.unwrap_or(0), beyond: 0 };
        if extra.mark.is_none_or(|m| m.ack <= next) {
            extra.mark = Some(mark);
        }
        if answer.is_some() {
            if extra.proofs[0].is_none_or(|m| m.ack <= next) {
                extra.proofs = [Some(mark), None];
            } else {
                extra.proofs[1] = Some(mark);
            }
        }
    }

    /// A packet of this direction acknowledged the other up to `offset`: it answers what came before that.
    pub(crate) fn answers(&mut self, offset: u64) {
        let Some(extra) = self.extra.as_mut() else { return };
        for i in [1, 0] {
            if let Some(mark) = extra.proofs[i].filter(|m| m.answer <= offset) {
                extra.ripe = extra.ripe.max(mark.ack);
                extra.proofs = if i == 1 { [None, None] } else { [extra.proofs[1], None] };
                return;
            }
        }
    }

    /// A packet without payload, SYN, FIN or RST.
    pub(crate) fn empty(&mut self, seq: Seq) {
        if !self.known || !self.started {
            self.hint(seq);
        } else if let Some(offset) = self.near(seq)
            && offset > self.end
        {
            self.waiting = true;
            let extra = self.extra();
            extra.sent = extra.sent.max(offset);
            extra.saw(offset);
        }
    }

    /// A segment with payload: `payload` was captured of `wire` bytes. A retransmission gives nothing new.
    pub(crate) fn segment(
        &mut self,
        seq: Seq,
        payload: &[u8],
        wire: usize,
        mut at: Arrival,
        rules: Rules<'_>,
        now: Timestamp,
        sink: &mut impl FnMut(Chunk<'_>, Arrival),
    ) -> Outcome {
        let mut outcome = Outcome::default();
        if !self.known {
            self.hint(seq);
            self.hinted = false;
        }
        let offset = self.offset(seq);
        let (next, wire) = (self.next.cast_signed(), wire as u64);
        if (offset - next).abs() > WINDOW || offset > self.fin.min(i64::MAX as u64).cast_signed() {
            outcome.wild = true;
            self.wild += 1;
            if self.wild < MAX_WILD || !self.started || self.fin != NO_FIN {
                self.wild = self.wild.min(MAX_WILD);
                return outcome;
            }
            self.jump(seq, rules, now, sink);
            return self.segment(seq, payload, wire as usize, at, rules, now, sink);
        }
        self.wild = 0;
        at.truncated |= (payload.len() as u64) < wire;
        if !self.started {
            if self.hinted && offset == next && !self.waiting {
                self.start(self.next);
            } else if let Ok(offset) = u64::try_from(offset) {
                self.hold(offset, payload, wire, at, now, &mut outcome);
                self.squeeze(rules, now, sink, &mut outcome);
                return outcome;
            } else {
                return outcome;
            }
        }
        let end = (offset + wire.cast_signed()).min(self.fin.min(i64::MAX as u64).cast_signed());
        if end <= next {
            outcome.repeated = wire;
            self.extra().repeated += wire;
            return outcome;
        }
        // The offset is at least `next` from here on, and not negative.
        let cut = (next - offset).max(0).cast_unsigned();
        if cut > 0 {
            outcome.repeated = cut;
            self.extra().repeated += cut;
        }
        let start = offset.max(next).cast_unsigned();
        let wire = end.cast_unsigned() - start;
        let payload = payload.get(cut as usize..).unwrap_or_default();
        let payload = payload.get(..wire as usize).unwrap_or(payload);
        if start == self.next && self.first_held().is_none() {
            self.end = self.end.max(end.cast_unsigned());
            self.pass(payload, at, rules, sink);
            self.give_up_to(end.cast_unsigned(), at.time, rules, sink);
            self.refresh(now);
        } else {
            self.hold(start, payload, wire, at, now, &mut outcome);
            self.drain(rules, sink);
            self.refresh(now);
            self.squeeze(rules, now, sink, &mut outcome);
        }
        outcome
    }

    /// More was lost than sequence numbers can tell: goes on at `seq`.
    fn jump(
        &mut self,
        seq: Seq,
        rules: Rules<'_>,
        now: Timestamp,
        sink: &mut impl FnMut(Chunk<'_>, Arrival),
    ) {
        self.flush(rules, now, sink);
        self.wild = 0;
        let distance = u64::from(seq.forward(self.base.plus(self.next)));
        self.end = self.next + distance;
        self.give_up_to(self.end, now, rules, sink);
    }

    fn hold(
        &mut self,
        start: u64,
        payload: &[u8],
        wire: u64,
        at: Arrival,
        now: Timestamp,
        outcome: &mut Outcome,
    ) {
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
    fn pass(
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
    fn give_up_to(
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

    /// Hands on what is held and no longer has a hole before it.
    fn drain(&mut self, rules: Rules<'_>, sink: &mut impl FnMut(Chunk<'_>, Arrival)) {
        while self.first_held().is_some_and(|first| first <= self.next) {
            let Some((start, segment)) = self.extra.as_mut().and_then(|x| x.held.pop()) else { return };
            let known = (self.next - start) as usize;
            let data = segment.data.get(known..).unwrap_or_default();
            self.pass(data, segment.at, rules, sink);
            if segment.lost > 0 {
                let end = start + segment.data.len() as u64 + segment.lost;
                self.give_up_to(end, segment.at.time, rules, sink);
            }
        }
    }

    /// Works out anew whether something is waited for.
    fn refresh(&mut self, now: Timestamp) {
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
    fn squeeze(
        &mut self,
        rules: Rules<'_>,
        now: Timestamp,
        sink: &mut impl FnMut(Chunk<'_>, Arrival),
        outcome: &mut Outcome,
    ) {
        let limits = rules.limits;
        while self.extra.as_ref().is_some_and(|x| {
            x.held.memory() > limits.reassembly_per_direction || x.held.holes() > limits.holes
        }) {
            self.give_up_first(rules, now, sink);
            outcome.squeezed += 1;
        }
    }

    /// Gives up the first hole, whatever the reason, and hands on what it kept back.
    pub(crate) fn give_up_first(
        &mut self,
        rules: Rules<'_>,
        now: Timestamp,
        sink: &mut impl FnMut(Chunk<'_>, Arrival),
    ) {
        if !self.started {
            self.begin();
        } else {
            let to =
                self.first_held().unwrap_or_else(|| self.end.max(self.extra.as_ref().map_or(0, |x| x.sent)));
            let time = self.first_time().unwrap_or(now);
            self.give_up_to(to, time, rules, sink);
        }
        self.drain(rules, sink);
        self.refresh(now);
    }

    /// Capture time of the first held segment.
    pub(crate) fn first_time(&self) -> Option<Timestamp> {
        self.extra.as_ref().and_then(|x| x.held.first_at()).map(|a| a.time)
    }

    /// A direction without SYN begins at the lowest byte seen.
    fn begin(&mut self) {
        let Some(extra) = self.extra.as_mut() else { return };
        if let Some((start, segment)) = extra.held.pop() {
            // A keep-alive probe repeats one byte from before the beginning, as a zero.
            let zero = *segment.data == [0] && segment.lost == 0;
            let probe = zero && extra.held.first_segment().is_some_and(|(s, l)| s == start + 1 && l > 1);
            if !probe {
                extra.held.insert(start, &segment.data, segment.lost, segment.at);
            }
            self.start(start + u64::from(probe));
        }
    }

    /// Gives up the holes that are ripe or too old. Nothing to do unless [`Self::waiting`].
    pub(crate) fn settle(
        &mut self,
        rules: Rules<'_>,
        now: Timestamp,
        sink: &mut impl FnMut(Chunk<'_>, Arrival),
    ) {
        let limits = rules.limits;
        loop {
            let (next, end, started) = (self.next, self.end, self.started);
            let Some(extra) = self.extra.as_mut().filter(|_| self.waiting) else { return };
            if !started {
                let patience =
                    now.since(extra.since) >= limits.reorder_time || extra.held.memory() > JOIN_BUDGET;
                let wait = extra.held.first().is_none_or(|first| extra.ripe <= first && !patience);
                if wait || extra.held.perhaps_probe() {
                    return;
                }
                self.give_up_first(rules, now, sink);
                continue;
            }
            extra.ripen(now, limits);
            let hole_end = extra.held.first().unwrap_or_else(|| end.max(extra.sent));
            if hole_end <= next {
                return;
            }
            let expired = now.since(extra.since) >= limits.hole_timeout;
            let to = if expired { hole_end } else { hole_end.min(extra.ripe) };
            if to <= next {
                return;
            }
            let time = extra.held.first_at().map_or(now, |a| a.time);
            self.give_up_to(to, time, rules, sink);
            self.drain(rules, sink);
            self.refresh(now);
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

    /// A FIN behind a segment of `wire` bytes.
    pub(crate) fn fin(&mut self, seq: Seq, wire: usize, now: Timestamp) {
        if !self.known {
            self.hint(seq);
        }
        let Some(offset) = self.near(seq.plus(wire as u64)) else { return };
        if self.fin != NO_FIN || offset < self.next {
            return;
        }
        if !self.started && self.first_held().is_none() && (self.hinted || wire == 0) {
            // Nothing was seen before the FIN: the direction begins and ends here.
            let at = if self.hinted { self.next } else { offset };
            self.start(at.min(offset));
        }
        // A hint that was ahead of the FIN cannot be: what is held tells where it begins.
        self.fin = offset.max(self.end);
        self.end = self.end.max(offset);
        self.refresh(now);
    }

    /// Whether a RST with this number could come from the sender, so that it is believed (RFC 5961 section 3.2 wants
    /// it exact; a capture with losses does not know that well).
    pub(crate) fn plausible_rst(&self, seq: Seq) -> bool {
        const REACH: i64 = 1 << 20;
        if !self.known {
            return true;
        }
        let offset = self.offset(seq);
        offset >= self.next.cast_signed() - REACH && offset <= self.end.max(self.next).cast_signed() + REACH
    }

    /// Hands on all that is held, holes as gaps.
    pub(crate) fn flush(
        &mut self,
        rules: Rules<'_>,
        now: Timestamp,
        sink: &mut impl FnMut(Chunk<'_>, Arrival),
    ) {
        while self.waiting {
            self.give_up_first(rules, now, sink);
        }
    }

    /// Figures for the summary; the receiver is of no use after.
    pub(crate) fn figures(&mut self) -> Figures {
        let (next, end, origin) = (self.next, self.end, self.origin);
        let Some(mut extra) = self.extra.take() else { return Figures::default() };
        // Bytes that only empty packets and acknowledgements tell of, with no data behind them.
        let unseen = if self.started { next.saturating_sub(end) } else { 0 };
        extra.gaps.shorten(next, unseen);
        let shift = |offset: u64| offset.saturating_sub(origin);
        let runs = extra.hash.take().map(|h| h.finish()).unwrap_or_default();
        Figures {
            gaps: extra.gaps.list.iter().map(|&(o, l)| (shift(o), l)).collect(),
            gaps_total: extra.gaps.total,
            gap_bytes: extra.gaps.bytes,
            unseen,
            repeated: extra.repeated,
            overlaps: u64::from(extra.overlaps),
            runs: runs.into_iter().map(|(o, l, h)| (shift(o), l, h)).collect(),
        }
    }
}

impl Extra {
    /// Notes a packet that begins at `start`.
    fn saw(&mut self, start: u64) {
        if let Some(mark) = self.mark.as_mut().filter(|m| start >= m.ack) {
            mark.beyond += 1;
        }
    }

    /// Lets the mark ripen, and sets the next one.
    fn ripen(&mut self, now: Timestamp, limits: &Limits) {
        let Some(mark) = self.mark else { return };
        let due = mark.beyond >= limits.reorder_packets || now.since(mark.at) >= limits.reorder_time;
        if due {
            self.ripe = self.ripe.max(mark.ack);
            self.mark =
                (self.acked > mark.ack).then_some(Mark { ack: self.acked, at: now, answer: 0, beyond: 0 });
        }
    }
}
