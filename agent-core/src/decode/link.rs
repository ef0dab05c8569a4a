//! Link layers and the tags between them and IP.

use etherparse::{Ethernet2HeaderSlice, SingleVlanHeaderSlice};

use super::{Decoded, Frame, MAX_DEPTH, Malformed, Reject, ip};
use crate::packet::LinkType;

const ETHERNET_HEADER: usize = 14;
const VLAN_HEADER: usize = 4;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const VLAN: [u16; 3] = [0x8100, 0x88a8, 0x9100];
const PPPOE_SESSION: u16 = 0x8864;
const MPLS: [u16; 2] = [0x8847, 0x8848];
pub(super) const TRANSPARENT_ETHERNET: u16 = 0x6558;

/// DLT_RAW as some BSDs number it, which capture files of theirs hold.
const RAW_BSD: [LinkType; 2] = [LinkType(12), LinkType(14)];

pub(super) fn link(link: LinkType, frame: Frame<'_>) -> Result<Decoded<'_>, Reject> {
    match link {
        LinkType::ETHERNET => ethernet(frame, 0, MAX_DEPTH),
        LinkType::RAW | LinkType::IPV4 | LinkType::IPV6 => ip::ip(frame, 0, MAX_DEPTH),
        _ if RAW_BSD.contains(&link) => ip::ip(frame, 0, MAX_DEPTH),
        LinkType::NULL | LinkType::LOOP => loopback(frame),
        LinkType::LINUX_SLL => {
            frame.need(16, Malformed::Link)?;
            ethertype(frame.be16(14), frame.skip(16), 0, MAX_DEPTH)
        }
        LinkType::LINUX_SLL2 => {
            frame.need(20, Malformed::Link)?;
            ethertype(frame.be16(0), frame.skip(20), 0, MAX_DEPTH)
        }
        _ => Err(Reject::UnknownLink),
    }
}

pub(super) fn ethernet(frame: Frame<'_>, tag: u64, depth: u8) -> Result<Decoded<'_>, Reject> {
    frame.need(ETHERNET_HEADER, Malformed::Link)?;
    let Ok(header) = Ethernet2HeaderSlice::from_slice(frame.data) else {
        return Err(Reject::Malformed(Malformed::Link));
    };
    ethertype(header.ether_type().0, frame.skip(ETHERNET_HEADER), tag, depth)
}

/// Goes through tags until an IP header comes.
pub(super) fn ethertype(
    mut kind: u16,
    mut frame: Frame<'_>,
    mut tag: u64,
    depth: u8,
) -> Result<Decoded<'_>, Reject> {
    for left in (1..=depth).rev() {
        if kind == IPV4 || kind == IPV6 {
            return ip::ip(frame, tag, left);
        } else if VLAN.contains(&kind) {
            frame.need(VLAN_HEADER, Malformed::Link)?;
            let Ok(vlan) = SingleVlanHeaderSlice::from_slice(frame.data) else {
                return Err(Reject::Malformed(Malformed::Link));
            };
            // Id 0 is a priority tag: the frame is in no VLAN (IEEE 802.1Q).
            if vlan.vlan_identifier().value() != 0 {
                tag = fold(tag, 0x1000 | u32::from(vlan.vlan_identifier().value()));
            }
            kind = vlan.ether_type().0;
            frame = frame.skip(VLAN_HEADER);
        } else if MPLS.contains(&kind) {
            frame.need(5, Malformed::Link)?;
            let bottom = frame.byte(2) & 1 == 1;
            frame = frame.skip(4);
            if bottom {
                return match frame.byte(0) >> 4 {
                    4 | 6 => ip::ip(frame, tag, left),
                    // A pseudowire's control word, then Ethernet (RFC 4448).
                    0 => ethernet(frame.skip(4), tag, left),
                    _ => Err(Reject::NotTcp),
                };
            }
        } else if kind == PPPOE_SESSION {
            frame.need(8, Malformed::Link)?;
            kind = match frame.be16(6) {
                0x0021 => IPV4,
                0x0057 => IPV6,
                _ => return Err(Reject::NotTcp),
            };
            frame = frame.skip(8);
        } else {
            return Err(Reject::NotTcp);
        }
    }
    Err(Reject::Malformed(Malformed::Link))
}

/// A 4-byte address family, in either byte order (NULL is in that of the capturing host); the IP version says the rest.
fn loopback(frame: Frame<'_>) -> Result<Decoded<'_>, Reject> {
    frame.need(4, Malformed::Link)?;
    let family = frame.be32(0);
    let family = if family > 0xffff { family.swap_bytes() } else { family };
    // AF_INET is 2 everywhere; AF_INET6 is 10 on Linux, 24, 28 or 30 on the BSDs and macOS.
    match family {
        2 | 10 | 24 | 28 | 30 => ip::ip(frame.skip(4), 0, MAX_DEPTH),
        _ => Err(Reject::NotTcp),
    }
}

/// Adds a tag to those outside it.
pub(super) const fn fold(outer: u64, tag: u32) -> u64 {
    outer.rotate_left(20) ^ tag as u64
}
