//! The connections: remembered when they are established, marked when they end.

use core::arch::asm;

use agent_common::identity::{
    ACCEPTED, CONNECTED, Connection, ENDS_ARE_SEEN, Ends, PASSIVE, Peer, SHARED, Socket, Tally,
};
use aya_ebpf::{bindings::BPF_ANY, helpers::bpf_ktime_get_ns};

use crate::{
    maps::{CONNECTIONS, PEERS, count, settings},
    socket::how,
};

/// Remembers a connection. `flags`: [`PASSIVE`] or none.
#[inline(always)]
pub(crate) fn open(ends: &Ends, socket: &Socket, cookie: u64, flags: u32) {
    // What is not seen to end would be named for ever.
    if settings().flags & ENDS_ARE_SEEN == 0 {
        return;
    }
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let opened_ns = if how(&socket.process) == CONNECTED { socket.process.time_ns } else { now };
    let zero = zero();
    let mut connection = Connection {
        process: socket.process,
        cgroup: socket.cgroup,
        cookie,
        opened_ns,
        closed_ns: zero,
        since_ns: zero,
        flags,
        reserved: zero as u32,
    };
    if let Some(before) = CONNECTIONS.get_ptr(ends) {
        // SAFETY: a map value; a torn read is of no more harm than a late one.
        let (closed, other) = unsafe { ((*before).closed_ns, (*before).cookie != cookie) };
        if closed != 0 {
            connection.since_ns = closed;
        } else if other {
            connection.since_ns = now;
            connection.flags |= SHARED;
        }
    }
    if CONNECTIONS.insert(ends, &connection, BPF_ANY.into()).is_err() {
        count(Tally::Refused);
        return;
    }
    count(Tally::Opened);
    if flags & PASSIVE != 0 {
        open_peer(ends, cookie);
    }
}

/// A zero that the compiler does not know: it clears more than a word with memset, whose loop the verifier allows only
/// with `CAP_PERFMON`.
#[inline(always)]
pub(crate) fn zero() -> u64 {
    let zero;
    // SAFETY: sets a register.
    unsafe { asm!("{zero} = 0", zero = out(reg) zero, options(pure, nomem, nostack, preserves_flags)) };
    zero
}

#[inline(always)]
fn open_peer(ends: &Ends, cookie: u64) {
    let mut peer = Peer { live: 1, cookie, local: ends.local, flags: zero() as u32 };
    if let Some(before) = PEERS.get_ptr_mut(&ends.remote) {
        // SAFETY: a map value.
        let (live, other) = unsafe { ((*before).live, (*before).cookie != cookie) };
        if live != 0 && other {
            peer.live = live + 1;
            peer.flags = SHARED;
        }
    }
    if PEERS.insert(&ends.remote, &peer, BPF_ANY.into()).is_err() {
        count(Tally::Refused);
    }
}

/// Marks a connection as ended. `cookie` 0: whichever has these ends.
#[inline(always)]
pub(crate) fn close(ends: &Ends, cookie: u64) {
    let Some(connection) = CONNECTIONS.get_ptr_mut(ends) else {
        count(Tally::Displaced);
        return;
    };
    // SAFETY: a map value, of aligned fields.
    let passive = unsafe {
        if cookie != 0 && (*connection).cookie != cookie {
            // Of another namespace.
            count(Tally::Displaced);
            return;
        }
        if (*connection).closed_ns != 0 {
            return;
        }
        (*connection).closed_ns = bpf_ktime_get_ns();
        (*connection).flags & PASSIVE != 0
    };
    count(Tally::Closed);
    if passive && let Some(peer) = PEERS.get_ptr_mut(&ends.remote) {
        // SAFETY: a map value; BPF_ATOMIC | BPF_ADD on its first, aligned field.
        unsafe {
            if (*peer).live != 0 {
                asm!("lock *(u64 *)({live} + 0) += {n}", live = in(reg) &raw mut (*peer).live, n = in(reg) -1_i64);
            }
        }
    }
}

/// Whether a connection of these ends is remembered and alive.
#[inline(always)]
pub(crate) fn is_open(ends: &Ends) -> bool {
    // SAFETY: a map value.
    CONNECTIONS.get_ptr(ends).is_some_and(|connection| unsafe { (*connection).closed_ns == 0 })
}

/// Names the process that accepted a connection, which somebody else's listening socket had named so far.
#[inline(always)]
pub(crate) fn accepted(socket: &Socket, cookie: u64) {
    let Some(connection) = CONNECTIONS.get_ptr(&socket.ends) else {
        return;
    };
    // SAFETY: a map value.
    let mut named = unsafe { *connection };
    if named.cookie != cookie || named.flags & PASSIVE == 0 || how(&named.process) == ACCEPTED {
        return;
    }
    named.process = socket.process;
    // As a whole: user space must not see one process' id beside another's name.
    if CONNECTIONS.insert(&socket.ends, &named, BPF_ANY.into()).is_ok() {
        count(Tally::Accepted);
    } else {
        count(Tally::Refused);
    }
}
