//! Remora's eBPF programs: one capture path behind six entry points.
//!
//! ```text
//! cgroup_skb ingress/egress ─┐                       ┌─ counted: filtered(reason)
//! tcx, Ethernet  in/out ─────┼─► capture: parse ─► filter ─► ring by flow hash ─► reserve, copy once, submit
//! tcx, raw IP    in/out ─────┘                                       └─ counted: captured, dropped(reason)
//! ```
//! Invariants:
//! - A program never changes a packet or its verdict, whatever happens in it.
//! - Every packet is counted once as offered and once as captured, filtered or dropped.
//! - A packet's bytes are copied once, from the skb into the ring, whatever part of the skb is linear. Headers and small
//!   packets are read in place where they are linear (`usual`, `direct`), by a helper otherwise; both give the same bytes.
//!
//! The entry points differ in constants only: which bytes come first, which way, and what is known of the socket.
//! What kind of interface it is costs nothing per packet, because user space attaches the program that fits it.
//!
//! The verifier of Linux 6.18 walks 29,000 to 40,000 instructions of each. What it asked for: see `ring` (lengths in the very
//! register that is passed), `direct` (packet pointers with constant offsets only), `policy` (no branches before the copies of each class), `packet` (little in loops) and `agent_common::counters` (no run-time choice of a field).
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod capture;
#[cfg(target_arch = "bpf")]
mod count;
#[cfg(target_arch = "bpf")]
mod direct;
#[cfg(target_arch = "bpf")]
mod ends;
#[cfg(target_arch = "bpf")]
mod filter;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod own;
#[cfg(target_arch = "bpf")]
mod packet;
#[cfg(target_arch = "bpf")]
mod policy;
#[cfg(target_arch = "bpf")]
mod programs;
#[cfg(target_arch = "bpf")]
mod ring;
#[cfg(target_arch = "bpf")]
mod usual;

/// The host build has nothing to run.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
