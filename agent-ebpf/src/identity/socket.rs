//! What is known of a socket, and of the process at hand.

use core::{mem::MaybeUninit, ptr};

use agent_common::identity::{COMM, End, Ends, HOW, LEADER, Process, Socket, Tally};
use aya_ebpf::{
    bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock},
    helpers::{
        bpf_get_current_cgroup_id, bpf_get_current_pid_tgid, bpf_ktime_get_ns,
        generated::{bpf_get_current_comm, bpf_sk_storage_get},
    },
};

use crate::{
    connection,
    maps::{SOCKETS, count},
};

/// `AF_INET` of `linux/socket.h`.
const AF_INET: u32 = 2;
/// `IPPROTO_TCP`.
pub(crate) const TCP: u32 = 6;

/// The process whose system call this is. Only for programs that run in one. `NAME`: with its name, for which the kernel
/// wants `CAP_PERFMON`.
#[inline(always)]
pub(crate) fn current<const NAME: bool>(how: u32) -> Process {
    let id = bpf_get_current_pid_tgid();
    let (tgid, thread) = ((id >> 32) as u32, id as u32);
    Process {
        tgid,
        how: how | if tgid == thread { LEADER } else { 0 },
        comm: if NAME { comm() } else { [connection::zero(), connection::zero()] },
        // SAFETY: helpers without arguments.
        cgroup: unsafe { bpf_get_current_cgroup_id() },
        // SAFETY: as above.
        time_ns: unsafe { bpf_ktime_get_ns() },
    }
}

/// In words: bytes would be cleared in a loop, whose pointer arithmetic wants `CAP_PERFMON`.
#[inline(always)]
fn comm() -> [u64; COMM / 8] {
    let mut comm = MaybeUninit::<[u64; COMM / 8]>::uninit();
    // SAFETY: the helper fills all of it, with zeros if it fails.
    unsafe {
        bpf_get_current_comm(comm.as_mut_ptr().cast(), COMM as u32);
        comm.assume_init()
    }
}

/// How the process was seen: [`agent_common::identity::MADE`] and so on, or 0.
#[inline(always)]
pub(crate) fn how(process: &Process) -> u32 {
    process.how & HOW
}

/// What is kept with the socket, or null. The pointer is good until the program ends.
#[inline(always)]
pub(crate) fn known(sk: *mut bpf_sock) -> *mut Socket {
    // SAFETY: the socket is the context's, not null; the helper returns null or a value of the map.
    unsafe { bpf_sk_storage_get(SOCKETS.as_ptr(), sk.cast(), ptr::null_mut(), 0).cast() }
}

/// The same, made if it is not there yet. Null, and counted, where the kernel has no memory for it.
#[inline(always)]
pub(crate) fn known_or_new(sk: *mut bpf_sock) -> *mut Socket {
    let flags = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
    // SAFETY: as above.
    let socket: *mut Socket =
        unsafe { bpf_sk_storage_get(SOCKETS.as_ptr(), sk.cast(), ptr::null_mut(), flags).cast() };
    if socket.is_null() {
        count(Tally::NoStorage);
    }
    socket
}

/// The ends of a connected socket.
///
/// # Safety
/// `sk` is a socket that the program was handed, not null.
#[inline(always)]
pub(crate) unsafe fn ends(sk: *mut bpf_sock) -> Ends {
    // The verifier allows reads of four bytes (two for the port), which the compiler must not merge. All are read
    // before one is picked: of two places to read from, the compiler would make a sum, which is not allowed.
    // SAFETY: fields of the caller's socket.
    unsafe {
        let word = |field: *const u32| field.read_volatile();
        let family = word(&raw const (*sk).family);
        let (src4, dst4) = (word(&raw const (*sk).src_ip4), word(&raw const (*sk).dst_ip4));
        let (src6, dst6) = (&raw const (*sk).src_ip6, &raw const (*sk).dst_ip6);
        let (src6, dst6) = (words(src6.cast()), words(dst6.cast()));
        let remote_port = u32::from(u16::from_be((&raw const (*sk).dst_port).read_volatile()));
        let (local, remote) = if family == AF_INET { (mapped(src4), mapped(dst4)) } else { (src6, dst6) };
        Ends {
            local: End { address: local, port: word(&raw const (*sk).src_port) },
            remote: End { address: remote, port: remote_port },
        }
    }
}

/// `::ffff:a.b.c.d` in memory order.
#[inline(always)]
pub(crate) fn mapped(address: u32) -> [u32; 4] {
    [0, 0, 0xFFFF_u32.to_be(), address]
}

/// Four words, each read by itself.
///
/// # Safety
/// They lie there.
#[inline(always)]
pub(crate) unsafe fn words(at: *const u32) -> [u32; 4] {
    // SAFETY: the caller's word.
    unsafe {
        [at.read_volatile(), at.add(1).read_volatile(), at.add(2).read_volatile(), at.add(3).read_volatile()]
    }
}
