//! The one path that all entry points share.

use agent_common::{
    config::{ENABLED, ONE_END, POLICIES, SKIP_EGRESS, SKIP_INGRESS, Settings},
    counters::HookTally,
    flow::{End, FlowHash},
    record::{EGRESS, FLAG_FRAGMENT, FLAG_SOCKET, MAX_CAPTURE, RecordHeader},
};
use aya_ebpf::{
    bindings::__sk_buff,
    helpers::{bpf_ktime_get_ns, bpf_skb_cgroup_id},
};

use crate::{
    count, ends, filter,
    maps::SETTINGS,
    own,
    packet::{self, Flow},
    policy, ring,
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
    let Some(settings) = SETTINGS.get(0).and_then(|settings| settings.get(0)) else {
        return;
    };
    // SAFETY: skb is the program's context.
    let len = unsafe { (*skb).len };
    count::hook(HookTally::Offered, len, hook.cgroup);
    match wanted(skb, hook, settings) {
        Ok((flow, cgroup)) => deliver(skb, hook, settings, &flow, cgroup, len),
        Err(why) => count::hook(why, len, hook.cgroup),
    }
}

/// The flow and the socket's cgroup of a packet that passes every filter, or which filter it did not.
#[inline(always)]
fn wanted(skb: *mut __sk_buff, hook: Hook, settings: &Settings) -> Result<(Flow, u64), HookTally> {
    if settings.flags & ENABLED == 0 {
        return Err(HookTally::Disabled);
    }
    let unwanted = if hook.direction == EGRESS { SKIP_EGRESS } else { SKIP_INGRESS };
    if settings.flags & unwanted != 0 {
        return Err(HookTally::Direction);
    }
    let flow = packet::parse(skb, hook.link)?;
    filter::check(&flow, settings)?;
    let cgroup = cgroup_of(skb, hook);
    if hook.cgroup {
        filter::check_cgroup(skb, cgroup, settings)?;
        if settings.flags & ONE_END != 0 {
            ends::check(skb, hook, &flow, cgroup)?;
        }
    } else {
        own::check(hook, &flow, cgroup, settings)?;
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
    let hash = FlowHash::new(a, b, settings.hash_seed);
    let index = hash.ring(settings.rings);
    let mut snap_len = settings.snap_len.min(MAX_CAPTURE as u32);
    if settings.flags & POLICIES != 0 {
        snap_len = snap_len.min(policy::snap_len(flow, hash, index, len));
    }
    let header = RecordHeader {
        // SAFETY: a helper without arguments.
        time_ns: unsafe { bpf_ktime_get_ns() },
        cgroup,
        original_len: len,
        captured_len: len.min(snap_len),
        // SAFETY: skb is the program's context.
        ifindex: unsafe { (*skb).ifindex },
        link: hook.link,
        direction: hook.direction,
        flags: (if flow.fragment { FLAG_FRAGMENT } else { 0 }) | if hook.cgroup { FLAG_SOCKET } else { 0 },
    };
    ring::push(skb, index, &header, settings.snap_len);
}

#[inline(always)]
fn no_port(end: &End) -> End {
    End { address: end.address, port: 0 }
}
