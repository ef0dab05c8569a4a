//! What a capture source hands to the engine: one captured packet, borrowed.

use crate::time::Timestamp;

/// Link-layer header type, as numbered by the `LINKTYPE_` registry of pcap. Unknown numbers are kept, not refused:
/// the engine counts their packets, the store writes them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LinkType(pub u16);

impl LinkType {
    /// BSD loopback: a 4-byte address family in host byte order.
    pub const NULL: Self = Self(0);
    /// IEEE 802.3 Ethernet.
    pub const ETHERNET: Self = Self(1);
    /// Raw IP, version by the first nibble.
    pub const RAW: Self = Self(101);
    /// OpenBSD loopback: a 4-byte address family in network byte order.
    pub const LOOP: Self = Self(108);
    /// Linux cooked capture v1.
    pub const LINUX_SLL: Self = Self(113);
    /// Raw IPv4.
    pub const IPV4: Self = Self(228);
    /// Raw IPv6.
    pub const IPV6: Self = Self(229);
    /// Linux cooked capture v2.
    pub const LINUX_SLL2: Self = Self(276);
}

/// Which way a packet passed its hook point.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Direction {
    /// Into the cgroup or interface.
    Ingress,
    /// Out of the cgroup or interface.
    Egress,
}

/// Where a packet was seen. Zero means unknown.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Origin {
    /// Interface: the kernel's ifindex for a live source, the interface's number for a pcapng file.
    pub interface: u32,
    /// cgroup v2 id of the socket's cgroup.
    pub cgroup: u64,
    /// Direction at the hook point.
    pub direction: Option<Direction>,
    /// The hook point is the socket's (a cgroup's), whatever interface the packet takes: not one on its way.
    pub at_socket: bool,
}

/// One captured packet. `data` may be shorter than `original_len` (snap length): that is a fact, not an error.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// When it was captured.
    pub time: Timestamp,
    /// How `data` begins.
    pub link: LinkType,
    /// The captured bytes, from the link-layer header on.
    pub data: &'a [u8],
    /// Length on the wire, in bytes.
    pub original_len: u32,
    /// Where it was seen.
    pub origin: Origin,
}
