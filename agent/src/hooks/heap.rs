//! The JavaScript heap of one script: malloc with a meter and a limit.
//!
//! Past the limit an allocation is not refused but remembered, and the interrupt handler ends the call at its next poll:
//! QuickJS gets room to do so in good order, with an error that has a position. It is refused only past the slack, as much
//! again as the limit: QuickJS's compiler writes through null where an allocation fails in it, so that must not come about by
//! a heap that is merely full.

use std::cell::Cell;
use std::rc::Rc;

use rquickjs::allocator::Allocator;

/// What a script's heap holds; shared by the allocator and the call clock of one thread.
#[derive(Debug)]
pub(crate) struct Meter {
    used: Cell<usize>,
    limit: usize,
    /// What may be had past the limit, in bytes.
    slack: usize,
    exceeded: Cell<bool>,
}

/// Slack of small limits, in bytes.
const LEAST_SLACK: usize = 16 << 20;

impl Meter {
    pub(crate) fn new(limit: usize) -> Rc<Self> {
        Rc::new(Self { used: Cell::new(0), limit, slack: limit.max(LEAST_SLACK), exceeded: Cell::new(false) })
    }

    /// Bytes in use.
    pub(crate) fn used(&self) -> usize {
        self.used.get()
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Whether the limit was exceeded since [`Meter::rearm`].
    pub(crate) fn exceeded(&self) -> bool {
        self.exceeded.get()
    }

    /// Forgets that it was: before each call.
    pub(crate) fn rearm(&self) {
        self.exceeded.set(false);
    }

    /// Whether `extra` more bytes may be had.
    fn admit(&self, extra: usize) -> bool {
        let total = self.used.get().saturating_add(extra);
        if total > self.limit {
            self.exceeded.set(true);
        }
        total <= self.limit.saturating_add(self.slack)
    }

    /// Counts what was taken. Outside the allocator: memory of the agent that the script holds.
    pub(crate) fn took(&self, bytes: usize) {
        self.used.set(self.used.get() + bytes);
    }

    /// Takes back what [`Meter::took`] counted.
    pub(crate) fn gave_back(&self, bytes: usize) {
        self.used.set(self.used.get().saturating_sub(bytes));
    }
}

/// malloc, metered.
pub(crate) struct Heap(pub(crate) Rc<Meter>);

impl Heap {
    /// Accounts for a block that the C library just gave.
    fn taken(&self, block: *mut u8) -> *mut u8 {
        if !block.is_null() {
            // SAFETY: `block` is a live block of this allocator.
            self.0.took(unsafe { Self::usable_size(block) });
        }
        block
    }
}

// SAFETY: the C library's malloc gives blocks of at least the size asked for, aligned for any type, or null;
// `malloc_usable_size` tells their size; all blocks that come back were given by it.
unsafe impl Allocator for Heap {
    fn alloc(&mut self, size: usize) -> *mut u8 {
        if !self.0.admit(size) {
            return std::ptr::null_mut();
        }
        // SAFETY: malloc may be called with any size.
        self.taken(unsafe { libc::malloc(size) }.cast())
    }

    fn calloc(&mut self, count: usize, size: usize) -> *mut u8 {
        if !count.checked_mul(size).is_some_and(|bytes| self.0.admit(bytes)) {
            return std::ptr::null_mut();
        }
        // SAFETY: calloc may be called with any sizes.
        self.taken(unsafe { libc::calloc(count, size) }.cast())
    }

    unsafe fn dealloc(&mut self, ptr: *mut u8) {
        if ptr.is_null() {
            return;
        }
        // SAFETY: the caller hands back a live block of this allocator.
        unsafe {
            self.0.gave_back(Self::usable_size(ptr));
            libc::free(ptr.cast());
        }
    }

    unsafe fn realloc(&mut self, ptr: *mut u8, new_size: usize) -> *mut u8 {
        if ptr.is_null() {
            return self.alloc(new_size);
        }
        if new_size == 0 {
            // SAFETY: the caller hands in a live block of this allocator.
            unsafe { self.dealloc(ptr) };
            return std::ptr::null_mut();
        }
        // SAFETY: the caller hands in a live block of this allocator.
        let old = unsafe { Self::usable_size(ptr) };
        if new_size > old && !self.0.admit(new_size - old) {
            return std::ptr::null_mut();
        }
        // SAFETY: as above; on null the old block stays as it was.
        let block: *mut u8 = unsafe { libc::realloc(ptr.cast(), new_size) }.cast();
        if !block.is_null() {
            self.0.gave_back(old);
        }
        self.taken(block)
    }

    unsafe fn usable_size(ptr: *mut u8) -> usize {
        // SAFETY: the caller hands in a live block of this allocator.
        unsafe { libc::malloc_usable_size(ptr.cast()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_the_limit_it_is_remembered_and_past_the_slack_refused() {
        let meter = Meter::new(1 << 20);
        let mut heap = Heap(Rc::clone(&meter));
        let block = heap.alloc(1 << 19);
        assert!(!block.is_null() && !meter.exceeded());
        let second = heap.alloc(1 << 20);
        assert!(!second.is_null() && meter.exceeded());
        assert!(heap.alloc(LEAST_SLACK).is_null(), "but not without end");
        meter.rearm();
        assert!(!meter.exceeded());
        // SAFETY: both blocks are live and of this heap.
        unsafe {
            heap.dealloc(block);
            heap.dealloc(second);
        }
        assert_eq!(meter.used(), 0, "what was taken was given back");
    }

    #[test]
    fn growing_and_shrinking_is_metered() {
        let meter = Meter::new(1 << 20);
        let mut heap = Heap(Rc::clone(&meter));
        let block = heap.calloc(16, 64);
        // SAFETY: the block is live; realloc hands over its successor.
        let grown = unsafe { heap.realloc(block, 1 << 16) };
        assert!(meter.used() >= 1 << 16);
        // SAFETY: as above; a refused realloc leaves the block alive.
        let refused = unsafe { heap.realloc(grown, LEAST_SLACK + (1 << 21)) };
        assert!(refused.is_null());
        // SAFETY: `grown` is still live.
        unsafe { heap.dealloc(grown) };
        assert_eq!(meter.used(), 0);
    }
}
