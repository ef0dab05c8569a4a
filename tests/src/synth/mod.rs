//! Synthetic captures: TCP conversations over Ethernet and IPv4, as a well-behaved pair of hosts would have them.
//!
//! For tests that need a capture of a certain shape, not of a certain program. Checksums are zero, as with offload.

use std::fs::File;
use std::io::BufWriter;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::{Endianness, TsResolution};

/// Bytes of payload in one packet: an Ethernet MTU without IP and TCP headers.
const SEGMENT: usize = 1460;
/// Time from one packet to the next.
const STEP: Duration = Duration::from_micros(100);

/// A capture under construction.
pub struct Capture {
    writer: PcapWriter<BufWriter<File>>,
    now: Duration,
    packets: u64,
}

/// One open connection.
pub struct Connection {
    ends: [SocketAddrV4; 2],
    next: [u32; 2],
}

/// TCP flags.
#[derive(Clone, Copy)]
struct Flags(u8);

impl Flags {
    const FIN: Self = Self(0x01);
    const SYN: Self = Self(0x02);
    const ACK: Self = Self(0x10);
    const PUSH: Self = Self(0x08);

    const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The end that opened the connection.
pub const CLIENT: usize = 0;
/// The end that accepted it.
pub const SERVER: usize = 1;

impl Capture {
    /// A new file of nanosecond pcap.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
        let header = PcapHeader {
            ts_resolution: TsResolution::NanoSecond,
            endianness: Endianness::Little,
            ..PcapHeader::default()
        };
        let writer = PcapWriter::with_header(BufWriter::new(file), header)?;
        Ok(Self { writer, now: Duration::from_secs(1_700_000_000), packets: 0 })
    }

    /// Packets written so far.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Opens a connection: three packets.
    ///
    /// # Errors
    /// When the file cannot be written (so for the others).
    pub fn open(&mut self, client_port: u16) -> anyhow::Result<Connection> {
        let client = SocketAddrV4::new(Ipv4Addr::new(10, 9, 0, 1), client_port);
        let server = SocketAddrV4::new(Ipv4Addr::new(10, 9, 0, 2), 8080);
        let isn = u32::from(client_port).wrapping_mul(2_654_435_761);
        let mut connection = Connection { ends: [client, server], next: [isn, isn ^ 0x5555_5555] };
        self.packet(&mut connection, CLIENT, Flags::SYN, b"")?;
        self.packet(&mut connection, SERVER, Flags::SYN.and(Flags::ACK), b"")?;
        self.packet(&mut connection, CLIENT, Flags::ACK, b"")?;
        Ok(connection)
    }

    /// Sends bytes from one end, in full segments, each acknowledged.
    ///
    /// # Errors
    /// As [`Capture::open`].
    pub fn send(&mut self, connection: &mut Connection, from: usize, bytes: &[u8]) -> anyhow::Result<()> {
        for segment in bytes.chunks(SEGMENT) {
            self.packet(connection, from, Flags::ACK.and(Flags::PUSH), segment)?;
        }
        self.packet(connection, 1 - from, Flags::ACK, b"")
    }

    /// A request and its response.
    ///
    /// # Errors
    /// As [`Capture::open`].
    pub fn exchange(
        &mut self,
        connection: &mut Connection,
        request: &[u8],
        response: &[u8],
    ) -> anyhow::Result<()> {
        self.send(connection, CLIENT, request)?;
        self.send(connection, SERVER, response)
    }

    /// Closes from the client: FIN, FIN, ACK.
    ///
    /// # Errors
    /// As [`Capture::open`].
    pub fn close(&mut self, mut connection: Connection) -> anyhow::Result<()> {
        self.packet(&mut connection, CLIENT, Flags::FIN.and(Flags::ACK), b"")?;
        self.packet(&mut connection, SERVER, Flags::FIN.and(Flags::ACK), b"")?;
        self.packet(&mut connection, CLIENT, Flags::ACK, b"")
    }

    fn packet(
        &mut self,
        connection: &mut Connection,
        from: usize,
        flags: Flags,
        payload: &[u8],
    ) -> anyhow::Result<()> {
        let frame = frame(connection, from, flags, payload);
        let consumed =
            u32::try_from(payload.len())? + u32::from(flags.0 & (Flags::SYN.0 | Flags::FIN.0) != 0);
        connection.next[from] = connection.next[from].wrapping_add(consumed);
        self.now += STEP;
        self.packets += 1;
        let length = u32::try_from(frame.len())?;
        self.writer.write_packet(&PcapPacket::new(self.now, length, &frame))?;
        Ok(())
    }
}

fn frame(connection: &Connection, from: usize, flags: Flags, payload: &[u8]) -> Vec<u8> {
    let (source, target) = (connection.ends[from], connection.ends[1 - from]);
    let mut bytes = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00];
    let total = u16::try_from(40 + payload.len()).unwrap_or(u16::MAX);
    bytes.extend([0x45, 0]);
    bytes.extend(total.to_be_bytes());
    bytes.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    bytes.extend(source.ip().octets());
    bytes.extend(target.ip().octets());
    bytes.extend(source.port().to_be_bytes());
    bytes.extend(target.port().to_be_bytes());
    bytes.extend(connection.next[from].to_be_bytes());
    let acknowledged = if flags.0 & Flags::ACK.0 == 0 { 0 } else { connection.next[1 - from] };
    bytes.extend(acknowledged.to_be_bytes());
    bytes.extend([0x50, flags.0, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.extend(payload);
    bytes
}
