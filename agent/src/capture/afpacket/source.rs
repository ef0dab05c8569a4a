//! One ring as a [`PacketSource`].
//!
//! The kernel hands a block over when it is full, or [`PATIENCE`] after its first packet at the latest, and wakes the reader
//! then: no wake-up per packet, and a lone packet waits no longer than that. An idle reader sleeps.

use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use agent_core::Packet;
use agent_core::time::Timestamp;
use anyhow::Context as _;
use nix::poll::{PollFd, PollFlags, PollTimeout};

use super::balance::{Batch, Counters, Tally};
use super::filter::Filter;
use super::frame::{Cursor, Frame};
use super::sys::{PacketSocket, Ring};
use crate::capture::{Loss, PacketSource, Progress};

/// The longest that a packet waits in a block that is not full.
pub(super) const PATIENCE: Duration = Duration::from_millis(8);
/// The longest sleep: how long it takes at most to notice that capture has ended.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);
/// How long the last packets are waited for at the end. The block that holds them comes after [`PATIENCE`].
const LAST: Duration = Duration::from_millis(200);
/// Clocks of several CPUs differ by less. What goes back farther is a clock that was set.
const DISORDER: u64 = 1_000_000;

/// What a source shares with the capture that it belongs to.
pub(super) struct Shared {
    pub(super) socket: PacketSocket,
    pub(super) counters: Counters,
    /// What the kernel's filter had no room for.
    pub(super) rest: Rest,
}

/// A filter that user space has to apply.
#[derive(Default)]
pub(super) struct Rest {
    filter: Mutex<Option<Arc<Filter>>>,
    changes: AtomicU64,
}

impl Rest {
    pub(super) fn set(&self, filter: Option<Arc<Filter>>) {
        *self.filter.lock().unwrap_or_else(PoisonError::into_inner) = filter;
        self.changes.fetch_add(1, Ordering::Release);
    }

    fn get(&self) -> Option<Arc<Filter>> {
        self.filter.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The packets of one ring.
pub struct AfPacketSource {
    ring: Ring,
    shared: Arc<Shared>,
    ended: Arc<AtomicBool>,
    /// The block that is read next, or is being read.
    block: u32,
    /// Where in it, if it is being read.
    cursor: Option<Cursor>,
    last: Timestamp,
    rest: Option<Arc<Filter>>,
    rest_changes: u64,
    ending: Option<Instant>,
}

impl AfPacketSource {
    pub(super) fn new(ring: Ring, shared: Arc<Shared>, ended: Arc<AtomicBool>) -> Self {
        Self {
            ring,
            shared,
            ended,
            block: 0,
            cursor: None,
            last: Timestamp(0),
            rest: None,
            rest_changes: 0,
            ending: None,
        }
    }

    /// Hands out what is there, and gives the number of packets that were handed out.
    fn drain(&mut self, max: usize, sink: &mut dyn FnMut(&Packet<'_>)) -> usize {
        let changes = self.shared.rest.changes.load(Ordering::Acquire);
        if changes != self.rest_changes {
            (self.rest, self.rest_changes) = (self.shared.rest.get(), changes);
        }
        let mut batch = Batch::default();
        let mut handed = 0;
        // Once around at most: of traffic that user space filters, there may be no end.
        let mut blocks = 0;
        while handed < max
            && blocks < self.ring.blocks()
            && let Some(block) = self.ring.block(self.block)
        {
            let cursor = self.cursor.get_or_insert(Cursor::new(block.first, block.count));
            while handed < max
                && let Some(frame) = cursor.next(block.frames)
            {
                if hand_out(&frame, self.rest.as_deref(), &mut self.last, &mut batch, sink) {
                    handed += 1;
                }
            }
            if handed < max || cursor.left() == 0 {
                batch.malformed += u64::from(cursor.left());
                self.cursor = None;
                self.ring.release(self.block);
                self.block = (self.block + 1) % self.ring.blocks();
                blocks += 1;
            }
        }
        self.shared.counters.add(&batch);
        handed
    }

    /// Sleeps until a block is handed over, at most for `left`.
    fn sleep(&self, left: Duration) -> anyhow::Result<()> {
        let limit = if self.ending.is_some() { PATIENCE / 4 } else { LONGEST_SLEEP };
        // Rounded up, or the last part of a millisecond would be a wake-up of its own.
        let limit = u16::try_from(left.min(limit).as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
        let mut fds = [PollFd::new(self.shared.socket.as_fd(), PollFlags::POLLIN)];
        match nix::poll::poll(&mut fds, PollTimeout::from(limit)) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error).context("waiting on a packet socket"),
        }
        if fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLERR))
            && let Some(error) = self.shared.socket.take_error()
        {
            // The interface went down. It may come up again, and the socket is bound to it still; whether it is gone for good is
            // looked at elsewhere.
            tracing::debug!(%error, "a packet socket's interface");
        }
        Ok(())
    }

    /// Whether all that the kernel took has been read, or has been waited for long enough.
    fn is_drained(&mut self) -> bool {
        let since = *self.ending.get_or_insert_with(Instant::now);
        let read = self.shared.counters.balance(&self.shared.socket);
        read.is_ok_and(|books| books.taken == books.accounted()) || since.elapsed() >= LAST
    }
}

/// Gives a packet to the sink if it is wanted; whether it was.
fn hand_out(
    frame: &Frame<'_>,
    rest: Option<&Filter>,
    last: &mut Timestamp,
    batch: &mut Batch,
    sink: &mut dyn FnMut(&Packet<'_>),
) -> bool {
    let Frame { mut packet, kind, protocol } = *frame;
    let count = |tally: &mut Tally| {
        tally.packets += 1;
        tally.bytes += u64::from(packet.original_len);
    };
    if rest.is_some_and(|filter| !filter.wants(kind, protocol, packet.data)) {
        count(&mut batch.filtered);
        return false;
    }
    count(&mut batch.captured);
    if packet.data.len() < packet.original_len as usize {
        count(&mut batch.truncated);
    }
    if last.0.saturating_sub(packet.time.0) < DISORDER {
        packet.time = packet.time.max(*last);
    }
    *last = packet.time;
    sink(&packet);
    true
}

impl PacketSource for AfPacketSource {
    fn poll(
        &mut self,
        max: usize,
        wait: Duration,
        sink: &mut dyn FnMut(&Packet<'_>),
    ) -> anyhow::Result<Progress> {
        let started = Instant::now();
        loop {
            // Before the look at the ring: what came before the end is still handed out.
            let ended = self.ended.load(Ordering::Acquire);
            let count = self.drain(max, sink);
            if count > 0 {
                return Ok(Progress::Packets(count));
            }
            if ended && self.is_drained() {
                return Ok(Progress::End);
            }
            let left = wait.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Ok(Progress::Idle);
            }
            self.sleep(left)?;
        }
    }

    fn loss(&self) -> Loss {
        // A read that fails once is no loss; the next one tells.
        let lost = self.shared.counters.balance(&self.shared.socket).map_or(0, |books| books.ring_full);
        Loss { packets: lost, bytes: None }
    }
}
