//! The agent's readers of capture files, compiled in here: the crate would bring all that they do not need, and make the
//! build of the targets some times as long.

#[path = "../../agent/src/capture/file/mod.rs"]
pub mod file;
#[path = "../../agent/src/capture/source.rs"]
mod source;

pub use source::{Loss, PacketSource, Progress};
