//! What pairing keeps of a stream on which nothing is under way.
//!
//! Between an exchange and the next one a [`Pairing`] has no messages, only what it has learnt of the client and where
//! the last messages were. Most streams spend most of their life there: [`Known`] is that alone, in few bytes.
//! Invariant: a [`Pairing`] woken from it acts as the one it was taken from.

use super::{Last, Loss, Pairing, Reading};
use crate::dissect::End;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    first: u64,
    accounted: Offset,
    response_end: Offset,
    last_final_ack: Offset,
    last_response: (u64, u64),
    last_acked: Offset,
    held_from: Offset,
    skipped_acked: Offset,
    waits: u32,
    confirmed: u32,
    /// Of the last request, whether it was answered, if no loss came after it.
    last_answered: Option<bool>,
    requests_lost: Option<Loss>,
    ended: [Option<End>; 2],
    synced: bool,
    lossy: bool,
    joined: bool,
    pipelines: bool,
    after_interim: bool,
    believed: bool,
}

impl Known {
    /// Of a new stream; `joined`: it was not seen from its first byte.
    #[must_use]
    pub fn new(joined: bool) -> Self {
        Self {
            first: 0,
            accounted: (!joined).then_some(0).into(),
            response_end: None.into(),
            last_final_ack: None.into(),
            last_response: (0, 0),
            last_acked: None.into(),
            held_from: None.into(),
            skipped_acked: None.into(),
            waits: 0,
            confirmed: 0,
            last_answered: None,
            requests_lost: joined.then_some(Loss::Between),
            ended: [None; 2],
            synced: !joined,
            lossy: joined,
            joined,
            pipelines: false,
            after_interim: false,
            believed: false,
        }
    }
}

/// An `Option<u64>` of which the largest number is `None`: no stream gets there.
#[derive(Clone, Copy, Debug)]
struct Offset(u64);

impl From<Option<u64>> for Offset {
    fn from(offset: Option<u64>) -> Self {
        Self(offset.unwrap_or(u64::MAX))
    }
}

impl From<Offset> for Option<u64> {
    fn from(offset: Offset) -> Self {
        Some(offset.0).filter(|&o| o != u64::MAX)
    }
}

impl Pairing {
    /// Whether it holds no message.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.orphans.is_empty() && self.refused_now.is_none() && self.memory == 0
    }

    /// Whether nothing is under way. `read`: how far each direction was [decided](Self::decided).
    #[must_use]
    #[inline]
    pub fn at_rest(&self, read: [u64; 2]) -> bool {
        self.is_empty()
            && self.pending.is_empty()
            && self.reading == [Reading::Nothing; 2]
            && self.skip_tail == 0
            && self.decided == read
            // The last request is the one before the next, and the last acknowledgement is its.
            && self.last.is_none_or(|last| {
                last.number.checked_add(1) == Some(self.first) && last.acked == self.last_acked
            })
    }

    /// Tells what is known, where [`Self::at_rest`] holds.
    #[inline]
    pub fn tell(&self, known: &mut Known) {
        // In place, for this is done for every exchange.
        known.first = self.first;
        known.accounted = self.accounted.into();
        known.response_end = self.last.and_then(|last| last.response_end).into();
        known.last_final_ack = self.last_final_ack.into();
        known.last_response = self.last_response;
        known.last_acked = self.last_acked.into();
        known.held_from = self.held_from.into();
        known.skipped_acked = self.skipped_acked.into();
        known.waits = self.waits;
        known.confirmed = self.confirmed;
        known.last_answered = self.last.map(|last| last.answered);
        known.requests_lost = self.requests_lost;
        known.ended = self.ended;
        known.synced = self.synced;
        known.lossy = self.lossy;
        known.joined = self.joined;
        known.pipelines = self.pipelines;
        known.after_interim = self.after_interim;
        known.believed = self.believed;
        #[cfg(test)]
        {
            let mut again = Self::new(false);
            again.wake(known, self.decided);
            assert_eq!(format!("{self:?}"), format!("{again:?}"), "nothing is forgotten");
        }
    }

    /// Takes on what is known of a stream. It must hold no message; its place for requests is used again.
    #[inline]
    pub fn wake(&mut self, known: &Known, read: [u64; 2]) {
        let last = |answered| Last {
            number: known.first.saturating_sub(1),
            acked: known.last_acked.into(),
            response_end: known.response_end.into(),
            answered,
        };
        self.first = known.first;
        self.reading = [Reading::Nothing; 2];
        self.synced = known.synced;
        self.requests_lost = known.requests_lost;
        self.lossy = known.lossy;
        self.joined = known.joined;
        self.accounted = known.accounted.into();
        self.last = known.last_answered.map(last);
        self.waits = known.waits;
        self.pipelines = known.pipelines;
        self.held_from = known.held_from.into();
        self.confirmed = known.confirmed;
        self.decided = read;
        self.last_final_ack = known.last_final_ack.into();
        self.after_interim = known.after_interim;
        self.believed = known.believed;
        self.last_response = known.last_response;
        self.last_acked = known.last_acked.into();
        self.skipped_acked = known.skipped_acked.into();
        self.ended = known.ended;
        self.skip_tail = 0;
        self.pending.clear();
    }
}
