//! pcapng (draft-ietf-opsawg-pcapng): sections of blocks, in either byte order.
//!
//! Section headers, interface descriptions and the three packet blocks (enhanced, simple, obsolete) are read; every
//! other block is passed over. Options are read leniently: an option list that makes no sense ends there.
//!
//! Invariant: `interfaces` are those of the section at hand, in order, at most [`MAX_INTERFACES`].

use agent_core::{LinkType, Origin, Packet, Timestamp};

use super::{Defect, Step, largest_packet};

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;

/// Block type, length, and the length again at its end.
const FRAME: usize = 12;
/// The largest block that is read whole. Blocks that are passed over may be of any length.
const MAX_BLOCK: u32 = (16 << 20) + (64 << 10);
const MAX_INTERFACES: usize = 1 << 16;

const OPT_END: u16 = 0;
const IF_TSRESOL: u16 = 9;
const IF_TSOFFSET: u16 = 14;

/// Where the reader stands in the file.
#[derive(Debug, Default)]
pub(super) struct Ng {
    big_endian: bool,
    interfaces: Vec<Interface>,
    /// Time of the last packet that had one: simple packets have none and take this.
    last: Timestamp,
}

#[derive(Debug)]
struct Interface {
    link: LinkType,
    snaplen: u32,
    unit: Unit,
    /// Seconds to add to every time.
    offset: i64,
}

/// What a time stamp counts.
#[derive(Clone, Copy, Debug)]
enum Unit {
    /// So many nanoseconds.
    Nanos(u64),
    /// 10 to the minus so many seconds, finer than a nanosecond.
    Decimal(u32),
    /// 2 to the minus so many seconds.
    Binary(u32),
}

/// Whether a file that begins so is pcapng.
pub(super) fn recognises(magic: [u8; 4]) -> bool {
    u32::from_le_bytes(magic) == SECTION
}

impl Ng {
    /// Reads one block.
    #[inline]
    pub(super) fn step<'a>(&mut self, bytes: &'a [u8]) -> Result<Step<'a>, Defect> {
        let Some((&[t0, t1, t2, t3, l0, l1, l2, l3, b0, b1, b2, b3], _)) = bytes.split_first_chunk::<FRAME>()
        else {
            return Ok(Step::Need(FRAME));
        };
        if u32::from_le_bytes([t0, t1, t2, t3]) == SECTION {
            self.big_endian = match [b0, b1, b2, b3] {
                b if u32::from_be_bytes(b) == BYTE_ORDER => true,
                b if u32::from_le_bytes(b) == BYTE_ORDER => false,
                b => return Err(Defect::new(format!("a section header whose byte-order magic is {b:02x?}"))),
            };
        }
        let kind = self.u32_of([t0, t1, t2, t3]);
        let length = self.u32_of([l0, l1, l2, l3]);
        if (length as usize) < FRAME {
            return Err(Defect::new(format!(
                "a block (type {kind:#x}) of {length} bytes; the least is {FRAME}"
            )));
        }
        // Some writers leave the padding out of the length.
        let padded = u64::from(length).next_multiple_of(4);
        if !matches!(kind, SECTION | INTERFACE | PACKET | SIMPLE_PACKET | ENHANCED_PACKET) {
            return Ok(Step::Skip(padded));
        }
        if length > MAX_BLOCK {
            return Err(Defect::new(format!(
                "a block (type {kind:#x}) of {length} bytes; the largest read is {MAX_BLOCK}"
            )));
        }
        let total = padded as usize;
        let Some((block, _)) = bytes.split_at_checked(total) else { return Ok(Step::Need(total)) };
        let Some((body, &trailer)) = block.split_last_chunk::<4>() else { return Ok(Step::Need(total)) };
        let again = self.u32_of(trailer);
        if again != length {
            return Err(Defect::new(format!(
                "a block (type {kind:#x}) of {length} bytes that says {again} at its end"
            )));
        }
        let body = body.get(8..).unwrap_or_default();
        match kind {
            ENHANCED_PACKET => self.enhanced(body, total),
            INTERFACE => self.interface(body).map(|()| Step::Consumed(total)),
            SECTION => self.section(body).map(|()| Step::Consumed(total)),
            PACKET => self.obsolete(body, total),
            _ => self.simple(body, total),
        }
    }

    fn section(&mut self, body: &[u8]) -> Result<(), Defect> {
        let Some(&[_, _, _, _, a, b, c, d]) = body.first_chunk::<8>() else {
            return Err(Defect::new("a section header that is too short"));
        };
        let (major, minor) = (self.u16_of([a, b]), self.u16_of([c, d]));
        if major != 1 {
            return Err(Defect::new(format!("pcapng version {major}.{minor}; only 1.x is known")));
        }
        self.interfaces.clear();
        Ok(())
    }

    fn interface(&mut self, body: &[u8]) -> Result<(), Defect> {
        let Some((&[l0, l1, _, _, s0, s1, s2, s3], options)) = body.split_first_chunk::<8>() else {
            return Err(Defect::new("an interface description that is too short"));
        };
        if self.interfaces.len() >= MAX_INTERFACES {
            return Err(Defect::new(format!("more than {MAX_INTERFACES} interfaces in one section")));
        }
        let mut interface = Interface {
            link: LinkType(self.u16_of([l0, l1])),
            snaplen: self.u32_of([s0, s1, s2, s3]),
            unit: Unit::Nanos(1000),
            offset: 0,
        };
        self.options(options, |code, value| match (code, value) {
            (IF_TSRESOL, [resolution, ..]) => interface.unit = Unit::from_option(*resolution),
            (IF_TSOFFSET, value) => {
                if let Some(&bytes) = value.first_chunk::<8>() {
                    interface.offset =
                        if self.big_endian { i64::from_be_bytes(bytes) } else { i64::from_le_bytes(bytes) };
                }
            }
            _ => {}
        });
        self.interfaces.push(interface);
        Ok(())
    }

    #[inline]
    fn enhanced<'a>(&mut self, body: &'a [u8], total: usize) -> Result<Step<'a>, Defect> {
        let Some((head, rest)) = body.split_first_chunk::<20>() else {
            return Err(Defect::new("an enhanced packet block that is too short"));
        };
        let [i0, i1, i2, i3, fields @ ..] = *head;
        let number = self.u32_of([i0, i1, i2, i3]);
        self.packet(number, fields, rest, total)
    }

    /// The Packet Block of drafts before 2009: a 16-bit interface number and a count of drops.
    fn obsolete<'a>(&mut self, body: &'a [u8], total: usize) -> Result<Step<'a>, Defect> {
        let Some((head, rest)) = body.split_first_chunk::<20>() else {
            return Err(Defect::new("a packet block that is too short"));
        };
        let [i0, i1, _, _, fields @ ..] = *head;
        let number = u32::from(self.u16_of([i0, i1]));
        self.packet(number, fields, rest, total)
    }

    /// What enhanced and obsolete packet blocks share: time (high, low), captured and original length, data.
    #[inline]
    fn packet<'a>(
        &mut self,
        number: u32,
        fields: [u8; 16],
        rest: &'a [u8],
        total: usize,
    ) -> Result<Step<'a>, Defect> {
        let [h0, h1, h2, h3, w0, w1, w2, w3, c0, c1, c2, c3, o0, o1, o2, o3] = fields;
        let interface = self.described(number)?;
        let high = u64::from(self.u32_of([h0, h1, h2, h3]));
        let low = u64::from(self.u32_of([w0, w1, w2, w3]));
        let captured = self.u32_of([c0, c1, c2, c3]);
        let largest = largest_packet(interface.snaplen);
        if captured > largest {
            return Err(Defect::new(format!(
                "a packet of {captured} bytes; the largest that can be is {largest}"
            )));
        }
        let Some(data) = rest.get(..captured as usize) else {
            return Err(Defect::new(format!(
                "a packet of {captured} bytes in a block with room for {}",
                rest.len()
            )));
        };
        let time = interface.time(high << 32 | low);
        let packet = Packet {
            time,
            link: interface.link,
            data,
            original_len: self.u32_of([o0, o1, o2, o3]),
            origin: Origin { interface: number, ..Origin::default() },
        };
        self.last = time;
        Ok(Step::Packet(packet, total))
    }

    fn simple<'a>(&mut self, body: &'a [u8], total: usize) -> Result<Step<'a>, Defect> {
        let Some((&original, rest)) = body.split_first_chunk::<4>() else {
            return Err(Defect::new("a simple packet block that is too short"));
        };
        let original_len = self.u32_of(original);
        let interface = self.described(0)?;
        let snaplen = if interface.snaplen == 0 { u32::MAX } else { interface.snaplen };
        let captured = original_len.min(snaplen) as usize;
        let Some(data) = rest.get(..captured) else {
            return Err(Defect::new(format!(
                "a packet of {captured} bytes in a block with room for {}",
                rest.len()
            )));
        };
        let packet =
            Packet { time: self.last, link: interface.link, data, original_len, origin: Origin::default() };
        Ok(Step::Packet(packet, total))
    }

    #[inline]
    fn described(&self, number: u32) -> Result<&Interface, Defect> {
        self.interfaces.get(number as usize).ok_or_else(|| {
            Defect::new(format!(
                "a packet of interface {number}; the section describes {} so far",
                self.interfaces.len()
            ))
        })
    }

    /// Calls `each` with code and value of every option, until the list ends or makes no sense.
    fn options(&self, mut bytes: &[u8], mut each: impl FnMut(u16, &[u8])) {
        while let Some((&[c0, c1, l0, l1], rest)) = bytes.split_first_chunk::<4>() {
            let (code, length) = (self.u16_of([c0, c1]), usize::from(self.u16_of([l0, l1])));
            let Some(value) = rest.get(..length) else { return };
            if code == OPT_END {
                return;
            }
            each(code, value);
            bytes = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }

    #[inline]
    fn u32_of(&self, bytes: [u8; 4]) -> u32 {
        if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    #[inline]
    fn u16_of(&self, bytes: [u8; 2]) -> u16 {
        if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
    }
}

impl Unit {
    /// `if_tsresol`: a negative power of 10, or of 2 where the top bit is set.
    fn from_option(resolution: u8) -> Self {
        let power = u32::from(resolution & 0x7f);
        match resolution {
            0..=9 => Self::Nanos(10_u64.pow(9 - power)),
            10..=0x7f => Self::Decimal(power),
            _ => Self::Binary(power),
        }
    }

    /// Nanoseconds in `count` units, rounded down.
    #[inline]
    fn nanos(self, count: u64) -> u128 {
        match self {
            Self::Nanos(each) => u128::from(count) * u128::from(each),
            // Past 10^38 nothing is left of a 64-bit count.
            Self::Decimal(power) => {
                10_u128.checked_pow(power - 9).map_or(0, |units| u128::from(count) / units)
            }
            Self::Binary(power) => (u128::from(count) * 1_000_000_000) >> power.min(127),
        }
    }
}

impl Interface {
    #[inline]
    fn time(&self, count: u64) -> Timestamp {
        let nanos = self.unit.nanos(count);
        if self.offset == 0 {
            return Timestamp(u64::try_from(nanos).unwrap_or(u64::MAX));
        }
        let shifted = i128::try_from(nanos)
            .unwrap_or(i128::MAX)
            .saturating_add(i128::from(self.offset) * 1_000_000_000);
        Timestamp(u64::try_from(shifted.max(0)).unwrap_or(u64::MAX))
    }
}
