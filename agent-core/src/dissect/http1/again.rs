//! Heads that come again: of those that were read lately some are kept, and one that is byte for byte like one of them is copied
//! and not read. Who polls, scrapes and serves sends the same header fields again and again, and where only the start line is
//! another one, that alone is read.
//!
//! Invariants:
//! - A head from here is the one that would be read: reading looks at the head's own bytes and at nothing else, and only heads
//!   without anomalies are kept.
//! - At most [`SLOTS`] heads of each side are kept, each of at most [`MOST`] bytes. Whoever sends heads that share a slot slows
//!   the reading of these to what it is without, and a little.

use super::framing::{Framing, framing};
use super::head::{Head, StartLine, span};
use super::plain;
use crate::dissect::Side;
use crate::item::{Fields, HeaderBlock};

/// Heads kept of each side.
const SLOTS: usize = 64;
/// Largest head that is kept, with its spans, in bytes.
const MOST: usize = 4096;
/// Shortest header section that is looked for, in bytes: what is shorter is read as fast.
const LEAST: usize = 16;
/// Others that a head in their slot outlives, at most: one for each time that it came again.
const CREDIT: i32 = 8;
/// Heads that did not come again before another one took their slot, until only one of [`SELDOM`] is kept. Odd, for
/// heads often come in turns.
const PATIENCE: i32 = 4;
const SELDOM: i32 = 17;

/// Working memory of those who read heads.
#[derive(Debug, Default)]
pub(super) struct Heads {
    fields: Fields,
    slots: Vec<Slot>,
    /// Of each side, the slot of the head that came again last: the very same may be next.
    last: [usize; 2],
}

#[derive(Debug, Default)]
struct Slot {
    kept: Option<Kept>,
    /// Others that it will outlive; below zero, how many there were since one came again.
    credit: i32,
}

#[derive(Debug)]
struct Kept {
    start: StartLine,
    minor_version: u8,
    /// Length of the start line with its end.
    line: usize,
    block: HeaderBlock,
    /// Whether the header section is plain, as [`HeaderBlock::is_plain`] says it.
    plain: bool,
    framing: Framing,
}

impl Heads {
    /// Reads a plain head at the start of `bytes`, which may hold more. `None` says nothing of it.
    pub(super) fn read(&mut self, side: Side, bytes: &[u8]) -> Option<Head> {
        if let Some(Slot { kept: Some(kept), credit }) = self.slots.get_mut(self.last[side as usize])
            && bytes.starts_with(kept.block.head())
        {
            *credit = came_again(*credit);
            return Some(kept.head(kept.start, kept.minor_version, kept.block.clone()));
        }
        let line = memchr::memchr(b'\n', bytes)? + 1;
        let Some(slot) = slot(side, &bytes[line..]) else {
            return plain::read(side, bytes, &mut self.fields);
        };
        if let Some(Slot { kept: Some(kept), credit }) = self.slots.get_mut(slot)
            && bytes[line..].starts_with(kept.section())
        {
            *credit = came_again(*credit);
            self.last[side as usize] = slot;
            return kept.again(side, bytes, line);
        }
        let mut head = plain::read(side, bytes, &mut self.fields)?;
        head.framing = Some(framing(&mut head));
        self.keep(slot, &head, line);
        Some(head)
    }

    /// Keeps a head, unless its slot sees too many.
    fn keep(&mut self, slot: usize, head: &Head, line: usize) {
        if self.slots.is_empty() {
            self.slots.resize_with(2 * SLOTS, Slot::default);
        }
        let Some(slot) = self.slots.get_mut(slot) else { return };
        slot.credit = slot.credit.saturating_sub(1);
        let seldom = slot.credit < -PATIENCE && slot.credit % SELDOM != 0;
        if slot.credit >= 0 || seldom || !head.anomalies.is_empty() {
            return;
        }
        let Some(framing) = head.framing else { return };
        if head.block.memory() > MOST || head.size < line + LEAST {
            return;
        }
        let section = head.block.bytes(span(line, head.size));
        slot.kept = Some(Kept {
            start: head.start,
            minor_version: head.minor_version,
            line,
            plain: memchr::memchr2(b'"', b'\\', section).is_none(),
            block: head.block.clone(),
            framing,
        });
    }

    /// Whether that head is kept.
    #[cfg(test)]
    fn holds(&self, side: Side, bytes: &[u8]) -> bool {
        let line = bytes.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        let slot = slot(side, &bytes[line..]).and_then(|slot| self.slots.get(slot));
        slot.and_then(|slot| slot.kept.as_ref()).is_some_and(|kept| bytes[line..].starts_with(kept.section()))
    }

    /// Heap memory held.
    #[cfg(test)]
    fn memory(&self) -> usize {
        let kept = self.slots.iter().filter_map(|slot| slot.kept.as_ref());
        self.slots.capacity() * size_of::<Slot>() + kept.map(|kept| kept.block.memory()).sum::<usize>()
    }
}

impl Kept {
    /// From the first field to the empty line.
    #[inline]
    fn section(&self) -> &[u8] {
        self.block.head().get(self.line..).unwrap_or_default()
    }

    /// The head at the start of `bytes`, whose header section is known to be this one behind a start line of `line` bytes.
    #[inline]
    fn again(&self, side: Side, bytes: &[u8], line: usize) -> Option<Head> {
        let (start, minor_version, block) = if self.block.head().get(..self.line) == Some(&bytes[..line]) {
            (self.start, self.minor_version, self.block.clone())
        } else {
            let (start, minor_version, plain) = plain::start_line(side, &bytes[..line])?;
            (
                start,
                minor_version,
                self.block.behind(&bytes[..line], self.line).known_plain(plain && self.plain),
            )
        };
        Some(self.head(start, minor_version, block))
    }

    #[inline]
    fn head(&self, start: StartLine, minor_version: u8, block: HeaderBlock) -> Head {
        let framing = Some(self.framing);
        Head { start, minor_version, size: block.head().len(), block, anomalies: Vec::new(), framing }
    }
}

/// What is left of a slot's credit when its head came again.
#[inline]
fn came_again(credit: i32) -> i32 {
    credit.max(0).saturating_add(1).min(CREDIT)
}

/// Where a head is kept by what its header section begins with: within the first fields, as a rule, are those that tell who sent it.
#[inline]
fn slot(side: Side, section: &[u8]) -> Option<usize> {
    let word = |at: usize| section.get(at..)?.first_chunk().copied().map(u64::from_le_bytes);
    let (a, b) = (word(0)?, word(LEAST - 8)?);
    let c = word(40).unwrap_or_default();
    let mixed = (a ^ b.rotate_left(17) ^ c.rotate_left(41)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Some((mixed >> 48) as usize % SLOTS * 2 + usize::from(side == Side::Server))
}

/// Reads a well-formed head at the start of `bytes`, which may hold more, as a reader does.
#[cfg(test)]
pub(super) fn parse_strict(side: Side, bytes: &[u8], heads: &mut Heads) -> Result<Head, super::head::NoHead> {
    heads.read(side, bytes).map_or_else(|| super::head::parse_well_formed(side, bytes), Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dissect::http1::head::parse_well_formed;
    use crate::item::Common;
    use proptest::prelude::*;

    /// What comes of a head is the same whatever was read before.
    fn check(heads: &mut Heads, side: Side, bytes: &[u8]) {
        let mut alone = parse_well_formed(side, bytes);
        let mut again = parse_strict(side, bytes, heads);
        if let (Ok(alone), Ok(again)) = (&mut alone, &mut again) {
            let (one, two) = (framing(alone), again.framing.take().unwrap_or_else(|| framing(again)));
            assert_eq!(format!("{one:?}"), format!("{two:?}"), "{}", bytes.escape_ascii());
            assert_eq!(alone.block.is_plain(), again.block.is_plain(), "{}", bytes.escape_ascii());
            for name in [Common::Host, Common::ContentLength, Common::ContentEncoding, Common::Upgrade] {
                let said =
                    |head: &Head| (head.block.common(name).map(<[u8]>::to_vec), head.block.repeats(name));
                assert_eq!(said(alone), said(again), "{}", bytes.escape_ascii());
            }
        }
        assert_eq!(format!("{alone:?}"), format!("{again:?}"), "{}", bytes.escape_ascii());
    }

    fn kept(heads: &Heads) -> usize {
        heads.slots.iter().filter(|slot| slot.kept.is_some()).count()
    }

    #[test]
    fn a_section_is_found_behind_any_start_line() {
        let mut heads = Heads::default();
        let section = "Host: shop:8080\r\nX-A: \"b\"\r\nContent-Length: 3\r\n\r\n";
        for (n, line) in [
            "GET / HTTP/1.1\r\n",
            "POST /a/longer?x=\"y HTTP/1.0\r\n",
            "GET / HTTP/1.1\r\n",
            "GET /a b HTTP/1.1\r\n",
            "GET /\n",
        ]
        .into_iter()
        .enumerate()
        {
            check(&mut heads, Side::Client, [line, section, "abc"].concat().as_bytes());
            assert_eq!(kept(&heads), 1, "{n}");
        }
        let head =
            heads.read(Side::Client, [&b"PUT /x HTTP/1.1\r\n"[..], section.as_bytes()].concat().as_slice());
        let head = head.unwrap();
        assert!(head.framing.is_some() && !head.block.is_plain());
        assert_eq!(head.block.common(Common::Host), Some(&b"shop:8080"[..]));
        // A response with the same section is another head.
        check(&mut heads, Side::Server, ["HTTP/1.1 200 OK\r\n", section].concat().as_bytes());
        assert_eq!(kept(&heads), 2);
    }

    #[test]
    fn few_are_kept_and_none_that_is_large_or_short() {
        let mut heads = Heads::default();
        let large = format!("GET / HTTP/1.1\r\nHost: a{}\r\n\r\n", "b".repeat(MOST));
        check(&mut heads, Side::Client, large.as_bytes());
        // Nor one that is so short that it is read as fast, whatever comes behind.
        check(&mut heads, Side::Client, b"GET / HTTP/1.1\r\nA: b\r\n\r\nand the start of a body");
        assert_eq!(kept(&heads), 0);
        for n in 0..20_000u32 {
            let head =
                format!("GET / HTTP/1.1\r\nHost: host-{}\r\nX: {}\r\n\r\n", n % 7919, "y".repeat(3000));
            check(&mut heads, if n % 3 == 0 { Side::Server } else { Side::Client }, head.as_bytes());
        }
        assert!(kept(&heads) > SLOTS / 2 && kept(&heads) <= 2 * SLOTS);
        assert!(heads.memory() <= 2 * SLOTS * (MOST + size_of::<Slot>()));
    }

    /// Of all numbers in the same slot.
    fn head(n: u32) -> String {
        format!(
            "GET / HTTP/1.1\r\nHost: shop.example:80\r\nAccept: text/html\r\nX-Request-Id: {n:08}\r\n\r\n"
        )
    }

    #[test]
    fn one_that_came_again_outlives_as_many_others_and_no_more() {
        let mut heads = Heads::default();
        let read = |heads: &mut Heads, n, times| {
            (0..times).for_each(|_| check(heads, Side::Client, head(n).as_bytes()));
            heads.holds(Side::Client, head(n).as_bytes())
        };
        // However long nothing came again.
        (0..100).for_each(|n| check(&mut heads, Side::Client, head(n).as_bytes()));
        while !read(&mut heads, 1_000, 1) {}
        assert!(read(&mut heads, 1_000, 1));
        assert!(!read(&mut heads, 2_000, 1) && read(&mut heads, 2_000, 1));
        // However often it came.
        assert!(read(&mut heads, 2_000, 1_000));
        assert!(!read(&mut heads, 3_000, CREDIT) && read(&mut heads, 3_000, 1));
    }

    #[test]
    fn heads_that_are_always_new_are_seldom_kept() {
        let mut heads = Heads::default();
        let mut changes = 0;
        let mut last = String::new();
        for n in 0..1600 {
            check(&mut heads, Side::Client, head(n).as_bytes());
            let now = format!("{:?}", heads.slots.iter().find_map(|slot| slot.kept.as_ref()));
            changes += u32::from(now != last);
            last = now;
        }
        assert!((95..=105).contains(&changes), "{changes}");
        // One that comes again and again is kept from then on, and stays where others come between.
        let mut found = 0;
        for n in 0..200 {
            let again = n % 2 == 0;
            let head = head(if again { 7 } else { 5000 + n });
            found += u32::from(again && heads.holds(Side::Client, head.as_bytes()));
            check(&mut heads, Side::Client, head.as_bytes());
        }
        assert!(found >= 60, "{found}");
    }

    proptest! {
        #[test]
        fn a_head_is_the_same_whatever_was_read_before(
            heads in prop::collection::vec(
                (
                    any::<bool>(),
                    prop::sample::select(vec!["/", "/a?b=\"c", "/long/enough", " ", "/é"]),
                    prop::sample::select(vec!["200 OK", "404", "204  x ", "200 \"", "2x0"]),
                    prop::collection::vec(
                        prop::sample::select(vec![
                            "Host: a\r\n", "Content-Length: 3\r\n", "X: \"\r\n", "Transfer-Encoding: chunked\r\n",
                            "Content-Encoding: gzip\r\n", "A: b\n", "\r\n", "a-name-of-some-length: and a value\r\n",
                        ]),
                        0..4,
                    ),
                    0_usize..8,
                ),
                1..60,
            ),
        ) {
            let mut memory = Heads::default();
            for (server, target, status, fields, cut) in heads {
                let (side, line) = match server {
                    true => (Side::Server, format!("HTTP/1.1 {status}\r\n")),
                    false => (Side::Client, format!("GET {target} HTTP/1.1\r\n")),
                };
                let bytes = [line, fields.concat(), "\r\nbody\r\n".to_owned()].concat();
                check(&mut memory, side, &bytes.as_bytes()[..bytes.len() - cut]);
            }
        }
    }
}
