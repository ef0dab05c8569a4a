//! What the kernel puts into a block of a TPACKET_V3 ring, read without copying.
//!
//! ```text
//! block: | header (48) | frame | frame | …                     a frame begins where the one before says
//! frame: | tpacket3_hdr (48) | sockaddr_ll (20) | room | link header | packet |
//! ```
//! A tag that the kernel took off is put back in the room before the link header: 12 bytes move by four. Of an interface
//! whose link header nobody knows, that header is overwritten by a cooked one (SLL) as tcpdump does it. Offsets come
//! from the kernel and are checked all the same.

use agent_core::Packet;
use agent_core::packet::{Direction, LinkType, Origin};
use agent_core::time::Timestamp;

/// Bytes of a block before its first frame.
pub(super) const BLOCK_HEADER: usize = 48;
/// Room that is asked of the kernel before each link header, for a tag.
pub(super) const ROOM: usize = 8;
/// Bytes of the header of LINKTYPE_LINUX_SLL.
pub(super) const COOKED_HEADER: usize = 16;

const ADDRESSES: usize = 12;
const TAG: usize = 4;
const ETH_P_8021Q: u16 = 0x8100;

/// How a frame begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Ethernet.
    Ethernet,
    /// IP.
    Raw,
    /// Linux cooked capture.
    Cooked,
}

impl Kind {
    /// By the kinds of interfaces of `linux/if_arp.h`.
    const fn of(hardware: u16) -> Self {
        /// No header at all: tun, WireGuard.
        const NONE: u16 = 0xFFFE;
        const RAWIP: u16 = 519;
        match hardware {
            libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => Self::Ethernet,
            NONE | RAWIP | libc::ARPHRD_TUNNEL | libc::ARPHRD_TUNNEL6 | libc::ARPHRD_SIT => Self::Raw,
            _ => Self::Cooked,
        }
    }

    const fn link(self) -> LinkType {
        match self {
            Self::Ethernet => LinkType::ETHERNET,
            Self::Raw => LinkType::RAW,
            Self::Cooked => LinkType::LINUX_SLL,
        }
    }
}

/// A frame's header: `tpacket3_hdr` and the `sockaddr_ll` behind it.
#[derive(Clone, Copy, Debug)]
struct Header {
    next: u32,
    seconds: u32,
    nanos: u32,
    captured: u32,
    original: u32,
    status: u32,
    link: u16,
    network: u16,
    tag: u16,
    tag_kind: u16,
    /// In network order, as the kernel has it.
    protocol: [u8; 2],
    interface: u32,
    hardware: u16,
    packet_type: u8,
    address_len: u8,
    address: [u8; 8],
}

/// Bytes of both.
const FRAME_HEADER: usize = 68;

const _: () = {
    assert!(size_of::<libc::tpacket_block_desc>() == BLOCK_HEADER);
    assert!(size_of::<libc::tpacket3_hdr>() + size_of::<libc::sockaddr_ll>() == FRAME_HEADER);
    assert!(std::mem::offset_of!(libc::tpacket3_hdr, tp_mac) == 24);
    assert!(std::mem::offset_of!(libc::tpacket3_hdr, hv1) == 28);
    assert!(std::mem::offset_of!(libc::sockaddr_ll, sll_hatype) == 8);
};

impl Header {
    fn read(bytes: &[u8; FRAME_HEADER]) -> Self {
        let half = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let mut address = [0; 8];
        address.copy_from_slice(&bytes[60..68]);
        Self {
            next: word(0),
            seconds: word(4),
            nanos: word(8),
            captured: word(12),
            original: word(16),
            status: word(20),
            link: half(24),
            network: half(26),
            tag: word(32) as u16,
            tag_kind: half(36),
            protocol: [bytes[50], bytes[51]],
            interface: word(52),
            hardware: half(56),
            packet_type: bytes[58],
            address_len: bytes[59],
            address,
        }
    }
}

/// A frame that was read: a packet, and what the kernel said beside it.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    pub(super) packet: Packet<'a>,
    pub(super) kind: Kind,
    /// EtherType, as the kernel names it.
    pub(super) protocol: u16,
}

/// Where the next frame is to be read in a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Cursor {
    /// Offset in the block.
    at: usize,
    /// Frames left.
    left: u32,
}

impl Cursor {
    /// At the first of `count` frames.
    pub(super) const fn new(first: u32, count: u32) -> Self {
        Self { at: first as usize, left: count }
    }

    /// Reads the next frame of a block, of which `frames` is what follows its header; `None` at the end, or where the kernel's
    /// offsets make no sense (which would be a defect of the kernel; what is left is given up).
    pub(super) fn next<'a>(&mut self, frames: &'a mut [u8]) -> Option<Frame<'a>> {
        if self.left == 0 {
            return None;
        }
        let start = self.at.checked_sub(BLOCK_HEADER)?;
        let frame = frames.get_mut(start..)?;
        let header = Header::read(frame.first_chunk::<FRAME_HEADER>()?);
        let read = read(header, frame)?;
        self.at = self.at.checked_add(header.next as usize)?;
        self.left -= 1;
        Some(read)
    }

    /// Frames that were not read.
    pub(super) const fn left(&self) -> u32 {
        self.left
    }
}

fn read(header: Header, frame: &mut [u8]) -> Option<Frame<'_>> {
    let kind = Kind::of(header.hardware);
    let (start, end) = (usize::from(header.link), usize::from(header.link) + header.captured as usize);
    let network = usize::from(header.network);
    let (range, original) = match kind {
        Kind::Ethernet if header.status & libc::TP_STATUS_VLAN_VALID != 0 => {
            (put_tag_back(&header, frame, start)?..end, header.original.saturating_add(TAG as u32))
        }
        Kind::Ethernet => (start..end, header.original),
        Kind::Raw | Kind::Cooked => {
            let link_header = network.checked_sub(start)? as u32;
            let behind = header.original.saturating_sub(link_header);
            let end = end.max(network);
            match kind {
                Kind::Cooked => {
                    (cook(&header, frame, network)?..end, behind.saturating_add(COOKED_HEADER as u32))
                }
                _ => (network..end, behind),
            }
        }
    };
    let direction =
        if header.packet_type == libc::PACKET_OUTGOING { Direction::Egress } else { Direction::Ingress };
    let packet = Packet {
        time: Timestamp(u64::from(header.seconds) * 1_000_000_000 + u64::from(header.nanos)),
        link: kind.link(),
        data: frame.get(range)?,
        original_len: original,
        origin: Origin { interface: header.interface, direction: Some(direction), ..Origin::default() },
    };
    Some(Frame { packet, kind, protocol: u16::from_be_bytes(header.protocol) })
}

/// Moves the two addresses down and writes the tag behind them. Gives where the frame begins now.
fn put_tag_back(header: &Header, frame: &mut [u8], start: usize) -> Option<usize> {
    let begin = start.checked_sub(TAG).filter(|begin| *begin >= FRAME_HEADER)?;
    if (header.captured as usize) < ADDRESSES {
        // Cut before the place of the tag.
        return Some(start);
    }
    let known = header.status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
    let kind = if known { header.tag_kind } else { ETH_P_8021Q };
    let moved = frame.get_mut(begin..start + ADDRESSES)?;
    moved.copy_within(TAG.., 0);
    let tag = moved.last_chunk_mut::<TAG>()?;
    let ([a, b], [c, d]) = (kind.to_be_bytes(), header.tag.to_be_bytes());
    *tag = [a, b, c, d];
    Some(begin)
}

/// Writes the header of a cooked capture before the network header. Gives where the frame begins now.
fn cook(header: &Header, frame: &mut [u8], network: usize) -> Option<usize> {
    let begin = network.checked_sub(COOKED_HEADER).filter(|begin| *begin >= FRAME_HEADER)?;
    let [hardware, length] =
        [header.hardware, u16::from(header.address_len)].map(|number| number.to_be_bytes());
    let cooked = frame.get_mut(begin..network)?;
    cooked[0..2].copy_from_slice(&[0, header.packet_type]);
    cooked[2..4].copy_from_slice(&hardware);
    cooked[4..6].copy_from_slice(&length);
    cooked[6..14].copy_from_slice(&header.address);
    cooked[14..16].copy_from_slice(&header.protocol);
    Some(begin)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINK: usize = 96;

    /// A frame as the kernel would write it, behind the header of a block.
    fn frame(hardware: u16, status: u32, link_header: &[u8], packet: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; LINK];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        let length = (link_header.len() + packet.len()) as u32;
        put(4, &7_u32.to_ne_bytes());
        put(8, &8_u32.to_ne_bytes());
        put(12, &length.to_ne_bytes());
        put(16, &(length + 100).to_ne_bytes());
        put(20, &status.to_ne_bytes());
        put(24, &(LINK as u16).to_ne_bytes());
        put(26, &((LINK + link_header.len()) as u16).to_ne_bytes());
        put(32, &0x2005_u32.to_ne_bytes());
        put(36, &0x88A8_u16.to_ne_bytes());
        put(50, &0x0800_u16.to_be_bytes());
        put(52, &3_u32.to_ne_bytes());
        put(56, &hardware.to_ne_bytes());
        put(58, &[libc::PACKET_OUTGOING, 6]);
        put(60, &[1, 2, 3, 4, 5, 6, 0, 0]);
        [bytes, link_header.to_vec(), packet.to_vec()].concat()
    }

    fn check(mut bytes: Vec<u8>, link: LinkType, expected: &[u8], cut: u32) {
        let mut cursor = Cursor::new(BLOCK_HEADER as u32, 1);
        let frame = cursor.next(&mut bytes).unwrap();
        assert_eq!((frame.packet.link, frame.packet.data), (link, expected));
        assert_eq!(frame.packet.original_len, expected.len() as u32 + cut);
        assert_eq!(frame.packet.time, Timestamp(7_000_000_008));
        let origin = Origin { interface: 3, direction: Some(Direction::Egress), ..Origin::default() };
        assert_eq!((frame.packet.origin, frame.protocol), (origin, 0x0800));
        assert!(cursor.next(&mut bytes).is_none() && cursor.left() == 0);
    }

    #[test]
    fn a_tag_is_put_back_where_it_was() {
        let ethernet = [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 8, 0];
        let (valid, kind) = (libc::TP_STATUS_VLAN_VALID, libc::TP_STATUS_VLAN_TPID_VALID);
        let tagged = |kind: [u8; 2]| [&ethernet[..12], &kind, &[0x20, 5, 8, 0], b"ip"].concat();
        check(frame(1, valid | kind, &ethernet, b"ip"), LinkType::ETHERNET, &tagged([0x88, 0xA8]), 100);
        check(frame(1, valid, &ethernet, b"ip"), LinkType::ETHERNET, &tagged([0x81, 0]), 100);
        check(frame(1, 0, &ethernet, b"ip"), LinkType::ETHERNET, &[&ethernet[..], b"ip"].concat(), 100);
    }

    #[test]
    fn link_headers_that_nobody_knows_are_replaced_or_left_out() {
        let cooked = [&[0, 4, 3, 10, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, 8, 0], &b"ip"[..]].concat();
        for header in [&[][..], &[9; 5], &[9; 40]] {
            check(frame(778, 0, header, b"ip"), LinkType::LINUX_SLL, &cooked, 100);
            check(frame(0xFFFE, 0, header, b"ip"), LinkType::RAW, b"ip", 100);
        }
    }

    proptest! {
        /// Whatever stands in a block: no panic, no end that is not reached, and nothing beyond the block.
        #[test]
        fn nonsense_is_given_up(
            mut block in proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(48), Just(96), any::<u8>()], 0..400),
            first: u16,
            hardware in prop_oneof![Just(1_u16), Just(778), Just(0xFFFE)],
            status: u32,
        ) {
            if block.len() > 60 {
                block[20..24].copy_from_slice(&status.to_ne_bytes());
                block[56..58].copy_from_slice(&hardware.to_ne_bytes());
            }
            let mut cursor = Cursor::new(u32::from(first % 100), 10);
            let mut frames = 0;
            while let Some(frame) = cursor.next(&mut block) {
                prop_assert!(frame.packet.data.len() <= 400);
                frames += 1;
            }
            prop_assert_eq!(frames + cursor.left(), 10);
        }
    }
}
