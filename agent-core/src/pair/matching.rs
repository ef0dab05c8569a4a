//! Which response is whose: by order, by what a request acknowledged, and what shows that neither can be trusted.

use super::entry::{Entry, Loss, Part};
use super::{CONFIRMED, PROOF, Pairing, Place, Reading, fault};
use crate::dissect::{End, Side};
use crate::item::{ErrorKind, HttpExchange};

impl Pairing {
    pub(super) fn target(&mut self, place: Place, interim: bool, limit: usize) -> Reading {
        let waiting = self.entries.iter().position(Entry::waits);
        if self.synced {
            match waiting {
                Some(at) if self.entries[at].loss.is_none() => {
                    if self.entries[at].skip_before == 0 {
                        if self.expect_start(at, place) {
                            return Reading::Entry(self.first + at as u64);
                        }
                        return self.new_orphan(place, false, limit);
                    }
                    self.entries[at].skip_before -= u64::from(!interim);
                    return self.new_orphan(place, true, limit);
                }
                None if self.skip_tail > 0 => {
                    self.skip_tail -= u64::from(!interim);
                    return self.new_orphan(place, true, limit);
                }
                None if self.requests_lost.is_none() => return self.new_orphan(place, false, limit),
                _ => {}
            }
        }
        let candidates = waiting.map_or(0..0, |at| at..self.entries.len());
        for at in candidates {
            if self.entries[at].acked == Some(place.offset) {
                if !self.may_anchor(at, place) {
                    break;
                }
                for orphan in &mut self.orphans {
                    orphan.settled = true;
                }
                self.anchor(at);
                return Reading::Entry(self.first + at as u64);
            }
        }
        self.new_orphan(place, false, limit)
    }

    /// By order, entry `at` is answered by a response at `place`: the request of a client that waits acknowledged just its
    /// start, and who answers has read the request's head. Whether order still counts.
    pub(super) fn expect_start(&mut self, at: usize, place: Place) -> bool {
        let entry = &self.entries[at];
        let elsewhere = entry.acked.is_some_and(|acked| acked != place.offset);
        if (entry.exchange.interim.is_empty() && elsewhere) || !entry.was_read_by(place) {
            self.mark_pipelining();
        }
        self.synced
    }

    pub(super) fn new_orphan(&mut self, place: Place, settled: bool, limit: usize) -> Reading {
        if self.orphans.len() >= limit
            && let Some(oldest) = self.orphans.iter_mut().find(|o| !o.settled)
        {
            oldest.settled = true;
            self.refused += 1;
            self.lossy = true;
            self.synced = false;
            // It may be the one that contradicts what is held.
            self.joined = false;
            self.refute();
        }
        let orphan = Entry::orphan(place, settled);
        self.memory += orphan.memory;
        self.orphans.push_back(orphan);
        Reading::Orphan
    }

    /// Looks for the response of the newest request among those that came before it was read.
    pub(super) fn match_orphan(&mut self) {
        if self.orphans.is_empty() {
            return;
        }
        let at = self.entries.len() - 1;
        let entry = &self.entries[at];
        let first_waiting = self.entries.iter().position(Entry::waits) == Some(at);
        let by_order = self.synced && entry.loss.is_none() && entry.skip_before == 0;
        let found = if by_order {
            self.orphans.iter().position(|o| !o.settled).filter(|_| first_waiting)
        } else {
            let acked = entry.acked;
            self.orphans.iter().position(|o| !o.settled && acked == Some(o.start)).filter(|&found| {
                let orphan = &self.orphans[found];
                let place = orphan.place();
                self.may_anchor(at, place)
            })
        };
        let Some(mut found) = found else { return };
        if by_order {
            if !self.expect_start(at, self.orphans[found].place()) {
                return;
            }
        } else {
            let start = self.orphans[found].start;
            self.anchor(at);
            // Others may have been put before it.
            let again = self.orphans.iter().position(|o| !o.settled && o.start == start);
            found = again.unwrap_or(found);
            // Order counts up to the next loss, which may have come already.
            self.synced = self.orphans.range(found..).all(|o| o.loss.is_none());
        }
        for orphan in self.orphans.range_mut(..found) {
            orphan.settled = true;
        }
        let newest = found + 1 == self.orphans.len();
        let Some(orphan) = self.orphans.remove(found) else { return };
        let number = self.first + at as u64;
        if newest && self.reading[Side::Server as usize] == Reading::Orphan {
            self.reading[Side::Server as usize] = Reading::Entry(number);
        }
        self.memory -= size_of::<HttpExchange>();
        self.entries[at].adopt(orphan);
        if !self.synced && !self.believed {
            // What was lost behind it may be the answer to this one.
            self.refute();
        }
    }

    /// Whether a response at `place` certainly answers entry `at`, which acknowledged its start.
    pub(super) fn may_anchor(&mut self, at: usize, place: Place) -> bool {
        let entry = &self.entries[at];
        let (loss, read) = (entry.loss, entry.was_read_by(place));
        if !read {
            // It answers a lost one, for which the client did not wait.
            self.mark_pipelining();
        }
        if (self.pipelines && !self.joined) || !read {
            return false;
        }
        match (loss, self.accounted) {
            (Some(_), Some(known)) if place.offset < known => false,
            (Some(Loss::Between), Some(known)) if place.offset == known => {
                // What was lost had not been answered when this was sent.
                self.mark_pipelining();
                false
            }
            _ => true,
        }
    }

    /// From here on order counts again.
    pub(super) fn anchor(&mut self, at: usize) {
        // What was held before a loss is as uncertain as if the loss had come later.
        self.let_go();
        for entry in self.entries.range_mut(..at) {
            if entry.waits() {
                entry.settled = true;
                entry.error.get_or_insert(fault(ErrorKind::Gap, "its response is not in the capture"));
            }
        }
        self.entries[at].loss = None;
        self.entries[at].skip_before = 0;
        self.synced = true;
        self.held_from = Some(self.first + at as u64);
        self.believed = self.waits >= PROOF;
        self.confirmed = if self.believed { CONFIRMED - 1 } else { 0 };
    }

    /// What a request's acknowledgement tells about the client, given the request before it.
    pub(super) fn compare_with_last(&mut self, place: Place) {
        let Some(last) = self.last.filter(|_| place.lost.is_none()) else { return };
        match (place.acked, last.response_end) {
            (Some(acked), Some(end)) => self.boundary(end, acked),
            (Some(acked), None) if last.acked == Some(acked) => self.mark_pipelining(),
            (None, None) if !last.answered => self.mark_pipelining(),
            _ => {}
        }
    }

    /// A request acknowledged `acked`; the response to the one before it ended at `end`.
    pub(super) fn boundary(&mut self, end: u64, acked: u64) {
        if acked < end {
            self.mark_pipelining();
        } else if self.held_from.is_none() {
            self.waits += u32::from(self.synced && !self.pipelines && acked == end);
        } else if acked == end {
            if self.pipelines {
                // Could be chance: only the end of the stream tells.
                return;
            }
            self.confirmed += 1;
            if self.confirmed < CONFIRMED {
                return;
            }
            self.release();
            self.joined = false;
            self.waits += 1;
        } else {
            self.refute();
        }
    }

    pub(super) fn mark_pipelining(&mut self) {
        self.pipelines = true;
        self.waits = 0;
        if !self.joined {
            self.refute();
        }
    }

    /// Nothing that comes can confirm the held pairs: those of a client that is believed are certain nevertheless.
    pub(super) fn let_go(&mut self) {
        if self.believed {
            self.release();
        }
        self.refute();
    }

    /// The held pairs are certain.
    pub(super) fn release(&mut self) {
        self.held_from = None;
        self.believed = false;
    }

    /// The held pairs are not certain: parts them.
    pub(super) fn refute(&mut self) {
        let Some(from) = self.held_from.take() else { return };
        self.believed = false;
        self.synced = false;
        let reading = self.reading[Side::Server as usize] == Reading::Orphan;
        let current = if reading { self.orphans.pop_back() } else { None };
        for at in usize::try_from(from.saturating_sub(self.first)).unwrap_or(0)..self.entries.len() {
            let entry = &mut self.entries[at];
            if entry.response == Part::Missing && entry.exchange.interim.is_empty() {
                continue;
            }
            let orphan = entry.divorce();
            self.memory += size_of::<HttpExchange>();
            entry.settled = true;
            entry.error = Some(fault(ErrorKind::Gap, "which response is its own is not known for certain"));
            self.orphans.push_back(orphan);
            if self.reading[Side::Server as usize] == Reading::Entry(self.first + at as u64) {
                self.reading[Side::Server as usize] = Reading::Orphan;
            }
        }
        self.orphans.extend(current);
    }

    /// At the end: held pairs are certain if every request was answered and no response is left over, nor could be one
    /// that did not get into the capture.
    pub(super) fn resolve_held(&mut self, end: End) {
        if self.held_from.is_none() {
            return;
        }
        let answered = self.entries.iter().all(|e| e.response != Part::Missing || e.settled);
        let whole = match end {
            End::Fin => true,
            End::Evicted => self.believed,
            End::Reset | End::Timeout | End::CaptureEnd | End::Reused => !self.pipelines,
        };
        if answered && whole && self.skip_tail == 0 && self.orphans.iter().all(|o| o.settled) {
            self.release();
        } else {
            self.refute();
        }
    }
}
