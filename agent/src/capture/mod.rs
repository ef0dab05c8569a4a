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

use crate::process::PodUid;

/// Which pods' cgroups are wanted, where that changes while capture runs.
pub trait WantedPods: Send + Sync + std::fmt::Debug {
    /// Whether this pod is wanted now.
    fn wants(&self, uid: &PodUid) -> bool;

    /// Has `call` called whenever the choice has changed, from now on and in place of what was called before. It must not
    /// wait for anything.
    fn on_change(&self, call: Box<dyn Fn() + Send + Sync>);
}
