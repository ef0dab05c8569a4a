//! Writing JSON into a page without an intermediate tree: items are written hundreds of thousands of times a second. Keys are
//! the caller's constants; every value that came from traffic passes through [`Json::string`].
//!
//! Invariant: each value is followed by a comma, which the end of an object or array overwrites. So nobody has to look
//! back for whether one is due; [`Json::document`] takes the last one away.

use agent_core::Timestamp;

use super::escape;
use super::out::{pieced, readable};
use super::page::Page;
use super::spell::{self, Room};

/// A JSON text under construction.
pub(super) struct Json<'a>(pub(super) &'a mut Page);

impl Json<'_> {
    /// Appends one value that is all of the text.
    pub(super) fn append(out: &mut Vec<u8>, write: impl FnOnce(&mut Json<'_>)) {
        let mut page = Page::on(std::mem::take(out));
        Self::document(&mut page, write);
        *out = page.into_text();
    }

    /// Writes one value that is all of the text.
    #[inline]
    pub(super) fn document(page: &mut Page, write: impl FnOnce(&mut Json<'_>)) {
        write(&mut Json(page));
        page.unless_last(b',');
    }

    /// A part of the text as it is.
    #[inline(always)]
    pub(super) fn put(&mut self, text: &'static str) {
        self.0.put(text.as_bytes());
    }

    /// `"name":`, where the name needs no escape.
    pub(super) fn key(&mut self, name: &'static str) {
        self.key_bytes(name.as_bytes(), true);
    }

    /// `"name":`, with a name from traffic.
    pub(super) fn key_bytes(&mut self, name: &[u8], plain: bool) {
        if plain {
            self.0.wrap(b"\"", name, b"\":");
        } else {
            self.quoted(name);
            self.0.put(b":");
        }
    }

    /// A literal as value or element.
    #[inline(always)]
    pub(super) fn value(&mut self, literal: bool) {
        self.0.put(if literal { b"true," } else { b"false," });
    }

    /// Begins an object or array.
    #[inline(always)]
    pub(super) fn open(&mut self, bracket: u8) {
        self.0.put(&[bracket]);
    }

    /// Ends what [`Json::open`] began.
    #[inline(always)]
    pub(super) fn close(&mut self, bracket: u8) {
        self.0.close(bracket);
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
        self.quoted(text);
        self.0.put(b",");
    }

    /// A string in which nothing needs an escape, as value or element.
    pub(super) fn plain(&mut self, text: &[u8]) {
        self.0.wrap(b"\"", text, b"\",");
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
        self.value(value);
    }

    /// A whole number as value or element.
    pub(super) fn integer(&mut self, value: u64) {
        self.0.spell(|into: &mut Room| {
            let at = spell::digits(into, value);
            into[at] = b',';
            at + 1
        });
    }

    /// Nanoseconds as milliseconds with the fraction that they have: `12.345`.
    pub(super) fn milliseconds(&mut self, nanos: u64) {
        self.0.spell(|into: &mut Room| {
            let at = spell::milliseconds(into, nanos);
            into[at] = b',';
            at + 1
        });
    }

    /// A string that `spell` writes, in which nothing needs an escape, as value or element.
    #[inline(always)]
    pub(super) fn spelt(&mut self, spell: impl FnOnce(&mut Room) -> usize) {
        self.0.put(b"\"");
        self.0.spell(spell);
        self.0.put(b"\",");
    }

    /// A string in pieces as value or element; what is not UTF-8 is replaced.
    pub(super) fn pieces(&mut self, pieces: &[&[u8]], plain: bool) {
        self.0.put(b"\"");
        let start = self.0.len();
        if plain {
            pieces.iter().for_each(|piece| self.0.copy(piece));
        } else if !pieces.iter().all(|piece| escape::ascii(self.0, piece)) {
            self.0.truncate(start);
            escape::any(self.0, pieced(pieces).as_bytes());
        }
        self.0.put(b"\",");
    }

    /// A quoted RFC 3339 time in UTC with nanoseconds.
    pub(super) fn rfc3339(&mut self, time: Timestamp) {
        self.spelt(|into| spell::rfc3339(into, time));
    }

    /// Quotes and escapes, as `JSON.stringify` does it.
    fn quoted(&mut self, text: &[u8]) {
        self.0.put(b"\"");
        let start = self.0.len();
        if !escape::ascii(self.0, text) {
            self.0.truncate(start);
            escape::any(self.0, readable(text).as_bytes());
        }
        self.0.put(b"\"");
    }

    /// Lower-case hexadecimal, quoted.
    pub(super) fn hex(&mut self, bytes: &[u8]) {
        self.0.put(b"\"");
        bytes.iter().for_each(|&byte| self.0.put(&spell::hex_of(byte)));
        self.0.put(b"\",");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Json<'_>)) -> String {
        let mut out = Vec::new();
        Json::append(&mut out, write);
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
    fn numbers_and_texts_of_our_own() {
        let json = text(|j| {
            j.array(|j| {
                j.integer(u64::MAX);
                j.milliseconds(12_345_600);
                j.rfc3339(Timestamp::new(951_826_154, 42));
                j.hex(b"\x00\xfe");
                j.pieces(&[b"a\"", "ž".as_bytes(), b"\xff"], false);
                j.pieces(&[b"a", b"", b"b"], true);
            });
        });
        let want = r#"[18446744073709551615,12.3456,"2000-02-29T12:09:14.000000042Z","00fe","a\"ž�","ab"]"#;
        assert_eq!(json, want);
    }
}
