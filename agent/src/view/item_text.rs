//! An item as JSON text.

use super::item::{Part, Shown};
use super::json::Json;
use super::out::{Fields, Key, Out};

/// Writes the fields of an item.
pub(super) struct ItemText<'a> {
    json: Json<'a>,
    shown: Shown<'a>,
}

impl<'a> ItemText<'a> {
    /// Appends the item.
    pub(super) fn write(out: &mut Vec<u8>, shown: Shown<'_>) {
        Json::document(out, |json| ItemText { json: Json(json.0), shown }.part(Part::Item));
    }
}

impl Fields for ItemText<'_> {
    type Value = Self;

    #[inline(always)]
    fn field(&mut self, key: Key, write: impl FnOnce(&mut Self)) {
        self.json.put(key.json);
        write(self);
    }
}

impl Out for ItemText<'_> {
    #[inline(always)]
    fn null(&mut self) {
        self.json.value("null");
    }

    #[inline(always)]
    fn boolean(&mut self, value: bool) {
        self.json.value(if value { "true" } else { "false" });
    }

    fn number(&mut self, value: u64) {
        self.json.integer(value);
    }

    fn milliseconds(&mut self, nanos: u64) {
        self.json.milliseconds(nanos);
    }

    fn text(&mut self, bytes: &[u8]) {
        self.json.string(bytes);
    }

    #[inline(always)]
    fn plain(&mut self, text: &[u8]) {
        self.json.plain(text);
    }

    #[inline(always)]
    fn spelt(&mut self, spell: impl FnOnce(&mut Vec<u8>)) {
        self.json.spelt(spell);
    }

    fn pieces(&mut self, pieces: &[&[u8]], plain: bool) {
        self.json.pieces(pieces, plain);
    }

    #[inline(always)]
    fn list(&mut self, elements: impl FnOnce(&mut Self)) {
        self.json.open(b'[');
        elements(self);
        self.json.close(b']');
    }

    #[inline(always)]
    fn map(&mut self, entries: impl FnOnce(&mut Self)) {
        self.json.open(b'{');
        entries(self);
        self.json.close(b'}');
    }

    fn entry(&mut self, name: &[u8], plain: bool, write: impl FnOnce(&mut Self)) {
        self.json.key_bytes(name, plain);
        write(self);
    }

    fn part(&mut self, part: Part) {
        let shown = self.shown;
        self.map(|v| shown.fields(part, v));
    }
}
