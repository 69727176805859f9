//! What a binding costs in memory: at most 350 octets, with its slot in the table and its place in the wheel.

#[path = "../examples/phones/mod.rs"]
mod phones;

use agent::Wheel;
use phones::{NOW, aor, with_binding};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use store::{Bindings, TooLong};

/// Octets in use, each allocation rounded up as glibc does it: eight octets of its own, in steps of sixteen.
static IN_USE: AtomicUsize = AtomicUsize::new(0);

struct Counting;

fn rounded(octets: usize) -> usize {
    (octets + 8).next_multiple_of(16).max(32)
}

// SAFETY: every call goes on to the system's allocator unchanged; only numbers are kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(rounded(layout.size()), Relaxed);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(rounded(layout.size()), Relaxed);
        // SAFETY: the caller's promise about `pointer` and `layout` is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_binding_takes_at_most_350_octets() {
    // A size at which the table is about to grow, and one at which it just has, with most room to spare.
    for aors in [50_000, 60_000] {
        let before = IN_USE.load(Relaxed);
        let (table, mut wheel) = (Bindings::new([1; 16]), Wheel::new(NOW));
        for n in 0..aors {
            let updated = with_binding(n, |binding| {
                table.update::<TooLong>(table.hashed(&aor(n)), |_, draft| draft.push(binding), |_| {}).unwrap()
            });
            let (id, at) = updated.arm.unwrap();
            wheel.insert(at, id);
        }
        let each = (IN_USE.load(Relaxed) - before) as u64 / aors;
        assert!(each <= 350, "{each} octets a binding at {aors}");
        assert_eq!((table.census().bindings, wheel.len() as u64), (aors, aors));
    }
}
