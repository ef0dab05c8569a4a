//! The packets that nearly all are: Ethernet or no link layer, then IPv4 without options and unfragmented, or IPv6 without
//! extension headers, then TCP, all headers linear. Their fields are at constant offsets, so that they are read in place.

use agent_common::{flow::End, record::LINK_ETHERNET};
use aya_ebpf::bindings::__sk_buff;

use crate::{
    direct::Linear,
    packet::{ETH_P_IP, ETH_P_IPV6, Flow, TCP, mapped},
};

/// IPv4 at `$ip` (RFC 791 section 3.1). A macro, because a sum of constants is no argument of a generic function yet.
macro_rules! ipv4 {
    ($packet:expr, $ip:literal) => {{
        if !$packet.has($ip + 20 + TCP_LOOKED_AT) {
            return Usual::No;
        }
        // SAFETY: has() was asked.
        unsafe {
            if $packet.u8_at::<$ip>() != 0x45 || u16::from_be($packet.u16_at::<{ $ip + 6 }>()) & 0x3FFF != 0 {
                return Usual::No;
            }
            if $packet.u8_at::<{ $ip + 9 }>() != TCP {
                return Usual::OtherProtocol;
            }
            let (src, dst) = ($packet.u32_at::<{ $ip + 12 }>(), $packet.u32_at::<{ $ip + 16 }>());
            tcp!($packet, $ip + 20, mapped(src), mapped(dst))
        }
    }};
}

/// IPv6 at `$ip` (RFC 8200 section 3).
macro_rules! ipv6 {
    ($packet:expr, $ip:literal) => {{
        if !$packet.has($ip + 40 + TCP_LOOKED_AT) {
            return Usual::No;
        }
        // SAFETY: has() was asked.
        unsafe {
            if $packet.u8_at::<{ $ip + 6 }>() != TCP {
                return Usual::No;
            }
            let src = [$packet.u64_at::<{ $ip + 8 }>(), $packet.u64_at::<{ $ip + 16 }>()];
            let dst = [$packet.u64_at::<{ $ip + 24 }>(), $packet.u64_at::<{ $ip + 32 }>()];
            tcp!($packet, $ip + 40, src, dst)
        }
    }};
}

/// TCP at `$tcp` (RFC 9293 section 3.1).
macro_rules! tcp {
    ($packet:expr, $tcp:expr, $src:expr, $dst:expr) => {
        Usual::Tcp(Flow {
            src: End { address: $src, port: u16::from_be($packet.u16_at::<{ $tcp }>()) },
            dst: End { address: $dst, port: u16::from_be($packet.u16_at::<{ $tcp + 2 }>()) },
            fragment: false,
            ports: true,
            tcp: $tcp,
            seq: u32::from_be($packet.u32_at::<{ $tcp + 4 }>()),
            header: u32::from($packet.u8_at::<{ $tcp + 12 }>() >> 4) * 4,
            flags: $packet.u8_at::<{ $tcp + 13 }>(),
        })
    };
}

/// TCP's header up to its flags.
const TCP_LOOKED_AT: usize = 14;

/// What is known at a glance.
pub(crate) enum Usual {
    /// It is one of them.
    Tcp(Flow),
    /// It is IP, and something else in it.
    OtherProtocol,
    /// Closer looking is needed.
    No,
}

/// Looks at a packet whose first header is of type `link`.
#[inline(always)]
pub(crate) fn parse(skb: *mut __sk_buff, link: u16) -> Usual {
    let packet = Linear::of(skb);
    if link == LINK_ETHERNET {
        // SAFETY: skb is the program's context.
        return match u16::from_be(unsafe { (*skb).protocol } as u16) {
            ETH_P_IP => ipv4!(packet, 14),
            ETH_P_IPV6 => ipv6!(packet, 14),
            _ => Usual::No,
        };
    }
    if !packet.has(1) {
        return Usual::No;
    }
    // SAFETY: has() was asked.
    match unsafe { packet.u8_at::<0>() } >> 4 {
        4 => ipv4!(packet, 0),
        6 => ipv6!(packet, 0),
        _ => Usual::No,
    }
}
