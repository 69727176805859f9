//! Wakes a thread that may sleep: an eventfd and a flag which says whether a wake-up is needed at all.

use glommio::io::BufferedFile;
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// The wake-up of one thread; any thread may hold a reference.
///
/// The sleeper calls [`prepare_to_sleep`](Self::prepare_to_sleep), then looks whether something has come after all, then
/// sleeps on the eventfd. A waker puts its message in place, then calls [`wake`](Self::wake). Each side writes before
/// it reads, with a full fence between, so at least one of them sees the other and no wake-up is lost.
#[derive(Debug)]
pub struct Waker {
    event: OwnedFd,
    sleeping: AtomicBool,
}

impl Waker {
    /// A waker of a thread that is awake.
    pub fn new() -> io::Result<Self> {
        // It blocks: a read through io_uring then waits for a wake-up, where a non-blocking one would fail.
        Ok(Self { event: eventfd(0, EventfdFlags::CLOEXEC)?, sleeping: AtomicBool::new(false) })
    }

    /// Says that this thread is about to sleep. What was put in place before a `wake` that found it awake is seen now.
    pub fn prepare_to_sleep(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Says that this thread is awake and will look by itself before it sleeps.
    pub fn stay_awake(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// Wakes the thread if it sleeps or is about to; a busy one costs no system call.
    pub fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::Relaxed) {
            rustix::io::write(&self.event, &1u64.to_ne_bytes())
                .expect("an eventfd takes 2^64 wake-ups before it is full");
        }
    }

    /// The eventfd as a file of the calling thread's glommio executor, which wakes it while a read of eight octets waits.
    ///
    /// # Panics
    ///
    /// Outside such an executor.
    pub fn to_file(&self) -> io::Result<BufferedFile> {
        let event = self.event.try_clone()?;
        // SAFETY: the descriptor is open and nobody else's; the file closes it.
        Ok(unsafe { BufferedFile::from_raw_fd(event.into_raw_fd()) })
    }
}

impl AsFd for Waker {
    /// The eventfd to read, eight octets at a time.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::super::spsc;
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_sleeper_misses_nothing_and_a_busy_one_is_left_alone() {
        const MESSAGES: u32 = 50_000;
        let waker = Arc::new(Waker::new().unwrap());
        let (mut sender, mut receiver) = spsc::channel::<u32>(8);
        let sending = std::thread::Builder::new().spawn({
            let waker = waker.clone();
            move || {
                for n in 0..MESSAGES {
                    while sender.push(n).is_err() {
                        std::thread::yield_now();
                    }
                    waker.wake();
                }
            }
        });
        let mut wakeups = 0;
        for n in 0..MESSAGES {
            while receiver.is_empty() {
                waker.prepare_to_sleep();
                if receiver.is_empty() {
                    rustix::io::read(&*waker, &mut [0u8; 8]).unwrap();
                    wakeups += 1;
                }
                waker.stay_awake();
            }
            assert_eq!(receiver.pop(), Some(n));
        }
        sending.unwrap().join().unwrap();
        assert!(wakeups <= MESSAGES);
    }
}
