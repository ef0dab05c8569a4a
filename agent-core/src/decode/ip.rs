//! IPv4 (RFC 791) and IPv6 (RFC 8200) with its extension headers.

use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice};

use super::{Decoded, Fragment, FragmentKey, Frame, Malformed, Net, Reject, tcp, tunnel};

const IPV6_HEADER: usize = 40;
pub(super) const TCP: u8 = 6;
const IPV4_IN_IP: u8 = 4;
const UDP: u8 = 17;
const IPV6_IN_IP: u8 = 41;
const GRE: u8 = 47;
/// Extension headers whose length is in units of 8 bytes: hop-by-hop, routing, destination options, mobility.
const OPTIONS: [u8; 4] = [0, 43, 60, 135];
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;

/// Whatever IP version the first nibble says.
pub(super) fn ip(frame: Frame<'_>, tag: u64, depth: u8) -> Result<Decoded<'_>, Reject> {
    let Some(depth) = depth.checked_sub(1) else { return Err(Reject::Malformed(Malformed::Ip)) };
    frame.need(1, Malformed::Ip)?;
    match frame.byte(0) >> 4 {
        4 => ipv4(frame, tag, depth),
        6 => ipv6(frame, tag, depth),
        _ => Err(Reject::Malformed(Malformed::Ip)),
    }
}

/// What nearly all packets begin with, read at once: Ethernet without tags, then IPv4 without options that carries all of a TCP
/// segment. `None` says nothing; what is read here, the layers read the same.
#[inline]
pub(super) fn plain(frame: Frame<'_>) -> Option<(Net, Frame<'_>)> {
    const LINK: usize = 14;
    const IP: usize = 20;
    let (header, _) = frame.data.get(LINK..)?.split_first_chunk::<IP>()?;
    let &[0x45, _, l0, l1, _, _, place0, place1, _, TCP, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = header
    else {
        return None;
    };
    let total = usize::from(u16::from_be_bytes([l0, l1]));
    let fragment = u16::from_be_bytes([place0, place1]) & 0x3fff != 0;
    if frame.data[12..LINK] != [0x08, 0x00] || fragment || total < IP {
        return None;
    }
    let (src, dst) = (u32::from_be_bytes([s0, s1, s2, s3]), u32::from_be_bytes([d0, d1, d2, d3]));
    let net = Net { src: src.into(), dst: dst.into(), v6: false, tag: 0 };
    Some((net, frame.skip(LINK).limit(total).skip(IP)))
}

fn ipv4(frame: Frame<'_>, tag: u64, depth: u8) -> Result<Decoded<'_>, Reject> {
    frame.need(20, Malformed::Ip)?;
    frame.need(usize::from(frame.byte(0) & 15) * 4, Malformed::Ip)?;
    let header = Ipv4HeaderSlice::from_slice(frame.data).map_err(|_| Reject::Malformed(Malformed::Ip))?;
    let length = header.slice().len();
    let payload = match usize::from(header.total_len()) {
        // A super-packet before segmentation offload: its length is the captured packet's own.
        0 => frame.skip(length),
        total if total < length => return Err(Reject::Malformed(Malformed::Ip)),
        total => frame.limit(total).skip(length),
    };
    let net = Net {
        src: u128::from(u32::from_be_bytes(header.source())),
        dst: u128::from(u32::from_be_bytes(header.destination())),
        v6: false,
        tag,
    };
    let protocol = header.protocol().0;
    if header.is_fragmenting_payload() {
        let key = FragmentKey { net, id: u32::from(header.identification()), protocol };
        let offset = usize::from(header.fragments_offset().value()) * 8;
        return Ok(Decoded::Fragment(Fragment {
            key,
            offset,
            more: header.more_fragments(),
            frame: payload,
        }));
    }
    transport(net, protocol, payload, depth)
}

fn ipv6(frame: Frame<'_>, tag: u64, depth: u8) -> Result<Decoded<'_>, Reject> {
    frame.need(IPV6_HEADER, Malformed::Ip)?;
    let header = Ipv6HeaderSlice::from_slice(frame.data).map_err(|_| Reject::Malformed(Malformed::Ip))?;
    let payload = frame.skip(IPV6_HEADER);
    let payload = match usize::from(header.payload_length()) {
        // A jumbogram (RFC 2675), or a super-packet before segmentation offload.
        0 => payload,
        length => payload.limit(length),
    };
    let net = Net {
        src: u128::from_be_bytes(header.source()),
        dst: u128::from_be_bytes(header.destination()),
        v6: true,
        tag,
    };
    extensions(net, header.next_header().0, payload, depth)
}

fn extensions(net: Net, mut next: u8, mut frame: Frame<'_>, depth: u8) -> Result<Decoded<'_>, Reject> {
    // A chain may be long, but each header has at least 8 bytes: it ends with the packet.
    loop {
        if OPTIONS.contains(&next) || next == AUTHENTICATION {
            frame.need(8, Malformed::Ip)?;
            let length = usize::from(frame.byte(1));
            let length = if next == AUTHENTICATION { (length + 2) * 4 } else { (length + 1) * 8 };
            frame.need(length, Malformed::Ip)?;
            next = frame.byte(0);
            frame = frame.skip(length);
        } else if next == FRAGMENT {
            frame.need(8, Malformed::Ip)?;
            let (protocol, place, id) = (frame.byte(0), frame.be16(2), frame.be32(4));
            frame = frame.skip(8);
            // An atomic fragment (RFC 6946) is the whole datagram.
            if place & 0xfff9 != 0 {
                let key = FragmentKey { net, id, protocol };
                let (offset, more) = (usize::from(place & 0xfff8), place & 1 == 1);
                return Ok(Decoded::Fragment(Fragment { key, offset, more, frame }));
            }
            next = protocol;
        } else {
            return transport(net, next, frame, depth);
        }
    }
}

/// What an IP datagram carries. After reassembly of an IPv6 datagram this may still be an extension header.
pub(super) fn transport(net: Net, protocol: u8, frame: Frame<'_>, depth: u8) -> Result<Decoded<'_>, Reject> {
    match protocol {
        TCP => tcp::tcp(net, frame).map(Decoded::Tcp),
        UDP => tunnel::udp(net, frame, depth),
        GRE => tunnel::gre(net, frame, depth),
        IPV4_IN_IP | IPV6_IN_IP => ip(frame, net.tag, depth),
        _ if net.v6 && (OPTIONS.contains(&protocol) || protocol == AUTHENTICATION) && depth > 0 => {
            extensions(net, protocol, frame, depth - 1)
        }
        _ => Err(Reject::NotTcp),
    }
}
