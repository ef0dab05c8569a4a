//! A captured packet in a ring: a [`RecordHeader`], then the packet's bytes, then slack up to the size class.
//!
//! ```text
//! | RecordHeader (32) | packet: captured_len bytes | slack: stale bytes, never read |
//! |<------------------------- one of CLASSES bytes ------------------------------>|
//! ```
//! A reservation in a BPF ring must be of a size that the verifier knows, so a packet takes the smallest class that it
//! fits: a bare ACK costs 128 bytes, not 64 KiB. The classes lie close where packets are frequent (ACKs, full frames).

use crate::assert_layout;

/// What precedes the packet's bytes. Written by the eBPF programs in one piece; no padding.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RecordHeader {
    /// `CLOCK_MONOTONIC` in nanoseconds when the program ran.
    pub time_ns: u64,
    /// cgroup v2 id of the packet's socket; 0 if there is none at this hook point.
    pub cgroup: u64,
    /// Length of the packet as the hook point saw it, in bytes.
    pub original_len: u32,
    /// How many of its bytes follow; less than `original_len` only when a snap length cut it.
    pub captured_len: u32,
    /// Interface.
    pub ifindex: u32,
    /// `LINKTYPE_` number of pcap that says how the bytes begin.
    pub link: u16,
    /// [`INGRESS`] or [`EGRESS`].
    pub direction: u8,
    /// [`FLAG_FRAGMENT`], [`FLAG_SOCKET`].
    pub flags: u8,
}

const _: () = assert_layout::<RecordHeader>(32);

/// `direction`: into the cgroup or interface.
pub const INGRESS: u8 = 0;
/// `direction`: out of the cgroup or interface.
pub const EGRESS: u8 = 1;

/// `flags`: an IP fragment (the ring was chosen by addresses only).
pub const FLAG_FRAGMENT: u8 = 1;
/// `flags`: seen at a cgroup's hook point, which is the socket's own, not on an interface.
pub const FLAG_SOCKET: u8 = 1 << 1;

/// `link`: Ethernet.
pub const LINK_ETHERNET: u16 = 1;
/// `link`: IPv4 or IPv6, told apart by the first nibble.
pub const LINK_RAW: u16 = 101;

/// What is captured of a packet of which only the headers are wanted: what fits into the smallest class. (Where the TCP header
/// ends later, the packet is captured whole.)
pub const HEADERS_ONLY: u32 = (CLASSES[0] - HEADER_LEN) as u32;

/// Bytes of a [`RecordHeader`].
pub const HEADER_LEN: usize = size_of::<RecordHeader>();

/// Reservation sizes in bytes, header included, ascending. The 8 bytes of BPF's own record header come on top.
pub const CLASSES: [usize; 14] = [
    128,
    192,
    256,
    512,
    1024,
    // A full Ethernet frame, with tags.
    1600,
    3072,
    4608,
    // A jumbo frame.
    9216,
    17_408,
    33_792,
    // A super-packet of 64 KiB (IPv4 total length 65,535) with Ethernet header and two VLAN tags.
    65_600,
    131_328,
    MAX_CAPTURE + HEADER_LEN,
];

/// Most bytes of one packet that are captured: what the usual tools accept in a capture file. Super-packets of BIG TCP
/// that are longer (the kernel goes up to 512 KiB where told to) are cut here, with their true length kept.
pub const MAX_CAPTURE: usize = 262_144;

const _: () = {
    let mut i = 0;
    while i < CLASSES.len() {
        assert!(CLASSES[i].is_multiple_of(8));
        assert!(i == 0 || CLASSES[i - 1] < CLASSES[i]);
        i += 1;
    }
};

impl RecordHeader {
    /// Takes a ring record apart into header and packet. `None` if it is shorter than it says: such a record was not
    /// written by these programs.
    #[inline]
    #[must_use]
    pub fn split(record: &[u8]) -> Option<(Self, &[u8])> {
        let (head, rest) = record.split_first_chunk::<HEADER_LEN>()?;
        let header = Self::from_bytes(head);
        let packet = rest.get(..header.captured_len as usize)?;
        Some((header, packet))
    }

    #[inline]
    const fn from_bytes(b: &[u8; HEADER_LEN]) -> Self {
        Self {
            time_ns: u64::from_ne_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]),
            cgroup: u64::from_ne_bytes([b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]]),
            original_len: u32::from_ne_bytes([b[16], b[17], b[18], b[19]]),
            captured_len: u32::from_ne_bytes([b[20], b[21], b[22], b[23]]),
            ifindex: u32::from_ne_bytes([b[24], b[25], b[26], b[27]]),
            link: u16::from_ne_bytes([b[28], b[29]]),
            direction: b[30],
            flags: b[31],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_splits_into_header_and_packet_without_its_slack() {
        let mut record = [0xAA_u8; 128];
        record[0..8].copy_from_slice(&7_u64.to_ne_bytes());
        record[8..16].copy_from_slice(&9_u64.to_ne_bytes());
        record[16..20].copy_from_slice(&1500_u32.to_ne_bytes());
        record[20..24].copy_from_slice(&3_u32.to_ne_bytes());
        record[24..28].copy_from_slice(&2_u32.to_ne_bytes());
        record[28..30].copy_from_slice(&LINK_ETHERNET.to_ne_bytes());
        record[30] = EGRESS;
        record[31] = FLAG_FRAGMENT;
        record[32..35].copy_from_slice(b"abc");
        let (header, packet) = RecordHeader::split(&record).unwrap();
        assert_eq!(packet, b"abc");
        let expected = RecordHeader {
            time_ns: 7,
            cgroup: 9,
            original_len: 1500,
            captured_len: 3,
            ifindex: 2,
            link: LINK_ETHERNET,
            direction: EGRESS,
            flags: FLAG_FRAGMENT,
        };
        assert_eq!(header, expected);
    }

    #[test]
    fn a_record_that_is_too_short_is_refused() {
        assert!(RecordHeader::split(&[0; HEADER_LEN - 1]).is_none());
        let mut record = [0_u8; HEADER_LEN + 4];
        record[20..24].copy_from_slice(&5_u32.to_ne_bytes());
        assert!(RecordHeader::split(&record).is_none());
    }
}
