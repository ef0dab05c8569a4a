//! What user space tells the programs. All of it can change while they run. [`Settings`] are replaced as a whole: a program
//! sees the old or the new ones. Ports, nets and the other sets are changed element by element, so that between two
//! versions of a set programs see their union.

use crate::assert_layout;

/// `flags`: capture. Without it every packet is counted as `disabled` and passes by.
pub const ENABLED: u32 = 1;
/// `flags`: either end's port must be in the port set.
pub const FILTER_PORTS: u32 = 1 << 1;
/// `flags`: either end's address must be in the net set.
pub const FILTER_NETS: u32 = 1 << 2;
/// `flags`: look ends up in the set of excluded endpoints.
pub const FILTER_EXCLUDED: u32 = 1 << 3;
/// `flags`, at cgroup hook points: the socket's cgroup, or one around it, must be in the set of cgroups.
pub const FILTER_CGROUPS: u32 = 1 << 4;
/// `flags`: packets into the cgroup or interface are not wanted.
pub const SKIP_INGRESS: u32 = 1 << 5;
/// `flags`: packets out of the cgroup or interface are not wanted.
pub const SKIP_EGRESS: u32 = 1 << 6;
/// `flags`: the nets of [`Settings::nets`] are all there are; the set of nets need not be searched.
pub const FEW_NETS: u32 = 1 << 7;
/// `flags`: look up whether a flow is cut to its headers.
pub const POLICIES: u32 = 1 << 8;
/// `flags`, at cgroup hook points: of two watched ends of a connection the client's is captured.
pub const ONE_END: u32 = 1 << 9;

/// Bits of the port set that one map element holds: 65,536 ports in [`PORT_WORDS`] words.
pub const PORT_WORD_BITS: u32 = 64;
/// Elements of the port set.
pub const PORT_WORDS: u32 = 65_536 / PORT_WORD_BITS;
/// Nets that can be watched at once.
pub const MAX_NETS: u32 = 16_384;
/// Endpoints that can be excluded at once.
pub const MAX_EXCLUDED: u32 = 16_384;
/// cgroups that can be watched among those that programs are attached to.
pub const MAX_CGROUPS: u32 = 16_384;
/// Depths at which those may lie.
pub const MAX_LEVELS: usize = 4;
/// Nets that are compared with one by one, which is faster than a search as long as they are few.
pub const MAX_FEW_NETS: usize = 4;
/// Clients that are remembered, so that their servers' ends are known; the longest idle ones make room.
pub const MAX_CLIENTS: u32 = 32_768;
/// The agent's own connections at interfaces that are left out at once; the longest idle ones make room, and are captured.
pub const MAX_OWN: u32 = 4_096;

/// Settings of all programs.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    /// Mixed into the flow hash, so that nobody outside can aim flows at one ring.
    pub hash_seed: u64,
    /// Packets of sockets in this cgroup are the agent's own and left out; 0: none.
    pub own_cgroup: u64,
    /// Bits from [`ENABLED`] to [`ONE_END`].
    pub flags: u32,
    /// Rings in use, at least 1.
    pub rings: u32,
    /// Bytes of a packet that are captured at most.
    pub snap_len: u32,
    /// Depths of the watched cgroups below the root, a byte each; 255: none.
    pub levels: [u8; MAX_LEVELS],
    /// With [`FEW_NETS`]: the nets, by mask and masked address in memory order. Unused ones have an address that no
    /// mask leaves.
    pub nets: [FewNet; MAX_FEW_NETS],
}

/// A net to compare with.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FewNet {
    /// Mask.
    pub mask: [u64; 2],
    /// What it must leave.
    pub address: [u64; 2],
}

impl Default for FewNet {
    /// Matches nothing.
    fn default() -> Self {
        Self { mask: [0; 2], address: [1; 2] }
    }
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

const _: () = assert_layout::<Settings>(32 + 32 * MAX_FEW_NETS);
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
