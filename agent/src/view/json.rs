//! Writing JSON into a byte buffer without an intermediate tree: items are written hundreds of thousands of times a
//! second. Keys are the caller's constants; every value that came from traffic passes through [`Json::string`].
//!
//! Invariant: each value is followed by a comma, which the end of an object or array overwrites. So nobody has to look
//! back for whether one is due; [`Json::document`] takes the last one away.

use std::io::Write as _;
use std::net::IpAddr;

use agent_core::Timestamp;

use super::escape;
use super::out::{pieced, readable};
use crate::utc::civil;

/// A JSON text under construction.
pub(super) struct Json<'a>(pub(super) &'a mut Vec<u8>);

const HEX: &[u8; 16] = b"0123456789abcdef";

/// `00` to `99`.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut n = 0;
    while n < 100 {
        pairs[n] = [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8];
        n += 1;
    }
    pairs
};

/// `0.` to `255.`, with their lengths.
const OCTETS: [([u8; 4], u8); 256] = {
    let mut octets = [([b'.'; 4], 0); 256];
    let mut n = 0;
    while n < 256 {
        let [_, hundreds] = PAIRS[n / 100];
        let [tens, ones] = PAIRS[n % 100];
        octets[n] = match n {
            0..10 => ([ones, b'.', b'.', b'.'], 2),
            10..100 => ([tens, ones, b'.', b'.'], 3),
            _ => ([hundreds, tens, ones, b'.'], 4),
        };
        n += 1;
    }
    octets
};

impl Json<'_> {
    /// Writes one value that is all of the text.
    pub(super) fn document(out: &mut Vec<u8>, write: impl FnOnce(&mut Json<'_>)) {
        write(&mut Json(out));
        out.pop();
    }

    fn comma(&mut self) {
        self.0.push(b',');
    }

    /// A part of the text as it is.
    #[inline(always)]
    pub(super) fn put(&mut self, text: &'static str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    /// `"name":`, where the name needs no escape.
    pub(super) fn key(&mut self, name: &'static str) {
        self.key_bytes(name.as_bytes(), true);
    }

    /// `"name":`, with a name from traffic.
    pub(super) fn key_bytes(&mut self, name: &[u8], plain: bool) {
        if plain {
            self.0.push(b'"');
            self.0.extend_from_slice(name);
            self.0.extend_from_slice(b"\":");
        } else {
            self.quoted(name);
            self.0.push(b':');
        }
    }

    /// A literal as value or element.
    #[inline(always)]
    pub(super) fn value(&mut self, literal: &'static str) {
        self.0.extend_from_slice(literal.as_bytes());
        self.comma();
    }

    /// An object or array as value or element.
    #[inline(always)]
    pub(super) fn enclosed(&mut self, [open, close]: [u8; 2], body: impl FnOnce(&mut Self)) {
        self.open(open);
        body(self);
        self.close(close);
    }

    /// Begins an object or array.
    #[inline(always)]
    pub(super) fn open(&mut self, bracket: u8) {
        self.0.push(bracket);
    }

    /// Ends what [`Json::open`] began.
    #[inline(always)]
    pub(super) fn close(&mut self, bracket: u8) {
        if self.0.last() == Some(&b',') {
            self.0.pop();
        }
        self.0.extend_from_slice(&[bracket, b',']);
    }

    /// An object as value or element.
    pub(super) fn object(&mut self, body: impl FnOnce(&mut Self)) {
        self.enclosed(*b"{}", body);
    }

    /// An array as value or element.
    pub(super) fn array(&mut self, body: impl FnOnce(&mut Self)) {
        self.enclosed(*b"[]", body);
    }

    /// A string as value or element.
    pub(super) fn string(&mut self, text: &[u8]) {
        self.quoted(text);
        self.comma();
    }

    /// A string in which nothing needs an escape, as value or element.
    #[inline(always)]
    pub(super) fn plain(&mut self, text: &[u8]) {
        self.0.push(b'"');
        self.0.extend_from_slice(text);
        self.0.extend_from_slice(b"\",");
    }

    /// `"name":"text"`.
    pub(super) fn field(&mut self, name: &'static str, text: &[u8]) {
        self.key(name);
        self.string(text);
    }

    /// `"name":123`.
    pub(super) fn number(&mut self, name: &'static str, value: u64) {
        self.key(name);
        self.integer(value);
    }

    /// `"name":true`.
    pub(super) fn boolean(&mut self, name: &'static str, value: bool) {
        self.key(name);
        self.value(if value { "true" } else { "false" });
    }

    /// A whole number as value or element.
    pub(super) fn integer(&mut self, value: u64) {
        digits(self.0, value);
        self.comma();
    }

    /// Nanoseconds as milliseconds with the fraction that they have: `12.345`.
    pub(super) fn milliseconds(&mut self, nanos: u64) {
        digits(self.0, nanos / 1_000_000);
        let fraction = nanos % 1_000_000;
        if fraction != 0 {
            self.0.push(b'.');
            padded(self.0, fraction, 6);
            while self.0.last() == Some(&b'0') {
                self.0.pop();
            }
        }
        self.comma();
    }

    /// A string that `spell` appends, in which nothing needs an escape, as value or element.
    #[inline(always)]
    pub(super) fn spelt(&mut self, spell: impl FnOnce(&mut Vec<u8>)) {
        self.0.push(b'"');
        spell(self.0);
        self.0.extend_from_slice(b"\",");
    }

    /// A string in pieces as value or element; what is not UTF-8 is replaced.
    pub(super) fn pieces(&mut self, pieces: &[&[u8]], plain: bool) {
        self.0.push(b'"');
        let start = self.0.len();
        if plain {
            pieces.iter().for_each(|piece| self.0.extend_from_slice(piece));
        } else if !pieces.iter().all(|piece| escape::ascii(self.0, piece)) {
            self.0.truncate(start);
            escape::any(self.0, pieced(pieces).as_bytes());
        }
        self.0.extend_from_slice(b"\",");
    }

    /// A quoted RFC 3339 time in UTC with nanoseconds.
    pub(super) fn rfc3339(&mut self, time: Timestamp) {
        self.spelt(|out| rfc3339(time, out));
    }

    /// Quotes and escapes, as `JSON.stringify` does it.
    fn quoted(&mut self, text: &[u8]) {
        self.0.push(b'"');
        let start = self.0.len();
        if !escape::ascii(self.0, text) {
            self.0.truncate(start);
            escape::any(self.0, readable(text).as_bytes());
        }
        self.0.push(b'"');
    }

    /// Lower-case hexadecimal, quoted.
    pub(super) fn hex(&mut self, bytes: &[u8]) {
        self.spelt(|out| hex(bytes, out));
    }
}

/// Appends decimal digits.
pub(super) fn digits(out: &mut Vec<u8>, value: u64) {
    match value {
        0..10 => out.push(b'0' + value as u8),
        10..100 => out.extend_from_slice(&PAIRS[value as usize]),
        100..1000 => {
            let [_, hundreds] = PAIRS[(value / 100) as usize];
            let [tens, ones] = PAIRS[(value % 100) as usize];
            out.extend_from_slice(&[hundreds, tens, ones]);
        }
        _ => padded(out, value, 1),
    }
}

/// Appends decimal digits, at least `width` of them.
pub(super) fn padded(out: &mut Vec<u8>, mut value: u64, width: usize) {
    let mut text = [b'0'; 20];
    let mut at = text.len();
    while value > 0 {
        at -= 2;
        text[at..at + 2].copy_from_slice(&PAIRS[(value % 100) as usize]);
        value /= 100;
    }
    if text.get(at) == Some(&b'0') {
        at += 1;
    }
    at = at.min(text.len() - width.min(text.len()));
    out.extend_from_slice(&text[at..]);
}

/// Appends an address.
pub(super) fn ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            for octet in ip.octets() {
                let (text, len) = OCTETS[usize::from(octet)];
                out.extend_from_slice(&text);
                out.truncate(out.len() - text.len() + usize::from(len));
            }
            out.pop();
        }
        IpAddr::V6(ip) => {
            // Writing to a Vec cannot fail.
            let _ = write!(out, "{ip}");
        }
    }
}

/// Appends lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        out.extend_from_slice(&hex_of(byte));
    }
}

/// Two digits of hexadecimal.
pub(super) const fn hex_of(byte: u8) -> [u8; 2] {
    [HEX[(byte >> 4) as usize], HEX[(byte & 15) as usize]]
}

/// Writes `2026-11-21T09:55:00.123456789Z`.
pub(super) fn rfc3339(time: Timestamp, out: &mut Vec<u8>) {
    let pair = |n: u64| PAIRS[(n % 100) as usize];
    let (seconds, nanos) = (time.0 / 1_000_000_000, time.0 % 1_000_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // A time stamp of 64 bits ends in the year 2554.
    let (year, month, day) = civil(days);
    let mut text = *b"0000-00-00T00:00:00.000000000Z";
    for (at, two) in [
        (0, year / 100),
        (2, year),
        (5, month),
        (8, day),
        (11, second / 3600),
        (14, second / 60 % 60),
        (17, second % 60),
        (21, nanos / 1_000_000),
        (23, nanos / 10_000),
        (25, nanos / 100),
        (27, nanos),
    ] {
        text[at..at + 2].copy_from_slice(&pair(two));
    }
    text[20] = b'0' + (nanos / 100_000_000) as u8;
    out.extend_from_slice(&text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Json<'_>)) -> String {
        let mut out = Vec::new();
        Json::document(&mut out, write);
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
                j.field("a name that is longer than most", b",");
            });
        });
        assert_eq!(json, r#"{"a":1,"b":["x",{"y":2},[]],"c":false,"a name that is longer than most":","}"#);
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
            text(|j| j.rfc3339(Timestamp::new(4_107_542_399, 123_456_789))),
            "\"2100-02-28T23:59:59.123456789Z\""
        );
        assert_eq!(
            text(|j| j.rfc3339(Timestamp::new(4_107_542_400, 7))),
            "\"2100-03-01T00:00:00.000000007Z\""
        );
        assert_eq!(text(|j| j.milliseconds(12_345_600)), "12.3456");
        assert_eq!(text(|j| j.milliseconds(100)), "0.0001");
        assert_eq!(text(|j| j.milliseconds(30_000_000)), "30");
        assert_eq!(text(|j| j.milliseconds(0)), "0");
    }

    #[test]
    fn numbers_and_addresses() {
        let near = (0..20).flat_map(|n| [10u64.pow(n) - 1, 10u64.pow(n), 10u64.pow(n) + 1]);
        for value in near.chain([u64::MAX]) {
            assert_eq!(text(|j| j.integer(value)), value.to_string());
            let mut out = Vec::new();
            padded(&mut out, value, 12);
            assert_eq!(out, format!("{value:012}").as_bytes());
        }
        for n in 0..=255 {
            let mut out = Vec::new();
            ip(&mut out, IpAddr::from([n, 255 - n, n, n / 10]));
            assert_eq!(out, format!("{n}.{}.{n}.{}", 255 - n, n / 10).as_bytes());
        }
        for address in ["0.0.0.0", "255.10.100.9", "::1", "2001:db8::ffff:1.2.3.4"] {
            let (address, mut out): (IpAddr, _) = (address.parse().unwrap(), Vec::new());
            ip(&mut out, address);
            assert_eq!(out, address.to_string().as_bytes());
        }
    }
}
