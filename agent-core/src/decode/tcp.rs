//! The TCP header (RFC 9293 section 3.1).

use super::{Frame, Malformed, Net, Reject};
use crate::tcp::Seq;

/// Length of the header without options.
const MIN_HEADER: usize = 20;

/// One TCP segment, its payload still in the captured packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TcpPacket<'a> {
    /// Addresses and tag.
    pub(crate) net: Net,
    /// Source port.
    pub(crate) src_port: u16,
    /// Destination port.
    pub(crate) dst_port: u16,
    /// Sequence number.
    pub(crate) seq: Seq,
    /// Acknowledgement number; only of meaning with [`TcpPacket::ack_flag`].
    pub(crate) ack: Seq,
    flags: u8,
    /// Length of the TCP header.
    pub(crate) header: usize,
    /// Captured payload.
    pub(crate) payload: &'a [u8],
    /// Length of the payload on the wire; more than `payload` where the snap length cut it.
    pub(crate) wire: usize,
}

impl TcpPacket<'_> {
    /// Whether it has payload and an acknowledgement, and neither SYN, FIN nor RST.
    pub(crate) const fn plain_data(&self) -> bool {
        self.wire > 0 && self.flags & 0b1_0111 == 16
    }

    pub(crate) const fn fin(&self) -> bool {
        self.flags & 1 != 0
    }

    pub(crate) const fn syn(&self) -> bool {
        self.flags & 2 != 0
    }

    pub(crate) const fn rst(&self) -> bool {
        self.flags & 4 != 0
    }

    pub(crate) const fn ack_flag(&self) -> bool {
        self.flags & 16 != 0
    }
}

/// Reads the fixed part by hand, not with `etherparse`: its slice wants all options captured, and a short snap length
/// cuts exactly those.
#[inline(always)]
pub(super) fn tcp(net: Net, frame: Frame<'_>) -> Result<TcpPacket<'_>, Reject> {
    frame.need(MIN_HEADER, Malformed::Tcp)?;
    let header = usize::from(frame.byte(12) >> 4) * 4;
    if header < MIN_HEADER || header > frame.wire {
        return Err(Reject::Malformed(Malformed::Tcp));
    }
    let rest = frame.skip(header);
    Ok(TcpPacket {
        net,
        src_port: frame.be16(0),
        dst_port: frame.be16(2),
        seq: Seq(frame.be32(4)),
        ack: Seq(frame.be32(8)),
        flags: frame.byte(13),
        header,
        payload: rest.data,
        wire: rest.wire,
    })
}
