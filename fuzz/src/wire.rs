//! Packets made by hand: TCP over IPv4 (in fragments, too) or IPv6, with or without Ethernet and a VLAN tag.

use agent_core::LinkType;

/// TCP flag.
pub const FIN: u8 = 1;
/// TCP flag.
pub const SYN: u8 = 2;
/// TCP flag.
pub const RST: u8 = 4;
/// TCP flag.
pub const ACK: u8 = 16;

/// A TCP segment of one of the connections.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Which connection.
    pub connection: u8,
    /// Whether the client sent it.
    pub from_client: bool,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags.
    pub flags: u8,
    /// Payload.
    pub payload: Vec<u8>,
}

/// What is around the segments of a scenario.
#[derive(Clone, Copy, Debug)]
pub struct Layers {
    /// IPv6 instead of IPv4.
    pub v6: bool,
    /// Ethernet, with a VLAN tag, instead of nothing.
    pub ethernet: bool,
}

impl Layers {
    /// How packets begin.
    #[must_use]
    pub fn link(self) -> LinkType {
        if self.ethernet { LinkType::ETHERNET } else { LinkType::RAW }
    }

    /// The packet.
    #[must_use]
    pub fn packet(self, segment: &Segment) -> Vec<u8> {
        let tcp = segment.tcp();
        let (from, to) = if segment.from_client { (1, 2) } else { (2, 1) };
        if self.v6 {
            let mut packet = vec![0x60, 0, 0, 0];
            packet.extend((tcp.len() as u16).to_be_bytes());
            packet.extend([6, 64]);
            for end in [from, to] {
                packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, end]);
            }
            packet.extend(tcp);
            return self.framed(packet);
        }
        self.framed(ipv4(from, to, 0, 0, &tcp))
    }

    /// The packet in two fragments, cut after about `at` bytes of the TCP segment; whole where that cannot be.
    #[must_use]
    pub fn fragments(self, segment: &Segment, at: usize, id: u16) -> Vec<Vec<u8>> {
        let tcp = segment.tcp();
        let at = (at / 8 * 8).max(8);
        if self.v6 || at >= tcp.len() {
            return vec![self.packet(segment)];
        }
        let (from, to) = if segment.from_client { (1, 2) } else { (2, 1) };
        let (first, second) = tcp.split_at(at);
        let first = ipv4(from, to, id, 1 << 13, first);
        let second = ipv4(from, to, id, (at / 8) as u16, second);
        vec![self.framed(first), self.framed(second)]
    }

    fn framed(self, packet: Vec<u8>) -> Vec<u8> {
        if !self.ethernet {
            return packet;
        }
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x81, 0, 0, 7];
        frame.extend(if self.v6 { [0x86, 0xdd] } else { [8, 0] });
        frame.extend(packet);
        frame
    }
}

fn ipv4(from: u8, to: u8, id: u16, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend((20 + payload.len() as u16).to_be_bytes());
    packet.extend(id.to_be_bytes());
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, 6, 0, 0, 10, 0, 0, from, 10, 0, 0, to]);
    packet.extend(payload);
    packet
}

impl Segment {
    fn tcp(&self) -> Vec<u8> {
        let client = 40_000 + u16::from(self.connection);
        let (src, dst) = if self.from_client { (client, 80) } else { (80, client) };
        let mut tcp = Vec::with_capacity(20 + self.payload.len());
        tcp.extend(src.to_be_bytes());
        tcp.extend(dst.to_be_bytes());
        tcp.extend(self.seq.to_be_bytes());
        tcp.extend(self.ack.to_be_bytes());
        tcp.extend([5 << 4, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend(&self.payload);
        tcp
    }
}
