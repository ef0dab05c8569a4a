//! Into the ring: reserve by size class, copy once, submit, and wake the reader only when it pays.
//!
//! What the verifier asks for: a reservation's size must be a constant, so there is a copy of [`copy`] for each class;
//! and the length given to `bpf_skb_load_bytes` must lie, in the very register that is passed, within 1 and what the
//! class holds. LLVM knows that it does and drops every comparison to show it, hence [`bounded`].

use core::arch::asm;

use agent_common::{
    config::{AWAKE, QUIET},
    counters::RingTally,
    record::{CLASSES, FLAG_SOCKET, HEADER_LEN, MAX_CAPTURE, RecordHeader},
};
use aya_ebpf::{
    bindings::{__sk_buff, BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{bpf_ringbuf_query, bpf_skb_load_bytes},
};
use aya_log_ebpf::warn;

use crate::{
    count, direct,
    maps::{RINGS, Ring, SLEEPERS},
};

/// Puts the packet into ring `index`, and counts how that went.
#[inline(always)]
pub(crate) fn push(skb: *mut __sk_buff, index: u32, header: &RecordHeader, snap_len: u32) {
    let shared = header.flags & FLAG_SOCKET != 0;
    let bytes = header.original_len;
    let outcome = match RINGS.get(index) {
        Some(ring) => copy_by_class(skb, ring, index, header),
        None => RingTally::NoRing,
    };
    let first = count::ring(outcome, index, bytes, shared);
    if outcome == RingTally::Captured {
        if header.captured_len < bytes {
            let whole = bytes.min(snap_len).min(MAX_CAPTURE as u32);
            let why = if header.captured_len < whole { RingTally::HeadersOnly } else { RingTally::Truncated };
            count::ring(why, index, bytes, shared);
        }
    } else if first {
        warn!(skb, "ring {}: the first packet is lost on a CPU (reason {})", index, outcome as u32);
    }
}

/// Tries the classes from the smallest.
#[inline(always)]
fn copy_by_class(skb: *mut __sk_buff, ring: &Ring, index: u32, header: &RecordHeader) -> RingTally {
    macro_rules! try_classes {
        ($($class:literal)*) => {
            $(if header.captured_len as usize <= CLASSES[$class] - HEADER_LEN {
                return copy::<{ CLASSES[$class] }>(skb, ring, index, header);
            })*
        };
    }
    try_classes!(0 1 2 3 4 5 6 7 8 9 10 11 12 13);
    const { assert!(CLASSES.len() == 14 && CLASSES[0] == HEADER_LEN + direct::MOST) };
    RingTally::LoadFailed
}

#[inline(always)]
fn copy<const SIZE: usize>(skb: *mut __sk_buff, ring: &Ring, index: u32, header: &RecordHeader) -> RingTally {
    let Some(mut place) = ring.reserve_bytes(SIZE, 0) else {
        return RingTally::RingFull;
    };
    let start = place.as_mut_ptr();
    let len = bounded::<SIZE>(header.captured_len);
    // SAFETY: the reservation has SIZE bytes, 8-byte aligned, of which the header takes the first HEADER_LEN and the
    // packet at most the rest.
    let loaded = unsafe {
        start.cast::<RecordHeader>().write(*header);
        let packet = start.add(HEADER_LEN);
        (SIZE == HEADER_LEN + direct::MOST && direct::copy(skb, packet, len))
            || bpf_skb_load_bytes(skb.cast(), 0, packet.cast(), len) == 0
    };
    if !loaded {
        place.discard(u64::from(BPF_RB_NO_WAKEUP));
        return RingTally::LoadFailed;
    }
    place.submit(wake_flags(ring, index));
    RingTally::Captured
}

/// `len` as it is, in a register of which the verifier knows that it is within 1 and what the class holds.
#[inline(always)]
fn bounded<const SIZE: usize>(len: u32) -> u32 {
    let mut len = u64::from(len);
    // SAFETY: compares, and sets a register that it owns. The third line is never reached: the class was chosen by
    // this length, and no packet is empty.
    unsafe {
        asm!(
            "if {len} > {most} goto +1",
            "if {len} > 0 goto +1",
            "{len} = 1",
            len = inout(reg) len,
            most = const SIZE - HEADER_LEN,
            options(nomem, nostack),
        );
    }
    len as u32
}

/// A wake-up costs some microseconds, so there is at most one for each sleep of the reader.
#[inline(always)]
fn wake_flags(ring: &Ring, index: u32) -> u64 {
    const ASLEEP: u64 = BPF_RB_NO_WAKEUP as u64;
    let Some(sleeper) = SLEEPERS.get_ptr_mut(index) else {
        return ASLEEP;
    };
    // SAFETY: a map value; volatile, because user space and other CPUs write it. A lost race costs one wake-up more,
    // or leaves it to the reader's timer.
    unsafe {
        match (&raw const (*sleeper).mode).read_volatile() {
            AWAKE => ASLEEP,
            QUIET => 0,
            _ => {
                let map = core::ptr::from_ref(ring).cast_mut().cast();
                let pending = bpf_ringbuf_query(map, u64::from(BPF_RB_AVAIL_DATA));
                if pending < u64::from((&raw const (*sleeper).wake_at).read_volatile()) {
                    return ASLEEP;
                }
                (&raw mut (*sleeper).mode).write_volatile(AWAKE);
                u64::from(BPF_RB_FORCE_WAKEUP)
            }
        }
    }
}
