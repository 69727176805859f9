//! How much memory a run holds: counted where memory is given out.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

thread_local! {
    /// What this thread has taken less what it has given back.
    static BALANCE: Cell<isize> = const { Cell::new(0) };
}

/// A global allocator that counts for each thread what it takes and gives back. A machine bounds a run by it:
///
/// ```
/// #[global_allocator]
/// static MEMORY: dialplan::Counted = dialplan::Counted::new(std::alloc::System);
/// ```
pub struct Counted<A = System>(A);

impl<A> Counted<A> {
    /// Counts what `inner` gives out.
    pub const fn new(inner: A) -> Self {
        Self(inner)
    }
}

/// What each block counts beyond its size: the allocator's own share, generously. It also bounds how many blocks a run
/// may chain, and so how deeply its data may nest ([`NESTED_BYTES`]).
pub(crate) const BLOCK: usize = 32;

/// What one level of nested arrays counts at least: a box, its buffer, and both their blocks.
pub(crate) const NESTED_BYTES: usize = 24 + 16 + 2 * BLOCK;

/// Stack that rhai takes for one level of nesting when it copies, measures or drops a value. `tests/nesting.rs` tries it.
pub(crate) const NESTED_FRAME: usize = 384;

/// What this thread has taken less what it has given back.
pub(crate) fn balance() -> isize {
    BALANCE.get()
}

/// Whether the program's allocator counts.
pub(crate) fn is_counted() -> bool {
    let before = balance();
    let probe = std::hint::black_box(Box::new(0_u64));
    let counted = balance() != before;
    drop(probe);
    counted
}

fn count(octets: isize) {
    BALANCE.set(BALANCE.get().wrapping_add(octets));
}

// SAFETY: every call goes to `A` as it comes; the counter is a Cell without a destructor that allocates nothing.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counted<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count((layout.size() + BLOCK) as isize);
        // SAFETY: the caller's promise.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count((layout.size() + BLOCK) as isize);
        // SAFETY: the caller's promise.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-((layout.size() + BLOCK) as isize));
        // SAFETY: the caller's promise.
        unsafe { self.0.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { self.0.realloc(at, layout, size) }
    }
}
