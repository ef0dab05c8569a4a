//! One ring as a [`PacketSource`].
//!
//! The reader sleeps in one of two ways, and the programs wake it accordingly (see `agent_common::config::Sleeper`):
//! while traffic flows, for at most [`TICK`], woken early once [`WAKE_AT`] bytes are pending; after [`QUIET_AFTER`]
//! without a packet for as long as the caller allows, woken by the first packet. So a busy ring costs no wake-up per
//! packet, a packet waits at most a tick, and an idle agent does nothing.

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use agent_common::config::{AWAKE, BATCH, QUIET, Sleeper};
use agent_common::record::{EGRESS, FLAG_SOCKET, RecordHeader};
use agent_core::Packet;
use agent_core::packet::{Direction, LinkType, Origin};
use anyhow::Context as _;
use aya::maps::{Array, MapData, RingBuf};
use nix::poll::{PollFd, PollFlags, PollTimeout};

use agent_core::engine::Trim;

use super::balance::Counters;
use super::clock::Clock;
use super::policy::{Policies, PolicyStats};
use crate::capture::{Loss, PacketSource, Progress};

/// The longest that a packet waits in a ring whose reader keeps up.
const TICK: Duration = Duration::from_millis(10);
/// Pending bytes that wake the reader before its tick is over, unless the ring is small.
const WAKE_AT: u32 = 512 << 10;
/// So long without a packet, and the reader sleeps until one comes.
const QUIET_AFTER: Duration = Duration::from_millis(200);
/// The longest sleep: how long it takes at most to notice that capture has ended.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);

/// The packets of one ring.
pub struct RingSource {
    ring: RingBuf<MapData>,
    index: u32,
    sleepers: Array<MapData, Sleeper>,
    policies: Option<Policies>,
    counters: Arc<Counters>,
    clock: Clock,
    wake_at: u32,
    mode: u32,
    last_packet: Instant,
    ended: Arc<AtomicBool>,
    malformed: u64,
}

impl RingSource {
    pub(super) fn new(
        ring: RingBuf<MapData>,
        ring_bytes: u32,
        index: u32,
        sleepers: Array<MapData, Sleeper>,
        policies: Option<Policies>,
        counters: Arc<Counters>,
        ended: Arc<AtomicBool>,
    ) -> Self {
        Self {
            ring,
            index,
            sleepers,
            policies,
            counters,
            clock: Clock::new(),
            wake_at: WAKE_AT.min(ring_bytes / 4),
            mode: AWAKE,
            last_packet: Instant::now(),
            ended,
            malformed: 0,
        }
    }

    /// Records that were not as the programs write them: always 0, or memory is corrupt.
    #[must_use]
    pub const fn malformed(&self) -> u64 {
        self.malformed
    }

    /// What was done with flow policies.
    #[must_use]
    pub fn policies(&self) -> PolicyStats {
        self.policies.as_ref().map(Policies::stats).unwrap_or_default()
    }

    /// Hands out what is there.
    fn drain(&mut self, max: usize, sink: &mut dyn FnMut(&Packet<'_>)) -> anyhow::Result<usize> {
        let mut count = 0;
        while count < max
            && let Some(record) = self.ring.next()
        {
            let Some((header, data)) = RecordHeader::split(&record) else {
                self.malformed += 1;
                continue;
            };
            sink(&packet(&header, data, &mut self.clock));
            count += 1;
        }
        if count > 0 {
            self.last_packet = Instant::now();
            if self.mode == QUIET {
                self.set_mode(AWAKE)?;
            }
        }
        Ok(count)
    }

    fn set_mode(&mut self, mode: u32) -> anyhow::Result<()> {
        let sleeper = Sleeper { mode, wake_at: self.wake_at, ..Sleeper::default() };
        self.mode = mode;
        self.sleepers
            .set(self.index, sleeper, 0)
            .context("telling the eBPF programs how the ring's reader sleeps")
    }

    /// Sleeps until woken, at most for `left`.
    fn sleep(&mut self, left: Duration) -> anyhow::Result<()> {
        let quiet = self.last_packet.elapsed() >= QUIET_AFTER;
        let limit = match (quiet, self.mode == QUIET) {
            (true, true) => LONGEST_SLEEP,
            // A program that is running may not have seen the new mode: one more tick before sleeping for long.
            (true, false) => {
                self.set_mode(QUIET)?;
                TICK
            }
            (false, _) => {
                self.set_mode(BATCH)?;
                TICK
            }
        };
        // Rounded up, or the last part of a millisecond would be a wake-up of its own.
        let limit = u16::try_from(left.min(limit).as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
        let mut fds = [PollFd::new(self.ring.as_fd(), PollFlags::POLLIN)];
        match nix::poll::poll(&mut fds, PollTimeout::from(limit)) {
            Ok(_) | Err(nix::Error::EINTR) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("waiting on ring {}", self.ring.as_raw_fd())),
        }
    }
}

fn packet<'a>(header: &RecordHeader, data: &'a [u8], clock: &mut Clock) -> Packet<'a> {
    let direction = if header.direction == EGRESS { Direction::Egress } else { Direction::Ingress };
    Packet {
        time: clock.wall(header.time_ns),
        link: LinkType(header.link),
        data,
        original_len: header.original_len,
        origin: Origin {
            interface: header.ifindex,
            cgroup: header.cgroup,
            direction: Some(direction),
            at_socket: header.flags & FLAG_SOCKET != 0,
        },
    }
}

impl PacketSource for RingSource {
    fn poll(
        &mut self,
        max: usize,
        wait: Duration,
        sink: &mut dyn FnMut(&Packet<'_>),
    ) -> anyhow::Result<Progress> {
        let started = Instant::now();
        self.clock.refresh();
        loop {
            // Before the look at the ring: what came before the end is still handed out.
            let ended = self.ended.load(Ordering::Acquire);
            let count = self.drain(max, sink)?;
            if count > 0 {
                return Ok(Progress::Packets(count));
            }
            if ended {
                return Ok(Progress::End);
            }
            let left = wait.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Ok(Progress::Idle);
            }
            self.sleep(left)?;
        }
    }

    fn trim(&mut self, wish: &Trim) {
        if let Some(policies) = &mut self.policies {
            policies.apply(wish);
        }
    }

    fn loss(&self) -> Loss {
        // A read that fails once is no loss; the next one tells.
        let dropped = self.counters.ring(self.index).map(|ring| ring.dropped()).unwrap_or_default();
        Loss { packets: dropped.packets, bytes: Some(dropped.bytes) }
    }
}
