//! The first fields of an item's JSON, which are its numbers: written later than the rest, by whoever knows them.

use agent_core::StreamId;

use super::spell;

/// What an item without numbers (stream 0, index 0) begins with.
pub(crate) const BLANK: &[u8] = br#"{"id":"000000000000-0","index":0,"stream":"000000000000""#;

/// Appends what stands in the place of [`BLANK`].
pub(crate) fn head(stream: StreamId, index: u64, out: &mut Vec<u8>) {
    let (mut name, mut number) = ([0; 64], [0; 64]);
    let name_len = spell::stream(&mut name, stream.0);
    let number_len = spell::digits(&mut number, index);
    let (name, number) =
        (name.get(..name_len).unwrap_or_default(), number.get(..number_len).unwrap_or_default());
    for part in
        [&br#"{"id":""#[..], name, b"-", number, br#"","index":"#, number, br#","stream":""#, name, b"\""]
    {
        out.extend_from_slice(part);
    }
}

/// By how much longer a head is than [`BLANK`].
pub(crate) fn more(stream: StreamId, index: u64) -> usize {
    let digits = |value: u64| value.checked_ilog10().unwrap_or(0) as usize + 1;
    2 * (digits(stream.0).max(12) - 12) + 2 * (digits(index) - 1)
}

/// The most that is.
pub(crate) const LONGER: usize = 2 * (20 - 12) + 2 * (20 - 1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_at_most_so_much_longer() {
        let of = |stream, index| {
            let mut out = Vec::new();
            head(StreamId(stream), index, &mut out);
            out
        };
        assert_eq!(of(0, 0), BLANK);
        assert_eq!(of(7, 12), br#"{"id":"000000000007-12","index":12,"stream":"000000000007""#);
        assert_eq!(of(u64::MAX, u64::MAX).len(), BLANK.len() + LONGER);
        for stream in [0, 7, 999_999_999_999, 1_000_000_000_000, u64::MAX] {
            for index in [0, 9, 10, 12_345, 99_999_999, u64::MAX] {
                assert_eq!(of(stream, index).len(), BLANK.len() + more(StreamId(stream), index));
            }
        }
    }
}
