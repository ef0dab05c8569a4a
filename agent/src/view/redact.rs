//! Which values never leave the node in items: tokens and cookies. The key stays, the value becomes `[REDACTED]`.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

/// What stands in place of a redacted value.
pub(super) const REDACTED: &[u8] = b"[REDACTED]";

const ALWAYS: [&str; 5] = ["authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"];

/// Names of headers whose values are hidden, in any case. Clones share them, also when they are replaced.
#[derive(Clone, Debug)]
pub struct Redaction {
    names: Arc<ArcSwap<Names>>,
}

/// In lower case.
#[derive(Debug, Default)]
pub(super) struct Names {
    names: Vec<String>,
    /// The bits of their [`mark`]s.
    marks: u64,
}

impl Names {
    fn of(names: Vec<String>) -> Self {
        let marks = names.iter().fold(0, |bits, name| bits | mark(name.as_bytes()));
        Self { names, marks }
    }

    #[inline]
    fn hide(&self, header: &[u8]) -> bool {
        // Most headers are told by their length and their first letter.
        self.marks & mark(header) != 0
            && self.names.iter().any(|name| name.as_bytes().eq_ignore_ascii_case(header))
    }
}

/// One bit, the same for names that differ only in case.
#[inline]
fn mark(name: &[u8]) -> u64 {
    let first = name.first().map_or(0, |letter| usize::from(letter | 0x20));
    1 << ((name.len() * 5 + first) & 63)
}

/// What is hidden now: for as long as one item is shown.
pub(crate) struct Hidden(Guard<Arc<Names>>);

impl Hidden {
    /// The names, whole: another set is another one, even where it is equal.
    pub(super) fn names(&self) -> &Arc<Names> {
        &self.0
    }

    /// Whether values of this header are hidden.
    #[inline]
    pub(super) fn hides(&self, header: &[u8]) -> bool {
        self.0.hide(header)
    }

    /// The value to show.
    #[inline]
    pub(super) fn shown<'a>(&self, header: &[u8], value: &'a [u8]) -> &'a [u8] {
        if self.hides(header) { REDACTED } else { value }
    }
}

impl Default for Redaction {
    fn default() -> Self {
        Self::with(&[])
    }
}

impl Redaction {
    /// The names that are always hidden, and these.
    #[must_use]
    pub fn with(more: &[String]) -> Self {
        let names = ALWAYS.iter().map(|name| (*name).to_owned());
        Self::of(names.chain(more.iter().map(|name| name.trim().to_ascii_lowercase())).collect())
    }

    /// Nothing is hidden.
    #[must_use]
    pub fn off() -> Self {
        Self::of(Vec::new())
    }

    fn of(names: Vec<String>) -> Self {
        Self { names: Arc::new(ArcSwap::from_pointee(Names::of(names))) }
    }

    /// Hides from now on what `other` hides, wherever this one is in use.
    pub fn replace(&self, other: &Self) {
        self.names.store(other.names.load_full());
    }

    /// What a redacted copy hides: this, and where nothing is hidden in items, what always is.
    #[must_use]
    pub fn for_copies(&self) -> Self {
        if self.names.load().names.is_empty() { Self::default() } else { self.clone() }
    }

    /// Whether values of this header are hidden.
    #[must_use]
    pub fn hides(&self, header: &[u8]) -> bool {
        self.names.load().hide(header)
    }

    /// What is hidden now.
    pub(super) fn now(&self) -> Hidden {
        Hidden(self.names.load())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_in_any_case_and_can_be_added() {
        let redaction = Redaction::with(&["X-Session ".into()]);
        for name in ["Authorization", "COOKIE", "set-cookie", "x-session"] {
            assert_eq!(redaction.now().shown(name.as_bytes(), b"v"), REDACTED, "{name}");
        }
        assert_eq!(redaction.now().shown(b"accept", b"v"), b"v");
        assert_eq!(Redaction::off().now().shown(b"cookie", b"v"), b"v");
        let shared = redaction.clone();
        redaction.replace(&Redaction::with(&["x-other".into()]));
        assert!(shared.hides(b"X-Other") && shared.hides(b"cookie") && !shared.hides(b"x-session"));
    }
}
