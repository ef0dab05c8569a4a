//! What a receiver learns from packets without payload, and from the other direction's: where it is, and how far it got.

use super::Seq;
use super::receiver::{JOINED, Mark, NO_FIN, Receiver, WINDOW};
use crate::time::Timestamp;

impl Receiver {
    /// Takes this number as the place where the direction, of which no data was seen yet, goes on. The first such place
    /// stays `next`: what lies between is known to be lost.
    pub(super) fn hint(&mut self, seq: Seq) {
        if self.known {
            // Only ever forwards: a keep-alive probe names the byte before.
            if let Some(offset) =
                self.near(seq).filter(|&offset| offset > self.end && self.first_held().is_none())
            {
                self.end = offset;
                if offset - self.next > WINDOW.cast_unsigned() / 2 {
                    self.next = offset;
                }
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
            return self.near(ack);
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
        // One that has not started has held bytes here: it waits.
        if offset > self.next || !self.started {
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
    pub(crate) fn empty(&mut self, seq: Seq, now: Timestamp) {
        // What is not known has not started either.
        if !self.started {
            self.hint(seq);
        } else if let Some(offset) = self.near(seq)
            && offset > self.end.max(self.next)
            // Past a FIN there is only the number of the FIN itself.
            && self.fin == NO_FIN
        {
            let fresh = !std::mem::replace(&mut self.waiting, true);
            let extra = self.extra();
            if fresh {
                extra.since = now;
            }
            extra.sent = extra.sent.max(offset);
            extra.saw(offset);
        }
    }
}
