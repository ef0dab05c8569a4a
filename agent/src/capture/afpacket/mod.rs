//! Live capture by packet sockets, where eBPF is not permitted: `CAP_NET_RAW` is enough.
//!
//! ```text
//!                       fan-out: hash of the flow
//!  interface, or all ──► socket 0 ─ filter ─ ring 0 ─► AfPacketSource ─► worker 0
//!  of them               socket n ─ filter ─ ring n ─► AfPacketSource ─► worker n
//! ```
//! Invariants:
//! - Packets are read where the kernel put them (TPACKET_V3); nothing is copied on the way to the engine.
//! - Both directions of a stream come out of the same ring, in the order in which the kernel saw them, also where they pass
//!   different interfaces: there is one ring for each worker, not for each interface. With one interface the sockets are bound to
//!   it; with several they are bound to all, and the filter goes by the interface's number. That costs a look at the packets of
//!   the others, too; rings for each interface would cost memory and timers for each, and an order between them.
//! - Dropping [`AfPacket`] and its sources leaves nothing behind; so does the end of the process, however it ends.
//! - What is lost is counted to the packet: see [`Balance`].
//! - Interfaces are looked up, and sockets made, in the calling thread's network namespace.
//!
//! Loopback is seen on its way in only, because every packet there goes out and comes in. Super-packets are delivered
//! whole, up to the size of a block.

mod balance;
mod bpf;
mod error;
mod fanout;
mod filter;
mod frame;
mod headers;
mod interfaces;
mod probe;
mod source;
mod sys;

use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use agent_core::packet::Direction;

use self::balance::Counters;
pub use self::balance::{Balance, RingBalance, Tally};
use self::bpf::Instruction;
pub use self::error::AfPacketError;
use self::filter::Filter;
pub use self::interfaces::Changes;
use self::interfaces::Interfaces;
pub(crate) use self::probe::check;
pub use self::source::AfPacketSource;
use self::source::{PATIENCE, Rest, Shared};
use self::sys::{Layout, PacketSocket, Ring};
use super::net::Net;

/// The most workers: the largest fan-out of kernels before 5.13.
const MAX_WORKERS: u16 = 256;
/// Bytes of a packet that are captured at most, unless said otherwise: as by the eBPF programs.
const SNAP_LEN: u32 = 262_144;
/// A block holds the largest packet by default, with room to spare; small rings have smaller blocks, of which one still holds a
/// super-packet of 64 KiB.
const LARGEST_BLOCK: usize = 512 << 10;
const SMALLEST_BLOCK: usize = 128 << 10;
const FEWEST_BLOCKS: usize = 2;
/// Blocks that a ring is divided into if it is not too small for that.
const BLOCKS: usize = 16;
/// The most and the least that a default ring takes.
const LARGEST_DEFAULT: usize = 32 << 20;
const SMALLEST_DEFAULT: usize = 1 << 20;
/// All default rings together take at most this share of the memory there is. (They are charged to no cgroup.)
const SHARE: usize = 16;
const LARGEST_RING: usize = 1 << 30;

/// What to capture, and with how much memory.
#[derive(Clone, Debug, Default)]
pub struct AfPacketConfig {
    /// Interfaces, by name or pattern (`veth*`), in the calling thread's network namespace. Those that a pattern fits may come
    /// and go.
    pub interfaces: Vec<String>,
    /// Captured if either end has one of these ports; empty: all.
    pub ports: Vec<u16>,
    /// Captured if either end is in one of these nets; empty: all.
    pub nets: Vec<Net>,
    /// Endpoints whose traffic is left out: the agent's own.
    pub exclude: Vec<SocketAddr>,
    /// Captured one way only, as the interface sees it; `None`: both.
    pub direction: Option<Direction>,
    /// Rings, one for each worker: 1 to 256; 0: one.
    pub workers: u16,
    /// Bytes of each ring, rounded up to a power of two; `None`: 32 MiB, or less where memory is scarce.
    pub ring_bytes: Option<usize>,
    /// Bytes of each packet that are captured at most; `None`: 262,144.
    pub snap_len: Option<u32>,
    /// Whether the interfaces are to give packets for other machines, too.
    pub promiscuous: bool,
}

/// A running capture: owns the sockets.
pub struct AfPacket {
    rings: Vec<Arc<Shared>>,
    interfaces: Interfaces,
    /// What is wanted, on whatever interface.
    filter: Filter,
    direction: Option<Direction>,
    snap_len: u32,
    promiscuous: bool,
    bound_to_all: bool,
    ended: Arc<AtomicBool>,
}

impl AfPacket {
    /// Starts to capture. The sources are as many as `workers`, each for one thread.
    ///
    /// # Errors
    /// When an interface does not exist, something is not permitted, or the kernel cannot do it. Nothing stays behind.
    pub fn start(config: &AfPacketConfig) -> Result<(Self, Vec<AfPacketSource>), AfPacketError> {
        let workers = config.workers.max(1);
        if workers > MAX_WORKERS {
            let value = workers.to_string();
            return Err(AfPacketError::Setting { what: "workers", value, allowed: "1 to 256" });
        }
        let interfaces = Interfaces::find(&config.interfaces)?;
        let layout = layout(config.ring_bytes, workers);
        let bound_to = interfaces.only().map_or(0, |only| only.index);
        let mut opened = Vec::new();
        let mut group = None;
        for _ in 0..workers {
            let (socket, ring) = open(layout, workers)?;
            let failed = |what: &str| {
                let what = what.to_owned();
                move |cause| AfPacketError::kernel(what, cause)
            };
            // Until all are there, what comes is for nobody.
            socket.filter(&NOTHING).map_err(failed("attaching a filter to a packet socket"))?;
            if config.promiscuous {
                for interface in interfaces.there() {
                    let what = format!("promiscuous mode of interface {}", interface.name);
                    socket.promiscuous(interface.index).map_err(failed(&what))?;
                }
            }
            let loopback = interfaces.only().is_some_and(|only| only.name == "lo");
            if loopback && socket.ignore_outgoing().is_err() {
                tracing::debug!("outgoing packets are left out by the filter only");
            }
            socket.bind(bound_to).map_err(failed("binding a packet socket"))?;
            if workers > 1 {
                let joined = socket.join(group).map_err(failed("joining a fan-out of packet sockets"))?;
                group = Some(joined);
            }
            opened.push((socket, ring));
        }
        let ended = Arc::new(AtomicBool::new(false));
        let mut sources = Vec::new();
        let mut rings = Vec::new();
        for (socket, ring) in opened {
            let shared = Arc::new(Shared { socket, counters: Counters::default(), rest: Rest::default() });
            sources.push(AfPacketSource::new(ring, Arc::clone(&shared), Arc::clone(&ended)));
            rings.push(shared);
        }
        let mut capture = Self {
            rings,
            interfaces,
            filter: Filter::default(),
            direction: config.direction,
            promiscuous: config.promiscuous,
            snap_len: config.snap_len.unwrap_or(SNAP_LEN).max(1),
            bound_to_all: bound_to == 0,
            ended,
        };
        capture.fan_out()?;
        capture.set_filter(&config.ports, &config.nets, &config.exclude)?;
        Ok((capture, sources))
    }

    fn fan_out(&self) -> Result<(), AfPacketError> {
        if let [first, _, ..] = self.rings.as_slice() {
            // Seeded anew by the standard library for each process.
            let seed = RandomState::new().hash_one("flow") as u32;
            let program = fanout::program(seed).map_err(|error| AfPacketError::Setting {
                what: "instructions of the fan-out",
                value: error.instructions.to_string(),
                allowed: "1 to 4096",
            })?;
            first
                .socket
                .fan_out_by(&program)
                .map_err(|cause| AfPacketError::kernel("setting the fan-out of packet sockets", cause))?;
        }
        for ring in &self.rings {
            ring.counters
                .begin(&ring.socket)
                .map_err(|cause| AfPacketError::kernel("reading a packet socket's counters", cause))?;
        }
        Ok(())
    }

    /// Captures what these say from now on, as in [`AfPacketConfig`]; packets that both the old and the new filter want are not
    /// lost. What is too long for the kernel is done in user space.
    ///
    /// # Errors
    /// When the kernel takes no filter at all.
    pub fn set_filter(
        &mut self,
        ports: &[u16],
        nets: &[Net],
        exclude: &[SocketAddr],
    ) -> Result<(), AfPacketError> {
        self.filter = Filter::new(ports, nets, exclude).of_direction(self.direction);
        self.apply_filter()
    }

    fn apply_filter(&self) -> Result<(), AfPacketError> {
        let mut filter = self.filter.clone();
        if self.bound_to_all {
            let indices: Vec<_> = self.interfaces.there().iter().map(|interface| interface.index).collect();
            filter = filter.of_interfaces(&indices);
        }
        match filter.program(self.snap_len) {
            Ok(program) => match self.attach(&program) {
                Ok(()) => {
                    self.rings.iter().for_each(|ring| ring.rest.set(None));
                    return Ok(());
                }
                // Programs are charged against net.core.optmem_max.
                Err(AfPacketError::Kernel { cause, .. }) if cause.raw_os_error() == Some(libc::ENOMEM) => {
                    tracing::warn!(
                        instructions = program.len(),
                        "the filter is too long for net.core.optmem_max: ports and nets are looked at in user space"
                    );
                }
                Err(error) => return Err(error),
            },
            Err(too_long) => tracing::warn!(
                instructions = too_long.instructions,
                "the filter is too long for the kernel: ports and nets are looked at in user space"
            ),
        }
        // User space first, so that nothing passes that neither wants.
        let base = filter.without_details().program(self.snap_len).unwrap_or_else(|_| NOTHING.to_vec());
        let rest = Arc::new(filter);
        self.rings.iter().for_each(|ring| ring.rest.set(Some(Arc::clone(&rest))));
        self.attach(&base)
    }

    fn attach(&self, program: &[Instruction]) -> Result<(), AfPacketError> {
        for ring in &self.rings {
            ring.socket
                .filter(program)
                .map_err(|cause| AfPacketError::kernel("attaching a filter to a packet socket", cause))?;
        }
        Ok(())
    }

    /// What was captured, filtered in user space and dropped so far.
    ///
    /// # Errors
    /// When the kernel does not let the counters be read.
    pub fn balance(&self) -> Result<Balance, AfPacketError> {
        let books = self.rings.iter().map(|ring| ring.counters.balance(&ring.socket));
        let rings = books.collect::<Result<_, _>>();
        let rings =
            rings.map_err(|cause| AfPacketError::kernel("reading a packet socket's counters", cause))?;
        Ok(Balance { rings })
    }

    /// Where packets come from, in words for a person: `veth0 (AF_PACKET)`.
    #[must_use]
    pub fn attachments(&self) -> Vec<String> {
        self.interfaces.there().iter().map(|interface| format!("{} (AF_PACKET)", interface.name)).collect()
    }

    /// Looks which interfaces have come and gone since the last look, and captures from those that are there. To be called in the
    /// network namespace that the capture was started in.
    ///
    /// # Errors
    /// When the kernel refuses the new filter.
    pub fn look(&mut self) -> Result<Changes, AfPacketError> {
        let changes = self.interfaces.look();
        if self.bound_to_all && changes != Changes::default() {
            self.apply_filter()?;
        }
        let new =
            self.interfaces.there().iter().filter(|i| self.promiscuous && changes.come.contains(&i.name));
        for interface in new {
            for ring in &self.rings {
                if let Err(error) = ring.socket.promiscuous(interface.index) {
                    tracing::warn!(interface = interface.name, %error, "no promiscuous mode");
                }
            }
        }
        Ok(changes)
    }

    /// Whether nothing is left that packets could come from, and nothing can come, as the last look found.
    #[must_use]
    pub fn is_bereft(&self) -> bool {
        self.interfaces.there().is_empty() && !self.interfaces.has_patterns()
    }

    /// Stops to capture: what the rings still hold can be read to the end. Sources end also where this fails.
    ///
    /// # Errors
    /// When the kernel refuses the filter.
    pub fn stop(&self) -> Result<(), AfPacketError> {
        let attached = self.attach(&NOTHING);
        self.ended.store(true, Ordering::Release);
        attached
    }
}

impl Drop for AfPacket {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
    }
}

/// A filter that wants nothing.
const NOTHING: [Instruction; 1] = [Instruction { code: bpf::op::RETURN, yes: 0, no: 0, k: 0 }];

fn open(layout: Layout, rings: u16) -> Result<(PacketSocket, Ring), AfPacketError> {
    let socket =
        PacketSocket::new().map_err(|cause| AfPacketError::kernel("making a packet socket", cause))?;
    let ring = socket.ring(layout, frame::ROOM, PATIENCE.as_millis() as u32).map_err(|cause| match cause
        .raw_os_error()
    {
        Some(libc::ENOMEM) => AfPacketError::Memory { rings, mib: layout.bytes() >> 20 },
        _ => AfPacketError::kernel("making a packet socket's ring", cause),
    })?;
    Ok((socket, ring))
}

/// How the memory of each of `workers` rings is divided.
fn layout(asked: Option<usize>, workers: u16) -> Layout {
    let bytes = asked.map_or_else(
        || default_ring_bytes(memory(), usize::from(workers)),
        |asked| asked.clamp(FEWEST_BLOCKS * SMALLEST_BLOCK, LARGEST_RING).next_power_of_two(),
    );
    let block = (bytes / BLOCKS).clamp(SMALLEST_BLOCK, LARGEST_BLOCK);
    Layout { block_bytes: block as u32, blocks: (bytes / block).max(FEWEST_BLOCKS) as u32 }
}

fn default_ring_bytes(memory: Option<usize>, workers: usize) -> usize {
    let share = memory.map_or(LARGEST_DEFAULT, |memory| memory / SHARE / workers.max(1));
    // Down to a power of two.
    1 << share.clamp(SMALLEST_DEFAULT, LARGEST_DEFAULT).ilog2()
}

/// Memory of the machine in bytes.
fn memory() -> Option<usize> {
    use nix::unistd::{SysconfVar, sysconf};
    let [pages, size] =
        [SysconfVar::_PHYS_PAGES, SysconfVar::PAGE_SIZE].map(|name| sysconf(name).ok().flatten());
    usize::try_from(pages?).ok()?.checked_mul(usize::try_from(size?).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_divided_into_blocks_that_hold_a_super_packet() {
        for (asked, block, blocks) in [
            (1, SMALLEST_BLOCK, 2),
            (256 << 10, SMALLEST_BLOCK, 2),
            (1 << 20, SMALLEST_BLOCK, 8),
            (5 << 20, LARGEST_BLOCK, 16),
            (32 << 20, LARGEST_BLOCK, 64),
        ] {
            let expected = Layout { block_bytes: block as u32, blocks };
            assert_eq!(layout(Some(asked), 4), expected, "{asked}");
        }
        assert!(layout(Some(usize::MAX), 1).bytes() == LARGEST_RING);
    }

    #[test]
    fn default_rings_follow_memory_and_workers() {
        assert_eq!(default_ring_bytes(Some(64 << 30), 4), LARGEST_DEFAULT);
        assert_eq!(default_ring_bytes(Some(1 << 30), 4), 16 << 20);
        assert_eq!(default_ring_bytes(Some(1 << 20), 256), SMALLEST_DEFAULT);
        assert!(memory().is_some_and(|bytes| bytes > 64 << 20));
    }

    #[test]
    fn what_does_not_exist_is_named() {
        let start = |names: &[&str], workers| {
            let interfaces = names.iter().map(|name| (*name).to_owned()).collect();
            let config = AfPacketConfig { interfaces, workers, ..AfPacketConfig::default() };
            AfPacket::start(&config).map(drop).unwrap_err().to_string()
        };
        assert_eq!(start(&[], 1), "nothing to capture: name an interface");
        let error = start(&["no-such-if0"], 1);
        assert!(error.contains("\"no-such-if0\"") && error.contains("lo"), "{error}");
        assert_eq!(start(&["lo"], 257), "workers: 257 is not within 1 to 256");
    }
}
