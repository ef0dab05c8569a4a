//! Classic pcap in memory: read whole, written whole. Order, lengths and link type are kept, times to the nanosecond.

use std::borrow::Cow;
use std::io::{BufReader, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use pcap_file::{DataLink, Endianness, TsResolution};

/// One captured packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet<'a> {
    /// Time since the epoch.
    pub time: Duration,
    /// Length on the wire, in bytes; more than `data` has if the packet was cut.
    pub original: u32,
    /// From the link header on.
    pub data: Cow<'a, [u8]>,
}

impl Packet<'_> {
    /// The same packet without a copy of its bytes.
    #[must_use]
    pub fn borrowed(&self) -> Packet<'_> {
        Packet { time: self.time, original: self.original, data: Cow::Borrowed(&self.data) }
    }
}

/// A capture file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Capture<'a> {
    /// Link type of all packets.
    pub link: DataLink,
    /// In the order of the file.
    pub packets: Vec<Packet<'a>>,
}

impl Capture<'static> {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or is no classic pcap.
    pub fn read(path: &Path) -> Result<Self> {
        let name = || path.display().to_string();
        let file = std::fs::File::open(path).with_context(name)?;
        let mut reader = PcapReader::new(BufReader::with_capacity(1 << 20, file)).with_context(name)?;
        let mut capture = Self { link: reader.header().datalink, packets: Vec::new() };
        while let Some(packet) = reader.next_packet() {
            let packet = packet.with_context(name)?;
            capture.packets.push(Packet {
                time: packet.timestamp,
                original: packet.orig_len,
                data: Cow::Owned(packet.data.into_owned()),
            });
        }
        Ok(capture)
    }
}

impl Capture<'_> {
    /// Writes it as little-endian pcap with nanoseconds.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write(&self, to: impl Write) -> Result<()> {
        let header = PcapHeader {
            ts_resolution: TsResolution::NanoSecond,
            endianness: Endianness::Little,
            datalink: self.link,
            snaplen: 256 << 10,
            ..PcapHeader::default()
        };
        let mut writer = PcapWriter::with_header(to, header)?;
        for packet in &self.packets {
            writer.write_packet(&PcapPacket::new(packet.time, packet.original, &packet.data))?;
        }
        writer.into_writer().flush()?;
        Ok(())
    }

    /// Writes a file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let file = std::fs::File::create(path).with_context(|| path.display().to_string())?;
        self.write(std::io::BufWriter::with_capacity(1 << 20, file))
    }
}
