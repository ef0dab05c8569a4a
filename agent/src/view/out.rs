//! Where the description of an item writes to: JSON text, or objects of a script. Whoever implements [`Out`] gets the
//! same fields in the same order, so that the forms of an item cannot part.

use std::net::IpAddr;

use agent_core::Timestamp;
use agent_core::item::{HeaderBlock, Span};

use super::item::Part;
use super::redact::Hidden;
use super::spell::{self, Room};

/// A field's name. Made by [`key!`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Key {
    /// As it is.
    pub(crate) name: &'static str,
    /// As JSON has it, with the colon: known when this is compiled, so that writing it is a few stores.
    pub(super) json: &'static str,
}

/// The [`Key`] of a name that needs no escape.
macro_rules! key {
    ($name:literal) => {
        $crate::view::Key::new($name, concat!("\"", $name, "\":"))
    };
}
pub(super) use key;

/// A value that is one of a few. Made by [`word!`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Word {
    pub(super) text: &'static str,
    /// As JSON has it, with a comma behind it.
    pub(super) json: &'static str,
}

/// The [`Word`] of a text that needs no escape.
macro_rules! word {
    ($text:literal) => {
        $crate::view::out::Word { text: $text, json: concat!("\"", $text, "\",") }
    };
}
pub(super) use word;

impl Key {
    pub(super) const fn new(name: &'static str, json: &'static str) -> Self {
        Self { name, json }
    }
}

/// Takes the fields of one object in their order. `write` is called only where the value is wanted, and writes one.
pub(crate) trait Fields {
    /// Takes a value.
    type Value: Out;

    /// One field.
    fn field(&mut self, key: Key, write: impl FnOnce(&mut Self::Value));

    /// Fields that are made of a head's fields and of nothing else but what is hidden in them: who has written them once may repeat
    /// them where a head is like the last one on that side.
    fn of_head(&mut self, _side: Side, _head: &HeaderBlock, _hidden: &Hidden, write: impl FnOnce(&mut Self))
    where
        Self: Sized,
    {
        write(self);
    }

    /// Fields that are made of a message's whole head, of what is hidden in it, and of the server's address: who has written them
    /// once may repeat them where all of that is the same. `only`: they are made of nothing else.
    fn of_message(&mut self, _whole: Whole<'_>, _only: bool, write: impl FnOnce(&mut Self))
    where
        Self: Sized,
    {
        write(self);
    }

    /// Fields that are the same in all items of a stream between the same two names: who has written them once may repeat them.
    fn of_stream(&mut self, write: impl FnOnce(&mut Self))
    where
        Self: Sized,
    {
        write(self);
    }
}

/// A message's head.
#[derive(Clone, Copy)]
pub(crate) struct Whole<'a> {
    pub(super) side: Side,
    pub(super) head: &'a HeaderBlock,
    pub(super) line: Line,
    pub(super) hidden: &'a Hidden,
}

/// How a start line was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Line {
    pub(super) minor_version: u8,
    /// 0: it is a request's.
    pub(super) status: u16,
    /// Method and target, or the reason twice.
    pub(super) words: [Span; 2],
}

/// A message of an exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Request,
    Response,
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

    /// Text of our own, in which nothing needs an escape in JSON.
    fn plain(&mut self, text: &[u8]) {
        self.text(text);
    }

    /// A text of our own that is one of a few.
    fn word(&mut self, word: Word) {
        self.text(word.text.as_bytes());
    }

    /// Text that came from anywhere; `plain`: nothing in it needs an escape in JSON.
    fn known(&mut self, bytes: &[u8], plain: bool) {
        if plain { self.plain(bytes) } else { self.text(bytes) }
    }

    /// Text that `spell` writes, in which nothing needs an escape in JSON: numbers, times, addresses.
    fn spelt(&mut self, spell: impl FnOnce(&mut Room) -> usize) {
        let mut text = [0; size_of::<Room>()];
        let length = spell(&mut text);
        self.text(text.get(..length).unwrap_or_default());
    }

    /// Text in pieces, each of which is UTF-8 or is made so; `plain` as for [`Out::known`].
    fn pieces(&mut self, pieces: &[&[u8]], _plain: bool) {
        self.text(pieced(pieces).as_bytes());
    }

    /// An array of the values that `elements` writes.
    fn list(&mut self, elements: impl FnOnce(&mut Self));

    /// An object of the fields and entries that `entries` writes.
    fn map(&mut self, entries: impl FnOnce(&mut Self));

    /// As [`Out::map`], of headers: a script finds them by names in lower case as well.
    fn headers(&mut self, entries: impl FnOnce(&mut Self)) {
        self.map(entries);
    }

    /// In a map: one entry, whose name came from traffic; `plain` as for [`Out::known`].
    fn entry(&mut self, name: &[u8], plain: bool, write: impl FnOnce(&mut Self));

    /// In a map: one entry that is a text from traffic; `plain` of both, as for [`Out::known`].
    fn text_entry(&mut self, name: &[u8], value: &[u8], plain: bool) {
        self.entry(name, plain, |v| v.known(value, plain));
    }

    /// A header in a list: its name and its value; `plain` of both, as for [`Out::known`].
    fn header(&mut self, name: &[u8], value: &[u8], plain: bool) {
        self.map(|v| {
            v.field(key!("name"), |v| v.known(name, plain));
            v.field(key!("value"), |v| v.known(value, plain));
        });
    }

    /// A part of the item with fields of its own.
    fn part(&mut self, part: Part);

    /// RFC 3339 in UTC with nanoseconds.
    fn time(&mut self, time: Timestamp) {
        self.spelt(|into| spell::rfc3339(into, time));
    }

    /// An address.
    fn ip(&mut self, ip: IpAddr) {
        self.spelt(|into| spell::ip(into, ip));
    }

    /// Lower-case hexadecimal.
    fn hex(&mut self, bytes: &[u8]) {
        let text: Vec<u8> = bytes.iter().flat_map(|&byte| spell::hex_of(byte)).collect();
        self.text(&text);
    }
}

/// Pieces as one text; what is not UTF-8 is replaced.
pub(super) fn pieced(pieces: &[&[u8]]) -> String {
    pieces.iter().map(|piece| String::from_utf8_lossy(piece)).collect()
}

/// Bytes as text. What is not UTF-8 is read as Latin-1, byte for byte, so that nothing is lost.
pub(crate) fn readable(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| bytes.iter().copied().map(char::from).collect(), Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_whatever_it_is() {
        assert_eq!(readable("žluť".as_bytes()), "žluť");
        assert_eq!(readable(b"caf\xe9"), "café");
    }
}
