//! `sock:inet_sock_set_state`, where `sock_ops` is not to be had. It sees the sockets of the whole machine: a connection
//! is remembered only if a process of a watched cgroup asked for it. Who accepted one is for `getpeername` to tell.
//!
//! The record's fields are as `agent_common::identity::STATE_FIELDS` has them; user space has compared.

use agent_common::identity::{CONNECTED, End, Ends, MAX_LEVELS, Socket};
use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_ANY, BPF_TCP_CLOSE, BPF_TCP_ESTABLISHED, BPF_TCP_SYN_SENT},
    helpers::bpf_get_current_ancestor_cgroup_id,
    macros::tracepoint,
    programs::TracePointContext,
};

use crate::{
    connection,
    maps::{CONNECTIONS, PENDING, WATCHED, settings},
    socket::{TCP, current, words},
};

#[tracepoint]
pub(crate) fn inet_sock_set_state(ctx: TracePointContext) -> u32 {
    let record: *const u8 = ctx.as_ptr().cast_const().cast();
    // SAFETY: within the record, as user space has compared.
    unsafe {
        if u32::from(record.add(30).cast::<u16>().read_volatile()) != TCP {
            return 0;
        }
        let socket = record.add(8).cast::<u64>().read_volatile();
        let before = record.add(16).cast::<u32>().read_volatile();
        let now = record.add(20).cast::<u32>().read_volatile();
        if now == BPF_TCP_SYN_SENT {
            // Within connect(2); the port is not chosen yet.
            if is_watched() {
                // What is displaced is a connection whose process stays unknown.
                let _ = PENDING.insert(socket, current::<true>(CONNECTED), BPF_ANY.into());
            }
        } else if now == BPF_TCP_ESTABLISHED && before == BPF_TCP_SYN_SENT {
            if let Some(process) = PENDING.get_ptr(socket) {
                let ends = ends(record);
                let known = Socket { process: *process, cgroup: connection::zero(), ends };
                connection::open(&ends, &known, socket, 0);
                let _ = PENDING.remove(socket);
            }
        } else if now == BPF_TCP_CLOSE {
            let _ = PENDING.remove(socket);
            let ends = ends(record);
            if CONNECTIONS.get_ptr(&ends).is_some() {
                connection::close(&ends, 0);
            }
        }
    }
    0
}

/// # Safety
/// `record` is the tracepoint's.
#[inline(always)]
unsafe fn ends(record: *const u8) -> Ends {
    // SAFETY: the caller's record.
    unsafe {
        let port = |at: usize| u32::from(record.add(at).cast::<u16>().read_volatile());
        Ends {
            local: End { address: words(record.add(40).cast()), port: port(24) },
            remote: End { address: words(record.add(56).cast()), port: port(26) },
        }
    }
}

/// Whether the process at hand is in a watched cgroup.
#[inline(always)]
fn is_watched() -> bool {
    let levels = settings().levels;
    for level in 0..MAX_LEVELS {
        if levels & 1 << level != 0 {
            // SAFETY: a helper without pointers.
            let cgroup = unsafe { bpf_get_current_ancestor_cgroup_id(level as i32) };
            if cgroup != 0 && WATCHED.get_ptr(cgroup).is_some() {
                return true;
            }
        }
    }
    false
}
