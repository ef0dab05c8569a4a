//! What is known of packets and their fate: the kernel's counters, and ours.
//!
//! A packet socket counts what passed its filter, and what of that found no free block, in packets. It knows nothing of
//! packets that the filter left out, and not the bytes of those that it dropped: what cannot be known is not there, rather
//! than 0. `taken = captured + filtered + dropped` holds whenever nothing is on its way through the ring.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::sys::{KernelTally, PacketSocket};

/// Packets, and bytes of whole packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Tally {
    const fn plus(self, other: Self) -> Self {
        Self { packets: self.packets + other.packets, bytes: self.bytes + other.bytes }
    }
}

/// The books of one ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RingBalance {
    /// Packets that passed the filter in the kernel.
    pub taken: u64,
    /// Handed to the worker.
    pub captured: Tally,
    /// Of the captured: cut by the snap length, or longer than a block.
    pub truncated: Tally,
    /// Left out in user space, where the filter was too long for the kernel.
    pub filtered: Tally,
    /// Packets that were dropped because no block was free.
    pub ring_full: u64,
    /// How often that began.
    pub freezes: u64,
    /// Packets of blocks that made no sense: always 0, or the kernel has a defect.
    pub malformed: u64,
}

impl RingBalance {
    fn plus(&self, other: &Self) -> Self {
        Self {
            taken: self.taken + other.taken,
            captured: self.captured.plus(other.captured),
            truncated: self.truncated.plus(other.truncated),
            filtered: self.filtered.plus(other.filtered),
            ring_full: self.ring_full + other.ring_full,
            freezes: self.freezes + other.freezes,
            malformed: self.malformed + other.malformed,
        }
    }

    /// What became of packets that were taken. Equals `taken` when nothing is on its way.
    #[must_use]
    pub const fn accounted(&self) -> u64 {
        self.captured.packets + self.filtered.packets + self.ring_full + self.malformed
    }
}

/// The books of all rings.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Balance {
    /// Ring by ring.
    pub rings: Vec<RingBalance>,
}

impl Balance {
    /// All rings together.
    #[must_use]
    pub fn total(&self) -> RingBalance {
        self.rings.iter().fold(RingBalance::default(), |sum, ring| sum.plus(ring))
    }
}

/// One ring's counters: the worker counts, anybody reads.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// The kernel's, added up: reading them sets them back.
    kernel: Mutex<[u64; 3]>,
    captured: AtomicTally,
    truncated: AtomicTally,
    filtered: AtomicTally,
    malformed: AtomicU64,
}

/// A tally with one writer.
#[derive(Debug, Default)]
struct AtomicTally {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl AtomicTally {
    fn add(&self, tally: Tally) {
        self.packets.fetch_add(tally.packets, Ordering::Relaxed);
        self.bytes.fetch_add(tally.bytes, Ordering::Relaxed);
    }

    fn get(&self) -> Tally {
        Tally { packets: self.packets.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

/// What a worker has counted since it last said so.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Batch {
    pub(super) captured: Tally,
    pub(super) truncated: Tally,
    pub(super) filtered: Tally,
    pub(super) malformed: u64,
}

impl Counters {
    pub(super) fn add(&self, batch: &Batch) {
        self.captured.add(batch.captured);
        self.truncated.add(batch.truncated);
        self.filtered.add(batch.filtered);
        self.malformed.fetch_add(batch.malformed, Ordering::Relaxed);
    }

    /// The books, with what the kernel has counted by now.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub(super) fn balance(&self, socket: &PacketSocket) -> io::Result<RingBalance> {
        let [taken, ring_full, freezes] = {
            let mut kernel = self.kernel.lock().unwrap_or_else(PoisonError::into_inner);
            let KernelTally { packets, drops, freezes } = socket.take_tally()?;
            for (sum, more) in kernel.iter_mut().zip([packets, drops, freezes]) {
                *sum += u64::from(more);
            }
            *kernel
        };
        Ok(RingBalance {
            taken,
            captured: self.captured.get(),
            truncated: self.truncated.get(),
            filtered: self.filtered.get(),
            ring_full,
            freezes,
            malformed: self.malformed.load(Ordering::Relaxed),
        })
    }

    /// Forgets what the kernel counted before capture began.
    pub(super) fn begin(&self, socket: &PacketSocket) -> io::Result<()> {
        socket.take_tally().map(drop)
    }
}
