//! The one path that all entry points share.

use agent_common::{
    config::{ENABLED, Settings},
    counters::HookTally,
    flow::{End, ring_of},
    record::{EGRESS, FLAG_FRAGMENT, FLAG_SOCKET, MAX_CAPTURE, RecordHeader},
};
use aya_ebpf::{
    bindings::__sk_buff,
    helpers::{bpf_ktime_get_ns, bpf_skb_cgroup_id},
};

use crate::{
    count, filter,
    maps::SETTINGS,
    packet::{self, Flow},
    ring,
};

/// What an entry point knows beforehand.
#[derive(Clone, Copy)]
pub(crate) struct Hook {
    /// How the bytes begin: `LINKTYPE_` number.
    pub(crate) link: u16,
    /// `INGRESS` or `EGRESS`.
    pub(crate) direction: u8,
    /// It is a cgroup's: the socket is known both ways.
    pub(crate) cgroup: bool,
}

/// Counts the packet and, if it is wanted, copies it into its ring.
#[inline(always)]
pub(crate) fn capture(skb: *mut __sk_buff, hook: Hook) {
    let Some(settings) = SETTINGS.get(0) else {
        return;
    };
    // SAFETY: skb is the program's context.
    let len = unsafe { (*skb).len };
    count::hook(HookTally::Offered, len);
    match wanted(skb, hook, settings) {
        Ok((flow, cgroup)) => deliver(skb, hook, settings, &flow, cgroup, len),
        Err(why) => count::hook(why, len),
    }
}

/// The flow and the socket's cgroup of a packet that passes every filter, or which filter it did not.
#[inline(always)]
fn wanted(skb: *mut __sk_buff, hook: Hook, settings: &Settings) -> Result<(Flow, u64), HookTally> {
    if settings.flags & ENABLED == 0 {
        return Err(HookTally::Disabled);
    }
    let flow = packet::parse(skb, hook.link)?;
    filter::check(&flow, settings)?;
    let cgroup = cgroup_of(skb, hook);
    if hook.cgroup && settings.own_cgroup != 0 && cgroup == settings.own_cgroup {
        return Err(HookTally::Excluded);
    }
    Ok((flow, cgroup))
}

/// On an interface, a packet that comes in has no socket yet.
#[inline(always)]
fn cgroup_of(skb: *mut __sk_buff, hook: Hook) -> u64 {
    if hook.cgroup || hook.direction == EGRESS {
        // SAFETY: skb is the program's context.
        unsafe { bpf_skb_cgroup_id(skb) }
    } else {
        0
    }
}

#[inline(always)]
fn deliver(skb: *mut __sk_buff, hook: Hook, settings: &Settings, flow: &Flow, cgroup: u64, len: u32) {
    let (a, b) = if flow.fragment { (no_port(&flow.src), no_port(&flow.dst)) } else { (flow.src, flow.dst) };
    let index = ring_of(a, b, settings.hash_seed, settings.rings);
    let header = RecordHeader {
        // SAFETY: a helper without arguments.
        time_ns: unsafe { bpf_ktime_get_ns() },
        cgroup,
        original_len: len,
        captured_len: len.min(settings.snap_len).min(MAX_CAPTURE as u32),
        // SAFETY: skb is the program's context.
        ifindex: unsafe { (*skb).ifindex },
        link: hook.link,
        direction: hook.direction,
        flags: (if flow.fragment { FLAG_FRAGMENT } else { 0 }) | if hook.cgroup { FLAG_SOCKET } else { 0 },
    };
    ring::push(skb, index, &header);
}

#[inline(always)]
fn no_port(end: &End) -> End {
    End { address: end.address, port: 0 }
}
