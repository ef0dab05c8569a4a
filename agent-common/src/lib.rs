//! What crosses between the eBPF programs and user space, and the logic that both sides must agree on.
//!
//! - [`record`]: a captured packet as it lies in a ring, and the size classes of its reservation.
//! - [`counters`]: what the programs counted, per CPU.
//! - [`config`]: what user space tells the programs.
//! - [`identity`]: who holds a socket.
//! - [`flow`]: the symmetric hash by which both directions of a stream reach the same ring.
//! - [`policy`]: flows that are cut to their headers.
//! - [`ends`]: what is remembered of clients, so that a connection within the node is captured once.
//!
//! Everything here is `repr(C)` with its size asserted, holds no padding (so that a copy leaks nothing and compares
//! equal), and is pure: the eBPF programs use it as it is, and tests run it on the host.
#![no_std]

pub mod config;
pub mod counters;
pub mod ends;
pub mod flow;
pub mod identity;
pub mod policy;
pub mod record;

/// Rings that one set of programs can serve: an upper bound on workers.
pub const MAX_RINGS: u32 = 256;

/// Bytes of the ring that stands for all of them when the programs are loaded: before Linux 5.10 the kernel takes rings
/// of just this size. A whole number of pages on every machine.
pub const TEMPLATE_RING: u32 = 1 << 20;

/// Fails to compile unless `T` is `size` bytes with 8-byte alignment at most (what BPF maps give).
const fn assert_layout<T>(size: usize) {
    assert!(size_of::<T>() == size, "size changed: both sides must be built together");
    assert!(align_of::<T>() <= 8, "BPF map values are aligned to 8 bytes");
}
