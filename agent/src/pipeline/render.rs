//! Lines that the worker of a replay makes itself, when the writer has as much to do as it may: it would wait otherwise, and
//! long bodies cost more to write as JSON than to be found.
//!
//! Invariants: what is written is the same whoever made it, in the order of the batches; pages are used again, [`PAGES`] of
//! them at most, and keep [`KEPT`] bytes each.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::worker::Batch;
use crate::view::{ItemView, Lines, Page};

/// Pages that wait to be used again: one a batch on its way, and few of those fit into the room.
const PAGES: usize = 4;
/// Memory for lines that a page keeps, in bytes: an item with a body of the usual limit, or many small ones, but not the largest.
pub(super) const KEPT: usize = 2 << 20;

/// Pages that were written out.
#[derive(Debug, Default)]
pub(super) struct Pages(Mutex<Vec<Page>>);

impl Pages {
    fn lock(&self) -> MutexGuard<'_, Vec<Page>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self) -> Page {
        self.lock().pop().unwrap_or_default()
    }

    /// Takes a page back.
    pub(super) fn put(&self, mut page: Page) {
        page.clear(KEPT);
        let mut pages = self.lock();
        if pages.len() < PAGES {
            pages.push(page);
        }
    }
}

/// A batch's items as lines.
pub(super) struct Rendered {
    pub(super) page: Page,
    pub(super) items: usize,
}

/// See the module.
pub(super) struct Renderer {
    /// Of the worker alone: nobody waits for it.
    lines: Mutex<Lines>,
    pages: Arc<Pages>,
}

impl Renderer {
    pub(super) fn new(view: Arc<ItemView>, pages: Arc<Pages>) -> Self {
        Self { lines: Mutex::new(Lines::new(view)), pages }
    }

    /// Puts lines in the place of a batch's items, which end here, where they were made.
    pub(super) fn render(&self, batch: &mut Batch) {
        let mut page = self.pages.get();
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        for item in &batch.items {
            lines.write(item, &mut page);
        }
        drop(lines);
        batch.bytes = page.text().len();
        batch.rendered = Some(Rendered { page, items: batch.items.len() });
        batch.go_home();
        batch.items.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_pages_are_kept_than_are_used_and_none_keeps_a_large_body() {
        let pages = Pages::default();
        for _ in 0..PAGES + 3 {
            let mut page = Page::default();
            page.copy(&vec![b'x'; 3 * KEPT]);
            pages.put(page);
        }
        assert_eq!(pages.lock().len(), PAGES);
        let page = pages.get();
        assert!(page.text().is_empty() && page.memory() <= KEPT, "{}", page.memory());
        assert_eq!(pages.lock().len(), PAGES - 1);
    }
}
