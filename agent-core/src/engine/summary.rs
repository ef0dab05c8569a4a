//! What is told of a stream when it is gone.

use super::config::{DirectionSummary, Reason, StreamSummary};
use super::stream::Stream;
use crate::flow::FlowKey;
use crate::tcp::Receiver;

impl Stream {
    /// What is told of the stream when it is gone.
    pub(super) fn summary(mut self, key: &FlowKey) -> StreamSummary {
        let client = self.client(key);
        let packets: u64 = self.sides.iter().map(|s| u64::from(s.packets)).sum();
        let [c2s, s2c] = [client, 1 - client].map(|end| direction(&mut self.sides[end]));
        let meta = &self.meta;
        StreamSummary {
            stream: meta.id,
            client: meta.endpoint(key, client),
            server: meta.endpoint(key, 1 - client),
            packets,
            bytes: meta.bytes,
            syn: meta.syn.into(),
            synack: meta.synack.into(),
            fin: meta.fin.into(),
            rst: meta.rst.into(),
            first: meta.first,
            last: meta.last,
            items: meta.items,
            reason: meta.reason.unwrap_or(Reason::CaptureEnd),
            c2s,
            s2c,
        }
    }

    /// Handshake and payload have told who the client is; else the ports do; else who spoke first.
    fn client(&self, key: &FlowKey) -> usize {
        const SERVERS: [u16; 13] =
            [53, 80, 443, 3000, 3306, 5432, 5672, 6379, 8000, 8080, 9092, 27017, 50051];
        if let Some(client) = self.meta.client {
            return usize::from(client);
        }
        let ports = [key.port(0), key.port(1)];
        let known = ports.map(|p| SERVERS.contains(&p));
        let low = ports[0].min(ports[1]) < 1024 && ports[0] != ports[1];
        match known {
            [true, false] => 1,
            [false, true] => 0,
            _ if low => usize::from(ports[0] < ports[1]),
            _ => usize::from(self.meta.first_data.unwrap_or(self.meta.first_packet)),
        }
    }
}

fn direction(receiver: &mut Receiver) -> DirectionSummary {
    let figures = receiver.figures();
    let whole = figures.gaps_total == 0;
    DirectionSummary {
        bytes: receiver.bytes,
        packets: u64::from(receiver.packets),
        gaps: figures.gaps,
        gaps_total: figures.gaps_total,
        gap_bytes: figures.gap_bytes,
        before: figures.before,
        unseen: figures.unseen,
        trimmed: figures.trimmed,
        retransmitted: figures.repeated,
        overlaps: figures.overlaps,
        sha256: if whole { figures.runs.first().map(|r| r.2) } else { None },
        chunks: if whole { Vec::new() } else { figures.runs },
    }
}
