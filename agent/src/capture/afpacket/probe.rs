//! What `remora doctor` finds out about AF_PACKET, by trying: a socket with a ring that is bound to nothing.

use super::sys::{Layout, PacketSocket};
use super::{AfPacketError, PATIENCE, SMALLEST_BLOCK, frame};
use crate::doctor::Check;

/// The line about AF_PACKET.
pub(crate) fn check() -> Check {
    const WHAT: &str = "AF_PACKET";
    let layout = Layout { block_bytes: SMALLEST_BLOCK as u32, blocks: 2 };
    let tried = PacketSocket::new()
        .and_then(|socket| socket.ring(layout, frame::ROOM, PATIENCE.as_millis() as u32).map(drop));
    match tried.map_err(|cause| AfPacketError::kernel("making a packet socket with a ring", cause)) {
        Ok(()) => Check::ok(WHAT, "permitted: where eBPF is not, `tap --interface` takes it by itself"),
        Err(error @ AfPacketError::NotPermitted { .. }) => {
            Check::limited(WHAT, error.to_string(), "CAP_NET_RAW, for capture where eBPF is not permitted")
        }
        Err(error) => Check::limited(WHAT, error.to_string(), "a kernel with CONFIG_PACKET"),
    }
}
