//! Capture formats as the store writes them, little-endian: pcapng blocks (draft-ietf-opsawg-pcapng) with nanosecond
//! times for segments, and classic pcap with nanosecond times for extracted streams.

use std::net::IpAddr;

use agent_core::{LinkType, Timestamp};

use super::InterfaceInfo;

/// Bytes of an enhanced packet block around its data and padding.
pub(super) const EPB_FRAME: u32 = 32;
/// Bytes of an enhanced packet block before its data.
pub(super) const EPB_HEAD: usize = 28;
/// Bytes of a classic record header.
pub(super) const CLASSIC_RECORD: u64 = 16;

const ENHANCED_PACKET: u32 = 6;
const INTERFACE: u32 = 1;
const NAMES: u32 = 4;
const NAME_IPV4: u16 = 1;
const NAME_IPV6: u16 = 2;
/// Names in one block.
const NAMES_TOGETHER: usize = 512;
/// Longer values of options are cut, in bytes.
const LONGEST_OPTION: usize = 2048;
const OPT_COMMENT: u16 = 1;
const SECTION: u32 = 0x0a0d_0d0a;
const NANOS_MAGIC: u32 = 0xa1b2_3c4d;
/// Snap length of classic files, as tcpdump writes it; super-packets may be larger.
const SNAPLEN: u32 = 262_144;
const OPT_IF_NAME: u16 = 2;
const OPT_IF_DESCRIPTION: u16 = 3;
const OPT_IF_TSRESOL: u16 = 9;
const OPT_USERAPPL: u16 = 4;

/// Size of the enhanced packet block that holds `captured` bytes.
pub(super) const fn epb_len(captured: u32) -> u64 {
    EPB_FRAME as u64 + (captured as u64).next_multiple_of(4)
}

/// Appends a section header.
pub(super) fn section(out: &mut Vec<u8>) {
    block(out, SECTION, |out| {
        words(out, [0x1a2b_3c4d, 1, u32::MAX, u32::MAX]);
        option(out, OPT_USERAPPL, b"remora");
        words(out, [0]);
    });
}

/// Appends an interface description: nanosecond times, no snap length, and what is known of it.
pub(super) fn interface(out: &mut Vec<u8>, link: LinkType, info: &InterfaceInfo) {
    block(out, INTERFACE, |out| {
        words(out, [u32::from(link.0), 0]);
        for (code, text) in [(OPT_IF_NAME, &info.name), (OPT_IF_DESCRIPTION, &info.description)] {
            if let Some(text) = text {
                option(out, code, text.as_bytes());
            }
        }
        option(out, OPT_IF_TSRESOL, &[9]);
        words(out, [0]);
    });
}

/// Appends an enhanced packet block. `data` must be shorter than 4 GiB less the frame.
#[inline]
pub(super) fn packet(out: &mut Vec<u8>, interface: u32, time: Timestamp, original: u32, data: &[u8]) {
    let captured = data.len() as u32;
    let total = epb_len(captured) as u32;
    let (high, low) = ((time.0 >> 32) as u32, time.0 as u32);
    words(out, [ENHANCED_PACKET, total, interface, high, low, captured, original]);
    padded(out, data);
    words(out, [total]);
}

/// Appends an enhanced packet block with comments.
pub(super) fn commented(
    out: &mut Vec<u8>,
    interface: u32,
    time: Timestamp,
    original: u32,
    data: &[u8],
    comments: &[String],
) {
    if comments.is_empty() {
        return packet(out, interface, time, original, data);
    }
    block(out, ENHANCED_PACKET, |out| {
        let (high, low) = ((time.0 >> 32) as u32, time.0 as u32);
        words(out, [interface, high, low, data.len() as u32, original]);
        padded(out, data);
        comments.iter().for_each(|comment| option(out, OPT_COMMENT, comment.as_bytes()));
        words(out, [0]);
    });
}

/// Appends name resolution blocks.
pub(super) fn names<'n>(out: &mut Vec<u8>, names: impl Iterator<Item = (IpAddr, &'n str)>) {
    let mut names = names.peekable();
    while names.peek().is_some() {
        block(out, NAMES, |out| {
            for (ip, name) in names.by_ref().take(NAMES_TOGETHER) {
                let (kind, mut value) = match ip {
                    IpAddr::V4(v4) => (NAME_IPV4, v4.octets().to_vec()),
                    IpAddr::V6(v6) => (NAME_IPV6, v6.octets().to_vec()),
                };
                value.extend(name.bytes().filter(|&b| b != 0));
                value.push(0);
                option(out, kind, &value);
            }
            // The end of the records, and of the options, of which there are none.
            words(out, [0, 0]);
        });
    }
}

/// The interfaces described in `blocks`.
pub(super) fn interfaces(blocks: &[u8], mut each: impl FnMut(LinkType, InterfaceInfo)) {
    let mut rest = blocks;
    while let Some((kind, len)) = word(rest, 0).zip(word(rest, 4)) {
        let Some(body) = rest.get(8..(len as usize).saturating_sub(4)) else { return };
        if kind == INTERFACE {
            each(LinkType(word(body, 0).unwrap_or_default() as u16), interface_info(body.get(8..)));
        }
        rest = rest.get(len.max(12) as usize..).unwrap_or_default();
    }
}

fn interface_info(options: Option<&[u8]>) -> InterfaceInfo {
    let mut info = InterfaceInfo::default();
    let mut rest = options.unwrap_or_default();
    while let Some(head) = word(rest, 0) {
        let (code, len) = (head as u16, (head >> 16) as usize);
        let Some(value) = rest.get(4..4 + len).filter(|_| code != 0) else { break };
        let text = || Some(String::from_utf8_lossy(value).into_owned());
        match code {
            OPT_IF_NAME => info.name = text(),
            OPT_IF_DESCRIPTION => info.description = text(),
            _ => {}
        }
        rest = rest.get(4 + len.next_multiple_of(4)..).unwrap_or_default();
    }
    info
}

/// Number of the interface of the enhanced packet block at the start of `bytes`.
pub(super) fn interface_of(bytes: &[u8]) -> u32 {
    word(bytes, 8).unwrap_or(u32::MAX)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.first_chunk::<4>().map(|b| u32::from_le_bytes(*b))
}

fn padded(out: &mut Vec<u8>, data: &[u8]) {
    const PADDING: [u8; 3] = [0; 3];
    out.extend_from_slice(data);
    let padding = PADDING.get(..data.len().next_multiple_of(4) - data.len()).unwrap_or_default();
    out.extend_from_slice(padding);
}

/// Appends a classic file header.
pub(super) fn classic_header(out: &mut Vec<u8>, link: LinkType, longest: u32) {
    words(out, [NANOS_MAGIC, 0x0004_0002, 0, 0, SNAPLEN.max(longest), u32::from(link.0)]);
}

/// Appends a classic record. A time past the year 2106 is written as the last one there is.
pub(super) fn classic_record(out: &mut Vec<u8>, time: Timestamp, original: u32, data: &[u8]) {
    let seconds = u32::try_from(time.0 / 1_000_000_000).unwrap_or(u32::MAX);
    words(out, [seconds, (time.0 % 1_000_000_000) as u32, data.len() as u32, original]);
    out.extend_from_slice(data);
}

/// Time of the enhanced packet block that begins so.
pub(super) fn packet_time(head: &[u8; EPB_HEAD]) -> Timestamp {
    let [_, _, _, _, _, _, _, _, _, _, _, _, a, b, c, d, e, f, g, h, ..] = *head;
    Timestamp(u64::from(u32::from_le_bytes([a, b, c, d])) << 32 | u64::from(u32::from_le_bytes([e, f, g, h])))
}

/// Time, original length and data of the enhanced packet block at the start of `bytes`, if it is one with `captured`
/// bytes of data.
pub(super) fn parse_packet(bytes: &[u8], captured: u32) -> Option<(Timestamp, u32, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<EPB_HEAD>()?;
    let word = |at: usize| head.get(at..at + 4)?.first_chunk::<4>().map(|b| u32::from_le_bytes(*b));
    let total = epb_len(captured) as u32;
    if word(0)? != ENHANCED_PACKET || word(4)? != total || word(20)? != captured {
        return None;
    }
    let time = Timestamp(u64::from(word(12)?) << 32 | u64::from(word(16)?));
    let trailer = rest.get(total as usize - EPB_FRAME as usize..)?.first_chunk::<4>()?;
    let data = rest.get(..captured as usize)?;
    (u32::from_le_bytes(*trailer) == total).then_some((time, word(24)?, data))
}

fn words<const N: usize>(out: &mut Vec<u8>, words: [u32; N]) {
    out.extend_from_slice(words.map(u32::to_le_bytes).as_flattened());
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = value.get(..value.len().min(LONGEST_OPTION)).unwrap_or_default();
    out.extend_from_slice(&code.to_le_bytes());
    out.extend_from_slice(&(value.len() as u16).to_le_bytes());
    out.extend_from_slice(value);
    out.resize(out.len() + value.len().next_multiple_of(4) - value.len(), 0);
}

/// A block around what `body` writes; `body` must write a multiple of four bytes.
fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    body(&mut inner);
    let total = inner.len() as u32 + 12;
    words(out, [kind, total]);
    out.extend_from_slice(&inner);
    words(out, [total]);
}
