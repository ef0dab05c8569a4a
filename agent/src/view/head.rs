//! The first fields of an item's JSON, which are its numbers: written later than the rest, by whoever knows them.

use agent_core::StreamId;

use super::json::{digits, padded};

/// What an item without numbers (stream 0, index 0) begins with.
pub(crate) const BLANK: &[u8] = br#"{"id":"000000000000-0","index":0,"stream":"000000000000""#;

/// Appends what stands in the place of [`BLANK`].
pub(crate) fn head(stream: StreamId, index: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"id":""#);
    padded(out, stream.0, 12);
    out.push(b'-');
    digits(out, index);
    out.extend_from_slice(br#"","index":"#);
    digits(out, index);
    out.extend_from_slice(br#","stream":""#);
    padded(out, stream.0, 12);
    out.push(b'"');
}

/// By how much a head can be longer than [`BLANK`]: twice the digits of the largest stream beyond twelve, and of an index.
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
    }
}
