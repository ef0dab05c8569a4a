//! Both ends of a connection on one node: what is remembered of a client, by its address and port as on the wire.
//!
//! Where client and server are both in watched cgroups, each packet passes two hook points, with other addresses if it is
//! translated (DNAT) between. The client's end is captured. The two are tied by the SYN: it leaves the client's cgroup and
//! comes into the server's with the same sequence number and source. Only then is what passes the server's end of
//! that very connection left out.

use crate::assert_layout;

/// A client whose SYN was captured as it left. The key is its [`crate::config::Endpoint`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Client {
    /// cgroup of the client.
    pub cgroup: u64,
    /// Whom it called: address in memory order.
    pub called: [u64; 2],
    /// Who answered, once known: address in memory order.
    pub server: [u64; 2],
    /// cgroup of that server.
    pub server_cgroup: u64,
    /// Sequence number of the SYN.
    pub isn: u32,
    /// Port that it called.
    pub called_port: u16,
    /// The server's own port.
    pub server_port: u16,
    /// 1: the SYN was met at the server; it is this one.
    pub met: u32,
    /// No padding.
    pub reserved: u32,
}

const _: () = assert_layout::<Client>(64);

// SAFETY: repr(C) without padding (size asserted above), any bit pattern is a value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Client {}
