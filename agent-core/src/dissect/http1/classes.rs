//! Classes of bytes, 64 at a time, as bits: what a head's reader looks for is then found by counting zeros.

use wide::{i8x16, u8x16};

/// Bytes in a window.
pub(super) const WINDOW: usize = 64;

/// A bit for each byte of a window, the first one's the lowest.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Classes {
    /// Line ends, other control characters, and what is not ASCII.
    pub(super) control: u64,
    /// Letters, digits and dashes.
    pub(super) name: u64,
    /// Quotation marks and backslashes.
    pub(super) quote: u64,
}

impl Classes {
    /// Those of the bytes from `at` on. Behind the last byte all is control.
    #[inline]
    pub(super) fn at(bytes: &[u8], at: usize) -> Self {
        let rest = bytes.get(at..).unwrap_or_default();
        if let Some(window) = rest.first_chunk() {
            return Self::of(window);
        }
        let missing = WINDOW - rest.len();
        let all = if let Some(last) = bytes.last_chunk() {
            // Bits of bytes before `at` are shifted out.
            let Self { control, name, quote } = Self::of(last);
            Self {
                control: control.unbounded_shr(missing as u32),
                name: name.unbounded_shr(missing as u32),
                quote: quote.unbounded_shr(missing as u32),
            }
        } else {
            let mut window = [0; WINDOW];
            window[..rest.len()].copy_from_slice(rest);
            Self::of(&window)
        };
        Self { control: all.control | u64::MAX.unbounded_shl(rest.len() as u32), ..all }
    }

    /// Those of a window.
    fn of(window: &[u8; WINDOW]) -> Self {
        let mut all = Self::default();
        for (n, part) in window.as_chunks().0.iter().enumerate() {
            let bytes = u8x16::new(*part);
            let is = |byte| bytes.simd_eq(u8x16::splat(byte)).cast_signed();
            // Compared as signed, bytes beyond ASCII are less than all others.
            let control = bytes.cast_signed().simd_lt(i8x16::splat(0x20)) | is(0x7f);
            let small = bytes | u8x16::splat(0x20);
            let name = within(small, b'a', b'z') | within(bytes, b'0', b'9') | is(b'-');
            let quote = is(b'"') | is(b'\\');
            let bits = |found: i8x16| u64::from(found.to_bitmask()) << (n * part.len());
            all.control |= bits(control);
            all.name |= bits(name);
            all.quote |= bits(quote);
        }
        all
    }
}

/// Which bytes are from `first` to `last`: moved to where the smallest signed ones are.
#[inline]
fn within(bytes: u8x16, first: u8, last: u8) -> i8x16 {
    let moved = bytes - u8x16::splat(first.wrapping_sub(0x80));
    moved.cast_signed().simd_lt(i8x16::splat((last - first + 1).wrapping_sub(0x80).cast_signed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each(bytes: &[u8], at: usize) -> Classes {
        let mut all = Classes::default();
        for n in 0..WINDOW {
            let Some(&byte) = bytes.get(at + n) else {
                all.control |= 1 << n;
                continue;
            };
            all.control |= u64::from(!(b' '..=b'~').contains(&byte)) << n;
            all.name |= u64::from(byte.is_ascii_alphanumeric() || byte == b'-') << n;
            all.quote |= u64::from(matches!(byte, b'"' | b'\\')) << n;
        }
        all
    }

    #[test]
    fn every_byte_is_in_its_classes_wherever_it_is() {
        for length in [0, 1, 7, 8, 16, 63, 64, 65, 100, 128, 200] {
            for shift in 0..=255u8 {
                let bytes: Vec<u8> = (0..length).map(|n: u8| n.wrapping_add(shift)).collect();
                for at in [0, 1, 17, 63, 64, 100, usize::from(length)] {
                    if at <= bytes.len() {
                        assert_eq!(Classes::at(&bytes, at), each(&bytes, at), "{shift}: {at} of {length}");
                    }
                }
            }
        }
    }
}
