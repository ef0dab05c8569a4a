//! Strings of JSON: what needs no escape is copied as it is looked at, eight or sixteen bytes at a time; of long text, what does is
//! found as bits, 64 bytes at a time.
//!
//! Escaped as `JSON.stringify` does it: `"`, `\` and control characters, the shortest form of each.

use wide::{i8x16, u8x16};

use super::page::Page;
use super::spell::hex_of;

/// Longest escape, in bytes; as much is written at once.
const ESCAPE: usize = 6;
/// Bytes that are looked at together.
const WORD: usize = 8;
/// Room for them and an escape.
const STEP: usize = WORD + ESCAPE;

/// Bytes of long text that are looked at together.
const WINDOW: usize = 64;
/// Bytes that are copied at once, of which the last ones may be too many: there is as much text and room behind a window.
const PART: usize = 16;
/// Room for a window, whatever is in it.
const ROOM: usize = WINDOW * ESCAPE + PART;

/// What stands behind the backslash; 0: the code does.
const SHORT: [u8; 128] = {
    let mut short = [0; 128];
    short[b'"' as usize] = b'"';
    short[b'\\' as usize] = b'\\';
    short[b'\n' as usize] = b'n';
    short[b'\r' as usize] = b'r';
    short[b'\t' as usize] = b't';
    short[0x08] = b'b';
    short[0x0c] = b'f';
    short
};

/// Appends ASCII text, escaped. `false`: it is not ASCII; what was appended then is to be taken back.
pub(super) fn ascii(page: &mut Page, text: &[u8]) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        // Most texts need few escapes, and then this is all the room that they need.
        let (read, written) = run(page.window(rest.len() + rest.len() / 8 + 64), rest);
        page.advance(written);
        rest = rest.get(read..).unwrap_or_default();
        if rest.first().is_some_and(|&byte| byte >= 0x80) {
            return false;
        }
    }
    true
}

/// Escapes text until it ends, is not ASCII, or there might be too little room. How much of the text that is, and of the room.
fn run(into: &mut [u8], text: &[u8]) -> (usize, usize) {
    let (mut rest, mut at) = long(into, text);
    // Eight first: where one byte needed an escape, the next one that does is mostly near.
    while let Some((chunk, after)) = rest.split_first_chunk::<WORD>() {
        let Some(room) = into.get_mut(at..).and_then(|into| into.first_chunk_mut::<STEP>()) else { break };
        let special = special(u64::from_le_bytes(*chunk));
        if let Some(room) = room.first_chunk_mut() {
            *room = *chunk;
        }
        if special == 0 {
            rest = after;
            at += WORD;
            let clean = into.get_mut(at..).map_or(0, |into| many(into, rest));
            rest = rest.get(clean..).unwrap_or_default();
            at += clean;
            continue;
        }
        let clean = special.trailing_zeros() as usize / 8 % WORD;
        at += clean;
        let byte = chunk[clean];
        if byte >= 0x80 {
            return (text.len() - rest.len() + clean, at);
        }
        let Some(room) = room.get_mut(clean..).and_then(|room| room.first_chunk_mut()) else { break };
        at += escape(room, byte);
        rest = rest.get(clean + 1..).unwrap_or_default();
    }
    while !rest.is_empty() && rest.len() < WORD {
        let Some(room) = into.get_mut(at..).filter(|room| room.len() >= STEP) else { break };
        let clean = few(room, rest);
        at += clean;
        rest = rest.get(clean..).unwrap_or_default();
        let Some((&byte, after)) = rest.split_first() else { break };
        let room = room.get_mut(clean..).and_then(|room| room.first_chunk_mut());
        let Some(room) = room.filter(|_| byte < 0x80) else { break };
        at += escape(room, byte);
        rest = after;
    }
    (text.len() - rest.len(), at)
}

/// Escapes windows of long text, for as long as they are ASCII and there is room for anything. The text left, and how much of the
/// room was taken.
fn long<'t>(into: &mut [u8], text: &'t [u8]) -> (&'t [u8], usize) {
    let (mut rest, mut at) = (text, 0);
    while let Some(chunk) = rest.first_chunk::<{ WINDOW + PART }>()
        && let Some(room) = into.get_mut(at..).and_then(|into| into.first_chunk_mut::<ROOM>())
        && let Some(written) = window(room, chunk)
    {
        rest = rest.get(WINDOW..).unwrap_or_default();
        at += written;
    }
    (rest, at)
}

/// Escapes the window that the chunk begins with. How much that came to; `None`: it is not all ASCII.
#[inline]
fn window(into: &mut [u8; ROOM], chunk: &[u8; WINDOW + PART]) -> Option<usize> {
    let (mut special, mut strange) = (0_u64, 0_u32);
    for (n, part) in chunk.as_chunks().0.iter().take(WINDOW / PART).enumerate() {
        let bytes = u8x16::new(*part);
        let is = |byte| bytes.simd_eq(u8x16::splat(byte)).cast_signed();
        strange |= bytes.cast_signed().to_bitmask();
        let found = bytes.cast_signed().simd_lt(i8x16::splat(0x20)) | is(b'"') | is(b'\\');
        special |= u64::from(found.to_bitmask()) << (n * PART);
    }
    if strange != 0 {
        return None;
    }
    let (mut from, mut at) = (0, 0);
    while special != 0 {
        let next = special.trailing_zeros() as usize;
        at = copy(into, at, chunk, from, next)?;
        at += escape(into.get_mut(at..)?.first_chunk_mut()?, *chunk.get(next)?);
        from = next + 1;
        special &= special - 1;
    }
    copy(into, at, chunk, from, WINDOW)
}

/// Copies a part of the chunk, and says where it ends.
#[inline(always)]
fn copy(
    into: &mut [u8; ROOM],
    at: usize,
    chunk: &[u8; WINDOW + PART],
    from: usize,
    to: usize,
) -> Option<usize> {
    let mut done = 0;
    while from + done < to {
        let part = chunk.get(from + done..)?.first_chunk::<PART>()?;
        *into.get_mut(at + done..)?.first_chunk_mut()? = *part;
        done += PART;
    }
    Some(at + (to - from))
}

/// Copies sixteen bytes at a time for as long as none is special, and says how many they were.
#[inline]
fn many(mut into: &mut [u8], text: &[u8]) -> usize {
    let mut rest = text;
    while let Some((chunk, after)) = rest.split_first_chunk::<16>()
        && !any_special(chunk)
    {
        let Some((room, behind)) = { into }.split_first_chunk_mut::<16>() else { break };
        *room = *chunk;
        (rest, into) = (after, behind);
    }
    text.len() - rest.len()
}

/// Appends UTF-8, escaped.
pub(super) fn any(page: &mut Page, text: &[u8]) {
    for piece in text.chunk_by(|&a, &b| !needs(a) && !needs(b)) {
        match piece {
            [byte] if needs(*byte) => {
                page.spell(|into| escape(into, *byte));
            }
            _ => page.copy(piece),
        }
    }
}

/// Copies less than eight bytes up to the first one that is special, and says how many they are.
#[inline]
fn few(into: &mut [u8], text: &[u8]) -> usize {
    // Two halves that overlap: fewer steps than byte by byte.
    if let (Some((low, _)), Some(high)) = (text.split_first_chunk::<4>(), text.last_chunk::<4>()) {
        let both = u64::from(u32::from_le_bytes(*low)) | u64::from(u32::from_le_bytes(*high)) << 32;
        if special(both) == 0
            && let Some(into) = into.get_mut(..text.len())
        {
            into[..4].copy_from_slice(low);
            into[text.len() - 4..].copy_from_slice(high);
            return text.len();
        }
    }
    let clean = text.iter().take_while(|&&byte| !needs(byte) && byte < 0x80).count();
    for (into, byte) in into.iter_mut().zip(&text[..clean]) {
        *into = *byte;
    }
    clean
}

/// Whether a byte needs an escape.
const fn needs(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Whether one of them needs an escape or is not ASCII. Written so that the compiler looks at all sixteen at once; as signed
/// numbers, those that are not ASCII are below the control characters.
#[inline]
fn any_special(chunk: &[u8; 16]) -> bool {
    let mut any = 0;
    for &byte in chunk {
        any |= u8::from(byte.cast_signed() < 0x20) | u8::from(byte == b'"') | u8::from(byte == b'\\');
    }
    any != 0
}

/// The lowest bit that is set is in the first byte that needs an escape or is not ASCII. (Bits above it may be wrong: a
/// subtraction borrows.)
#[inline]
const fn special(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    const fn zero(word: u64) -> u64 {
        word.wrapping_sub(ONES) & !word
    }
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    let quote = zero(word ^ (ONES * b'"' as u64));
    let backslash = zero(word ^ (ONES * b'\\' as u64));
    (word | control | quote | backslash) & HIGH
}

/// Writes a byte's escape, and says how long it is.
#[inline]
fn escape(into: &mut [u8; ESCAPE], byte: u8) -> usize {
    match SHORT[usize::from(byte & 0x7f)] {
        0 => {
            let [high, low] = hex_of(byte);
            *into = [b'\\', b'u', b'0', b'0', high, low];
            ESCAPE
        }
        short => {
            [into[0], into[1]] = [b'\\', short];
            2
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &[u8]) -> Vec<u8> {
        let mut page = Page::on(b"before".to_vec());
        if !ascii(&mut page, text) {
            page.truncate(6);
            any(&mut page, text);
        }
        page.into_text().split_off(6)
    }

    #[test]
    fn every_byte_at_every_place_is_as_serde_writes_it() {
        for length in 0..40 {
            for at in 0..length {
                for character in ('\0'..='\u{7f}').chain(['é', '🐟']) {
                    let mut text = "a".repeat(length);
                    text.replace_range(at..=at, &character.to_string());
                    let want = serde_json::to_string(&text).unwrap();
                    let got = String::from_utf8(escaped(text.as_bytes())).unwrap();
                    assert_eq!(format!("\"{got}\""), want, "{text:?}");
                }
            }
        }
    }

    #[test]
    fn there_is_room_for_any_number_of_escapes() {
        for text in ["\u{1}".repeat(20_000), "\"".repeat(20_000), "ab\u{1}cdefghijklm".repeat(3000)] {
            let want = serde_json::to_string(&text).unwrap();
            assert!(escaped(text.as_bytes()) == want.as_bytes()[1..want.len() - 1]);
        }
    }

    #[test]
    fn long_text_is_as_serde_writes_it() {
        // A small generator will do.
        let mut seed = 1_u64;
        let mut random = move |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % below
        };
        let alphabets: [&[char]; 4] = [
            &['a', '"', ':', '1'],
            &['\u{0}', '\u{1f}', '\u{7f}', '\\', ' '],
            &['x'; 1],
            &['a', 'b', 'c', 'd', 'e', 'f', 'g', '"', 'é', '🐟'],
        ];
        for length in (60..200).chain([1000, 5000]) {
            for alphabet in alphabets {
                let text: String = (0..length).map(|_| alphabet[random(alphabet.len())]).collect();
                let want = serde_json::to_string(&text).unwrap();
                assert!(escaped(text.as_bytes()) == want.as_bytes()[1..want.len() - 1], "{text:?}");
            }
        }
    }

    #[test]
    fn neighbours_do_not_hide_each_other() {
        let bytes = [0, 0x1f, 0x20, 0x21, b'"', b'#', b'[', b'\\', b']', 0x7f];
        for a in bytes {
            for b in bytes {
                for pad in 0..18 {
                    let text = [vec![b'x'; pad], vec![a, b, a, b, b]].concat();
                    let text = std::str::from_utf8(&text).unwrap();
                    let want = serde_json::to_string(text).unwrap();
                    assert_eq!(escaped(text.as_bytes()), want.as_bytes()[1..want.len() - 1], "{text:?}");
                }
            }
        }
    }
}
