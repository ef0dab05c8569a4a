//! An item as JSON text.

use std::sync::Arc;

use agent_core::Timestamp;
use agent_core::item::HeaderBlock;

use super::item::{ItemView, Part, Shown};
use super::json::Json;
use super::kept::Kept;
use super::out::{Fields, Key, Out, Side, Whole, Word};
use super::page::Page;
use super::redact::Hidden;
use super::spell::{self, Room};
use crate::captured::Captured;

/// Lines of JSON, one after the other, for a sink that writes all of them: it remembers what the next item's text has in common
/// with those before.
#[derive(Debug)]
pub struct Lines {
    view: Arc<ItemView>,
    kept: Kept,
}

impl Lines {
    /// Of items as this view shows them.
    #[must_use]
    pub fn new(view: Arc<ItemView>) -> Self {
        Self { view, kept: Kept::default() }
    }

    /// Appends the item as one JSON object and a line end; nothing but the end for one that has no view.
    pub fn write(&mut self, captured: &Captured, page: &mut Page) {
        if let Some(shown) = self.view.show(captured) {
            let kept = Some(&mut self.kept);
            Json::document(page, |json| ItemText { json: Json(json.0), shown, kept }.part(Part::Item));
        }
        page.put(b"\n");
    }
}

/// Writes the fields of an item.
pub(super) struct ItemText<'a> {
    json: Json<'a>,
    shown: Shown<'a>,
    kept: Option<&'a mut Kept>,
}

impl<'a> ItemText<'a> {
    /// Appends the item.
    pub(super) fn write(out: &mut Vec<u8>, shown: Shown<'_>) {
        Json::append(out, |json| ItemText { json: Json(json.0), shown, kept: None }.part(Part::Item));
    }

    /// Appends one field's value, or nothing, if the part has no such field.
    pub(super) fn write_field(out: &mut Vec<u8>, shown: Shown<'_>, part: Part, name: &str) {
        Json::append(out, |json| {
            let text = ItemText { json: Json(json.0), shown, kept: None };
            shown.fields(part, &mut OneText { name, text });
        });
    }
}

/// Writes the value of one field of a part, and makes no other.
struct OneText<'a> {
    name: &'a str,
    text: ItemText<'a>,
}

impl<'a> Fields for OneText<'a> {
    type Value = ItemText<'a>;

    fn field(&mut self, key: Key, write: impl FnOnce(&mut Self::Value)) {
        if key.name == self.name {
            write(&mut self.text);
        }
    }
}

impl Fields for ItemText<'_> {
    type Value = Self;

    #[inline(always)]
    fn field(&mut self, key: Key, write: impl FnOnce(&mut Self)) {
        self.json.put(key.json);
        write(self);
    }

    #[inline(always)]
    fn of_stream(&mut self, write: impl FnOnce(&mut Self)) {
        if let Some(text) = self.kept.as_ref().and_then(|kept| kept.text(&self.shown)) {
            return self.json.0.copy(text);
        }
        let start = self.json.0.len();
        write(self);
        if let Some(kept) = &mut self.kept {
            kept.keep(&self.shown, self.json.0.since(start));
        }
    }

    #[inline(always)]
    fn of_message(&mut self, whole: Whole<'_>, only: bool, write: impl FnOnce(&mut Self)) {
        let item = &self.shown.captured.item;
        let kept = self.kept.as_ref().filter(|_| only);
        if let Some(text) = kept.and_then(|kept| kept.message(item, whole)) {
            return self.json.0.copy(text);
        }
        let start = self.json.0.len();
        write(self);
        if let Some(kept) = self.kept.as_mut().filter(|_| only) {
            kept.keep_message(item, whole, self.json.0.since(start));
        }
    }

    fn of_head(&mut self, side: Side, head: &HeaderBlock, hidden: &Hidden, write: impl FnOnce(&mut Self)) {
        let stream = self.shown.captured.item.stream;
        let kept = self.kept.as_ref().and_then(|kept| kept.head(stream, side, head, hidden));
        if let Some(text) = kept {
            return self.json.0.copy(text);
        }
        let start = self.json.0.len();
        write(self);
        if let Some(kept) = &mut self.kept {
            kept.keep_head(stream, side, head, hidden, self.json.0.since(start));
        }
    }
}

impl Out for ItemText<'_> {
    #[inline(always)]
    fn null(&mut self) {
        self.json.put("null,");
    }

    #[inline(always)]
    fn boolean(&mut self, value: bool) {
        self.json.value(value);
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
    fn word(&mut self, word: Word) {
        self.json.put(word.json);
    }

    #[inline(always)]
    fn spelt(&mut self, spell: impl FnOnce(&mut Room) -> usize) {
        self.json.spelt(spell);
    }

    fn time(&mut self, time: Timestamp) {
        let (seconds, nanos) = (time.0 / 1_000_000_000, time.0 % 1_000_000_000);
        let second = match &mut self.kept {
            Some(kept) => kept.second(seconds),
            None => spell::second(seconds),
        };
        self.json.spelt(|into| spell::with_nanos(into, second, nanos));
    }

    fn hex(&mut self, bytes: &[u8]) {
        self.json.hex(bytes);
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

    #[inline]
    fn text_entry(&mut self, name: &[u8], value: &[u8], plain: bool) {
        if plain {
            self.json.0.pair(b"\"", [name, value], b"\":\"", b"\",");
        } else {
            self.entry(name, false, |v| v.text(value));
        }
    }

    #[inline]
    fn header(&mut self, name: &[u8], value: &[u8], plain: bool) {
        if plain {
            self.json.0.pair(b"{\"name\":\"", [name, value], b"\",\"value\":\"", b"\"},");
        } else {
            self.json.put("{\"name\":");
            self.text(name);
            self.json.put("\"value\":");
            self.text(value);
            self.json.close(b'}');
        }
    }

    fn part(&mut self, part: Part) {
        let shown = self.shown;
        self.map(|v| shown.fields(part, v));
    }
}
