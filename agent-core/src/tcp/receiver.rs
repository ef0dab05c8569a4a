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
pub(super) const WINDOW: i64 = 1 << 30;
/// After so many segments in a row outside the window, more was lost than the window holds: start again there.
const MAX_WILD: u8 = 16;
/// Held bytes at the start of a direction without SYN, past which an earlier segment is not waited for.
pub(super) const JOIN_BUDGET: usize = 256 << 10;
/// Offset of a FIN that was not seen.
pub(super) const NO_FIN: u64 = u64::MAX;

/// Bounds and wishes, the same for all receivers of an engine, and the time as packets tell it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) hash: bool,
    /// Whether it is told which payload is not needed.
    pub(crate) trim: bool,
    pub(crate) now: Timestamp,
}

/// A segment with payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment<'a> {
    pub(crate) seq: Seq,
    /// What was captured of it.
    pub(crate) payload: &'a [u8],
    /// Its length on the wire.
    pub(crate) wire: u64,
    /// When and with what it came; the offset is filled in.
    pub(crate) at: Arrival,
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
    /// Captured bytes of the segment that were not too late, nor beyond the end: first and one past the last.
    pub(crate) fresh: (usize, usize),
}

/// One direction. An idle one is this struct alone.
#[derive(Debug)]
pub(crate) struct Receiver {
    /// Sequence number of offset 0.
    pub(super) base: Seq,
    /// Packets seen of this direction.
    pub(crate) packets: u32,
    /// Offset of the next byte to hand on. Before anything was, and without a SYN: where it is expected to begin.
    pub(super) next: u64,
    /// One past the last byte that a segment or FIN was seen for.
    pub(super) end: u64,
    pub(super) fin: u64,
    /// Offset where the direction begins.
    pub(super) origin: u64,
    /// Bytes handed on.
    pub(crate) bytes: u64,
    pub(super) wild: u8,
    pub(super) known: bool,
    pub(super) syn: bool,
    /// Whether `next` is certain.
    pub(super) started: bool,
    /// Whether the first byte is expected at `next`, for a direction whose SYN was not seen.
    pub(super) hinted: bool,
    /// Whether the other end's SYN was seen: what is missing at the start of this direction was sent within the capture.
    pub(super) answering: bool,
    /// Whether the other end told where the direction begins: in a packet that it sent before any data of its own.
    pub(super) told: bool,
    /// Whether something is held, or known to be missing.
    pub(super) waiting: bool,
    pub(super) extra: Option<Box<Extra>>,
}

/// An acknowledgement that passed what was captured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// Offset acknowledged.
    pub(super) ack: u64,
    pub(super) at: Timestamp,
    /// End of that packet's own payload, in the other direction.
    pub(super) answer: u64,
    /// Packets that were captured since and begin beyond `ack`.
    pub(super) beyond: u64,
}

/// What only a direction with trouble (or hashing) has.
#[derive(Debug, Default)]
pub(super) struct Extra {
    pub(super) held: Held,
    /// Since when the first hole is waited for.
    pub(super) since: Timestamp,
    /// Holes below this offset are not waited for.
    pub(super) ripe: u64,
    /// Highest offset acknowledged.
    pub(super) acked: u64,
    /// An acknowledgement that ripens with time, or with segments from beyond it.
    pub(super) mark: Option<Mark>,
    /// Acknowledgements, the oldest and the newest, that ripen when the packet that carried them is answered.
    pub(super) proofs: [Option<Mark>; 2],
    /// Offset that the sender's own packets without data have reached.
    pub(super) sent: u64,
    /// Bytes lost before the first one, where that is not at a SYN.
    pub(super) before: u64,
    /// Offset up to which payload is not needed; 0: all is.
    pub(super) unneeded: u64,
    /// Bytes left out for that.
    pub(super) trimmed: u64,
    pub(super) repeated: u64,
    pub(super) overlaps: u32,
    pub(super) gaps: GapLog,
    pub(super) hash: Option<Box<HashLog>>,
}

/// Raw figures for a stream's summary. Offsets count from the direction's first byte.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) gaps: Vec<(u64, u64)>,
    pub(crate) gaps_total: u64,
    pub(crate) gap_bytes: u64,
    pub(crate) before: u64,
    pub(crate) unseen: u64,
    pub(crate) trimmed: u64,
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
            answering: false,
            told: false,
            waiting: false,
            extra: None,
        }
    }
}

impl Receiver {
    /// Offset of a sequence number, near the expected one.
    pub(super) fn offset(&self, seq: Seq) -> i64 {
        self.next.cast_signed() + i64::from(seq.distance(self.base.plus(self.next)))
    }

    /// The offset, if it is within the window.
    pub(super) fn near(&self, seq: Seq) -> Option<u64> {
        let offset = self.offset(seq);
        let far = (offset - self.next.cast_signed()).abs() > WINDOW;
        u64::try_from(offset).ok().filter(|_| self.known && !far)
    }

    /// The offset of a segment's first byte.
    pub(crate) fn place(&self, seq: Seq) -> i64 {
        self.offset(seq)
    }

    /// The parts of a segment, counted from its first byte, of which nothing is held.
    pub(crate) fn not_held(&self, seq: Seq, length: usize) -> Vec<(usize, usize)> {
        let held = self.extra.as_ref().filter(|_| self.known).map(|x| &x.held);
        held.map_or_else(|| vec![(0, length)], |held| held.holes_in(self.offset(seq), length))
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

    /// Whether a number is neither one of the direction's bytes, nor the one before them or behind its FIN.
    pub(crate) fn never_had(&self, seq: Seq) -> bool {
        let offset = self.offset(seq);
        let fin = if self.fin == NO_FIN { 0 } else { self.fin + 1 };
        let (first, last) = (self.origin.cast_signed() - 1, self.end.max(self.next).max(fin).cast_signed());
        self.started && !(first..=last).contains(&offset)
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

    pub(super) fn extra(&mut self) -> &mut Extra {
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

    pub(super) fn first_held(&self) -> Option<u64> {
        self.extra.as_ref().and_then(|x| x.held.first())
    }

    /// A SYN for which [`Self::same_syn`] holds. Whether it tells that the direction did not begin where it was taken to.
    pub(crate) fn syn(&mut self, seq: Seq) -> bool {
        if self.syn {
            return false;
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
                    extra.before = 0;
                }
                return true;
            }
        }
        false
    }

    pub(super) fn start(&mut self, at: u64) {
        (self.started, self.next, self.origin) = (true, at, at);
        self.end = self.end.max(at);
    }

    /// Whether nothing is out of the ordinary: no hole, no FIN, none of what [`Extra`] is for. Who waits has that, and so has
    /// whoever set the engine's timer.
    #[inline]
    fn calm(&self) -> bool {
        self.started && self.extra.is_none() && self.fin == NO_FIN && self.end <= self.next
    }

    /// Whether nothing is out of the ordinary with a segment, as nearly always: it begins where the last one ended, and
    /// acknowledges all that was captured of the other direction.
    #[inline]
    pub(crate) fn expects(&self, peer: &Self, seq: Seq, ack: Seq) -> bool {
        let expected = seq == self.base.plus(self.next) && ack == peer.base.plus(peer.next);
        expected && self.calm() && peer.calm()
    }

    /// Takes a segment that lost nothing and that it [expects](Self::expects). What [`Self::acknowledged`] and [`Self::segment`]
    /// would do comes to this. Where it is in both directions.
    #[inline]
    pub(crate) fn take_expected(&mut self, peer: &mut Self, seq: Seq, length: u64) -> (u64, u64) {
        peer.told |= self.is_first(seq);
        let offset = self.next;
        self.wild = 0;
        self.next += length;
        self.end = self.next;
        self.bytes += length;
        (offset, peer.next)
    }

    /// A segment. A retransmission gives nothing new.
    pub(crate) fn segment(
        &mut self,
        segment: Segment<'_>,
        rules: Rules<'_>,
        sink: &mut impl FnMut(Chunk<'_>, Arrival),
    ) -> Outcome {
        let Segment { seq, payload, wire, mut at } = segment;
        let mut outcome = Outcome::default();
        if !self.known {
            self.hint(seq);
            self.hinted = false;
        }
        let offset = self.offset(seq);
        let mut next = self.next.cast_signed();
        if (offset - next).abs() > WINDOW || offset > self.fin.min(i64::MAX as u64).cast_signed() {
            outcome.wild = true;
            self.wild += 1;
            if self.wild < MAX_WILD || !self.started || self.fin != NO_FIN {
                self.wild = self.wild.min(MAX_WILD);
                return outcome;
            }
            self.jump(seq, rules, sink);
            return self.segment(segment, rules, sink);
        }
        self.wild = 0;
        at.truncated |= (payload.len() as u64) < wire;
        if !self.started {
            if self.hinted && offset == self.end.cast_signed() && !self.waiting {
                self.start_at(self.end, at.time, sink);
                next = offset;
            } else {
                // Nothing is sent beyond a FIN.
                let Some((offset, wire)) = u64::try_from(offset).ok().map(|o| (o, wire.min(self.fin - o)))
                else {
                    return outcome;
                };
                let payload = payload.get(..wire as usize).unwrap_or(payload);
                if wire > 0 {
                    outcome.fresh = (0, payload.len());
                    self.hold(offset, &Segment { payload, wire, at, ..segment }, rules.now, &mut outcome);
                    self.squeeze(rules, sink, &mut outcome);
                }
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
        outcome.fresh = (cut as usize, cut as usize + payload.len());
        if start == self.next && self.first_held().is_none() {
            self.end = self.end.max(end.cast_unsigned());
            self.pass(payload, at, rules, sink);
            self.cut_to(end.cast_unsigned(), at, rules, sink);
            self.refresh(rules.now);
        } else {
            self.hold(start, &Segment { payload, wire, at, ..segment }, rules.now, &mut outcome);
            self.drain(rules, sink);
            self.refresh(rules.now);
            self.squeeze(rules, sink, &mut outcome);
        }
        outcome
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
        if !self.started && self.first_held().is_none() && (self.hinted || wire == 0) && !self.start_unknown()
        {
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
}
