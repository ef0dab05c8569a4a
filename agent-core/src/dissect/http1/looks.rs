//! How a well-formed head looks: in one pass over its bytes, sixteen at a time, what framing's oddities and views ask.

/// What all bytes of a well-formed head have in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Looks {
    /// A line feed has no carriage return before it.
    pub(super) bare_lf: bool,
    /// Besides line ends there is only printable ASCII without quotation marks and backslashes.
    pub(super) plain: bool,
}

impl Looks {
    /// Sixteen bytes at a time, each with the one before it.
    pub(super) fn of(bytes: &[u8]) -> Self {
        const STEP: usize = 16;
        let Some(last) = bytes.len().checked_sub(STEP + 1) else { return Self::each(bytes, 0) };
        // A flag for each of the sixteen places, so that the compiler makes vectors of them.
        let first = Self::each(&bytes[..1], 0);
        let (mut bare, mut odd) = ([0; STEP], [0; STEP]);
        let mut at = 0;
        while let Some(window) = bytes.get(at..=at + STEP) {
            if let (Some((before, _)), Some(these)) =
                (window.split_first_chunk::<STEP>(), window.last_chunk::<STEP>())
            {
                for n in 0..STEP {
                    bare[n] |= u8::from((these[n] == b'\n') & (before[n] != b'\r'));
                    odd[n] |= u8::from(Self::odd(these[n]));
                }
            }
            at = if at < last { (at + STEP).min(last) } else { bytes.len() };
        }
        Self { bare_lf: first.bare_lf | (bare != [0; STEP]), plain: first.plain & (odd == [0; STEP]) }
    }

    fn each(bytes: &[u8], mut before: u8) -> Self {
        let mut looks = Self { bare_lf: false, plain: true };
        for &byte in bytes {
            looks.bare_lf |= byte == b'\n' && before != b'\r';
            looks.plain &= !Self::odd(byte);
            before = byte;
        }
        looks
    }

    const fn odd(byte: u8) -> bool {
        let printable = byte.wrapping_sub(b' ') < 0x5f;
        let line_end = (byte == b'\r') | (byte == b'\n');
        !(printable | line_end) | (byte == b'"') | (byte == b'\\')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_head_looks_does_not_depend_on_where_its_bytes_are() {
        for length in 0..70 {
            let plain: Vec<u8> = (0..length).map(|n| b"GET / HTTP/1.1\r\nHost: x\r\n"[n % 25]).collect();
            assert_eq!(Looks::of(&plain), Looks { bare_lf: false, plain: true }, "{length}");
            for at in 0..length {
                for odd in [0, 9, 0x1f, b'"', b'\\', 0x7f, 0x80, 0xff, b'\n', b'~', b' '] {
                    let mut bytes = plain.clone();
                    bytes[at] = odd;
                    let pairs = bytes.iter().enumerate();
                    let bare = |(n, &b): (usize, &u8)| b == b'\n' && (n == 0 || bytes[n - 1] != b'\r');
                    let looks = Looks::of(&bytes);
                    assert_eq!(looks.bare_lf, pairs.clone().any(bare), "{odd} at {at} of {length}");
                    assert_eq!(looks.plain, matches!(odd, b'\n' | b'~' | b' '), "{odd} at {at} of {length}");
                }
            }
        }
    }
}
