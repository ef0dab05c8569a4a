//! Where the description of an item writes to: JSON text, or objects of a script. Whoever implements [`Out`] gets the
//! same fields in the same order, so that the forms of an item cannot part.

use agent_core::Timestamp;

use super::item::Part;
use super::json::{hex, rfc3339};

/// Takes the fields of one object in their order. `write` is called only where the value is wanted, and writes one.
pub(crate) trait Fields {
    /// Takes a value.
    type Value: Out;

    /// One field.
    fn field(&mut self, name: &'static str, write: impl FnOnce(&mut Self::Value));
}

/// Takes one value: exactly one method is called for it.
pub(crate) trait Out: Fields<Value = Self> + Sized {
    /// `null`.
    fn null(&mut self);

    /// `true` or `false`.
    fn boolean(&mut self, value: bool);

    /// A whole number.
    fn number(&mut self, value: u64);

    /// Nanoseconds as milliseconds with the fraction that they have.
    fn milliseconds(&mut self, nanos: u64);

    /// Text that came from anywhere. What is not UTF-8 is read as Latin-1, see [`readable`].
    fn text(&mut self, bytes: &[u8]);

    /// An array of the values that `elements` writes.
    fn list(&mut self, elements: impl FnOnce(&mut Self));

    /// An object of the fields and entries that `entries` writes.
    fn map(&mut self, entries: impl FnOnce(&mut Self));

    /// As [`Out::map`], of headers: a script finds them by names in lower case as well.
    fn headers(&mut self, entries: impl FnOnce(&mut Self)) {
        self.map(entries);
    }

    /// In a map: one entry, whose name came from traffic.
    fn entry(&mut self, name: &[u8], write: impl FnOnce(&mut Self));

    /// A part of the item with fields of its own.
    fn part(&mut self, part: Part);

    /// RFC 3339 in UTC with nanoseconds.
    fn time(&mut self, time: Timestamp) {
        let mut text = Vec::with_capacity(32);
        rfc3339(time, &mut text);
        self.text(&text);
    }

    /// Lower-case hexadecimal.
    fn hex(&mut self, bytes: &[u8]) {
        let mut text = Vec::with_capacity(2 * bytes.len());
        hex(bytes, &mut text);
        self.text(&text);
    }
}

/// Bytes as text. What is not UTF-8 is read as Latin-1, byte for byte, so that nothing is lost.
pub(crate) fn readable(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| bytes.iter().copied().map(char::from).collect(), Into::into)
}

/// Text of at most 64 bytes without an allocation: addresses and numbers. The rest is cut.
pub(super) struct Short {
    bytes: [u8; 64],
    len: usize,
}

impl Short {
    pub(super) fn new(text: std::fmt::Arguments<'_>) -> Self {
        let mut short = Self { bytes: [0; 64], len: 0 };
        // Err: it was cut.
        let _ = std::fmt::Write::write_fmt(&mut short, text);
        short
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl std::fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_whatever_it_is() {
        assert_eq!(readable("žluť".as_bytes()), "žluť");
        assert_eq!(readable(b"caf\xe9"), "café");
    }

    #[test]
    fn short_text_is_cut_at_a_piece() {
        assert_eq!(Short::new(format_args!("{:012}-{}", 7, 8)).bytes(), b"000000000007-8");
        assert_eq!(Short::new(format_args!("a{}", "b".repeat(64))).bytes(), b"a");
    }
}
