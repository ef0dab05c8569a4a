//! From a packet's first bytes to its flow: Ethernet with up to two VLAN tags, or IP at once; IPv4, or IPv6 with
//! extension headers; TCP.

use core::mem::MaybeUninit;

use agent_common::{
    counters::HookTally,
    flow::End,
    record::{LINK_ETHERNET, LINK_RAW},
};
use aya_ebpf::{bindings::__sk_buff, helpers::bpf_skb_load_bytes};

use crate::usual::{self, Usual};

/// A packet of interest, before the filters.
pub(crate) struct Flow {
    /// Source.
    pub(crate) src: End,
    /// Destination.
    pub(crate) dst: End,
    /// It is an IP fragment.
    pub(crate) fragment: bool,
    /// The ports are known: not a later fragment.
    pub(crate) ports: bool,
    /// Where the TCP header is.
    pub(crate) tcp: u32,
    /// Sequence number.
    pub(crate) seq: u32,
    /// Length of the TCP header in bytes; 0 if it is cut.
    pub(crate) header: u32,
    /// TCP's flags; none if the header is cut.
    pub(crate) flags: u8,
}

/// TCP's flags (RFC 9293 section 3.1).
pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// The bytes after the IP header that are looked at: TCP's up to its flags, and two more.
type Next = [u8; 16];

pub(crate) const ETH_P_IP: u16 = 0x0800;
pub(crate) const ETH_P_IPV6: u16 = 0x86DD;
const ETH_P_8021Q: u16 = 0x8100;
const ETH_P_8021AD: u16 = 0x88A8;

pub(crate) const TCP: u8 = 6;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// Extension headers that are followed; RFC 8200 section 4.1 knows seven, each but one at most once.
const MAX_EXTENSIONS: usize = 8;

/// IPv4 header without options (RFC 791 section 3.1).
#[repr(C)]
#[derive(Clone, Copy)]
struct Ipv4 {
    version_ihl: u8,
    tos: u8,
    total_len: [u8; 2],
    id: [u8; 2],
    fragment: [u8; 2],
    ttl: u8,
    protocol: u8,
    checksum: [u8; 2],
    src: u32,
    dst: u32,
}

/// IPv6 header (RFC 8200 section 3).
#[repr(C)]
#[derive(Clone, Copy)]
struct Ipv6 {
    version: [u8; 4],
    payload_len: [u8; 2],
    next_header: u8,
    hop_limit: u8,
    src: [u32; 4],
    dst: [u32; 4],
}

/// Reads `T` at `offset`, also where the skb is not linear.
#[inline(always)]
fn load<T: Copy>(skb: *mut __sk_buff, offset: u32) -> Result<T, HookTally> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper fills all of `value` or fails; every T here is made of integers without padding, any bytes are a value.
    unsafe {
        match bpf_skb_load_bytes(skb.cast(), offset, value.as_mut_ptr().cast(), size_of::<T>() as u32) {
            0 => Ok(value.assume_init()),
            _ => Err(HookTally::Malformed),
        }
    }
}

/// An IP header, and what comes after it: TCP, mostly.
#[repr(C)]
#[derive(Clone, Copy)]
struct With<T, N> {
    ip: T,
    next: N,
}

/// Reads an IP header and what comes after it, at least four bytes: less than a TCP header follows in a fragment, say.
#[inline(always)]
fn load_ip<T: Copy>(skb: *mut __sk_buff, offset: u32) -> Result<With<T, Next>, HookTally> {
    match load(skb, offset) {
        Ok(all) => Ok(all),
        Err(_) => {
            load(skb, offset).map(|short: With<T, [u8; 4]>| With { ip: short.ip, next: filled(short.next) })
        }
    }
}

/// Reads what follows an IP header or an extension header, at least four bytes.
#[inline(always)]
fn load_next(skb: *mut __sk_buff, offset: u32) -> Result<Next, HookTally> {
    match load(skb, offset) {
        Ok(next) => Ok(next),
        Err(_) => load(skb, offset).map(filled),
    }
}

#[inline(always)]
fn filled([a, b, c, d]: [u8; 4]) -> Next {
    [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// The flow of the packet whose first header is of type `link`; the error says why there is none.
#[inline(always)]
pub(crate) fn parse(skb: *mut __sk_buff, link: u16) -> Result<Flow, HookTally> {
    match usual::parse(skb, link) {
        Usual::Tcp(flow) => Ok(flow),
        Usual::OtherProtocol => Err(HookTally::OtherProtocol),
        Usual::No => any(skb, link),
    }
}

/// Any packet, wherever its bytes are.
#[inline(always)]
fn any(skb: *mut __sk_buff, link: u16) -> Result<Flow, HookTally> {
    let (protocol, offset) = match link {
        LINK_ETHERNET => network_header(skb)?,
        _ => (ip_version(skb)?, 0),
    };
    match protocol {
        ETH_P_IP => parse_ipv4(skb, offset),
        ETH_P_IPV6 => parse_ipv6(skb, offset),
        _ => Err(HookTally::OtherProtocol),
    }
}

/// EtherType and offset of what follows Ethernet and VLAN tags. A tag that the hardware took off is not in the bytes,
/// and `skb->protocol` is already that of what follows.
#[inline(always)]
fn network_header(skb: *mut __sk_buff) -> Result<(u16, u32), HookTally> {
    // SAFETY: skb is the program's context.
    let mut protocol = u16::from_be(unsafe { (*skb).protocol } as u16);
    let mut offset = 14;
    for _ in 0..2 {
        if protocol != ETH_P_8021Q && protocol != ETH_P_8021AD {
            break;
        }
        let tag: [u8; 4] = load(skb, offset)?;
        protocol = u16::from_be_bytes([tag[2], tag[3]]);
        offset += 4;
    }
    Ok((protocol, offset))
}

#[inline(always)]
fn ip_version(skb: *mut __sk_buff) -> Result<u16, HookTally> {
    match load::<u8>(skb, 0)? >> 4 {
        4 => Ok(ETH_P_IP),
        6 => Ok(ETH_P_IPV6),
        _ => Err(HookTally::OtherProtocol),
    }
}

#[inline(always)]
fn parse_ipv4(skb: *mut __sk_buff, offset: u32) -> Result<Flow, HookTally> {
    let With { ip, next } = load_ip::<Ipv4>(skb, offset)?;
    if ip.protocol != TCP {
        return Err(HookTally::OtherProtocol);
    }
    let header_len = u32::from(ip.version_ihl & 0x0F) * 4;
    if header_len < 20 {
        return Err(HookTally::Malformed);
    }
    let field = u16::from_be_bytes(ip.fragment);
    let more_or_later = field & 0x3FFF != 0;
    let later = field & 0x1FFF != 0;
    let ports = match (later, header_len) {
        (true, _) => [0; 16],
        (false, 20) => next,
        (false, _) => load_next(skb, offset + header_len)?,
    };
    Ok(flow(mapped(ip.src), mapped(ip.dst), &ports, more_or_later, !later, offset + header_len))
}

#[inline(always)]
fn parse_ipv6(skb: *mut __sk_buff, offset: u32) -> Result<Flow, HookTally> {
    let With { ip, next } = load_ip::<Ipv6>(skb, offset)?;
    let (src, dst) = (words(ip.src), words(ip.dst));
    if ip.next_header == TCP {
        return Ok(flow(src, dst, &next, false, true, offset + 40));
    }
    let behind = extensions(skb, ip.next_header, offset + 40)?;
    let next = if behind.later { [0; 16] } else { load_next(skb, behind.at)? };
    Ok(flow(src, dst, &next, behind.fragment, !behind.later, behind.at))
}

/// What extension headers tell.
struct Behind {
    /// Where TCP begins.
    at: u32,
    fragment: bool,
    /// It is a later fragment: its TCP header came with the first.
    later: bool,
}

/// Follows extension headers up to TCP. (The verifier walks this loop in every way it can go: so little is done in it.)
#[inline(always)]
fn extensions(skb: *mut __sk_buff, mut next_header: u8, mut at: u32) -> Result<Behind, HookTally> {
    let (mut fragment, mut later) = (false, false);
    for _ in 0..MAX_EXTENSIONS {
        let next: [u8; 4] = load(skb, at)?;
        at += match next_header {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => 8 + u32::from(next[1]) * 8,
            AUTHENTICATION => 8 + u32::from(next[1]) * 4,
            FRAGMENT => {
                let field = u16::from_be_bytes([next[2], next[3]]);
                later = field & 0xFFF8 != 0;
                fragment = later || field & 1 != 0;
                8
            }
            _ => return Err(HookTally::OtherProtocol),
        };
        // The header after a fragment header belongs to the first fragment; a later one only names its type.
        next_header = next[0];
        if next_header == TCP {
            return Ok(Behind { at, fragment, later });
        }
        if later {
            break;
        }
    }
    Err(HookTally::OtherProtocol)
}

#[inline(always)]
fn flow(src: [u64; 2], dst: [u64; 2], next: &Next, fragment: bool, known: bool, tcp: u32) -> Flow {
    let [a, b, c, d, e, f, g, h, .., offset, flags, _, _] = *next;
    Flow {
        src: End { address: src, port: u16::from_be_bytes([a, b]) },
        dst: End { address: dst, port: u16::from_be_bytes([c, d]) },
        fragment,
        ports: known,
        tcp,
        seq: u32::from_be_bytes([e, f, g, h]),
        header: u32::from(offset >> 4) * 4,
        flags,
    }
}

/// `::ffff:a.b.c.d` in memory order.
#[inline(always)]
pub(crate) fn mapped(address: u32) -> [u64; 2] {
    words([0, 0, 0xFFFF_u32.to_be(), address])
}

/// An address as two words in memory order.
#[inline(always)]
fn words(a: [u32; 4]) -> [u64; 2] {
    #[cfg(target_endian = "little")]
    let pair = |first: u32, second: u32| u64::from(second) << 32 | u64::from(first);
    #[cfg(target_endian = "big")]
    let pair = |first: u32, second: u32| u64::from(first) << 32 | u64::from(second);
    [pair(a[0], a[1]), pair(a[2], a[3])]
}

const _: () = assert!(size_of::<Ipv4>() == 20 && size_of::<Ipv6>() == 40 && LINK_RAW != LINK_ETHERNET);
