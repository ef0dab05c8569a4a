//! The same decision in user space, for filters that are too long for the kernel.

use super::super::frame::Kind;
use super::super::headers::{
    AUTHENTICATION, DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, IPV4, IPV6, MAX_HEADERS, MAX_TAGS, ROUTING,
    TAGS, TCP,
};
use super::Filter;

/// A TCP segment, or a fragment of one.
struct Segment {
    v4: bool,
    /// Source, destination: words of the address, of which an IPv4 one has one; then the port's place.
    ends: [[u32; 5]; 2],
    ports: Option<[u32; 2]>,
}

impl Filter {
    /// Whether a frame of this kind is wanted. `protocol` is the EtherType that the kernel names, for frames that are
    /// not Ethernet.
    pub(in super::super) fn wants(&self, kind: Kind, protocol: u16, frame: &[u8]) -> bool {
        segment(kind, protocol, frame).is_some_and(|segment| self.wants_segment(&segment))
    }

    fn wants_segment(&self, segment: &Segment) -> bool {
        if let (Some(ports), Some(ends)) = (&self.ports, segment.ports)
            && !ends.iter().any(|port| ports.contains(&[*port]))
        {
            return false;
        }
        let words = if segment.v4 { 1 } else { 4 };
        if let Some(nets) = &self.nets
            && !segment.ends.iter().any(|end| nets.of(segment.v4).contains(&end[..words]))
        {
            return false;
        }
        if let (Some(exclude), Some(ports)) = (&self.exclude, segment.ports) {
            let excluded = segment.ends.iter().zip(ports).any(|(end, port)| {
                let mut row = *end;
                row[words] = port;
                exclude.of(segment.v4).contains(&row[..=words])
            });
            return !excluded;
        }
        true
    }
}

fn byte(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at).map(|byte| u32::from(*byte))
}

fn half(bytes: &[u8], at: usize) -> Option<u32> {
    let two = bytes.get(at..)?.first_chunk::<2>()?;
    Some(u32::from(u16::from_be_bytes(*two)))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk::<4>()?))
}

fn segment(kind: Kind, protocol: u16, frame: &[u8]) -> Option<Segment> {
    let (protocol, ip) = match kind {
        Kind::Ethernet => network(frame)?,
        Kind::Raw => (u32::from(protocol), frame),
        Kind::Cooked => (u32::from(protocol), frame.get(super::super::frame::COOKED_HEADER..)?),
    };
    match protocol {
        IPV4 => ipv4(ip),
        IPV6 => ipv6(ip),
        _ => None,
    }
}

fn network(frame: &[u8]) -> Option<(u32, &[u8])> {
    // One more than are in the bytes the kernel may have taken off and given back since.
    for tags in 0..=MAX_TAGS as usize + 1 {
        let end = 14 + 4 * tags;
        let protocol = half(frame, end - 2)?;
        if !TAGS.contains(&protocol) {
            return Some((protocol, frame.get(end..)?));
        }
    }
    None
}

fn ipv4(ip: &[u8]) -> Option<Segment> {
    if byte(ip, 9)? != TCP {
        return None;
    }
    let length = (byte(ip, 0)? & 0x0F) as usize * 4;
    if length < 20 {
        return None;
    }
    let later = half(ip, 6)? & 0x1FFF != 0;
    let ports = if later { None } else { Some([half(ip, length)?, half(ip, length + 2)?]) };
    let end = |at| Some([word(ip, at)?, 0, 0, 0, 0]);
    Some(Segment { v4: true, ends: [end(12)?, end(16)?], ports })
}

fn ipv6(ip: &[u8]) -> Option<Segment> {
    let end = |at| Some([word(ip, at)?, word(ip, at + 4)?, word(ip, at + 8)?, word(ip, at + 12)?, 0]);
    let ends = [end(8)?, end(24)?];
    let (mut next, mut at) = (byte(ip, 6)?, 40);
    for _ in 0..MAX_HEADERS {
        let length = match next {
            TCP => {
                let ports = Some([half(ip, at)?, half(ip, at + 2)?]);
                return Some(Segment { v4: false, ends, ports });
            }
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => 8 + byte(ip, at + 1)? * 8,
            AUTHENTICATION => 8 + byte(ip, at + 1)? * 4,
            FRAGMENT if half(ip, at + 2)? & 0xFFF8 != 0 => {
                return (byte(ip, at)? == TCP).then_some(Segment { v4: false, ends, ports: None });
            }
            FRAGMENT => 8,
            _ => return None,
        };
        next = byte(ip, at)?;
        at += length as usize;
    }
    None
}
