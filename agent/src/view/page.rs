//! A buffer for text that is written in many small pieces.
//!
//! Its bytes are made beforehand, and a place among them goes on: a piece costs a look at whether it fits and a few stores, and
//! several that come together only one look.
//!
//! Invariant: `used <= bytes.len()`.

/// Text under construction.
#[derive(Debug, Default)]
pub struct Page {
    bytes: Vec<u8>,
    used: usize,
}

/// Bytes made at once, at least: who keeps the text of one item shall not keep much more.
const STEP: usize = 2048;

impl Page {
    /// With this text in it already.
    pub(super) fn on(text: Vec<u8>) -> Self {
        Self { used: text.len(), bytes: text }
    }

    /// The text alone.
    pub(super) fn into_text(mut self) -> Vec<u8> {
        self.bytes.truncate(self.used);
        self.bytes
    }

    /// What was written.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        self.bytes.get(..self.used).unwrap_or_default()
    }

    /// The same, to be changed in place.
    pub(crate) fn text_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.used).unwrap_or_default()
    }

    /// Appends so many spaces.
    pub(crate) fn blank<const N: usize>(&mut self) {
        self.put(&[b' '; N]);
    }

    /// Lets `write` append to the text.
    pub fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.truncate(self.used);
        write(&mut self.bytes);
        self.used = self.bytes.len();
    }

    /// Empties it, and keeps memory of at most so many bytes.
    pub fn clear(&mut self, most: usize) {
        self.used = 0;
        if self.bytes.len() > most {
            self.bytes.truncate(most);
            self.bytes.shrink_to(most);
        }
    }

    /// Memory that it holds, in bytes.
    #[cfg(test)]
    pub(crate) fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// Length of the text, in bytes.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.used
    }

    /// Takes back what is behind the first `len` bytes.
    #[inline]
    pub(super) fn truncate(&mut self, len: usize) {
        self.used = self.used.min(len);
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, more: usize) {
        let len = self.used.saturating_add(more).saturating_add(STEP).max(self.bytes.len() * 2);
        self.bytes.resize(len, 0);
    }

    /// At least so many bytes behind the text. [`Page::advance`] makes them part of it.
    #[inline(always)]
    pub(super) fn window(&mut self, most: usize) -> &mut [u8] {
        if self.bytes.len() - self.used < most {
            self.grow(most);
        }
        self.bytes.get_mut(self.used..).unwrap_or_default()
    }

    /// So many bytes of the window belong to the text.
    #[inline(always)]
    pub(super) fn advance(&mut self, by: usize) {
        self.used = (self.used + by).min(self.bytes.len());
    }

    /// Appends what `write` writes into `N` bytes; it says how many they are, which are no more.
    #[inline(always)]
    pub(super) fn spell<const N: usize>(&mut self, write: impl FnOnce(&mut [u8; N]) -> usize) {
        if self.bytes.len() - self.used < N {
            self.grow(N);
        }
        if let Some(into) = self.bytes.get_mut(self.used..).and_then(|into| into.first_chunk_mut::<N>()) {
            self.used += write(into).min(N);
        }
    }

    /// Appends text whose length is known where this is called.
    #[inline(always)]
    pub(super) fn put(&mut self, text: &[u8]) {
        let (from, to) = (self.used, self.used + text.len());
        match self.bytes.get_mut(from..to) {
            Some(into) => {
                into.copy_from_slice(text);
                self.used = to;
            }
            None => self.put_far(text),
        }
    }

    #[cold]
    #[inline(never)]
    fn put_far(&mut self, text: &[u8]) {
        self.grow(text.len());
        self.copy(text);
    }

    /// Appends text of any length.
    pub(crate) fn copy(&mut self, text: &[u8]) {
        let at = place(self.window(text.len()), 0, text);
        self.advance(at);
    }

    /// Appends a text between two constants.
    #[inline(always)]
    pub(super) fn wrap<const A: usize, const B: usize>(&mut self, a: &[u8; A], text: &[u8], b: &[u8; B]) {
        let into = self.window(A + text.len() + B);
        fix(into, 0, a);
        let at = place(into, A, text);
        fix(into, at, b);
        self.advance(at + B);
    }

    /// Appends two texts, and constants before, between and behind them.
    #[inline(always)]
    pub(super) fn pair<const A: usize, const B: usize, const C: usize>(
        &mut self,
        a: &[u8; A],
        [one, two]: [&[u8]; 2],
        b: &[u8; B],
        c: &[u8; C],
    ) {
        let into = self.window(A + one.len() + B + two.len() + C);
        fix(into, 0, a);
        let at = place(into, A, one);
        fix(into, at, b);
        let at = place(into, at + B, two);
        fix(into, at, c);
        self.advance(at + C);
    }

    /// Takes back the byte if it is the last.
    #[inline(always)]
    pub(super) fn unless_last(&mut self, byte: u8) {
        if self.text().last() == Some(&byte) {
            self.used -= 1;
        }
    }

    /// Appends a closing bracket in place of a comma, if that is the last byte, and a comma.
    #[inline(always)]
    pub(super) fn close(&mut self, bracket: u8) {
        let before = self.used.wrapping_sub(1);
        match self.bytes.get_mut(before..).and_then(|bytes| bytes.first_chunk_mut::<3>()) {
            Some(bytes) if bytes[0] == b',' => {
                [bytes[0], bytes[1]] = [bracket, b','];
                self.used += 1;
            }
            Some(bytes) => {
                [bytes[1], bytes[2]] = [bracket, b','];
                self.used += 2;
            }
            None => {
                self.unless_last(b',');
                self.put_far(&[bracket, b',']);
            }
        }
    }

    /// The text from a place on.
    pub(super) fn since(&self, at: usize) -> &[u8] {
        self.text().get(at..).unwrap_or_default()
    }
}

/// Copies a constant to a place.
#[inline(always)]
fn fix<const N: usize>(into: &mut [u8], at: usize, text: &[u8; N]) {
    if let Some(into) = into.get_mut(at..at + N).and_then(|into| into.first_chunk_mut::<N>()) {
        *into = *text;
    }
}

/// Copies text to a place, and says where it ends.
#[inline(always)]
fn place(into: &mut [u8], at: usize, text: &[u8]) -> usize {
    let end = at + text.len();
    if let Some(into) = into.get_mut(at..end) {
        short(into, text);
    }
    end
}

/// Copies text into as many bytes. Most of it is short: two halves that overlap are fewer steps than a call.
#[inline(always)]
fn short(into: &mut [u8], text: &[u8]) {
    fn halves<const N: usize>(into: &mut [u8], text: &[u8]) {
        if let (Some(low), Some(high)) = (text.first_chunk::<N>(), text.last_chunk::<N>()) {
            let (low, high) = (*low, *high);
            if let Some(first) = into.first_chunk_mut::<N>() {
                *first = low;
            }
            if let Some(last) = into.last_chunk_mut::<N>() {
                *last = high;
            }
        }
    }
    match text.len() {
        8..=16 => halves::<8>(into, text),
        17..=32 => halves::<16>(into, text),
        4..8 => halves::<4>(into, text),
        2..4 => halves::<2>(into, text),
        1 => halves::<1>(into, text),
        0 => {}
        _ => into.copy_from_slice(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_every_length_arrive() {
        let text: Vec<u8> = (0..=255).collect();
        let mut page = Page::on(b"before".to_vec());
        let mut want = b"before".to_vec();
        for length in (0..80).chain(200..256).chain(0..80) {
            page.copy(&text[..length]);
            page.wrap(b"{", &text[1..length.max(1)], b"}");
            page.pair(b"a", [&text[..length / 2], &text[length / 2..length]], b"b", b"c");
            page.put(&text[..length]);
            want.extend([&text[..length], b"{", &text[1..length.max(1)], b"}"].concat());
            want.extend([b"a", &text[..length / 2], b"b", &text[length / 2..length], b"c"].concat());
            want.extend(&text[..length]);
        }
        assert!(page.text() == want && want.len() > 2 * STEP);
        page.append(|text| text.extend(b"more"));
        page.put(b",");
        page.unless_last(b',');
        page.unless_last(b',');
        want.extend(b"more");
        assert!(page.since(want.len() - 4) == b"more" && page.into_text() == want);
    }

    #[test]
    fn a_bracket_takes_the_commas_place_also_at_the_end_of_the_room() {
        for length in [0, 1, 2, STEP - 2, STEP - 1, STEP, STEP + 1, STEP + 2] {
            for last in [b',', b'x'] {
                let mut text = vec![b'a'; length];
                text.push(last);
                for mut page in
                    [Page::on(text.clone()), Page { bytes: [&text[..], &[0; 9]].concat(), used: text.len() }]
                {
                    page.close(b'}');
                    let kept = length + usize::from(last == b'x');
                    assert_eq!(page.into_text(), [&text[..kept], b"},"].concat());
                }
            }
        }
        let mut page = Page::default();
        page.close(b']');
        assert_eq!(page.text(), b"],");
    }

    #[test]
    fn emptied_it_keeps_as_much_as_it_may() {
        let mut page = Page::default();
        page.copy(&vec![b'a'; 1 << 20]);
        page.clear(1 << 16);
        assert!(page.text().is_empty() && page.bytes.capacity() <= 1 << 16);
        page.put(b"x");
        assert_eq!(page.text(), b"x");
    }
}
