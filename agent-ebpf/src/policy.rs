//! Flows of which user space wants the headers only: see `agent_common::policy`.

use agent_common::{
    flow::FlowHash,
    policy::{Policy, Window, negative, place, tag},
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

/// Without branches, as far as that goes: the verifier would walk all that follows once for each.
#[inline(always)]
fn cut(flow: &Flow, hash: FlowHash, policy: *mut Policy, len: u32) -> u32 {
    if flow.flags & SYN != 0 {
        // SAFETY: a map value. Another connection: it has no policy.
        unsafe { (&raw mut (*policy).tag).write_volatile(0) };
    }
    // SAFETY: a map value; both are read, because choosing a place at run time is arithmetic with a pointer.
    let [there, back] = unsafe { (&raw const (*policy).windows).cast::<[u64; 2]>().read_volatile() };
    let window = there ^ ((there ^ back) & 0_u64.wrapping_sub(u64::from(hash.way)));
    // SAFETY: both are 8 bytes of plain integers.
    let window = unsafe { core::mem::transmute::<u64, Window>(window) };
    let payload = u64::from(len).wrapping_sub(u64::from(flow.tcp + flow.header));
    let whole = window.outside(flow.seq, payload)
        | negative(u64::from(flow.header).wrapping_sub(20))
        | negative(u64::from(HEADERS_ONLY).wrapping_sub(u64::from(flow.tcp + 20)))
        | negative(0_u64.wrapping_sub(u64::from(flow.flags & (SYN | FIN | RST))));
    HEADERS_ONLY | 0_u32.wrapping_sub(whole as u32)
}
