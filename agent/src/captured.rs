//! An item with what the agent knows around it: names, node, worker. What sinks share as `Arc<Captured>`.

use std::net::IpAddr;
use std::sync::Arc;

use agent_core::{Item, StreamSummary};

use crate::process::ProcessInfo;

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

/// What one end is called.
#[derive(Clone, Debug, Default)]
pub struct Name {
    /// Pod's or service's name; `None`: the IP stands for it.
    pub name: Option<String>,
    /// Kubernetes namespace; empty outside Kubernetes.
    pub namespace: String,
    /// The process at that end, where it is known.
    pub process: Option<Arc<ProcessInfo>>,
}

/// One item as sinks see it.
#[derive(Debug)]
pub struct Captured {
    /// What the engine found.
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
        let names =
            [&self.src, &self.dst].map(|n| n.name.as_ref().map_or(0, String::len) + n.namespace.len());
        let lists = [&self.summary.c2s, &self.summary.s2c].map(|d| {
            d.gaps.capacity() * size_of::<(u64, u64)>()
                + d.chunks.capacity() * size_of::<(u64, u64, [u8; 32])>()
        });
        size_of::<Self>() + names.iter().chain(&lists).sum::<usize>()
    }
}

impl Captured {
    /// Memory held, in bytes: what queues count.
    #[must_use]
    pub fn memory(&self) -> usize {
        let process = |n: &Name| n.process.as_ref().map_or(0, |process| process.memory());
        let names = [&self.src, &self.dst]
            .map(|n| n.name.as_ref().map_or(0, String::len) + n.namespace.len() + process(n));
        size_of::<Self>() + self.item.memory() + names.iter().sum::<usize>()
    }
}
