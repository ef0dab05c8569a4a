//! Of two ends of a connection that are both in watched cgroups the client's is captured: see `agent_common::ends`.
//!
//! Loopback addresses are left out: every network namespace has them, so they name no client, and nothing translates them;
//! user space sees by the packets themselves that they are copies.

use agent_common::{counters::HookTally, ends::Client, flow::End, record::EGRESS};
use aya_ebpf::{bindings::__sk_buff, helpers::bpf_sk_fullsock};

use crate::{
    capture::Hook,
    filter::endpoint,
    maps::CLIENTS,
    packet::{ACK, Flow, RST, SYN},
};

const AF_INET: u32 = 2;

/// Tells whether the packet, which passes every other filter at a cgroup's hook point, is seen at its other end too.
#[inline(always)]
pub(crate) fn check(skb: *mut __sk_buff, hook: Hook, flow: &Flow, cgroup: u64) -> Result<(), HookTally> {
    if !flow.ports || is_loopback(&flow.src) || is_loopback(&flow.dst) {
        return Ok(());
    }
    let egress = hook.direction == EGRESS;
    let (own, peer) = if egress { (&flow.src, &flow.dst) } else { (&flow.dst, &flow.src) };
    let opens = flow.flags & (SYN | ACK | RST) == SYN;
    let key = endpoint(peer);
    let Some(client) = CLIENTS.get_ptr_mut(&key) else {
        if egress && opens && !is_translated(skb, peer) {
            remember(flow, cgroup);
        }
        return Ok(());
    };
    // SAFETY: a map value. Fields are read and written one by one; who races here is the same connection's other
    // packets, and a mixture of two connections matches neither.
    unsafe {
        if opens && !egress {
            if (*client).isn != flow.seq {
                // Another connection from that port: what is remembered is of the past, or of elsewhere.
                let _ = CLIENTS.remove(&key);
                return Ok(());
            }
            (*client).server = own.address;
            (*client).server_port = own.port;
            (*client).server_cgroup = cgroup;
            (&raw mut (*client).met).write_volatile(1);
            return Err(HookTally::OtherEnd);
        }
        let same = (&raw const (*client).met).read_volatile() == 1
            && (*client).server_port == own.port
            && (*client).server[0] == own.address[0]
            && (*client).server[1] == own.address[1];
        if same { Err(HookTally::OtherEnd) } else { Ok(()) }
    }
}

/// Remembers who sent this SYN; one that comes again changes nothing.
#[inline(always)]
fn remember(flow: &Flow, cgroup: u64) {
    let key = endpoint(&flow.src);
    // SAFETY: a map value that is only read.
    if CLIENTS.get_ptr(&key).is_some_and(|client| unsafe { (*client).isn == flow.seq }) {
        return;
    }
    let client = Client {
        cgroup,
        called: flow.dst.address,
        called_port: flow.dst.port,
        isn: flow.seq,
        // Not known before it is met. Anything but zeros: a run of them would be a loop of the compiler's, with arithmetic
        // that the verifier allows only with CAP_PERFMON.
        server: flow.dst.address,
        server_port: flow.dst.port,
        server_cgroup: cgroup,
        met: 0,
        reserved: 0,
    };
    // Not to be had: both ends are captured.
    let _ = CLIENTS.insert(&key, &client, 0);
}

/// Whether the socket calls another address than the packet goes to: it was translated on its way here already. Then what
/// comes back bears that other address, and only the server's end shows both directions alike.
#[inline(always)]
fn is_translated(skb: *mut __sk_buff, peer: &End) -> bool {
    // SAFETY: skb is the program's context; the socket is looked at only if there is one.
    unsafe {
        let sk = (*skb).__bindgen_anon_2.sk;
        if sk.is_null() {
            return false;
        }
        let sk = bpf_sk_fullsock(sk);
        if sk.is_null() {
            return false;
        }
        let port = (*sk).dst_port;
        // Both are read: choosing a field at run time is arithmetic with a pointer.
        let (v4, v6) =
            ((&raw const (*sk).dst_ip4).read_volatile(), (&raw const (*sk).dst_ip6[3]).read_volatile());
        let last = if (*sk).family == AF_INET { v4 } else { v6 };
        u16::from_be(port) != peer.port || last != last_word(peer)
    }
}

/// The last 32 bits of an address, in memory order.
#[inline(always)]
fn last_word(end: &End) -> u32 {
    #[cfg(target_endian = "little")]
    let word = end.address[1] >> 32;
    #[cfg(target_endian = "big")]
    let word = end.address[1];
    word as u32
}

/// 127.0.0.0/8, mapped into IPv6, and ::1.
#[inline(always)]
fn is_loopback(end: &End) -> bool {
    const V4: u64 = u64::from_ne_bytes([0, 0, 0xFF, 0xFF, 127, 0, 0, 0]);
    const V4_MASK: u64 = u64::from_ne_bytes([0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0]);
    const V6: u64 = u64::from_ne_bytes([0, 0, 0, 0, 0, 0, 0, 1]);
    let [high, low] = end.address;
    high == 0 && (low & V4_MASK == V4 || low == V6)
}
