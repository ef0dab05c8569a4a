//! Counting.

use core::arch::asm;

use agent_common::counters::{HookTally, RingTally};

use crate::maps::{HOOK_TALLIES, RING_TALLIES};

/// Counts a packet of `bytes` before a ring is chosen. `shared`: see [`add`].
#[inline(always)]
pub(crate) fn hook(tally: HookTally, bytes: u32, shared: bool) {
    if let Some(tally) = HOOK_TALLIES.get_ptr_mut(tally as u32) {
        // SAFETY: this CPU's map value; the fields are aligned u64.
        unsafe {
            add(&raw mut (*tally).packets, 1, shared);
            add(&raw mut (*tally).bytes, u64::from(bytes), shared);
        }
    }
}

/// Counts a packet of `bytes` for a ring. Gives whether it is the first of its kind on this CPU.
#[inline(always)]
pub(crate) fn ring(tally: RingTally, ring: u32, bytes: u32, shared: bool) -> bool {
    let Some(tally) = RING_TALLIES.get_ptr_mut(tally.index(ring)) else {
        return false;
    };
    // SAFETY: this CPU's map value; the fields are aligned u64.
    unsafe {
        let first = (*tally).packets == 0;
        add(&raw mut (*tally).packets, 1, shared);
        add(&raw mut (*tally).bytes, u64::from(bytes), shared);
        first
    }
}

/// Adds to a counter of this CPU's. One that is `shared` is added to atomically: a `cgroup_skb` egress program runs with soft
/// interrupts enabled, and one that interrupts it between load and store would have its count undone. At interfaces programs
/// run one after the other on a CPU, and an atomic addition costs several times as much.
///
/// `AtomicU64::fetch_add` is not to be had: the target counts as one without compare-and-swap.
///
/// # Safety
/// `counter` points into a map value and is aligned.
#[inline(always)]
unsafe fn add(counter: *mut u64, n: u64, shared: bool) {
    if !shared {
        // SAFETY: the caller vouches for the memory, and nothing else writes to it meanwhile.
        unsafe { *counter += n };
        return;
    }
    // SAFETY: BPF_ATOMIC | BPF_ADD, as old as eBPF, on memory that the caller vouches for.
    unsafe {
        asm!("lock *(u64 *)({counter} + 0) += {n}", counter = in(reg) counter, n = in(reg) n);
    }
}
