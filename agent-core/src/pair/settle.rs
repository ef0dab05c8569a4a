//! Letting go: what cannot be paired any more, and what is complete, leaves in order.

use std::collections::VecDeque;

use super::{Pairing, Reading, ended_early, fault};
use crate::dissect::{Context, End, Side};
use crate::item::ErrorKind;

/// Places in the queue of requests that an empty one keeps.
const KEPT: usize = 4;

impl Pairing {
    /// Gives up what cannot be paired any more, after a loss.
    pub(super) fn settle(&mut self, cx: &mut Context<'_>) {
        let read = self.decided[Side::Server as usize];
        let never = self.pipelines && !self.joined;
        let mut uncertain = !self.synced;
        let mut inherited = None;
        for entry in &mut self.entries {
            if !entry.waits() {
                continue;
            }
            if let Some(loss) = inherited.take() {
                entry.loss.get_or_insert(loss);
            }
            uncertain |= entry.loss.is_some();
            if !uncertain {
                break;
            }
            if !never && entry.acked.is_some_and(|acked| read <= acked) {
                break;
            }
            inherited = entry.loss;
            entry.settled = true;
            entry.error = Some(fault(ErrorKind::Gap, "which response is its own is not known for certain"));
        }
        if inherited.is_some() {
            self.requests_lost = self.requests_lost.or(inherited);
        }
        let ordered = self.synced && self.requests_lost.is_none();
        let sent = self.decided[Side::Client as usize];
        if !ordered {
            for orphan in &mut self.orphans {
                orphan.settled |= never || orphan.acked.is_none_or(|acked| acked <= sent);
            }
        }
        self.flush(cx);
    }

    pub(super) fn give_up_waiting(&mut self, end: End) {
        let error = if self.lossy && !self.synced {
            fault(ErrorKind::Gap, "which response is its own is not known for certain")
        } else {
            ended_early(end)
        };
        for entry in self.entries.iter_mut().filter(|e| e.waits()) {
            entry.settled = true;
            entry.error.get_or_insert_with(|| error.clone());
        }
    }

    /// Emits what is complete, in order.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>) {
        while let Some(front) = self.entries.front() {
            if !front.done() || self.held_from.is_some_and(|from| from <= self.first) {
                break;
            }
            let Some(entry) = self.entries.pop_front() else { break };
            self.first += 1;
            self.memory = self.memory.saturating_sub(entry.memory);
            cx.out.push_back(entry.draft(&mut self.pending, cx.limits));
        }
        if self.entries.is_empty() && self.entries.capacity() > KEPT {
            self.entries = VecDeque::new();
        }
        self.emit_orphans(cx);
    }

    #[inline]
    pub(super) fn emit_orphans(&mut self, cx: &mut Context<'_>) {
        if self.orphans.capacity() > 0 {
            self.emit_any_orphans(cx);
        }
    }

    fn emit_any_orphans(&mut self, cx: &mut Context<'_>) {
        while self.orphans.front().is_some_and(|o| o.settled && o.done()) {
            if self.orphans.len() == 1 && self.reading[Side::Server as usize] == Reading::Orphan {
                break;
            }
            let Some(orphan) = self.orphans.pop_front() else { break };
            self.memory = self.memory.saturating_sub(orphan.memory);
            if orphan.exchange.response.is_some() || !orphan.exchange.interim.is_empty() {
                cx.out.push_back(orphan.draft(&mut self.pending, cx.limits));
            }
        }
        if self.orphans.is_empty() && self.orphans.capacity() > 0 {
            self.orphans = VecDeque::new();
        }
    }
}
