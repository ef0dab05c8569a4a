//! An item as JSON text.

use agent_core::Timestamp;

use super::item::{Part, Shown};
use super::json::Json;
use super::out::{Fields, Out};

/// Writes the fields of an item.
pub(super) struct ItemText<'a> {
    json: Json<'a>,
    shown: Shown<'a>,
}

impl<'a> ItemText<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>, shown: Shown<'a>) -> Self {
        Self { json: Json(out), shown }
    }

    fn enclosed(&mut self, [open, close]: [u8; 2], body: impl FnOnce(&mut Self)) {
        self.json.open(open);
        body(self);
        self.json.close(close);
    }
}

impl Fields for ItemText<'_> {
    type Value = Self;

    fn field(&mut self, name: &'static str, write: impl FnOnce(&mut Self)) {
        self.json.key(name);
        write(self);
    }
}

impl Out for ItemText<'_> {
    fn null(&mut self) {
        self.json.value("null");
    }

    fn boolean(&mut self, value: bool) {
        self.json.value(if value { "true" } else { "false" });
    }

    fn number(&mut self, value: u64) {
        self.json.value("");
        self.json.integer(value);
    }

    fn milliseconds(&mut self, nanos: u64) {
        self.json.value("");
        self.json.milliseconds(nanos);
    }

    fn text(&mut self, bytes: &[u8]) {
        self.json.string(bytes);
    }

    fn list(&mut self, elements: impl FnOnce(&mut Self)) {
        self.enclosed(*b"[]", elements);
    }

    fn map(&mut self, entries: impl FnOnce(&mut Self)) {
        self.enclosed(*b"{}", entries);
    }

    fn entry(&mut self, name: &[u8], write: impl FnOnce(&mut Self)) {
        self.json.key_bytes(name);
        write(self);
    }

    fn part(&mut self, part: Part) {
        let shown = self.shown;
        self.map(|v| shown.fields(part, v));
    }

    fn time(&mut self, time: Timestamp) {
        self.json.rfc3339(time);
    }

    fn hex(&mut self, bytes: &[u8]) {
        self.json.hex(bytes);
    }
}
