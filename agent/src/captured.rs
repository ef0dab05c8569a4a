//! An item with what the agent knows around it: names, node, worker. What sinks share as `Arc<Captured>`.

use std::net::IpAddr;
use std::sync::Arc;

use agent_core::{Item, Record, StreamSummary};

use crate::process::{PodUid, ProcessInfo, Workload};

/// How long text is when it is decoded, as a multiple of what it was.
const UNPACKED: usize = 8;

/// Where the bytes came from: `capture.source` of an item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// eBPF programs.
    Ebpf,
    /// Packet sockets.
    AfPacket,
    /// A capture file.
    Pcap,
}

impl Source {
    /// The name in items.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ebpf => "ebpf",
            Self::AfPacket => "af_packet",
            Self::Pcap => "pcap",
        }
    }
}

/// The node that the agent runs on.
#[derive(Clone, Debug)]
pub struct Node {
    /// Host name, or the Kubernetes node's name.
    pub name: String,
    /// Its address.
    pub ip: IpAddr,
}

/// What Kubernetes calls an address or a pod. Shared by all that bear the name.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Known {
    /// The pod's name.
    pub pod: Option<Arc<str>>,
    /// The service's name: the one that was asked for by its address, or one that the pod is an endpoint of.
    pub service: Option<Arc<str>>,
    /// The namespace of both.
    pub namespace: Arc<str>,
    /// The pod's.
    pub uid: Option<PodUid>,
    /// Whether it is a pod on this node, and one of the targets: what is captured there is captured for its sake.
    pub watched: bool,
}

impl Known {
    /// A pod of this name and namespace, of which nothing else is known.
    #[must_use]
    pub fn pod(name: &str, namespace: &str) -> Self {
        Self { pod: Some(Arc::from(name)), namespace: Arc::from(namespace), ..Self::default() }
    }

    /// The pod's name, else the service's.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.pod.as_deref().or(self.service.as_deref())
    }

    /// Memory held for its own sake, in bytes; services and namespaces are shared.
    #[must_use]
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.pod.as_ref().map_or(0, |pod| pod.len())
    }
}

/// What one end is called.
#[derive(Clone, Debug, Default)]
pub struct Name {
    /// What Kubernetes calls it; `None`: the IP stands for it.
    pub known: Option<Arc<Known>>,
    /// What the end's cgroup belongs to, where that is known.
    pub workload: Option<Workload>,
    /// The process at that end, where it is known.
    pub process: Option<Arc<ProcessInfo>>,
}

impl From<Known> for Name {
    fn from(known: Known) -> Self {
        Self { known: Some(Arc::new(known)), ..Self::default() }
    }
}

impl Name {
    /// The pod's or service's name; `None`: the IP stands for it.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.known.as_ref()?.name()
    }

    /// Kubernetes namespace; empty outside Kubernetes.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.known.as_ref().map_or("", |known| &known.namespace)
    }

    /// The pod's name.
    #[must_use]
    pub fn pod(&self) -> Option<&str> {
        self.known.as_ref()?.pod.as_deref()
    }

    /// The service's name.
    #[must_use]
    pub fn service(&self) -> Option<&str> {
        self.known.as_ref()?.service.as_deref()
    }

    /// The pod's UID, also where nothing else is known of it. Of a static pod it is the hash of its manifest.
    #[must_use]
    pub fn pod_uid(&self) -> Option<PodUid> {
        let workload = self.workload.as_ref().and_then(|workload| workload.pod);
        let process = || self.process.as_ref().and_then(|process| process.pod);
        workload.or_else(process).or_else(|| self.known.as_ref()?.uid)
    }

    /// Id of the container that the socket or the process is in.
    #[must_use]
    pub fn container_id(&self) -> Option<&str> {
        let process = self.process.as_ref().and_then(|process| process.container_id.as_deref());
        process.or_else(|| self.workload.as_ref()?.container_id.as_deref())
    }

    fn is_watched(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.watched)
    }

    /// Memory held, in bytes; what others may hold as well is counted in full.
    fn memory(&self) -> usize {
        self.known.as_ref().map_or(0, |known| known.memory())
            + self.process.as_ref().map_or(0, |process| process.memory())
    }
}

/// One item as sinks see it.
#[derive(Debug)]
pub struct Captured {
    /// What the engine found, where it found it: it is not moved.
    pub item: Box<Item>,
    /// The client end's name.
    pub src: Name,
    /// The server end's name.
    pub dst: Name,
    /// Which node.
    pub node: Arc<Node>,
    /// Whether the client end is on this node.
    pub outgoing: bool,
    /// Which worker, from 0.
    pub worker: u16,
    /// Where the bytes came from.
    pub source: Source,
}

/// A TCP stream that is over, as sinks see it.
#[derive(Clone, Debug)]
pub struct ClosedStream {
    /// What the engine knows of it.
    pub summary: StreamSummary,
    /// The client end's name.
    pub src: Name,
    /// The server end's name.
    pub dst: Name,
}

impl ClosedStream {
    /// Memory held, in bytes: what queues count.
    #[must_use]
    pub fn memory(&self) -> usize {
        let names = [&self.src, &self.dst].map(Name::memory);
        let lists = [&self.summary.c2s, &self.summary.s2c].map(|d| {
            d.gaps.capacity() * size_of::<(u64, u64)>()
                + d.chunks.capacity() * size_of::<(u64, u64, [u8; 32])>()
        });
        size_of::<Self>() + names.iter().chain(&lists).sum::<usize>()
    }
}

impl Captured {
    /// An item of the first worker, of whose ends nothing is known.
    #[must_use]
    pub fn nameless(item: Item, node: Arc<Node>, source: Source) -> Self {
        let (src, dst) = (Name::default(), Name::default());
        Self { item: Box::new(item), src, dst, node, outgoing: false, worker: 0, source }
    }

    /// The namespace that the item is of: that of the pod for whose sake it was captured, the server first; where none is
    /// known to be that, the server's or else the client's.
    #[must_use]
    pub fn namespace(&self) -> &str {
        let (src, dst) = (&self.src, &self.dst);
        let client = src.is_watched() && !dst.is_watched();
        if client || dst.namespace().is_empty() { src.namespace() } else { dst.namespace() }
    }

    /// Memory held, in bytes: what queues count.
    #[must_use]
    pub fn memory(&self) -> usize {
        let names = [&self.src, &self.dst].map(Name::memory);
        size_of::<Self>() + self.item.memory() + names.iter().sum::<usize>()
    }

    /// The same with coded bodies about as long as they will be when somebody has decoded them, in bytes: what counts where the room is
    /// for what is about to be written, as in replay.
    #[must_use]
    pub fn unpacked(&self) -> usize {
        let Record::Http(exchange) = &self.item.record else { return self.memory() };
        let coded = exchange.messages().map(|message| &message.body).filter(|body| body.is_coded());
        self.memory() + coded.map(|body| body.bytes.len()).sum::<usize>() * UNPACKED
    }
}

#[cfg(test)]
mod tests {
    use agent_core::dissect::content::Codings;
    use agent_core::item::{
        Body, Coded, Endpoint, HeaderBlock, HttpExchange, Message, Response, Span, StreamId,
    };

    use super::*;

    #[test]
    fn coded_bodies_count_as_what_they_hold_or_as_what_will_be_made_of_them() {
        let end = Endpoint { addr: [192, 0, 2, 1].into(), port: 80, cgroup: 0 };
        let of = |coded: Option<Box<Coded>>| {
            let body = Body { size: 1000, bytes: vec![7; 1000].into(), coded, ..Body::default() };
            let message = Message { head: HeaderBlock::default(), body, ..Message::default() };
            let response = Some(Response { status: 200, reason: Span::default(), message });
            let record = Record::Http(Box::new(HttpExchange { response, ..HttpExchange::default() }));
            let item = Item::new(StreamId(1), 0, end, end, record);
            let node = Node { name: String::new(), ip: end.addr };
            Captured::nameless(item, Arc::new(node), Source::Pcap)
        };
        let mut gzip = Codings::default();
        gzip.add(b"gzip");
        let (plain, coded) = (of(None), of(Coded::new(gzip, 1 << 20)));
        assert_eq!(plain.unpacked(), plain.memory());
        assert_eq!(coded.unpacked(), coded.memory() + 8000);
        assert_eq!(coded.memory() - plain.memory(), size_of::<Coded>(), "the coded bytes alone");
    }
}
