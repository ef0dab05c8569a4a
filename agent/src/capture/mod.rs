//! Where packets come from: eBPF rings, packet sockets or a capture file, behind one trait.
//!
//! A source belongs to one worker. It hands out packets that borrow its own memory (the ring, the file's buffer):
//! nothing is copied on the way to the engine.

pub mod afpacket;
#[cfg(feature = "ebpf")]
pub mod ebpf;
pub mod file;
pub mod net;
mod source;

pub use source::{Loss, PacketSource, Progress};
