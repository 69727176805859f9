//! The program's allocator.

use mimalloc::MiMalloc;
use std::alloc::{GlobalAlloc, Layout, System};

/// mimalloc, but for what must begin a page: that is for the kernel to lock, and mimalloc's arenas are huge pages, which count whole
/// against RLIMIT_MEMLOCK, once for each ring that has them. An executor of glommio would take 6 MiB of it for 64 KiB.
#[derive(Debug)]
pub struct Memory;

const PAGE: usize = 4096;

fn is_for_the_kernel(layout: Layout) -> bool {
    layout.align() >= PAGE
}

// SAFETY: both are allocators, and memory goes back to the one that it came from: the alignment, which chooses, stays what it was.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: what the caller promises us is what is asked of them.
        unsafe { if is_for_the_kernel(layout) { System.alloc(layout) } else { MiMalloc.alloc(layout) } }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe {
            if is_for_the_kernel(layout) { System.dealloc(pointer, layout) } else { MiMalloc.dealloc(pointer, layout) }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { if is_for_the_kernel(layout) { System.alloc_zeroed(layout) } else { MiMalloc.alloc_zeroed(layout) } }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, octets: usize) -> *mut u8 {
        // SAFETY: as above.
        unsafe {
            if is_for_the_kernel(layout) {
                System.realloc(pointer, layout, octets)
            } else {
                MiMalloc.realloc(pointer, layout, octets)
            }
        }
    }
}
