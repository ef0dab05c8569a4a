//! Captured frames read back, by code that has nothing to do with Remora's own.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use agent_core::packet::LinkType;

use super::rig::Seen;

/// A TCP segment.
#[derive(Debug)]
pub(crate) struct Segment<'a> {
    pub(crate) src: SocketAddr,
    pub(crate) dst: SocketAddr,
    pub(crate) seq: u32,
    pub(crate) syn: bool,
    pub(crate) payload: &'a [u8],
}

/// Reads a frame that is TCP, without IPv6 extension headers but the one of BIG TCP.
pub(crate) fn segment(packet: &Seen) -> Segment<'_> {
    let ip = match packet.link {
        LinkType::ETHERNET => {
            let tagged = packet.data[12..14] == [0x81, 0];
            &packet.data[if tagged { 18 } else { 14 }..]
        }
        LinkType::RAW => &packet.data[..],
        other => panic!("{other:?}"),
    };
    let (src, dst, tcp): (IpAddr, IpAddr, &[u8]) = if ip[0] >> 4 == 4 {
        let len = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        // Super-packets beyond 64 KiB say 0.
        let end = if len == 0 { ip.len() } else { len.min(ip.len()) };
        let address = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&ip[at..at + 4]).unwrap());
        (address(12).into(), address(16).into(), &ip[usize::from(ip[0] & 15) * 4..end])
    } else {
        let address = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&ip[at..at + 16]).unwrap());
        // BIG TCP says its length in a hop-by-hop option.
        let start = if ip[6] == 0 { 48 } else { 40 };
        (address(8).into(), address(24).into(), &ip[start..])
    };
    let port = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
    Segment {
        src: (src, port(0)).into(),
        dst: (dst, port(2)).into(),
        seq: u32::from_be_bytes(tcp[4..8].try_into().unwrap()),
        syn: tcp[13] & 2 != 0,
        payload: &tcp[usize::from(tcp[12] >> 4) * 4..],
    }
}

/// One direction of a connection.
#[derive(Default)]
pub(crate) struct Direction {
    /// Sequence number of the first payload byte.
    first: Option<u32>,
    /// Offset and payload of each segment that has one.
    segments: Vec<(usize, Vec<u8>)>,
    /// The ring of each packet.
    pub(crate) rings: Vec<usize>,
}

impl Direction {
    /// The bytes, of which every one must be there; and how many were seen more than once.
    pub(crate) fn bytes(&self) -> (Vec<u8>, usize) {
        let mut segments: Vec<_> = self.segments.iter().collect();
        segments.sort_by_key(|s| s.0);
        let mut bytes: Vec<u8> = Vec::new();
        let mut repeated = 0;
        for (offset, payload) in segments {
            assert!(*offset <= bytes.len(), "bytes {} to {offset} are missing", bytes.len());
            let known = (bytes.len() - offset).min(payload.len());
            assert_eq!(payload[..known], bytes[*offset..offset + known], "a repeated byte differs");
            repeated += known;
            bytes.extend_from_slice(&payload[known..]);
        }
        (bytes, repeated)
    }
}

/// Sorts packets by connection and direction: source and destination.
pub(crate) fn directions(seen: &[Seen]) -> HashMap<(SocketAddr, SocketAddr), Direction> {
    let mut all: HashMap<_, Direction> = HashMap::new();
    for packet in seen {
        let segment = segment(packet);
        let direction = all.entry((segment.src, segment.dst)).or_default();
        direction.rings.push(packet.ring);
        if segment.syn {
            direction.first = Some(segment.seq.wrapping_add(1));
        }
        if !segment.payload.is_empty() {
            let first = direction.first.expect("payload before a SYN");
            let offset = segment.seq.wrapping_sub(first) as usize;
            direction.segments.push((offset, segment.payload.to_vec()));
        }
    }
    all
}
