//! The program's allocator: mimalloc.
//!
//! Items are made on one thread and may end on another, thousands a millisecond: the C library's allocators (glibc's, and musl's
//! far more) lock for that.
//!
//! The `mimalloc` crate asks for every piece of memory with its alignment, which takes mimalloc a longer way, and where a page of
//! pieces has just been used up, to one that is larger. Here only what has to lie on more than a word asks so.

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::c_void;

use libmimalloc_sys as mi;

/// mimalloc.
#[derive(Clone, Copy, Debug)]
pub struct Allocator;

/// Whether all that mimalloc hands out is aligned well enough: each of its blocks is a multiple of a word long, and lies on one.
#[inline]
const fn plain(layout: Layout) -> bool {
    layout.align() <= size_of::<usize>()
}

// SAFETY: mimalloc's functions are an allocator, of which all of these are: memory is of the size and alignment that is asked for,
// nobody else's until it is freed, and null where there is none. None of them unwinds.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if plain(layout) {
            // SAFETY: any size may be asked for.
            return unsafe { mi::mi_malloc(layout.size()) }.cast();
        }
        // SAFETY: an alignment of `Layout` is a power of two.
        unsafe { mi::mi_malloc_aligned(layout.size(), layout.align()) }.cast()
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if plain(layout) {
            // SAFETY: any size may be asked for.
            return unsafe { mi::mi_zalloc(layout.size()) }.cast();
        }
        // SAFETY: an alignment of `Layout` is a power of two.
        unsafe { mi::mi_zalloc_aligned(layout.size(), layout.align()) }.cast()
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, _: Layout) {
        // SAFETY: the caller's promise: it is of this allocator, and not freed yet.
        unsafe { mi::mi_free(memory.cast::<c_void>()) }
    }

    #[inline]
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let memory = memory.cast::<c_void>();
        if plain(layout) {
            // SAFETY: the caller's promise: it is of this allocator, and not freed yet.
            return unsafe { mi::mi_realloc(memory, size) }.cast();
        }
        // SAFETY: the same, and an alignment of `Layout` is a power of two.
        unsafe { mi::mi_realloc_aligned(memory, size, layout.align()) }.cast()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_lies_as_asked_for_and_keeps_what_is_in_it() {
        for align in (0..13).map(|bits| 1_usize << bits) {
            for size in (1..300).chain([1 << 12, 100_001]) {
                let layout = Layout::from_size_align(size, align).unwrap();
                // SAFETY: each piece is written within its size, and freed once, with the layout that it has then.
                unsafe {
                    let zeros = Allocator.alloc_zeroed(layout);
                    assert!(zeros.addr().is_multiple_of(align), "{layout:?}");
                    assert!(std::slice::from_raw_parts(zeros, size).iter().all(|&byte| byte == 0));
                    let memory = Allocator.alloc(layout);
                    assert!(memory.addr().is_multiple_of(align) && memory != zeros, "{layout:?}");
                    memory.write_bytes(7, size);
                    let memory = Allocator.realloc(memory, layout, 3 * size);
                    assert!(memory.addr().is_multiple_of(align), "{layout:?}");
                    assert!(std::slice::from_raw_parts(memory, size).iter().all(|&byte| byte == 7));
                    Allocator.dealloc(memory, Layout::from_size_align(3 * size, align).unwrap());
                    Allocator.dealloc(zeros, layout);
                }
            }
        }
    }
}
