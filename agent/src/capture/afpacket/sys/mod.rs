//! The system calls and the shared memory of packet sockets: all of `unsafe` that this way of capture needs.

mod ring;
mod socket;

pub(super) use ring::Ring;
#[cfg(test)]
pub(super) use socket::attach_filter;
pub(super) use socket::{KernelTally, Layout, PacketSocket};
