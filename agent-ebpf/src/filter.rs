//! Which packets are wanted: ports and nets match if either end matches; both must, where both are set.

use agent_common::{
    config::{
        Endpoint, FEW_NETS, FILTER_CGROUPS, FILTER_EXCLUDED, FILTER_NETS, FILTER_PORTS, PORT_WORD_BITS,
        Settings,
    },
    counters::HookTally,
    flow::End,
};
use aya_ebpf::{bindings::__sk_buff, btf_maps::lpm_trie::Key, helpers::bpf_skb_ancestor_cgroup_id};

use crate::{
    maps::{CGROUPS, EXCLUDED, NETS, PORTS},
    packet::Flow,
};

/// Tries the filters that are on, the cheap ones first; the error says which one it was. A later fragment has no
/// ports to go by: its net decides, and what it belongs to is told apart when it is put together.
#[inline(always)]
pub(crate) fn check(flow: &Flow, settings: &Settings) -> Result<(), HookTally> {
    let flags = settings.flags;
    if flags & FILTER_PORTS != 0 && flow.ports && !port(flow.src.port) && !port(flow.dst.port) {
        return Err(HookTally::Port);
    }
    if flags & FILTER_NETS != 0 && !net(&flow.src, settings) && !net(&flow.dst, settings) {
        return Err(HookTally::Net);
    }
    if flags & FILTER_EXCLUDED != 0 && flow.ports && (excluded(&flow.src) || excluded(&flow.dst)) {
        return Err(HookTally::Excluded);
    }
    Ok(())
}

/// The same for the socket's cgroup, which is `id`.
#[inline(always)]
pub(crate) fn check_cgroup(skb: *mut __sk_buff, id: u64, settings: &Settings) -> Result<(), HookTally> {
    if settings.own_cgroup != 0 && id == settings.own_cgroup {
        return Err(HookTally::Excluded);
    }
    if settings.flags & FILTER_CGROUPS == 0 || watched(id) {
        return Ok(());
    }
    for level in settings.levels {
        // SAFETY: skb is the program's context.
        if level != u8::MAX && watched(unsafe { bpf_skb_ancestor_cgroup_id(skb, i32::from(level)) }) {
            return Ok(());
        }
    }
    Err(HookTally::Cgroup)
}

#[inline(always)]
fn watched(cgroup: u64) -> bool {
    // SAFETY: only whether there is an entry counts; nothing of it is read.
    unsafe { CGROUPS.get(&cgroup) }.is_some()
}

#[inline(always)]
fn port(port: u16) -> bool {
    let port = u32::from(port);
    PORTS.get(port / PORT_WORD_BITS).is_some_and(|word| word >> (port % PORT_WORD_BITS) & 1 != 0)
}

#[inline(always)]
fn net(end: &End, settings: &Settings) -> bool {
    if settings.flags & FEW_NETS == 0 {
        return NETS.get(&Key::new(128, bytes(end))).is_some();
    }
    let [high, low] = end.address;
    for net in &settings.nets {
        if high & net.mask[0] == net.address[0] && low & net.mask[1] == net.address[1] {
            return true;
        }
    }
    false
}

#[inline(always)]
fn excluded(end: &End) -> bool {
    // SAFETY: only whether there is an entry counts; nothing of it is read.
    unsafe { EXCLUDED.get(&endpoint(end)) }.is_some()
}

/// An end as a key.
#[inline(always)]
pub(crate) fn endpoint(end: &End) -> Endpoint {
    Endpoint { address: bytes(end), port: u32::from(end.port) }
}

/// The address in network order: its words are in memory order.
#[inline(always)]
fn bytes(end: &End) -> [u8; 16] {
    // SAFETY: both are 16 bytes of plain integers.
    unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(end.address) }
}
