//! TCP segments in link frames: found, and built anew with other payload. What is not plain TCP is not a segment.
//!
//! IPv4 (RFC 791) and IPv6 without extension headers (RFC 8200), over Ethernet with any VLAN tags, or bare.

use std::borrow::Cow;

use pcap_file::DataLink;

use super::Packet;

/// FIN, SYN and RST: flags that a packet has because of what it is, not of what it carries.
pub(crate) const CONTROL: u8 = 0x07;
pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const PSH: u8 = 0x08;

/// Where things are in a frame that holds a whole TCP segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    ip: usize,
    tcp: usize,
    payload: usize,
    end: usize,
    v6: bool,
    pub(crate) seq: u32,
    pub(crate) flags: u8,
    /// Both ends, sender first.
    pub(crate) flow: Flow,
}

/// Addresses (v4 ones in the last 4 bytes) and ports of sender and receiver.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Flow {
    from: ([u8; 16], u16),
    to: ([u8; 16], u16),
}

impl Flow {
    pub(crate) fn reverse(self) -> Self {
        Self { from: self.to, to: self.from }
    }
}

impl Segment {
    /// The segment in a packet, if all of it is there.
    pub(crate) fn find(link: DataLink, data: &[u8]) -> Option<Self> {
        let ip = network(link, data)?;
        let v6 = data.get(ip)? >> 4 == 6;
        let (header, total) = if v6 {
            // Next header 6: no extensions between.
            (data.get(ip + 6)? == &6).then_some((40, 40 + usize::from(be16(data, ip + 4)?)))?
        } else {
            let header = usize::from(data.get(ip)? & 0x0f) * 4;
            let fragment = be16(data, ip + 6)? & 0x3fff != 0;
            let plain = data.get(ip)? >> 4 == 4 && header >= 20 && data.get(ip + 9)? == &6 && !fragment;
            plain.then_some((header, usize::from(be16(data, ip + 2)?)))?
        };
        let (tcp, end) = (ip + header, ip + total);
        let payload = tcp + usize::from(data.get(tcp + 12)? >> 4) * 4;
        if end > data.len() || payload > end || payload < tcp + 20 {
            return None;
        }
        let address = |at: usize, length: usize| {
            let mut address = [0; 16];
            address[16 - length..].copy_from_slice(data.get(at..at + length)?);
            Some(address)
        };
        let (from, to) = if v6 {
            (address(ip + 8, 16)?, address(ip + 24, 16)?)
        } else {
            (address(ip + 12, 4)?, address(ip + 16, 4)?)
        };
        Some(Self {
            ip,
            tcp,
            payload,
            end,
            v6,
            seq: u32::from_be_bytes(data.get(tcp + 4..tcp + 8)?.try_into().ok()?),
            flags: data[tcp + 13],
            flow: Flow { from: (from, be16(data, tcp)?), to: (to, be16(data, tcp + 2)?) },
        })
    }

    /// Bytes of payload.
    pub(crate) fn len(&self) -> usize {
        self.end - self.payload
    }

    /// The payload.
    pub(crate) fn payload<'a>(&self, data: &'a [u8]) -> &'a [u8] {
        &data[self.payload..self.end]
    }

    /// A packet like `packet` that carries only `range` of its payload, with `flags`.
    pub(crate) fn part(
        &self,
        packet: &Packet<'_>,
        range: std::ops::Range<usize>,
        flags: u8,
    ) -> Packet<'static> {
        let mut data = packet.data[..self.payload].to_vec();
        data.extend_from_slice(&self.payload(&packet.data)[range.clone()]);
        let seq = self.seq.wrapping_add(u32::try_from(range.start).unwrap_or(u32::MAX));
        data[self.tcp + 4..self.tcp + 8].copy_from_slice(&seq.to_be_bytes());
        data[self.tcp + 13] = flags;
        let from = if self.v6 { self.ip + 40 } else { self.ip };
        // It fitted before, and is not longer now.
        let length = u16::try_from(data.len() - from).unwrap_or(u16::MAX);
        let field = if self.v6 { self.ip + 4 } else { self.ip + 2 };
        data[field..field + 2].copy_from_slice(&length.to_be_bytes());
        self.checksums(&mut data);
        Packet {
            time: packet.time,
            original: u32::try_from(data.len()).unwrap_or(u32::MAX),
            data: Cow::Owned(data),
        }
    }

    /// RFC 1071, over the IPv4 header and over TCP with its pseudo header.
    fn checksums(&self, data: &mut [u8]) {
        if !self.v6 {
            data[self.ip + 10..self.ip + 12].fill(0);
            let sum = checksum(&[&data[self.ip..self.tcp]]);
            data[self.ip + 10..self.ip + 12].copy_from_slice(&sum.to_be_bytes());
        }
        data[self.tcp + 16..self.tcp + 18].fill(0);
        let addresses = if self.v6 { self.ip + 8..self.ip + 40 } else { self.ip + 12..self.ip + 20 };
        let length = u16::try_from(data.len() - self.tcp).unwrap_or(u16::MAX);
        let sum = checksum(&[&data[addresses], &[0, 6], &length.to_be_bytes(), &data[self.tcp..]]);
        data[self.tcp + 16..self.tcp + 18].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Offset of the IP header.
fn network(link: DataLink, data: &[u8]) -> Option<usize> {
    match link {
        DataLink::ETHERNET => {
            let mut at = 12;
            while matches!(be16(data, at)?, 0x8100 | 0x88a8) {
                at += 4;
            }
            matches!(be16(data, at)?, 0x0800 | 0x86dd).then_some(at + 2)
        }
        DataLink::RAW | DataLink::IPV4 | DataLink::IPV6 => Some(0),
        _ => None,
    }
}

fn be16(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(data.get(at..at + 2)?.try_into().ok()?))
}

/// Every part but the last has an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u64 = words.map(|w| u64::from(w[0]) << 8 | w.get(1).map_or(0, |&low| u64::from(low))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A segment with right checksums, as a real stack sent it: 10.0.0.1:4000 > 10.0.0.2:80, "GET ".
    fn frame(tags: &[u8]) -> Vec<u8> {
        let mut data = vec![0; 12];
        data.extend_from_slice(tags);
        data.extend([0x08, 0x00, 0x45, 0, 0, 44, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        data.extend([0x0f, 0xa0, 0, 80, 0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 9, 0x50, 0x19, 1, 0, 0, 0, 0, 0]);
        data.extend(b"GET ");
        // Padding of a short frame, which is no payload.
        data.extend([0xee; 6]);
        data
    }

    #[test]
    fn a_segment_is_found_behind_tags_and_before_padding() {
        for tags in [&[][..], &[0x81, 0, 0, 7], &[0x88, 0xa8, 0, 1, 0x81, 0, 0, 7]] {
            let data = frame(tags);
            let segment = Segment::find(DataLink::ETHERNET, &data).unwrap();
            assert_eq!(
                (segment.payload(&data), segment.seq, segment.flags),
                (&b"GET "[..], 0xffff_fffe, 0x19)
            );
            for cut in 0..data.len() - 6 {
                assert!(Segment::find(DataLink::ETHERNET, &data[..cut]).is_none(), "{cut}");
            }
        }
        assert!(Segment::find(DataLink::LINUX_SLL, &frame(&[])).is_none());
    }

    #[test]
    fn a_part_has_its_own_sequence_number_lengths_and_checksums() {
        let packet = Packet { time: Duration::ZERO, original: 60, data: frame(&[]).into() };
        let whole = Segment::find(DataLink::ETHERNET, &packet.data).unwrap();
        let part = whole.part(&packet, 3..4, 0x10);
        let segment = Segment::find(DataLink::ETHERNET, &part.data).unwrap();
        // The sequence number wraps.
        assert_eq!((segment.payload(&part.data), segment.seq, segment.flags), (&b" "[..], 1, 0x10));
        assert_eq!((part.data.len(), part.original), (55, 55));
        assert_eq!(checksum(&[&part.data[14..34]]), 0, "the IP header sums up to nothing");
        assert_eq!(checksum(&[&part.data[26..34], &[0, 6, 0, 21], &part.data[34..]]), 0);
    }
}
