//! The stacks of runs: one mapping, a guard below each, taken and given back without a system call.
//!
//! A stack costs address space only until it is used, and a guard page takes the mapping apart on kernels before 6.13
//! ([`Guard::Protect`]), so that `vm.max_map_count` bounds how many there may be.

use corosensei::stack::{STACK_ALIGNMENT, StackPointer};
use std::{io, ptr::NonNull};

/// `MADV_GUARD_INSTALL` of Linux 6.13, which the libc crate does not name yet.
const MADV_GUARD_INSTALL: libc::c_int = 102;

/// Stacks begin at multiples of what one page of a page table maps, so that a stack and its guard need one such page.
const SPAN: usize = 2 << 20;

/// What a stack that is not used keeps of its memory: what nearly every run needs.
const KEPT: usize = 16 * 1024;

/// How an overrun stack is caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// By a guard that leaves the mapping whole (Linux 6.13): there may be as many stacks as `max_runs` says.
    Install,
    /// By a page without rights: each stack that was ever used takes two of the process's `vm.max_map_count` mappings.
    Protect,
}

impl Guard {
    /// How many stacks there may be where the system allows a process `max_map_count` mappings. A sixteenth is left for
    /// everything else.
    pub fn bound(self, max_map_count: u64) -> u64 {
        match self {
            Self::Install => u64::MAX,
            Self::Protect => (max_map_count - max_map_count / 16) / 2,
        }
    }
}

/// A stack out of the pool.
pub(crate) struct Stack {
    base: StackPointer,
    limit: StackPointer,
}

// SAFETY: base and limit bound memory of the pool's mapping that belongs to this stack alone while it exists; its lowest
// page is a guard, which `Pool::take` has put there.
unsafe impl corosensei::stack::Stack for Stack {
    fn base(&self) -> StackPointer {
        self.base
    }

    fn limit(&self) -> StackPointer {
        self.limit
    }
}

/// Stacks of one size. Must outlive every stack that it gave out: [`Machine`](crate::Machine) sees to it.
pub(crate) struct Pool {
    mapping: NonNull<libc::c_void>,
    mapped: usize,
    first: usize,
    stack_bytes: usize,
    page: usize,
    guard: Guard,
    /// Given back, the last one first: its memory is warm.
    free: Vec<Stack>,
    /// Those from here on were never used.
    fresh: usize,
    count: usize,
}

impl Pool {
    /// Reserves address space for `count` stacks.
    pub fn new(count: usize, stack_bytes: usize) -> io::Result<Self> {
        // SAFETY: asks for a constant of the system.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let stack_bytes = stack_bytes.next_multiple_of(page.max(64 * 1024));
        let mapped = count.checked_mul(stack_bytes).and_then(|n| n.checked_add(SPAN));
        let mapped = mapped.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
        // SAFETY: a new mapping where the system likes; nothing of ours is there.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), mapped, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mapping = NonNull::new(at).expect("a mapping is not at 0");
        let first = (at as usize).next_multiple_of(SPAN);
        let mut pool = Self {
            mapping,
            mapped,
            first,
            stack_bytes,
            page,
            guard: Guard::Install,
            free: Vec::new(),
            fresh: 0,
            count,
        };
        // A huge page under a stack would make each of them resident as a whole.
        pool.advise(first, mapped - SPAN, libc::MADV_NOHUGEPAGE)?;
        if count > 0 && pool.advise(first, page, MADV_GUARD_INSTALL).is_err() {
            pool.guard = Guard::Protect;
        }
        Ok(pool)
    }

    /// How its stacks are guarded.
    pub fn guard(&self) -> Guard {
        self.guard
    }

    /// A stack, None if all are taken or the system refuses another guard.
    pub fn take(&mut self) -> Option<Stack> {
        if let Some(stack) = self.free.pop() {
            return Some(stack);
        }
        if self.fresh == self.count {
            return None;
        }
        let limit = self.first + self.fresh * self.stack_bytes;
        let guarded = match self.guard {
            Guard::Install => self.advise(limit, self.page, MADV_GUARD_INSTALL),
            Guard::Protect => self.protect(limit),
        };
        guarded.ok()?;
        self.fresh += 1;
        let base = limit + self.stack_bytes;
        debug_assert!(base.is_multiple_of(STACK_ALIGNMENT), "pages are aligned for everything");
        Some(Stack {
            base: StackPointer::new(base).expect("a mapping is not at 0"),
            limit: StackPointer::new(limit).expect("a mapping is not at 0"),
        })
    }

    /// Takes a stack back. One that was used deeply gives its memory to the system.
    pub fn put_back(&mut self, stack: Stack, deep: bool) {
        if deep {
            self.trim(stack.base.get(), stack.base.get() - KEPT);
        }
        self.free.push(stack);
    }

    /// Gives the memory below `from` of the stack that begins at `base` to the system.
    pub fn trim(&self, base: usize, from: usize) {
        let low = base - self.stack_bytes + self.page;
        let high = from & !(self.page - 1);
        if high > low {
            // Should it fail, the memory stays, and nothing else changes.
            let _ = self.advise(low, high - low, libc::MADV_DONTNEED);
        }
    }

    fn advise(&self, at: usize, octets: usize, advice: libc::c_int) -> io::Result<()> {
        // SAFETY: callers name a part of this pool's mapping that no live frame uses.
        match unsafe { libc::madvise(at as *mut libc::c_void, octets, advice) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn protect(&self, at: usize) -> io::Result<()> {
        // SAFETY: the lowest page of a stack that was never used.
        match unsafe { libc::mprotect(at as *mut libc::c_void, self.page, libc::PROT_NONE) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: the mapping is this pool's own, and no stack out of it is in use any more.
        unsafe { libc::munmap(self.mapping.as_ptr(), self.mapped) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corosensei::{Coroutine, stack::Stack as _};

    #[test]
    fn stacks_are_used_again_and_never_more_than_there_are() {
        let mut pool = Pool::new(2, 128 * 1024).unwrap();
        let first = pool.take().unwrap();
        let second = pool.take().unwrap();
        assert!(first.base().get() <= second.limit().get());
        assert!(pool.take().is_none());
        let base = second.base();
        pool.put_back(second, true);
        assert_eq!(pool.take().unwrap().base(), base);
        pool.put_back(first, false);
    }

    #[test]
    fn a_page_without_rights_guards_where_the_kernel_knows_no_guards() {
        let mut pool = Pool::new(4, 128 * 1024).unwrap();
        pool.guard = Guard::Protect;
        let stack = pool.take().unwrap();
        let mut coroutine = Coroutine::with_stack(stack, |_: &corosensei::Yielder<(), ()>, ()| 7);
        assert_eq!(coroutine.resume(()).as_return(), Some(7));
        pool.put_back(coroutine.into_stack(), false);
        assert_eq!(Guard::Protect.bound(65_530), 30_717);
        assert_eq!(Guard::Install.bound(65_530), u64::MAX);
    }
}
