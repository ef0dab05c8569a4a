//! What all sources of packets have in common.

use std::time::Duration;

use agent_core::Packet;
use agent_core::engine::Trim;

/// What a call to [`PacketSource::poll`] came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// So many packets were handed out (at least one).
    Packets(usize),
    /// Nothing arrived within the wait.
    Idle,
    /// There will be no more packets.
    End,
}

/// Packets and bytes that a source could not deliver.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Loss {
    /// Packets.
    pub packets: u64,
    /// Bytes on the wire of those packets; `None` if the source cannot know.
    pub bytes: Option<u64>,
}

/// A source of packets for one worker.
pub trait PacketSource: Send {
    /// Hands what is there to `sink`, in order, at most `max` packets; waits up to `wait` for the first.
    ///
    /// # Errors
    /// When the source cannot go on (file unreadable, ring gone). Malformed packets are not errors.
    fn poll(
        &mut self,
        max: usize,
        wait: Duration,
        sink: &mut dyn FnMut(&Packet<'_>),
    ) -> anyhow::Result<Progress>;

    /// Whether there is more that the next call would hand out without waiting, as far as the source knows.
    fn has_more(&self) -> bool {
        false
    }

    /// The payload of these segments is not needed any more, or is again: what does not come at all need not be
    /// copied. A source that cannot leave it out does nothing.
    fn trim(&mut self, _wish: &Trim) {}

    /// What was lost since the start, as far as the source knows (cumulative).
    fn loss(&self) -> Loss {
        Loss { packets: 0, bytes: Some(0) }
    }
}
