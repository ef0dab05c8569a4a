//! Flows of which user space wants the headers only: see `agent_common::policy`.

use agent_common::{
    flow::FlowHash,
    policy::{Policy, Window, place, tag},
    record::HEADERS_ONLY,
};

use crate::{
    maps::POLICIES,
    packet::{FIN, Flow, RST, SYN},
};

/// How many bytes of a packet of `len` bytes are wanted at most.
#[inline(always)]
pub(crate) fn snap_len(flow: &Flow, hash: FlowHash, ring: u32, len: u32) -> u32 {
    match POLICIES.get_ptr_mut(place(hash, ring)) {
        // SAFETY: a map value; volatile, for user space writes it.
        Some(policy) if unsafe { (&raw const (*policy).tag).read_volatile() } == tag(hash) => {
            cut(flow, hash, policy, len)
        }
        _ => u32::MAX,
    }
}

#[inline(always)]
fn cut(flow: &Flow, hash: FlowHash, policy: *mut Policy, len: u32) -> u32 {
    if flow.flags & SYN != 0 {
        // SAFETY: a map value. Another connection: it has no policy.
        unsafe { (&raw mut (*policy).tag).write_volatile(0) };
        return u32::MAX;
    }
    // SAFETY: a map value; both are read, because choosing a place at run time is arithmetic with a pointer.
    let [there, back] = unsafe { (&raw const (*policy).windows).cast::<[u64; 2]>().read_volatile() };
    let window = if hash.way == 0 { there } else { back };
    // SAFETY: both are 8 bytes of plain integers.
    let window = unsafe { core::mem::transmute::<u64, Window>(window) };
    let headers = flow.tcp + flow.header;
    if flow.header < 20 || flow.flags & (FIN | RST) != 0 || len <= headers {
        return u32::MAX;
    }
    if window.holds(flow.seq, len - headers) { HEADERS_ONLY.max(flow.tcp + 20) } else { u32::MAX }
}
