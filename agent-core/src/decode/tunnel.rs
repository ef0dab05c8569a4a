//! Frames inside frames: VXLAN (RFC 7348) and VXLAN-GPE (draft-ietf-nvo3-vxlan-gpe), GENEVE (RFC 8926), GRE (RFC 2784,
//! 2890; NVGRE, RFC 7637), ERSPAN (draft-foschiano-erspan), GTP-U (3GPP TS 29.281).
//!
//! What names a network is part of a flow's tag: VNI and VSID. What names a tunnel is not, for it may differ between the
//! directions of one connection: GRE key, ERSPAN session, GTP endpoint.

use super::link::{TRANSPARENT_ETHERNET, ethernet, ethertype, fold};
use super::{Decoded, Frame, Malformed, Net, Reject, ip};

const UDP_HEADER: usize = 8;
/// IANA's port, and the one that Linux used before it was assigned (still the default of Flannel).
const VXLAN_PORTS: [u16; 2] = [4789, 8472];
const VXLAN_GPE_PORT: u16 = 4790;
const GENEVE_PORT: u16 = 6081;
const GTP_PORT: u16 = 2152;
const ERSPAN_II: u16 = 0x88be;
const ERSPAN_III: u16 = 0x22eb;

/// Marks a VNI, so that it never looks like a VLAN id.
const TAG_VNI: u32 = 1 << 24;

pub(super) fn udp(net: Net, frame: Frame<'_>, depth: u8) -> Result<Decoded<'_>, Reject> {
    frame.need(UDP_HEADER, Malformed::Tunnel)?;
    let port = frame.be16(2);
    let payload = frame.skip(UDP_HEADER);
    if VXLAN_PORTS.contains(&port) {
        vxlan(net, payload, depth)
    } else if port == GENEVE_PORT {
        geneve(net, payload, depth)
    } else if port == VXLAN_GPE_PORT {
        vxlan_gpe(net, payload, depth)
    } else if port == GTP_PORT {
        gtp(net, payload, depth)
    } else {
        Err(Reject::NotTcp)
    }
}

fn vxlan(net: Net, frame: Frame<'_>, depth: u8) -> Result<Decoded<'_>, Reject> {
    frame.need(8, Malformed::Tunnel)?;
    // The I flag must be set (section 5); anything else on the port is some other protocol.
    if frame.byte(0) & 0x08 == 0 {
        return Err(Reject::NotTcp);
    }
    ethernet(frame.skip(8), fold(net.tag, TAG_VNI | frame.be32(4) >> 8), deeper(depth)?)
}

/// The same with a next protocol, where its P flag says so (section 3.1).
fn vxlan_gpe(net: Net, frame: Frame<'_>, depth: u8) -> Result<Decoded<'_>, Reject> {
    frame.need(8, Malformed::Tunnel)?;
    let tag = fold(net.tag, TAG_VNI | frame.be32(4) >> 8);
    match (frame.byte(0) & 0x0c, frame.byte(3)) {
        (0x08, _) => vxlan(net, frame, depth),
        (0x0c, 1 | 2) => ip::ip(frame.skip(8), tag, deeper(depth)?),
        (0x0c, 3) => ethernet(frame.skip(8), tag, deeper(depth)?),
        _ => Err(Reject::NotTcp),
    }
}

/// A G-PDU of version 1 (section 5.1), extension headers skipped (section 5.2).
fn gtp(net: Net, frame: Frame<'_>, depth: u8) -> Result<Decoded<'_>, Reject> {
    frame.need(8, Malformed::Tunnel)?;
    let flags = frame.byte(0);
    if flags & 0xf0 != 0x30 || frame.byte(1) != 0xff {
        return Err(Reject::NotTcp);
    }
    let mut at = 8;
    if flags & 7 != 0 {
        frame.need(12, Malformed::Tunnel)?;
        let mut next = if flags & 4 != 0 { frame.byte(11) } else { 0 };
        at = 12;
        while next != 0 {
            frame.need(at + 4, Malformed::Tunnel)?;
            let length = usize::from(frame.byte(at)) * 4;
            if length == 0 {
                return Err(Reject::Malformed(Malformed::Tunnel));
            }
            next = frame.byte(at + length - 1);
            at += length;
        }
    }
    ip::ip(frame.skip(at), net.tag, deeper(depth)?)
}

fn geneve(net: Net, frame: Frame<'_>, depth: u8) -> Result<Decoded<'_>, Reject> {
    frame.need(8, Malformed::Tunnel)?;
    let first = frame.byte(0);
    if first >> 6 != 0 {
        return Err(Reject::NotTcp);
    }
    let tag = fold(net.tag, TAG_VNI | frame.be32(4) >> 8);
    inner(frame.be16(2), frame.skip(8 + usize::from(first & 0x3f) * 4), tag, depth)
}

pub(super) fn gre(net: Net, frame: Frame<'_>, depth: u8) -> Result<Decoded<'_>, Reject> {
    frame.need(4, Malformed::Tunnel)?;
    let (flags, kind) = (frame.be16(0), frame.be16(2));
    // Version 1 is PPTP's; routing (bit 1) was taken out of the protocol.
    if flags & 7 != 0 || flags & 0x4000 != 0 {
        return Err(Reject::NotTcp);
    }
    let (checksum, key, sequence) = (flags & 0x8000 != 0, flags & 0x2000 != 0, flags & 0x1000 != 0);
    let mut at = 4 + usize::from(checksum) * 4;
    let mut tag = net.tag;
    if key {
        frame.need(at + 4, Malformed::Tunnel)?;
        if kind == TRANSPARENT_ETHERNET {
            tag = fold(tag, TAG_VNI | frame.be32(at) >> 8);
        }
        at += 4;
    }
    let payload = frame.skip(at + usize::from(sequence) * 4);
    match kind {
        // Type I has no header of its own and no GRE sequence number.
        ERSPAN_II if !sequence => ethernet(payload, tag, deeper(depth)?),
        ERSPAN_II => erspan(payload, 8, tag, depth),
        ERSPAN_III => {
            let platform = payload.byte(11) & 1 != 0;
            erspan(payload, if platform { 20 } else { 12 }, tag, depth)
        }
        _ => inner(kind, payload, tag, depth),
    }
}

fn erspan(frame: Frame<'_>, header: usize, tag: u64, depth: u8) -> Result<Decoded<'_>, Reject> {
    frame.need(header, Malformed::Tunnel)?;
    ethernet(frame.skip(header), tag, deeper(depth)?)
}

fn inner(kind: u16, frame: Frame<'_>, tag: u64, depth: u8) -> Result<Decoded<'_>, Reject> {
    let depth = deeper(depth)?;
    if kind == TRANSPARENT_ETHERNET {
        ethernet(frame, tag, depth)
    } else {
        ethertype(kind, frame, tag, depth)
    }
}

fn deeper(depth: u8) -> Result<u8, Reject> {
    depth.checked_sub(1).ok_or(Reject::Malformed(Malformed::Tunnel))
}
