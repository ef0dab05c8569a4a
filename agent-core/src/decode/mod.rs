//! From captured bytes to a TCP segment with its addresses: the layering loop.
//!
//! ```text
//! link ─→ VLAN, MPLS, PPPoE ─→ IPv4, IPv6 ─→ TCP
//!              ▲                   │ └──→ fragment (put together by the caller, then `resume`)
//!              └── VXLAN, GENEVE, GRE, ERSPAN, IP in IP
//! ```
//!
//! Invariants:
//! - Nothing is copied: a [`TcpPacket`]'s payload lies in the captured packet.
//! - A packet that was cut by the snap length is not an error: [`Frame`] carries what was captured and how long it was
//!   on the wire.
//! - Checksums are ignored on purpose: with offloading they are not yet computed when a packet is captured.
//! - The tag of a packet (VLAN ids, VNIs) is part of its flow: the same addresses under two tags are two flows.

mod fragment;
mod ip;
mod link;
mod tcp;
mod tunnel;

pub(crate) use fragment::{Datagram, FragmentKey, Fragments};
pub(crate) use tcp::TcpPacket;

use crate::packet::LinkType;

/// Tunnels and tags inside each other, at most.
const MAX_DEPTH: u8 = 12;

/// Bytes of one layer: what was captured of it, and its length on the wire.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    /// Captured bytes.
    pub(crate) data: &'a [u8],
    /// Length on the wire; never less than `data.len()`.
    pub(crate) wire: usize,
}

impl<'a> Frame<'a> {
    fn new(data: &'a [u8], original: u32) -> Self {
        Self { data, wire: data.len().max(original as usize) }
    }

    /// What follows the first `n` bytes; nothing where it was not captured.
    fn skip(self, n: usize) -> Self {
        Self { data: self.data.get(n..).unwrap_or_default(), wire: self.wire.saturating_sub(n) }
    }

    /// Only the first `n` bytes: cuts padding.
    fn limit(self, n: usize) -> Self {
        Self { data: self.data.get(..n).unwrap_or(self.data), wire: self.wire.min(n) }
    }

    /// Why a header of `n` bytes cannot be read, if it cannot.
    fn need(self, n: usize, what: Malformed) -> Result<(), Reject> {
        if self.data.len() >= n {
            Ok(())
        } else if self.wire >= n {
            Err(Reject::HeaderCut)
        } else {
            Err(Reject::Malformed(what))
        }
    }

    fn be16(self, at: usize) -> u16 {
        match self.data.get(at..at + 2) {
            Some(&[a, b]) => u16::from_be_bytes([a, b]),
            _ => 0,
        }
    }

    fn be32(self, at: usize) -> u32 {
        u32::from(self.be16(at)) << 16 | u32::from(self.be16(at + 2))
    }

    fn byte(self, at: usize) -> u8 {
        self.data.get(at).copied().unwrap_or(0)
    }
}

/// Addresses of the innermost IP header so far, and the tags around it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Net {
    /// Source; an IPv4 address is in the low 32 bits.
    pub(crate) src: u128,
    /// Destination.
    pub(crate) dst: u128,
    /// Whether they are IPv6 addresses.
    pub(crate) v6: bool,
    /// VLAN ids and VNIs, folded.
    pub(crate) tag: u64,
}

/// A piece of a fragmented IP datagram.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fragment<'a> {
    /// Which datagram.
    pub(crate) key: FragmentKey,
    /// Offset of the piece in the datagram's payload, in bytes.
    pub(crate) offset: usize,
    /// Whether more follow.
    pub(crate) more: bool,
    /// The piece.
    pub(crate) frame: Frame<'a>,
}

/// What a packet turned out to be.
#[derive(Debug)]
pub(crate) enum Decoded<'a> {
    /// A TCP segment.
    Tcp(TcpPacket<'a>),
    /// A piece of a datagram.
    Fragment(Fragment<'a>),
}

/// Why a packet holds no TCP segment that can be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reject {
    /// Link type that is not known.
    UnknownLink,
    /// Something other than TCP over IP.
    NotTcp,
    /// The snap length cut a header.
    HeaderCut,
    /// A header that contradicts itself.
    Malformed(Malformed),
}

/// The layer that was malformed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Malformed {
    /// Link layer or tag.
    Link,
    /// IPv4, IPv6 or an extension header.
    Ip,
    /// TCP.
    Tcp,
    /// UDP, GRE or what they carry.
    Tunnel,
}

/// Reads one captured packet. `original` is its length on the wire.
// Inlined: a segment's many fields are then not moved.
#[inline(always)]
pub(crate) fn decode(link: LinkType, data: &[u8], original: u32) -> Result<Decoded<'_>, Reject> {
    let frame = Frame::new(data, original);
    if link == LinkType::ETHERNET
        && let Some((net, payload)) = ip::plain(frame)
    {
        return tcp::tcp(net, payload).map(Decoded::Tcp);
    }
    link::link(link, frame)
}

/// Goes on with a datagram that was put together from fragments.
pub(crate) fn resume(datagram: &Datagram) -> Result<Decoded<'_>, Reject> {
    let frame = Frame { data: &datagram.data, wire: datagram.wire.max(datagram.data.len()) };
    ip::transport(datagram.key.net, datagram.key.protocol, frame, MAX_DEPTH / 2)
}

/// The flow of a fragment that holds the start of a TCP header.
pub(crate) fn first_fragment<'a>(fragment: &Fragment<'a>) -> Option<TcpPacket<'a>> {
    let tcp = fragment.offset == 0 && fragment.key.protocol == ip::TCP;
    if tcp { tcp::tcp(fragment.key.net, fragment.frame).ok() } else { None }
}

#[cfg(test)]
pub(crate) mod tests;
