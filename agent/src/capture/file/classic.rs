//! Classic pcap (draft-ietf-opsawg-pcap): a file header, then records.
//!
//! Read in either byte order: microsecond (0xa1b2c3d4) and nanosecond (0xa1b23c4d) files, Kuznetzov's modified
//! format (0xa1b2cd34: eight more bytes a record), and Ixia's (four more bytes after the file header).

use agent_core::{LinkType, Origin, Packet, Timestamp};

use super::{Defect, Step, largest_packet};

const HEADER: usize = 24;
const RECORD: usize = 16;
const RECORD_MODIFIED: usize = 24;

const MICROS: u32 = 0xa1b2_c3d4;
const NANOS: u32 = 0xa1b2_3c4d;
const MODIFIED: u32 = 0xa1b2_cd34;
const IXIA_HARDWARE: u32 = 0x1c00_01ac;
const IXIA_SOFTWARE: u32 = 0x1c00_01ab;

/// What the file header says.
#[derive(Clone, Debug)]
pub(super) struct Classic {
    swapped: bool,
    /// Nanoseconds in a unit of the fraction field.
    unit: u64,
    modified: bool,
    link: LinkType,
    largest: u32,
}

/// Whether a file that begins so is classic pcap.
pub(super) fn recognises(magic: [u8; 4]) -> bool {
    variant(magic).is_some()
}

/// Magic in file order, and whether the byte order is big-endian.
fn variant(magic: [u8; 4]) -> Option<(u32, bool)> {
    let known = |m| matches!(m, MICROS | NANOS | MODIFIED | IXIA_HARDWARE | IXIA_SOFTWARE);
    let (little, big) = (u32::from_le_bytes(magic), u32::from_be_bytes(magic));
    if known(little) { Some((little, false)) } else { known(big).then_some((big, true)) }
}

impl Classic {
    /// Reads the file header. Gives it with its size, or the number of bytes that must be at hand.
    pub(super) fn header(bytes: &[u8]) -> Result<Result<(Self, usize), usize>, Defect> {
        let Some((head, _)) = bytes.split_first_chunk::<HEADER>() else { return Ok(Err(HEADER)) };
        let [m0, m1, m2, m3, v0, v1, v2, v3, ..] = *head;
        let Some((magic, swapped)) = variant([m0, m1, m2, m3]) else {
            return Err(Defect::new("no pcap file header"));
        };
        let u16_of = |b: [u8; 2]| if swapped { u16::from_be_bytes(b) } else { u16::from_le_bytes(b) };
        let (major, minor) = (u16_of([v0, v1]), u16_of([v2, v3]));
        if major != 2 {
            return Err(Defect::new(format!("pcap version {major}.{minor}; only 2.x is known")));
        }
        let [.., s0, s1, s2, s3, n0, n1, n2, n3] = *head;
        let snaplen = word([s0, s1, s2, s3], swapped);
        let network = word([n0, n1, n2, n3], swapped);
        let size = if matches!(magic, IXIA_HARDWARE | IXIA_SOFTWARE) { HEADER + 4 } else { HEADER };
        if bytes.len() < size {
            return Ok(Err(size));
        }
        let classic = Self {
            swapped,
            unit: if magic == NANOS { 1 } else { 1000 },
            modified: magic == MODIFIED,
            // The upper 16 bits tell of a frame check sequence (length and a flag), not of the link type.
            link: LinkType((network & 0xffff) as u16),
            largest: largest_packet(snaplen),
        };
        Ok(Ok((classic, size)))
    }

    /// Reads one record.
    #[inline]
    pub(super) fn step<'a>(&self, bytes: &'a [u8]) -> Result<Step<'a>, Defect> {
        let Some((head, rest)) = bytes.split_first_chunk::<RECORD>() else { return Ok(Step::Need(RECORD)) };
        let [s0, s1, s2, s3, f0, f1, f2, f3, c0, c1, c2, c3, o0, o1, o2, o3] = *head;
        let captured = word([c0, c1, c2, c3], self.swapped);
        if captured > self.largest {
            return Err(Defect::new(format!(
                "a packet record of {captured} bytes; the largest that can be is {}",
                self.largest
            )));
        }
        let size = if self.modified { RECORD_MODIFIED } else { RECORD };
        let total = size + captured as usize;
        let skip = size - RECORD;
        let Some(data) = rest.get(skip..skip + captured as usize) else { return Ok(Step::Need(total)) };
        let interface = match rest.first_chunk::<4>() {
            Some(&index) if self.modified => word(index, self.swapped),
            _ => 0,
        };
        let seconds = u64::from(word([s0, s1, s2, s3], self.swapped));
        let fraction = u64::from(word([f0, f1, f2, f3], self.swapped)) * self.unit;
        let packet = Packet {
            time: Timestamp(seconds * 1_000_000_000 + fraction),
            link: self.link,
            data,
            original_len: word([o0, o1, o2, o3], self.swapped),
            origin: Origin { interface, ..Origin::default() },
        };
        Ok(Step::Packet(packet, total))
    }
}

#[inline]
fn word(bytes: [u8; 4], swapped: bool) -> u32 {
    if swapped { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
}
