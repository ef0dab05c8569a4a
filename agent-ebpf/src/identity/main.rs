//! Remora's identity programs: which process holds which connection, told by the sockets' own life.
//!
//! ```text
//! sock_create ─┐ process context:          ┌─ sock_ops, established: CONNECTIONS[ends] = who, since when
//! post_bind   ─┼─► SOCKETS[socket] = who ──┤        (an accepted one has its listening socket's)
//! connect     ─┘                           └─ getpeername, which accept(2) calls: who accepted it
//!                                             sock_ops, closed │ sock_release: CONNECTIONS[ends].closed = when
//! inet_sock_set_state: stands in for sock_ops where that is not to be had
//! ```
//! Invariants:
//! - A program never changes a socket, an address or a verdict, whatever happens in it.
//! - Every hook is optional. What is missing makes fewer processes known, never wrong ones: a connection is remembered
//!   only where its end is seen too.
//! - Only `inet_sock_set_state` sees processes outside of the watched cgroups, and takes nothing of them.
//! - All maps are bounded; what displaced or refused an entry is counted.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod connection;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod socket;
#[cfg(target_arch = "bpf")]
mod sockets_life;
#[cfg(target_arch = "bpf")]
mod state;

/// The kernel allows GPL-only helpers only to programs that say so.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Never reached: the verifier would refuse the endless loop.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The host build has nothing to run.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
