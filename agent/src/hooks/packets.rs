//! A packet as `onPacketCaptured` is told of it, and how many of them wait for one script.
//!
//! Packets come in batches and have a bound of their own, so that a flood of them leaves the queue's room to items.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use agent_core::Timestamp;

/// What `onPacketCaptured` gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PacketInfo {
    /// When it was captured.
    pub time: Timestamp,
    /// Bytes that were captured.
    pub capture_length: u32,
    /// Bytes on the wire.
    pub length: u32,
    /// Whether it is a fragment of an IP datagram.
    pub fragmented: bool,
}

/// Packets that wait for one script.
#[derive(Debug, Default)]
pub(crate) struct Waiting(AtomicUsize);

/// Packets on their way to one script; counted as waiting until they are dropped.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) packets: Arc<[PacketInfo]>,
    waiting: Arc<Waiting>,
}

impl Batch {
    /// Makes room for the packets, unless that is past the bound.
    pub(crate) fn admit(packets: &Arc<[PacketInfo]>, waiting: &Arc<Waiting>, bound: usize) -> Option<Self> {
        let fits = |now: usize| now.checked_add(packets.len()).filter(|total| *total <= bound);
        waiting.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Self { packets: Arc::clone(packets), waiting: Arc::clone(waiting) })
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.waiting.0.fetch_sub(self.packets.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_past_the_bound_are_refused_as_a_whole() {
        let info = PacketInfo { time: Timestamp::default(), capture_length: 1, length: 1, fragmented: false };
        let packets = |n: usize| -> Arc<[PacketInfo]> { vec![info; n].into() };
        let waiting = Arc::default();
        let first = Batch::admit(&packets(6), &waiting, 10);
        let second = Batch::admit(&packets(4), &waiting, 10);
        assert!(first.is_some() && second.is_some());
        assert!(Batch::admit(&packets(1), &waiting, 10).is_none());
        drop(first);
        assert!(Batch::admit(&packets(7), &waiting, 10).is_none());
        assert!(Batch::admit(&packets(6), &waiting, 10).is_some());
    }
}
