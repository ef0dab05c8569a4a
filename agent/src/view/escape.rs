//! Strings of JSON: what needs no escape is copied as it is looked at, eight or sixteen bytes at a time.
//!
//! Escaped as `JSON.stringify` does it: `"`, `\` and control characters, the shortest form of each.

use super::json::hex_of;

/// Appends ASCII text, escaped. `false`: it is not ASCII; what was appended then is to be taken back.
pub(super) fn ascii(out: &mut Vec<u8>, text: &[u8]) -> bool {
    // Most texts need no escape, and then this is all the room that they need.
    out.reserve(text.len() + 16);
    let mut rest = text;
    while !rest.is_empty() {
        rest = plain(out, rest);
        let Some((&byte, after)) = rest.split_first() else { break };
        if byte >= 0x80 {
            return false;
        }
        escape(out, byte);
        rest = after;
    }
    true
}

/// Appends UTF-8, escaped.
pub(super) fn any(out: &mut Vec<u8>, text: &[u8]) {
    out.reserve(text.len());
    for piece in text.chunk_by(|&a, &b| !needs(a) && !needs(b)) {
        match piece {
            [byte] if needs(*byte) => escape(out, *byte),
            _ => out.extend_from_slice(piece),
        }
    }
}

/// Copies bytes up to the first one that is special, which is then the first of what is left.
#[inline]
fn plain<'a>(out: &mut Vec<u8>, mut text: &'a [u8]) -> &'a [u8] {
    // Eight first: where one byte needed an escape, the next one that does is mostly near.
    while let Some((chunk, after)) = text.split_first_chunk::<8>() {
        let special = special(u64::from_le_bytes(*chunk));
        out.extend_from_slice(chunk);
        if special != 0 {
            let clean = special.trailing_zeros() as usize / 8;
            out.truncate(out.len() - 8 + clean);
            return &text[clean..];
        }
        text = after;
        while let Some((chunk, after)) = text.split_first_chunk::<16>()
            && !any_special(chunk)
        {
            out.extend_from_slice(chunk);
            text = after;
        }
    }
    // Two halves that overlap: fewer steps than byte by byte.
    if let (Some((low, _)), Some(high)) = (text.split_first_chunk::<4>(), text.last_chunk::<4>()) {
        let both = u64::from(u32::from_le_bytes(*low)) | u64::from(u32::from_le_bytes(*high)) << 32;
        if special(both) == 0 {
            out.extend_from_slice(low);
            out.truncate(out.len() - (8 - text.len()));
            out.extend_from_slice(high);
            return &[];
        }
    }
    let clean = text.iter().take_while(|&&byte| !needs(byte) && byte < 0x80).count();
    for &byte in &text[..clean] {
        out.push(byte);
    }
    &text[clean..]
}

/// Whether a byte needs an escape.
const fn needs(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Written so that the compiler looks at all sixteen at once.
#[inline]
fn any_special(chunk: &[u8; 16]) -> bool {
    chunk.iter().fold(false, |any, &byte| any | needs(byte) | (byte >= 0x80))
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

#[cold]
#[inline(never)]
fn control(out: &mut Vec<u8>, byte: u8) {
    let [high, low] = hex_of(byte);
    out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
}

#[inline]
fn escape(out: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => return control(out, byte),
    };
    out.extend_from_slice(&[b'\\', short]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &[u8]) -> Vec<u8> {
        let mut out = b"before".to_vec();
        if !ascii(&mut out, text) {
            out.truncate(6);
            any(&mut out, text);
        }
        out.split_off(6)
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
