//! A ring as mapped memory: blocks that belong to the kernel or to us, in turns.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::frame::BLOCK_HEADER;
use super::Layout;

/// Where in a block its fields are: `tpacket_block_desc` with `tpacket_hdr_v1` inside.
const STATUS: usize = 8;
const COUNT: usize = 12;
const FIRST: usize = 16;

const _: () = {
    assert!(std::mem::offset_of!(libc::tpacket_block_desc, hdr) == STATUS);
    assert!(std::mem::offset_of!(libc::tpacket_hdr_v1, block_status) == 0);
    assert!(std::mem::offset_of!(libc::tpacket_hdr_v1, num_pkts) == COUNT - STATUS);
    assert!(std::mem::offset_of!(libc::tpacket_hdr_v1, offset_to_first_pkt) == FIRST - STATUS);
};

/// The memory of one ring. Unmapped when dropped.
pub(in super::super) struct Ring {
    memory: NonNull<u8>,
    layout: Layout,
}

/// A block that is ours until it is released.
pub(in super::super) struct Block<'a> {
    /// Packets in it.
    pub(in super::super) count: u32,
    /// Offset of the first of them, from the block's beginning.
    pub(in super::super) first: u32,
    /// What follows the block's header.
    pub(in super::super) frames: &'a mut [u8],
}

// SAFETY: the memory is shared with the kernel, not with threads; whoever owns the `Ring` is alone with it in this process.
unsafe impl Send for Ring {}

impl Ring {
    /// Maps the ring that `socket` was given with this layout.
    pub(super) fn map(socket: BorrowedFd<'_>, layout: Layout) -> io::Result<Self> {
        // SAFETY: the kernel chooses the place; the length is that of the ring that the socket has.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                layout.bytes(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                socket.as_raw_fd(),
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Self { memory, layout })
    }

    /// Number of blocks.
    pub(in super::super) const fn blocks(&self) -> u32 {
        self.layout.blocks
    }

    fn block_start(&self, index: u32) -> *mut u8 {
        assert!(index < self.layout.blocks, "block {index} of {}", self.layout.blocks);
        // SAFETY: `index` is one of the mapped blocks.
        unsafe { self.memory.as_ptr().add(index as usize * self.layout.block_bytes as usize) }
    }

    /// Who a block belongs to.
    fn status(&self, index: u32) -> &AtomicU32 {
        // SAFETY: the field lies within the mapping, which outlives `self`; blocks begin at pages, so it is aligned; the
        // kernel writes it, so it is only ever accessed atomically, and no other reference covers it (`block` begins behind).
        unsafe { AtomicU32::from_ptr(self.block_start(index).add(STATUS).cast()) }
    }

    /// The block, if the kernel has filled it and handed it over.
    pub(in super::super) fn block(&mut self, index: u32) -> Option<Block<'_>> {
        // Acquire: what the kernel wrote before it handed the block over is seen.
        if self.status(index).load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return None;
        }
        let start = self.block_start(index);
        let length = self.layout.block_bytes as usize - BLOCK_HEADER;
        // SAFETY: the block is ours now: the kernel neither reads nor writes it until `release`, which takes `&mut self` and
        // so cannot happen while this borrow lives. Both fields and the frames lie within the block and are aligned;
        // any bytes are valid for them.
        unsafe {
            Some(Block {
                count: start.add(COUNT).cast::<u32>().read(),
                first: start.add(FIRST).cast::<u32>().read(),
                frames: std::slice::from_raw_parts_mut(start.add(BLOCK_HEADER), length),
            })
        }
    }

    /// Gives a block back to the kernel.
    pub(in super::super) fn release(&mut self, index: u32) {
        // Release: what was read or written here happened before the kernel has it again.
        self.status(index).store(libc::TP_STATUS_KERNEL, Ordering::Release);
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length, and nothing that borrows from it outlives `self`.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), self.layout.bytes()) };
    }
}
