//! Counting.

use core::arch::asm;

use agent_common::counters::Tally;

/// Adds one packet of `bytes` to a tally of this CPU.
///
/// Atomically, although it is per CPU: a `cgroup_skb` egress program runs with soft interrupts enabled, and one that
/// interrupts it between load and store would have its count undone.
///
/// # Safety
/// `tally` points into a map value.
#[inline(always)]
pub(crate) unsafe fn add(tally: *mut Tally, bytes: u32) {
    // SAFETY: the caller vouches for the pointer; the fields are aligned u64.
    unsafe {
        add_to(&raw mut (*tally).packets, 1);
        add_to(&raw mut (*tally).bytes, u64::from(bytes));
    }
}

/// `AtomicU64::fetch_add` is not to be had: the target counts as one without compare-and-swap.
///
/// # Safety
/// As for [`add`].
#[inline(always)]
unsafe fn add_to(counter: *mut u64, n: u64) {
    // SAFETY: BPF_ATOMIC | BPF_ADD, as old as eBPF, on memory that the caller vouches for.
    unsafe {
        asm!("lock *(u64 *)({counter} + 0) += {n}", counter = in(reg) counter, n = in(reg) n);
    }
}
