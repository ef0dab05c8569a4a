//! What time brings about, one thing after the other: so that several engines, each with a part of the flows, can be put back
//! into the order in which one engine with all of them would have told.

use super::feed::Cx;
use super::{Engine, Reason};
use crate::flow::Class;
use crate::packet::Packet;
use crate::time::Timestamp;

/// Where something belongs among all that becomes due with one packet, or with the end of the capture. Two things of different
/// engines that are equal by it would come in an order that is one engine's own affair.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Turn {
    /// Holes first, then streams by their class, then what the packet itself brings.
    rank: u8,
    /// When it was due, or since when the stream has rested.
    since: Timestamp,
    /// Of the packet since which it has.
    packet: u32,
}

impl Turn {
    /// What a packet itself brings comes after all that was due.
    pub const PACKET: Self = Self { rank: u8::MAX, since: Timestamp(0), packet: 0 };
}

impl Engine {
    /// Nothing is due before this; what is due then is done with the next packet, or by [`Self::due`].
    #[must_use]
    pub fn next_check(&self) -> Timestamp {
        self.next_check
    }

    /// It is so late now, with that packet of the capture: one of this engine, or of another. Follow it by [`Self::due`].
    pub fn pass(&mut self, now: Timestamp, packet: u64) {
        self.now = self.now.max(now);
        // Only to tell apart what happened at the same time: the low half suffices.
        self.table.serial = packet as u32;
    }

    /// Does the next thing that is due. `None`: nothing is left.
    pub fn due(&mut self) -> Option<Turn> {
        if self.now < self.next_check {
            return None;
        }
        let turn = self.expire_next();
        if turn.is_none() {
            self.expired();
        }
        turn
    }

    /// The capture ended: closes the next stream, as [`Self::finish`] does with all of them. `None`: none is left.
    pub fn finish_next(&mut self) -> Option<Turn> {
        let (class, at, since) = self.table.any()?;
        let turn = self.turn(class, at, since);
        self.close(at, Reason::CaptureEnd);
        self.remove(at);
        Some(turn)
    }

    /// Counts a fragment of an IP datagram whose rest somebody else has given up: nothing will ever be read of it.
    pub fn pass_over(&mut self, packet: &Packet<'_>) {
        self.count(packet);
        self.shared.stats.fragments += 1;
    }

    fn turn(&self, class: Class, at: u32, since: Timestamp) -> Turn {
        Turn { rank: 1 + class as u8, since, packet: self.table.serial_of(at) }
    }

    pub(super) fn expire_next(&mut self) -> Option<Turn> {
        if let Some(&(due, at)) = self.timers.first().filter(|(due, _)| *due <= self.now) {
            let rules = self.config.rules(self.now);
            let closed = self
                .table
                .get_mut(at)
                .is_some_and(|(key, stream)| stream.timer(&mut Cx { key, rules, shared: &mut self.shared }));
            self.after_timer(at, closed);
            // What is due must not stay first: a stream that is gone, or did not move on, would hold the loop.
            self.timers.remove(&(due, at));
            return Some(Turn { rank: 0, since: due, packet: 0 });
        }
        for class in Class::ALL {
            if self.class_deadline(class).is_some_and(|due| due <= self.now)
                && let Some((at, since)) = self.table.oldest(class)
            {
                let turn = self.turn(class, at, since);
                let reason = if class == Class::HalfClosed { Reason::Fin } else { Reason::Timeout };
                self.close(at, reason);
                self.remove(at);
                return Some(turn);
            }
        }
        None
    }

    /// All that was due is done.
    pub(super) fn expired(&mut self) {
        self.shared.stats.fragments_timed_out += self.fragments.expire(self.now, &self.config.limits);
        self.next_check = self.poll_timeout().unwrap_or(Timestamp(u64::MAX));
    }
}
