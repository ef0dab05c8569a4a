//! Who holds a socket: what the identity programs write and user space looks up.
//!
//! A connection is found by its two ends as its socket has them. Its entry stays after its end, with the time of it, so
//! that an item made a moment later is still named; an entry holds for what happened between [`Connection::since_ns`]
//! and [`Connection::closed_ns`] only, so a later connection of the same ends is never named after an earlier one.
//!
//! Times are `CLOCK_MONOTONIC`, nanoseconds. Addresses are in network order as they lie in memory, IPv4 as
//! `::ffff:a.b.c.d`; ports are in host order.

use crate::assert_layout;

/// Connections that are remembered unless user space asks for another number.
pub const CONNECTIONS: u32 = 65_536;
/// Connections under way whose ends are not known yet, where only the tracepoint tells of them.
pub const PENDING: u32 = 4096;
/// cgroups whose processes the tracepoint looks at.
pub const MAX_WATCHED: u32 = 1024;
/// Levels of the cgroup tree that the tracepoint looks at: as deep as anybody nests them.
pub const MAX_LEVELS: u32 = 32;
/// Bytes of a process' name in the kernel, the final zero included.
pub const COMM: usize = 16;

/// One end of a connection.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct End {
    /// Address.
    pub address: [u32; 4],
    /// Port.
    pub port: u32,
}

/// A connection as one of its sockets sees it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ends {
    /// The socket's own end.
    pub local: End,
    /// The other one.
    pub remote: End,
}

/// A process as it was seen at a socket.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Process {
    /// Process id in the machine's own pid namespace; 0: nobody is known.
    pub tgid: u32,
    /// [`MADE`], [`BOUND`], [`CONNECTED`] or [`ACCEPTED`]; [`LEADER`] beside it.
    pub how: u32,
    /// Name of the thread that did it: bytes as they lie in memory, up to a zero.
    pub comm: [u64; COMM / 8],
    /// cgroup v2 id of the process.
    pub cgroup: u64,
    /// When.
    pub time_ns: u64,
}

/// `how`: made the socket.
pub const MADE: u32 = 1;
/// `how`: bound it to its address.
pub const BOUND: u32 = 2;
/// `how`: asked for the connection.
pub const CONNECTED: u32 = 3;
/// `how`: accepted the connection (or asked who the peer is, which its holder alone can).
pub const ACCEPTED: u32 = 4;
/// `how`: these bits hold one of the above.
pub const HOW: u32 = 0xFF;
/// `how`: the thread is the process' first one, whose name is the process'.
pub const LEADER: u32 = 1 << 8;

/// What is known of a socket, kept with it by the kernel, and handed on from a listening socket to its children.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Socket {
    /// Who holds it, as far as known.
    pub process: Process,
    /// cgroup v2 id that the kernel filed the socket under; 0: it was made before anybody looked.
    pub cgroup: u64,
    /// Under which ends it is among the connections; port 0: it is not.
    pub ends: Ends,
}

/// A connection's socket.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Connection {
    /// Who holds it. For [`PASSIVE`] ones that nobody was seen to accept: who held the listening socket.
    pub process: Process,
    /// As in [`Socket::cgroup`].
    pub cgroup: u64,
    /// The socket's cookie (its address, where the tracepoint told of it): tells it from others of the same ends.
    pub cookie: u64,
    /// When it was there at the latest.
    pub opened_ns: u64,
    /// When it ended; 0: it has not.
    pub closed_ns: u64,
    /// When the one before it, of the same ends, ended or was displaced; 0: none is known.
    pub since_ns: u64,
    /// [`PASSIVE`], [`SHARED`].
    pub flags: u32,
    /// No padding.
    pub reserved: u32,
}

/// `flags`: the other end asked for the connection.
pub const PASSIVE: u32 = 1;
/// `flags`: another socket of the same ends was alive when this one came: they are in different namespaces.
pub const SHARED: u32 = 1 << 1;

/// By the remote end of an accepted connection: its own end, where an address translation stands between the two.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Peer {
    /// Connections alive with that remote end.
    pub live: u64,
    /// Cookie of the latest.
    pub cookie: u64,
    /// The latest's own end.
    pub local: End,
    /// [`SHARED`]: there were several at once, so it is not known which.
    pub flags: u32,
}

/// What user space tells the programs.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    /// [`ENDS_ARE_SEEN`], [`NO_SOCK_OPS`].
    pub flags: u32,
    /// Levels of the cgroup tree that have a watched cgroup, a bit each.
    pub levels: u32,
}

/// `flags`: some program sees connections end; without, none is remembered.
pub const ENDS_ARE_SEEN: u32 = 1;
/// `flags`: `sock_ops` tells of no connection, so `getpeername` does.
pub const NO_SOCK_OPS: u32 = 1 << 1;

/// What is counted: index into the map of tallies.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tally {
    /// Connections remembered.
    Opened,
    /// Of those: accepted by a process that was seen to.
    Accepted,
    /// Of the opened: seen to end.
    Closed,
    /// Refused: the map took no more.
    Refused,
    /// Ended, and no longer remembered by then: displaced by newer ones.
    Displaced,
    /// Sockets that the kernel had no memory to keep anything with.
    NoStorage,
}

/// Elements of the map of tallies.
pub const TALLIES: u32 = Tally::NoStorage as u32 + 1;

const _: () = assert_layout::<End>(20);
const _: () = assert_layout::<Ends>(40);
const _: () = assert_layout::<Process>(40);
const _: () = assert_layout::<Socket>(88);
const _: () = assert_layout::<Connection>(88);
const _: () = assert_layout::<Peer>(40);
const _: () = assert_layout::<Settings>(8);

/// Where the fields of the tracepoint `sock:inet_sock_set_state` lie in its record (Linux 5.6 and later): name, offset
/// and size. User space compares them with what the kernel says before it attaches.
pub const STATE_FIELDS: [(&str, usize, usize); 9] = [
    ("skaddr", 8, 8),
    ("oldstate", 16, 4),
    ("newstate", 20, 4),
    ("sport", 24, 2),
    ("dport", 26, 2),
    ("family", 28, 2),
    ("protocol", 30, 2),
    ("saddr_v6", 40, 16),
    ("daddr_v6", 56, 16),
];

#[cfg(feature = "user")]
mod user {
    use super::{Connection, End, Ends, Peer, Process, Settings, Socket};

    // SAFETY: repr(C) without padding (sizes asserted above), any bit pattern is a value.
    unsafe impl aya::Pod for End {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Ends {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Process {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Socket {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Connection {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Peer {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Settings {}
}
