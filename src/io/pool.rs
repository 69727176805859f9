//! The buffers that a shard's io_uring fills: how many the kernel is lent, and the memory that they lie in.

use io_uring::Submitter;
use io_uring::types::BufRingEntry;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

/// Buffers that have memory from the start, and up to which octet: beyond that of a frame on an Ethernet.
const TOUCHED: u16 = 1024;
const TOUCHED_OCTETS: usize = 1600;

/// A ring of buffers that the kernel picks from, the first that was put in first.
///
/// It is lent so many as the load needs and no more: those go round, and stay in the processor's caches. What it may need beyond waits aside.
pub(super) struct Pool {
    count: u16,
    size: usize,
    memory: Pages,
    entries: Pages,
    tail: u16,
    /// The last one that was put aside is the next to be lent.
    aside: Vec<u16>,
    lent: Lent,
}

/// How many buffers the kernel is lent.
#[derive(Clone, Copy, Debug)]
struct Lent {
    /// At the end of a turn.
    wanted: u16,
    /// Buffers that came back in this turn.
    came_back: u16,
    /// The most that came back in a turn of this period.
    most: u16,
    /// Turns of this period.
    turns: u16,
}

impl Lent {
    /// Fewer are never lent: so many datagrams are taken at once however quiet it was.
    const LEAST: u16 = 64;
    /// Turns after which it is looked whether fewer would do.
    const PERIOD: u16 = 256;

    fn new(count: u16) -> Self {
        Self { wanted: Self::LEAST.min(count), came_back: 0, most: 0, turns: 0 }
    }

    /// Ends a turn of a pool of `count` buffers: twice as many are lent as the busiest turn of late has used.
    fn end_turn(&mut self, count: u16) {
        let came_back = std::mem::take(&mut self.came_back);
        self.most = self.most.max(came_back);
        // All were used, and there may be more to come than that.
        if came_back >= self.wanted {
            self.wanted = self.wanted.saturating_mul(4).min(count);
        }
        let needed = |used: u16| used.saturating_mul(2).clamp(Self::LEAST, 1 << 15).next_power_of_two().min(count);
        if needed(came_back) > self.wanted {
            self.wanted = needed(came_back);
        }
        self.turns += 1;
        if self.turns == Self::PERIOD {
            self.wanted = needed(self.most);
            (self.turns, self.most) = (0, 0);
        }
    }
}

impl Pool {
    pub(super) fn new(count: u16, size: usize) -> Self {
        assert!(count.is_power_of_two() && count <= 32_768 && size > 0, "the settings were checked");
        let mut pool = Self {
            count,
            size,
            memory: Pages::new(usize::from(count) * size),
            entries: Pages::new(usize::from(count) * size_of::<BufRingEntry>()),
            tail: 0,
            aside: (0..count).rev().collect(),
            lent: Lent::new(count),
        };
        pool.lend();
        pool
    }

    /// Has the kernel find memory now for what a message takes of the buffers that are lent first. Where it does so as the first burst comes, each fault costs
    /// a fresh virtual machine 16 µs, and the shard 20 ms.
    pub(super) fn touch(&mut self) {
        for id in 0..self.count.min(TOUCHED) {
            for octet in [0, TOUCHED_OCTETS.min(self.size - 1)] {
                // SAFETY: the octet lies in `memory`, and nobody fills the buffer before the pool is registered.
                unsafe { self.memory.start().add(usize::from(id) * self.size + octet).write_volatile(0) };
            }
        }
    }

    pub(super) fn octets(&self, id: u16, octets: usize) -> &[u8] {
        assert!(id < self.count && octets <= self.size, "the kernel fills buffers that it was given");
        // SAFETY: the buffer lies in `memory`, which was zeroed when it was mapped. A completion names it, so the kernel
        // has filled it and does not touch it again before it is given back, which takes `&mut self`.
        unsafe { std::slice::from_raw_parts(self.memory.start().add(usize::from(id) * self.size), octets) }
    }

    /// Has a ring take the buffers of `group` from here.
    ///
    /// # Safety
    /// The pool outlives the ring.
    pub(super) unsafe fn register(&self, ring: &Submitter<'_>, group: u16) -> io::Result<()> {
        // SAFETY: these are `count` initialised, page-aligned entries, and by the caller's promise there as long as the ring.
        unsafe { ring.register_buf_ring_with_flags(self.entries.start() as u64, self.count, group, 0) }
    }

    /// Takes back a buffer that the kernel has filled.
    pub(super) fn give_back(&mut self, id: u16) {
        self.lent.came_back += 1;
        self.aside.push(id);
    }

    pub(super) fn end_turn(&mut self) {
        self.lent.end_turn(self.count);
        self.lend();
    }

    /// Lends the kernel what is wanted beyond what it has.
    fn lend(&mut self) {
        let least_aside = usize::from(self.count - self.lent.wanted);
        if self.aside.len() > least_aside {
            while self.aside.len() > least_aside
                && let Some(id) = self.aside.pop()
            {
                self.put(id);
            }
            self.publish();
        }
    }

    fn put(&mut self, id: u16) {
        let place = usize::from(self.tail & (self.count - 1));
        // SAFETY: `place` is below `count`, the entries are zeroed memory, for which every bit pattern is an entry, and
        // the kernel reads this one only after the tail has passed it.
        let entry = unsafe { &mut *self.entries.start().cast::<BufRingEntry>().add(place) };
        entry.set_addr(self.memory.start() as u64 + u64::from(id) * self.size as u64);
        entry.set_len(self.size as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        // SAFETY: the tail lies in the first entry, in a field that entries do not use; it is aligned, and the kernel
        // only reads it.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.start().cast()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

/// Zeroed pages of our own.
struct Pages {
    start: NonNull<u8>,
    octets: usize,
}

impl Pages {
    fn new(octets: usize) -> Self {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: an anonymous mapping at an address that the kernel chooses touches nothing that exists.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), octets, protection, flags, -1, 0) };
        assert!(start != libc::MAP_FAILED, "out of memory: {}", io::Error::last_os_error());
        // Of a buffer for the longest datagram most is never used: huge pages would have it all. A kernel without any refuses, and need not be told.
        // SAFETY: the advice is for the mapping that was just made, and changes nothing in it.
        unsafe { libc::madvise(start, octets, libc::MADV_NOHUGEPAGE) };
        Self { start: NonNull::new(start.cast()).expect("mmap never maps address zero unasked"), octets }
    }

    fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length, and nobody holds a slice of it: those borrow from us.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.octets) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_as_many_buffers_are_lent_as_a_turn_of_late_has_used() {
        let mut lent = Lent::new(1024);
        let mut turn = |came_back, times| {
            for _ in 0..times {
                lent.came_back = came_back;
                lent.end_turn(1024);
            }
            lent.wanted
        };
        assert_eq!(turn(10, 10), 64);
        assert_eq!(turn(40, 1), 128, "at once");
        assert_eq!(turn(10, 240), 128, "the period is not over");
        assert_eq!(turn(10, 5), 128, "it had a busy turn");
        assert_eq!(turn(10, 256), 64);
        assert_eq!(turn(63, 1), 128);
        assert_eq!(turn(128, 1), 512, "there were no more");
        assert_eq!(turn(1000, 1), 1024, "all there are");
        assert_eq!(turn(0, 512), 64);
        let mut few = Lent::new(16);
        few.came_back = 16;
        few.end_turn(16);
        assert_eq!(few.wanted, 16);
    }
}
