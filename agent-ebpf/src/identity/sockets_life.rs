//! The hooks of a cgroup's sockets, in the order of a socket's life.
//!
//! Those that note a process are there twice: with its name, and, as `*_unnamed`, without, for user space to take where
//! the kernel refuses the first: the name of a process wants `CAP_PERFMON`.

use agent_common::identity::{ACCEPTED, BOUND, CONNECTED, MADE, NO_SOCK_OPS, PASSIVE};
use aya_ebpf::{
    bindings::{
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB,
        BPF_SOCK_OPS_STATE_CB_FLAG, BPF_TCP_CLOSE, bpf_sock, bpf_sock_ops,
    },
    helpers::{bpf_get_socket_cookie, bpf_sock_ops_cb_flags_set},
    macros::{cgroup_sock, cgroup_sock_addr, sock_ops},
    programs::{SockAddrContext, SockContext, SockOpsContext},
};

use crate::{
    connection,
    maps::settings,
    socket::{self, TCP, current, how, known, known_or_new},
};

/// Verdict: go on.
const ALLOW: i32 = 1;

#[cgroup_sock(sock_create)]
pub(crate) fn sock_create(ctx: SockContext) -> i32 {
    made::<true>(ctx.sock)
}

#[cgroup_sock(sock_create)]
pub(crate) fn sock_create_unnamed(ctx: SockContext) -> i32 {
    made::<false>(ctx.sock)
}

#[inline(always)]
fn made<const NAME: bool>(sk: *mut bpf_sock) -> i32 {
    if is_tcp(sk) {
        let socket = known_or_new(sk);
        if !socket.is_null() {
            let process = current::<NAME>(MADE);
            // SAFETY: a map value. The kernel files a socket under the cgroup of the process that makes it.
            unsafe {
                (*socket).cgroup = process.cgroup;
                (*socket).process = process;
            }
        }
    }
    ALLOW
}

#[cgroup_sock(post_bind4)]
pub(crate) fn post_bind4(ctx: SockContext) -> i32 {
    bound::<true>(ctx.sock)
}

#[cgroup_sock(post_bind6)]
pub(crate) fn post_bind6(ctx: SockContext) -> i32 {
    bound::<true>(ctx.sock)
}

#[cgroup_sock(post_bind4)]
pub(crate) fn post_bind4_unnamed(ctx: SockContext) -> i32 {
    bound::<false>(ctx.sock)
}

#[cgroup_sock(post_bind6)]
pub(crate) fn post_bind6_unnamed(ctx: SockContext) -> i32 {
    bound::<false>(ctx.sock)
}

#[inline(always)]
fn bound<const NAME: bool>(sk: *mut bpf_sock) -> i32 {
    if is_tcp(sk) {
        holds::<NAME>(sk, BOUND);
    }
    ALLOW
}

#[cgroup_sock_addr(connect4)]
pub(crate) fn connect4(ctx: SockAddrContext) -> i32 {
    connecting::<true>(&ctx)
}

#[cgroup_sock_addr(connect6)]
pub(crate) fn connect6(ctx: SockAddrContext) -> i32 {
    connecting::<true>(&ctx)
}

#[cgroup_sock_addr(connect4)]
pub(crate) fn connect4_unnamed(ctx: SockAddrContext) -> i32 {
    connecting::<false>(&ctx)
}

#[cgroup_sock_addr(connect6)]
pub(crate) fn connect6_unnamed(ctx: SockAddrContext) -> i32 {
    connecting::<false>(&ctx)
}

#[inline(always)]
fn connecting<const NAME: bool>(ctx: &SockAddrContext) -> i32 {
    if let Some(sk) = tcp_socket(ctx) {
        holds::<NAME>(sk, CONNECTED);
    }
    ALLOW
}

/// Notes that the process at hand did `what` to the socket.
#[inline(always)]
fn holds<const NAME: bool>(sk: *mut bpf_sock, what: u32) {
    let socket = known_or_new(sk);
    if !socket.is_null() {
        // SAFETY: a map value.
        unsafe { (*socket).process = current::<NAME>(what) };
    }
}

/// `getpeername(2)`, and `accept(2)` where it is asked for the peer's address, which nearly everybody does.
#[cgroup_sock_addr(getpeername4)]
pub(crate) fn getpeername4(ctx: SockAddrContext) -> i32 {
    held::<true>(&ctx)
}

/// See [`getpeername4`].
#[cgroup_sock_addr(getpeername6)]
pub(crate) fn getpeername6(ctx: SockAddrContext) -> i32 {
    held::<true>(&ctx)
}

/// See [`getpeername4`].
#[cgroup_sock_addr(getpeername4)]
pub(crate) fn getpeername4_unnamed(ctx: SockAddrContext) -> i32 {
    held::<false>(&ctx)
}

/// See [`getpeername4`].
#[cgroup_sock_addr(getpeername6)]
pub(crate) fn getpeername6_unnamed(ctx: SockAddrContext) -> i32 {
    held::<false>(&ctx)
}

#[inline(always)]
fn held<const NAME: bool>(ctx: &SockAddrContext) -> i32 {
    let Some(sk) = tcp_socket(ctx) else { return ALLOW };
    let socket = known_or_new(sk);
    if socket.is_null() {
        return ALLOW;
    }
    // SAFETY: a map value.
    let before = unsafe { how(&(*socket).process) };
    if before == ACCEPTED || before == CONNECTED {
        return ALLOW;
    }
    // SAFETY: bpf_get_socket_cookie of a context that it is for.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.sock_addr.cast()) };
    // SAFETY: a map value; the socket is the context's.
    unsafe {
        (*socket).process = current::<NAME>(ACCEPTED);
        if (*socket).ends.remote.port != 0 {
            connection::accepted(&*socket, cookie);
            return ALLOW;
        }
        // With sock_ops, a socket that is older than the programs: nobody would see it end.
        if settings().flags & NO_SOCK_OPS == 0 {
            return ALLOW;
        }
        let ends = socket::ends(sk);
        if !connection::is_open(&ends) {
            (*socket).ends = ends;
            // Which end asked for the connection is not known.
            connection::open(&ends, &*socket, cookie, 0);
        }
    }
    ALLOW
}

#[sock_ops]
pub(crate) fn sock_ops(ctx: SockOpsContext) -> u32 {
    let ops = ctx.ops;
    // SAFETY: fields of the context, by whole words.
    unsafe {
        let op = (&raw const (*ops).op).read_volatile();
        if op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB {
            established(ops, 0);
        } else if op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB {
            established(ops, PASSIVE);
        } else if op == BPF_SOCK_OPS_STATE_CB && ctx.arg(1) == BPF_TCP_CLOSE {
            let sk = (*ops).__bindgen_anon_2.sk;
            if !sk.is_null() {
                closed(sk, bpf_get_socket_cookie(ops.cast()));
            }
        }
    }
    ALLOW as u32
}

/// # Safety
/// `ops` is the program's context.
#[inline(always)]
unsafe fn established(ops: *mut bpf_sock_ops, flags: u32) {
    // SAFETY: the program's context.
    unsafe {
        let sk = (*ops).__bindgen_anon_2.sk;
        if sk.is_null() {
            return;
        }
        // Others' wishes stay.
        let wishes = (&raw const (*ops).bpf_sock_ops_cb_flags).read_volatile() | BPF_SOCK_OPS_STATE_CB_FLAG;
        if bpf_sock_ops_cb_flags_set(ops, wishes as i32) != 0 {
            return;
        }
        let ends = socket::ends(sk);
        let cookie = bpf_get_socket_cookie(ops.cast());
        let socket = known_or_new(sk);
        // Where the kernel has no memory for that, nobody would be named anyway.
        if !socket.is_null() {
            (*socket).ends = ends;
            connection::open(&ends, &*socket, cookie, flags);
        }
    }
}

/// Marks the connection of a socket as ended.
#[inline(always)]
fn closed(sk: *mut bpf_sock, cookie: u64) {
    let socket = known(sk);
    if socket.is_null() {
        return;
    }
    // SAFETY: a map value.
    unsafe {
        let ends = (*socket).ends;
        if ends.remote.port != 0 {
            (*socket).ends.remote.port = 0;
            connection::close(&ends, cookie);
        }
    }
}

/// The last descriptor of the socket is closed. The connection may go on for a moment, but holds nothing new.
#[cgroup_sock(sock_release)]
pub(crate) fn sock_release(ctx: SockContext) -> i32 {
    if is_tcp(ctx.sock) {
        // SAFETY: the program's context.
        closed(ctx.sock, unsafe { bpf_get_socket_cookie(ctx.sock.cast()) });
    }
    ALLOW
}

#[inline(always)]
fn is_tcp(sk: *mut bpf_sock) -> bool {
    // SAFETY: the program's context.
    unsafe { (&raw const (*sk).protocol).read_volatile() == TCP }
}

#[inline(always)]
fn tcp_socket(ctx: &SockAddrContext) -> Option<*mut bpf_sock> {
    // SAFETY: the program's context.
    unsafe {
        if (&raw const (*ctx.sock_addr).protocol).read_volatile() != TCP {
            return None;
        }
        let sk = (*ctx.sock_addr).__bindgen_anon_1.sk;
        (!sk.is_null()).then_some(sk)
    }
}
