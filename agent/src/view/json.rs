//! Writing JSON into a byte buffer without an intermediate tree: items are written hundreds of thousands of times a
//! second. Keys are the caller's constants; every value that came from traffic passes through [`Json::string`].

use agent_core::Timestamp;

use super::out::readable;
use crate::utc::civil;

/// A JSON text under construction. Commas come by themselves: a key or element puts one unless it is the first.
pub(super) struct Json<'a>(pub(super) &'a mut Vec<u8>);

const HEX: &[u8; 16] = b"0123456789abcdef";

impl Json<'_> {
    pub(super) fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    fn separate(&mut self) {
        if !matches!(self.0.last(), None | Some(b'{' | b'[' | b':')) {
            self.0.push(b',');
        }
    }

    /// `"name":`, where the name needs no escape.
    pub(super) fn key(&mut self, name: &'static str) {
        self.separate();
        self.0.push(b'"');
        self.raw(name);
        self.raw("\":");
    }

    /// `"name":`, with a name from traffic.
    pub(super) fn key_bytes(&mut self, name: &[u8]) {
        self.separate();
        self.quoted(name);
        self.0.push(b':');
    }

    /// Begins an object or array as value or element.
    pub(super) fn open(&mut self, bracket: u8) {
        self.separate();
        self.0.push(bracket);
    }

    /// Ends what [`Json::open`] began.
    pub(super) fn close(&mut self, bracket: u8) {
        self.0.push(bracket);
    }

    /// A literal as value or element.
    pub(super) fn value(&mut self, literal: &str) {
        self.separate();
        self.raw(literal);
    }

    /// An object as value or element.
    pub(super) fn object(&mut self, body: impl FnOnce(&mut Self)) {
        self.open(b'{');
        body(self);
        self.close(b'}');
    }

    /// An array as value or element.
    pub(super) fn array(&mut self, body: impl FnOnce(&mut Self)) {
        self.open(b'[');
        body(self);
        self.close(b']');
    }

    /// A string as value or element.
    pub(super) fn string(&mut self, text: &[u8]) {
        self.separate();
        self.quoted(text);
    }

    /// `"name":"text"`.
    pub(super) fn field(&mut self, name: &'static str, text: &[u8]) {
        self.key(name);
        self.quoted(text);
    }

    /// `"name":123`.
    pub(super) fn number(&mut self, name: &'static str, value: u64) {
        self.key(name);
        self.integer(value);
    }

    /// `"name":true`.
    pub(super) fn boolean(&mut self, name: &'static str, value: bool) {
        self.key(name);
        self.raw(if value { "true" } else { "false" });
    }

    /// Decimal digits.
    pub(super) fn integer(&mut self, value: u64) {
        self.padded(value, 1);
    }

    /// Decimal digits, at least `width` of them.
    pub(super) fn padded(&mut self, mut value: u64, width: usize) {
        let mut digits = [b'0'; 20];
        let mut at = digits.len();
        while value > 0 {
            at -= 1;
            digits[at] = b'0' + (value % 10) as u8;
            value /= 10;
        }
        at = at.min(digits.len() - width.min(digits.len()));
        self.0.extend_from_slice(&digits[at..]);
    }

    /// Nanoseconds as milliseconds with the fraction that they have: `12.345`.
    pub(super) fn milliseconds(&mut self, nanos: u64) {
        self.integer(nanos / 1_000_000);
        let fraction = nanos % 1_000_000;
        if fraction != 0 {
            self.0.push(b'.');
            self.padded(fraction, 6);
            while self.0.last() == Some(&b'0') {
                self.0.pop();
            }
        }
    }

    /// A quoted RFC 3339 time in UTC with nanoseconds.
    pub(super) fn rfc3339(&mut self, time: Timestamp) {
        self.separate();
        self.0.push(b'"');
        rfc3339(time, self.0);
        self.0.push(b'"');
    }

    /// Quotes and escapes, as `JSON.stringify` does it.
    fn quoted(&mut self, text: &[u8]) {
        self.0.push(b'"');
        self.escaped(readable(text).as_bytes());
        self.0.push(b'"');
    }

    fn escaped(&mut self, text: &[u8]) {
        let mut done = 0;
        for (at, &byte) in text.iter().enumerate() {
            if byte >= 0x20 && byte != b'"' && byte != b'\\' {
                continue;
            }
            self.0.extend_from_slice(&text[done..at]);
            done = at + 1;
            match byte {
                b'"' => self.raw("\\\""),
                b'\\' => self.raw("\\\\"),
                b'\n' => self.raw("\\n"),
                b'\r' => self.raw("\\r"),
                b'\t' => self.raw("\\t"),
                0x08 => self.raw("\\b"),
                0x0c => self.raw("\\f"),
                _ => {
                    self.raw("\\u00");
                    self.0.push(HEX[usize::from(byte >> 4)]);
                    self.0.push(HEX[usize::from(byte & 15)]);
                }
            }
        }
        self.0.extend_from_slice(&text[done..]);
    }

    /// Lower-case hexadecimal, quoted.
    pub(super) fn hex(&mut self, bytes: &[u8]) {
        self.separate();
        self.0.push(b'"');
        hex(bytes, self.0);
        self.0.push(b'"');
    }
}

/// Appends lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        out.push(HEX[usize::from(byte >> 4)]);
        out.push(HEX[usize::from(byte & 15)]);
    }
}

/// Writes `2026-11-21T09:55:00.123456789Z`.
pub(super) fn rfc3339(time: Timestamp, out: &mut Vec<u8>) {
    let (seconds, nanos) = (time.0 / 1_000_000_000, time.0 % 1_000_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let mut json = Json(out);
    for (value, width, end) in [
        (year, 4, b'-'),
        (month, 2, b'-'),
        (day, 2, b'T'),
        (second / 3600, 2, b':'),
        (second / 60 % 60, 2, b':'),
        (second % 60, 2, b'.'),
        (nanos, 9, b'Z'),
    ] {
        json.padded(value, width);
        json.0.push(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Json<'_>)) -> String {
        let mut out = Vec::new();
        write(&mut Json(&mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn commas_come_by_themselves() {
        let json = text(|j| {
            j.object(|j| {
                j.number("a", 1);
                j.key("b");
                j.array(|j| {
                    j.string(b"x");
                    j.object(|j| j.number("y", 2));
                    j.array(|_| ());
                });
                j.boolean("c", false);
            });
        });
        assert_eq!(json, r#"{"a":1,"b":["x",{"y":2},[]],"c":false}"#);
    }

    #[test]
    fn strings_survive_a_real_parser() {
        for bytes in [&b"plain"[..], b"\"\\\n\r\t\x00\x1f\x7f", "žluť 🐟".as_bytes(), b"", b"{[,:"] {
            let parsed: String = serde_json::from_str(&text(|j| j.string(bytes))).unwrap();
            assert_eq!(parsed.as_bytes(), bytes);
        }
        let latin1: String = serde_json::from_str(&text(|j| j.string(b"caf\xe9\""))).unwrap();
        assert_eq!(latin1, "café\"");
    }

    #[test]
    fn times_and_fractions() {
        assert_eq!(text(|j| j.rfc3339(Timestamp::new(0, 0))), "\"1970-01-01T00:00:00.000000000Z\"");
        assert_eq!(
            text(|j| j.rfc3339(Timestamp::new(951_826_154, 42))),
            "\"2000-02-29T12:09:14.000000042Z\""
        );
        assert_eq!(
            text(|j| j.rfc3339(Timestamp::new(4_107_542_399, 7))),
            "\"2100-02-28T23:59:59.000000007Z\""
        );
        assert_eq!(
            text(|j| j.rfc3339(Timestamp::new(4_107_542_400, 7))),
            "\"2100-03-01T00:00:00.000000007Z\""
        );
        assert_eq!(text(|j| j.milliseconds(12_345_600)), "12.3456");
        assert_eq!(text(|j| j.milliseconds(100)), "0.0001");
        assert_eq!(text(|j| j.milliseconds(30_000_000)), "30");
        assert_eq!(text(|j| j.milliseconds(0)), "0");
        assert_eq!(text(|j| j.integer(u64::MAX)), u64::MAX.to_string());
    }
}
