//! The store against what was appended to it, with the `pcap-file` crate, our own reader and tshark as judges.

mod bounds;
mod content;
mod fallback;
mod faults;
mod matched;
mod reader;
mod reopen;
mod retention;
mod snapshot;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent_core::item::StreamId;
use agent_core::{LinkType, Origin, Packet, Timestamp};

use super::{DescribeInterface, InterfaceInfo, PcapAppender, PcapStore, SegmentStore, StoreConfig};
use crate::capture::file::FileSource;
use crate::capture::{PacketSource, Progress};

/// One packet as it was appended, or as it was read back.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Sent {
    time: u64,
    link: u16,
    original_len: u32,
    data: Vec<u8>,
}

impl Sent {
    /// The `n`th packet of a stream, unlike any other.
    fn nth(stream: StreamId, n: u32, len: usize) -> Self {
        let seed = stream.0.wrapping_mul(1_000_003).wrapping_add(u64::from(n));
        let mut data = vec![seed as u8; len];
        let mark = format!("{seed}");
        data.iter_mut().zip(mark.bytes()).for_each(|(to, from)| *to = from);
        Self {
            time: 1_700_000_000_000_000_001 + seed % 1_000_000_000,
            link: 1,
            original_len: len as u32 + n % 3,
            data,
        }
    }

    fn append(&self, to: &mut dyn PcapAppender, stream: Option<StreamId>) {
        to.append(stream, &self.packet());
    }

    fn packet(&self) -> Packet<'_> {
        Packet {
            time: Timestamp(self.time),
            link: LinkType(self.link),
            data: &self.data,
            original_len: self.original_len,
            origin: Origin { interface: 2, ..Origin::default() },
        }
    }
}

/// Says of each interface what it is called, and where its packets were taken.
fn named(prefix: &'static str) -> DescribeInterface {
    Arc::new(move |origin| InterfaceInfo {
        name: (!origin.at_socket).then(|| format!("{prefix}{}", origin.interface)),
        description: Some(format!(
            "at {} {}",
            if origin.at_socket { "socket" } else { "hook" },
            origin.interface
        )),
    })
}

/// A store for one worker in a folder that goes with it.
struct Bench {
    folder: tempfile::TempDir,
    store: Arc<SegmentStore>,
    appender: Option<Box<dyn PcapAppender>>,
}

impl Bench {
    fn new(adjust: impl FnOnce(&mut StoreConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = StoreConfig::new(folder.path());
        // What is free on the machine's disk is none of the tests' business.
        config.reserve_bytes = Some(0);
        adjust(&mut config);
        let (store, mut appenders) = SegmentStore::open(config, 1).unwrap();
        Self { folder, store, appender: appenders.pop() }
    }

    /// The `n`th stream id of this run.
    fn stream(&self, n: u64) -> StreamId {
        let (first, step) = self.store.stream_ids(0).unwrap();
        StreamId(first.0 + n * step)
    }

    fn append(&mut self, stream: StreamId, sent: &Sent) {
        sent.append(self.appender.as_deref_mut().unwrap(), Some(stream));
    }

    fn commit(&mut self) {
        self.appender.as_mut().unwrap().commit();
    }

    /// Appends and commits packets `range` of a stream, `len` bytes each; gives them.
    fn send(&mut self, stream: StreamId, range: std::ops::Range<u32>, len: usize) -> Vec<Sent> {
        let sent: Vec<Sent> = range.map(|n| Sent::nth(stream, n, len)).collect();
        for (i, packet) in sent.iter().enumerate() {
            self.append(stream, packet);
            if i % 64 == 63 {
                self.commit();
            }
        }
        self.commit();
        sent
    }

    fn read(&self, stream: StreamId) -> Vec<Sent> {
        read(&self.store.path(stream).unwrap())
    }

    /// Ends the run: everything is on disk, the store is closed.
    fn close(self) -> tempfile::TempDir {
        drop(self.appender);
        drop(self.store);
        self.folder
    }

    fn segments(&self) -> Vec<PathBuf> {
        files(&self.folder.path().join("segments"), "pcapng")
    }
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|f| f.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == extension))
        .collect();
    found.sort();
    found
}

/// All packets of a capture file that must be whole.
fn read(path: &Path) -> Vec<Sent> {
    let mut source = FileSource::open(path).unwrap();
    let mut packets = Vec::new();
    let mut sink = |p: &Packet<'_>| {
        packets.push(Sent {
            time: p.time.0,
            link: p.link.0,
            original_len: p.original_len,
            data: p.data.to_vec(),
        });
    };
    while source.poll(1000, Duration::ZERO, &mut sink).unwrap() != Progress::End {}
    assert!(!source.truncated(), "{} is cut short", path.display());
    packets
}

/// All packets of a classic file by the independent judge.
fn judge(path: &Path) -> Vec<Sent> {
    let mut reader = pcap_file::pcap::PcapReader::new(std::fs::File::open(path).unwrap()).unwrap();
    let link = u32::from(reader.header().datalink) as u16;
    let mut packets = Vec::new();
    while let Some(packet) = reader.next_raw_packet() {
        let packet = packet.unwrap();
        packets.push(Sent {
            time: u64::from(packet.ts_sec) * 1_000_000_000 + u64::from(packet.ts_frac),
            link,
            original_len: packet.orig_len,
            data: packet.data.to_vec(),
        });
    }
    packets
}
