//! The short way of the packets that nearly all are: payload that comes in order, on a stream of which nothing is missing and that
//! nobody closes.
//!
//! Invariant: what is done here is what the long way would come to. Whether a packet is one of these is asked before anything is
//! done for it.

use super::feed::{Cx, Feed};
use super::stream::Stream;
use super::{Engine, Handled};
use crate::decode::TcpPacket;
use crate::dissect::{Arrival, Chunk};
use crate::flow::{FlowKey, Found};
use crate::item::StreamId;
use crate::packet::Packet;

/// Streams whose readers need not be put to rest between two messages: those that began to talk last. Each has some two KiB at most.
pub(super) const LENT: usize = 128;

impl Engine {
    /// Takes a packet as nearly all are that bring payload. `None`: it is no such one, and nothing was done.
    #[inline]
    pub(super) fn next_data(
        &mut self,
        key: &FlowKey,
        from: usize,
        tcp: &TcpPacket<'_>,
        packet: &Packet<'_>,
    ) -> Option<Handled> {
        if !tcp.plain_data() || self.watching {
            return None;
        }
        let rules = self.config.rules(self.now);
        let Found { at, key, value: stream, stale } = self.table.next(key, self.now)?;
        self.shared.spare.lend = true;
        let taken = stream.next_data(from, tcp, packet, &mut Cx { key, rules, shared: &mut self.shared });
        let lent = !std::mem::take(&mut self.shared.spare.lend);
        let id = taken?;
        if lent {
            self.lend(at);
        }
        if stale {
            self.table.touch(at, self.now);
        }
        if self.shared.stats.dissect > self.config.limits.dissect_total as u64 / 2 {
            self.keep_dissect_budget();
        }
        Some(Handled { stream: Some(id), fragment: false, copy: false })
    }

    /// The reader of the stream at `at` keeps what it was lent; the one that has had it longest does not any more. (Where another
    /// stream has taken its place that one gives back, if anything, a little early.)
    fn lend(&mut self, at: u32) {
        self.lent.push_back(at);
        if self.lent.len() > LENT
            && let Some(first) = self.lent.pop_front()
            && let Some((_, stream)) = self.table.get_mut(first)
        {
            stream.app.give_back(&mut self.shared.spare);
        }
    }
}

impl Stream {
    /// Takes a packet as nearly all are that bring payload: all of it, in order, on a stream where nothing is waited for and
    /// nobody closes. What [`Self::packet`] would do comes to this, and neither the stream's state nor its timer changes, nor
    /// who is the client: where both directions have begun, a handshake or earlier payload has told.
    /// `None`: it is none of these, and nothing was done.
    #[inline]
    fn next_data(
        &mut self,
        from: usize,
        t: &TcpPacket<'_>,
        packet: &Packet<'_>,
        cx: &mut Cx<'_>,
    ) -> Option<StreamId> {
        let meta = &self.meta;
        let open = meta.established && meta.reason.is_none();
        let whole = t.payload.len() == t.wire;
        let [a, b] = &self.sides;
        let (own, peer) = if from == 0 { (a, b) } else { (b, a) };
        if !(open && whole && own.expects(peer, t.seq, t.ack)) || cx.rules.hash || cx.shared.taken.is_some() {
            return None;
        }
        // Bytes that its end have not had are no copy, wherever they were seen: that place counts from now on.
        let copy = self.is_copy(from, t, packet.origin);
        debug_assert!(!copy, "{t:?}");
        let Self { meta, sides: [a, b], app, .. } = self;
        let (own, peer) = if from == 0 { (a, b) } else { (b, a) };
        own.packets = own.packets.saturating_add(1);
        meta.last = cx.rules.now;
        meta.bytes += u64::from(packet.original_len);
        let (offset, acked) = own.take_expected(peer, t.seq, t.wire as u64);
        let at = Arrival { time: packet.time, offset, acked: Some(acked), truncated: false };
        Feed { meta, app, cx }.chunk(from, Chunk::Data(t.payload), at);
        if cx.rules.trim {
            self.trim(from, cx);
        }
        Some(self.meta.id)
    }
}
