//! Which stream a packet belongs to: keys, the table of streams, and their order by idleness.

pub(crate) mod hash;
mod table;

pub(crate) use table::{Class, Found, TICK, Table};

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::decode::TcpPacket;
use hash::KeyedState;

/// Addresses, ports and tag, the same for both directions: the lower (address, port) comes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FlowKey {
    addrs: [u128; 2],
    tag: u64,
    ports: [u16; 2],
    v6: bool,
}

impl FlowKey {
    /// The key of a packet, and which end of it (0 or 1) sent the packet. `None` if both ends are the same: then
    /// directions cannot be told apart.
    #[inline]
    pub(crate) fn of(packet: &TcpPacket<'_>) -> Option<(Self, usize)> {
        let (src, dst) = ((packet.net.src, packet.src_port), (packet.net.dst, packet.dst_port));
        let (lo, hi, from) = match src.cmp(&dst) {
            std::cmp::Ordering::Less => (src, dst, 0),
            std::cmp::Ordering::Greater => (dst, src, 1),
            std::cmp::Ordering::Equal => return None,
        };
        let key = Self { addrs: [lo.0, hi.0], tag: packet.net.tag, ports: [lo.1, hi.1], v6: packet.net.v6 };
        Some((key, from))
    }

    /// Whether it was found in no VLAN and no tunnel.
    pub(crate) const fn is_plain(&self) -> bool {
        self.tag == 0
    }

    /// Port of an end.
    pub(crate) const fn port(&self, end: usize) -> u16 {
        self.ports[end & 1]
    }

    /// Address of an end.
    pub(crate) fn addr(&self, end: usize) -> IpAddr {
        let addr = self.addrs[end & 1];
        if self.v6 {
            IpAddr::V6(Ipv6Addr::from_bits(addr))
        } else {
            // An IPv4 address is held in the low 32 bits.
            IpAddr::V4(Ipv4Addr::from_bits(addr as u32))
        }
    }

    /// A byte of the key that costs next to nothing: connections of a host or between two hosts differ in it as a rule, and whoever
    /// sends others gains nothing but that a hash is computed.
    #[inline]
    pub(crate) const fn mark(&self) -> u8 {
        let [a, b] = self.ports;
        let mixed = (a ^ b ^ (self.addrs[0] ^ self.addrs[1]) as u16) as u32;
        // Numbers in a row, odd or even ones, are spread evenly (Fibonacci hashing).
        (mixed.wrapping_mul(0x9e37_79b1) >> 24) as u8
    }

    /// Hash of the key: the same for both directions.
    #[inline]
    pub(crate) fn hash(&self, state: &KeyedState) -> u64 {
        let [a, b] = self.addrs;
        let ports = u64::from(self.ports[0]) << 32 | u64::from(self.ports[1]) << 8 | u64::from(self.v6);
        state.words([a as u64, (a >> 64) as u64, b as u64, (b >> 64) as u64, ports, self.tag])
    }
}
