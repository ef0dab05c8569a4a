//! Packets of a store as one capture file.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};

use agent_core::item::StreamId;
use agent_core::{LinkType, Origin, Packet, Timestamp};

use super::cursor::{Interface, Record};
use super::merge::Merge;
use super::{StoreFolder, identity};
use crate::pcap::format;
use crate::pcap::notes::Notes;
use crate::pcap::store::trouble;
use crate::pcap::{InterfaceInfo, StoreError};

/// Records of each worker that are put in the order of time.
const AHEAD: usize = 1024;
/// Progress is told once in so many packets.
const TELL: u64 = 1024;

/// What of a store is wanted.
#[derive(Default)]
pub struct Select<'a> {
    /// Packets captured before are left out.
    pub from: Option<Timestamp>,
    /// Packets captured then or later are left out.
    pub to: Option<Timestamp>,
    /// One stream only, in the order of its capture.
    pub stream: Option<StreamId>,
    /// Which streams, `None` standing for packets of no stream: where a filter would be asked.
    pub filter: Option<&'a dyn Fn(Option<StreamId>) -> bool>,
}

/// What kind of file is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExportFormat {
    /// pcap with nanosecond times, of one link type.
    Classic,
    /// pcapng: interfaces, names, comments.
    Ng,
}

/// What was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Exported {
    /// Packets.
    pub packets: u64,
    /// Streams that they belong to.
    pub streams: u64,
    /// Segments that retention removed while they were being read.
    pub vanished: u64,
}

impl Select<'_> {
    fn wants_stream(&self, stream: Option<StreamId>) -> bool {
        (self.stream.is_none() || self.stream == stream) && self.filter.is_none_or(|wants| wants(stream))
    }

    fn wants_time(&self, time: Timestamp) -> bool {
        self.from.is_none_or(|from| time >= from) && self.to.is_none_or(|to| time < to)
    }
}

impl StoreFolder {
    /// Writes what is wanted to `out`, in the order of time. `progress` is told how many of [`StoreFolder::bytes`] have been gone
    /// through.
    ///
    /// # Errors
    /// When a file cannot be read or `out` not written; when link types mix that a classic file cannot hold.
    pub fn export(
        &self,
        select: &Select<'_>,
        format: ExportFormat,
        out: &mut dyn Write,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Exported, StoreError> {
        self.try_export(select, format, out, progress).map_err(|error| match error {
            Failed::Mixed(one, other) => StoreError::Mixed(one, other),
            Failed::Io(source) => trouble(format!("exporting from {}", self.dir.display()))(source),
        })
    }

    /// Hands every packet that is wanted to `sink`, with its stream, in the order of time.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn packets(
        &self,
        select: &Select<'_>,
        sink: &mut dyn FnMut(Option<StreamId>, &Packet<'_>),
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), StoreError> {
        let mut hand = || -> io::Result<()> {
            let wanted = |stream: Option<StreamId>| select.wants_stream(stream);
            let mut merge = Merge::new(self.logs.values().map(Vec::as_slice), &wanted, AHEAD)?;
            let mut looked = 0u64;
            while let Some(record) = merge.next()? {
                looked += 1;
                if looked.is_multiple_of(TELL) {
                    progress(merge.position());
                }
                if select.wants_time(record.time) {
                    sink(record.stream, &packet(&record));
                }
            }
            Ok(())
        };
        hand().map_err(trouble(format!("reading {}", self.dir.display())))
    }

    fn try_export(
        &self,
        select: &Select<'_>,
        format: ExportFormat,
        out: &mut dyn Write,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Exported, Failed> {
        let wanted = |stream: Option<StreamId>| select.wants_stream(stream);
        // A stream lies in one log, and its order is the order of capture.
        let ahead = if select.stream.is_some() { 0 } else { AHEAD };
        let logs = self.logs.values().filter(|log| match (select.stream, log.first()) {
            (Some(stream), Some(found)) => found.ids.ordinal(stream).is_some(),
            _ => true,
        });
        let mut merge = Merge::new(logs.map(Vec::as_slice), &wanted, ahead)?;
        let mut sink = match format {
            ExportFormat::Classic => Sink::Classic(None),
            ExportFormat::Ng => Sink::Ng(Box::new(Ng::new(Notes::read(&self.dir)?))),
        };
        let (mut exported, mut streams, mut looked) = (Exported::default(), HashSet::new(), 0);
        let mut encoded = Vec::new();
        sink.begin(&mut encoded);
        while let Some(record) = merge.next()? {
            looked += 1;
            if looked % TELL == 0 {
                progress(merge.position());
            }
            if !select.wants_time(record.time) {
                continue;
            }
            let first = record.stream.is_some_and(|stream| streams.insert(stream));
            sink.put(&record, first, &mut encoded)?;
            out.write_all(&encoded)?;
            encoded.clear();
            exported.packets += 1;
        }
        sink.end(&mut encoded);
        out.write_all(&encoded)?;
        exported.streams = streams.len() as u64;
        exported.vanished = merge.vanished();
        Ok(exported)
    }
}

/// A record as the engine takes it.
fn packet(record: &Record) -> Packet<'_> {
    Packet {
        time: record.time,
        link: record.link,
        data: &record.data,
        original_len: record.original_len,
        origin: Origin::default(),
    }
}

enum Failed {
    Mixed(LinkType, LinkType),
    Io(io::Error),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

enum Sink {
    /// With the link type, once the header is written.
    Classic(Option<LinkType>),
    Ng(Box<Ng>),
}

impl Sink {
    /// What comes before the first packet, as far as that can be known.
    fn begin(&self, out: &mut Vec<u8>) {
        if let Self::Ng(ng) = self {
            format::section(out);
            format::names(out, ng.notes.names());
        }
    }

    /// A file without packets is a capture file, too.
    fn end(&self, out: &mut Vec<u8>) {
        if matches!(self, Self::Classic(None)) {
            format::classic_header(out, LinkType::ETHERNET, 0);
        }
    }

    fn put(&mut self, record: &Record, first: bool, out: &mut Vec<u8>) -> Result<(), Failed> {
        match self {
            Self::Classic(link) => {
                match *link {
                    None => {
                        format::classic_header(out, record.link, record.data.len() as u32);
                        *link = Some(record.link);
                    }
                    Some(link) if link == record.link => {}
                    Some(link) => return Err(Failed::Mixed(link, record.link)),
                }
                format::classic_record(out, record.time, record.original_len, &record.data);
            }
            Self::Ng(ng) => ng.put(record, first, out),
        }
        Ok(())
    }
}

struct Ng {
    notes: Notes,
    interfaces: HashMap<Interface, u32>,
}

impl Ng {
    fn new(notes: Notes) -> Self {
        Self { notes, interfaces: HashMap::new() }
    }

    /// `first`: the stream's first packet, which bears the stream's comments.
    fn put(&mut self, record: &Record, first: bool, out: &mut Vec<u8>) {
        let interface = record
            .interface
            .clone()
            .unwrap_or(Interface { link: record.link, info: InterfaceInfo::default() });
        let next = self.interfaces.len() as u32;
        let number = match self.interfaces.get(&interface) {
            Some(&number) => number,
            None => {
                format::interface(out, interface.link, &interface.info);
                self.interfaces.insert(interface, next);
                next
            }
        };
        let comments = record.stream.filter(|_| first).map(|stream| self.comments(stream, record));
        let comments = comments.unwrap_or_default();
        format::commented(out, number, record.time, record.original_len, &record.data, &comments);
    }

    fn comments(&self, stream: StreamId, record: &Record) -> Vec<String> {
        let packet = packet(record);
        let mut identity = format!("stream {stream}");
        if let Some((client, server)) = identity::ends(&packet) {
            identity.push_str(&format!(": {} to {}", self.named(client), self.named(server)));
        }
        let notes = self.notes.of(stream).iter().cloned();
        std::iter::once(identity).chain(notes).collect()
    }

    fn named(&self, end: std::net::SocketAddr) -> String {
        match self.notes.name(end.ip()) {
            Some(name) => format!("{end} ({name})"),
            None => end.to_string(),
        }
    }
}
