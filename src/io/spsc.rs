//! A bounded ring from one thread to another: one sender, one receiver, no lock.
//!
//! The slots are made once and used again in place, so that a slot which owns a buffer keeps it. The receiver may look
//! at several slots and release them later, together.

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Shared<T> {
    slots: Box<[UnsafeCell<T>]>,
    /// How many slots the receiver has released, and how many the sender has filled, since the start. Both wrap. Each
    /// is on cache lines of its own, or the two ends would slow each other.
    released: Padded,
    filled: Padded,
}

#[repr(align(128))]
struct Padded(AtomicUsize);

// SAFETY: a slot is reached by the sender alone while it is not filled and by the receiver alone until it is released;
// the counters' release and acquire hand it over. T itself goes between threads, and may be looked at from several.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

/// The filling end.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
    filled: usize,
    /// As last seen; the true figure is this or greater.
    released: usize,
}

/// The emptying end.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    released: usize,
}

/// The ring has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A ring of `capacity` slots, rounded up to a power of two.
pub fn channel<T: Default + Send + Sync>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let capacity = capacity.next_power_of_two();
    let shared = Arc::new(Shared {
        slots: (0..capacity).map(|_| UnsafeCell::default()).collect(),
        released: Padded(AtomicUsize::new(0)),
        filled: Padded(AtomicUsize::new(0)),
    });
    (Sender { shared: shared.clone(), filled: 0, released: 0 }, Receiver { shared, released: 0 })
}

impl<T> Shared<T> {
    fn slot(&self, number: usize) -> *mut T {
        self.slots[number & (self.slots.len() - 1)].get()
    }
}

impl<T> Sender<T> {
    /// How many slots are free. The receiver is asked only when fewer than half seem to be.
    pub fn room(&mut self) -> usize {
        let capacity = self.shared.slots.len();
        if self.filled.wrapping_sub(self.released) > capacity / 2 {
            self.released = self.shared.released.0.load(Ordering::Acquire);
        }
        capacity - self.filled.wrapping_sub(self.released)
    }

    /// Fills a slot in place; it holds what was in it when it was released.
    pub fn fill(&mut self, fill: impl FnOnce(&mut T)) -> Result<(), Full> {
        if self.room() == 0 {
            return Err(Full);
        }
        // SAFETY: the slot is free, so the receiver does not reach it, and we are the only sender.
        fill(unsafe { &mut *self.shared.slot(self.filled) });
        self.filled = self.filled.wrapping_add(1);
        self.shared.filled.0.store(self.filled, Ordering::Release);
        Ok(())
    }

    /// Puts `value` into a slot.
    pub fn push(&mut self, value: T) -> Result<(), Full> {
        self.fill(|slot| *slot = value)
    }
}

impl<T> Receiver<T> {
    /// How many slots there are.
    pub fn capacity(&self) -> usize {
        self.shared.slots.len()
    }

    /// How many slots are filled.
    pub fn len(&self) -> usize {
        self.shared.filled.0.load(Ordering::Acquire).wrapping_sub(self.released)
    }

    /// Whether no slot is filled.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Looks at the filled slots, oldest first, and leaves them.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        (0..self.len()).map(|n| {
            // SAFETY: the slot is filled; the sender does not reach it before it is released, which takes `&mut self`
            // and thus the end of this borrow.
            unsafe { &*self.shared.slot(self.released.wrapping_add(n)) }
        })
    }

    /// Releases the `count` oldest slots.
    pub fn release(&mut self, count: usize) {
        assert!(count <= self.len(), "only filled slots are released");
        self.released = self.released.wrapping_add(count);
        self.shared.released.0.store(self.released, Ordering::Release);
    }
}

impl<T: Default> Receiver<T> {
    /// Takes what the oldest slot holds.
    pub fn pop(&mut self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        // SAFETY: as in `iter`; `&mut self` says that nobody else looks at it.
        let value = std::mem::take(unsafe { &mut *self.shared.slot(self.released) });
        self.release(1);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_ring_refuses_until_a_slot_is_released() {
        let (mut sender, mut receiver) = channel::<u32>(3);
        assert_eq!((0..5).map(|n| sender.push(n)).collect::<Vec<_>>(), [Ok(()), Ok(()), Ok(()), Ok(()), Err(Full)]);
        assert_eq!(receiver.iter().copied().collect::<Vec<_>>(), [0, 1, 2, 3]);
        receiver.release(2);
        assert_eq!(sender.room(), 2);
        sender.push(4).unwrap();
        assert_eq!(std::iter::from_fn(|| receiver.pop()).collect::<Vec<_>>(), [2, 3, 4]);
    }

    #[test]
    fn a_released_slot_keeps_its_buffer() {
        let (mut sender, mut receiver) = channel::<Vec<u8>>(1);
        sender.fill(|octets| octets.extend_from_slice(&[7; 1000])).unwrap();
        receiver.release(1);
        sender.fill(|octets| assert_eq!(octets.len(), 1000)).unwrap();
    }

    #[test]
    fn what_is_left_in_the_ring_is_dropped_with_it() {
        let held = Arc::new(());
        let (mut sender, receiver) = channel::<Option<Arc<()>>>(4);
        sender.push(Some(held.clone())).unwrap();
        drop((sender, receiver));
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[test]
    fn two_threads_hand_over_a_hundred_thousand_messages_in_order() {
        const MESSAGES: u64 = 100_000;
        let (mut sender, mut receiver) = channel::<Vec<u8>>(64);
        let sending = std::thread::Builder::new().spawn(move || {
            for n in 0..MESSAGES {
                let fill = |slot: &mut Vec<u8>| {
                    slot.clear();
                    slot.resize((n % 97) as usize, n as u8);
                    slot.extend_from_slice(&n.to_le_bytes());
                };
                while sender.fill(fill).is_err() {
                    std::thread::yield_now();
                }
            }
        });
        let mut next = 0;
        while next < MESSAGES {
            let mut seen = 0;
            for message in receiver.iter() {
                let (padding, number) = message.split_at((next % 97) as usize);
                assert!(padding.iter().all(|&octet| octet == next as u8));
                assert_eq!(number, next.to_le_bytes());
                next += 1;
                seen += 1;
            }
            receiver.release(seen);
            if seen == 0 {
                std::thread::yield_now();
            }
        }
        assert!(receiver.is_empty());
        sending.unwrap().join().unwrap();
    }
}
