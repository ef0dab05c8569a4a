//! What user space tells the programs. All of it can change while they run: each value is one map element, which the
//! kernel replaces while programs read it, so a program may see a mixture of old and new fields for one packet.

use crate::assert_layout;

/// `flags`: capture. Without it every packet is counted as `disabled` and passes by.
pub const ENABLED: u32 = 1;
/// `flags`: either end's port must be in the port set.
pub const FILTER_PORTS: u32 = 1 << 1;
/// `flags`: either end's address must be in the net set.
pub const FILTER_NETS: u32 = 1 << 2;
/// `flags`: look ends up in the set of excluded endpoints.
pub const FILTER_EXCLUDED: u32 = 1 << 3;

/// Bits of the port set that one map element holds: 65,536 ports in [`PORT_WORDS`] words.
pub const PORT_WORD_BITS: u32 = 64;
/// Elements of the port set.
pub const PORT_WORDS: u32 = 65_536 / PORT_WORD_BITS;
/// Nets that can be watched at once.
pub const MAX_NETS: u32 = 16_384;
/// Endpoints that can be excluded at once.
pub const MAX_EXCLUDED: u32 = 16_384;

/// Settings of all programs.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    /// Mixed into the flow hash, so that nobody outside can aim flows at one ring.
    pub hash_seed: u64,
    /// Packets of sockets in this cgroup are the agent's own and excluded at cgroup hook points; 0: none.
    pub own_cgroup: u64,
    /// [`ENABLED`], [`FILTER_PORTS`], [`FILTER_NETS`], [`FILTER_EXCLUDED`].
    pub flags: u32,
    /// Rings in use, at least 1.
    pub rings: u32,
    /// Bytes of a packet that are captured at most.
    pub snap_len: u32,
    /// No padding.
    pub reserved: u32,
}

/// An endpoint: address (IPv4 as `::ffff:a.b.c.d`) in network order and port in host order.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// Address.
    pub address: [u8; 16],
    /// Port.
    pub port: u32,
}

/// How a ring's reader sleeps, so that a producer knows whether to wake it. One for each ring, alone in its cache line.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sleeper {
    /// [`AWAKE`], [`BATCH`] or [`QUIET`].
    pub mode: u32,
    /// In mode [`BATCH`]: wake once so many bytes are pending.
    pub wake_at: u32,
    /// Keeps the next ring's state off this cache line.
    pub reserved: [u64; 7],
}

/// `mode`: the reader looks by itself; no wake-ups.
pub const AWAKE: u32 = 0;
/// `mode`: the reader sleeps on a short timer; one wake-up when `wake_at` bytes are pending, then back to [`AWAKE`].
pub const BATCH: u32 = 1;
/// `mode`: nothing has come for a while and the reader sleeps for long; the first record wakes it.
pub const QUIET: u32 = 2;

const _: () = assert_layout::<Settings>(32);
const _: () = assert_layout::<Endpoint>(20);
const _: () = assert_layout::<Sleeper>(64);

// SAFETY: repr(C) without padding (sizes asserted above), any bit pattern is a value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Settings {}
// SAFETY: as above.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Endpoint {}
// SAFETY: as above.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Sleeper {}
