//! The way of a shard's records to the clerk and of their tickets back.
//!
//! At the end of a turn its records go as one batch. At most a ring's capacity of batches is on the way, counted until
//! the shard has taken their settlement, so neither ring is ever full; what does not go now gathers for a later turn.

use super::spsc::{self, Receiver, Sender};
use super::waker::Waker;
use agent::Ticket;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The records of one turn or of several.
#[derive(Debug, Default)]
pub struct Batch {
    /// Counts the batches of a shard.
    pub number: u64,
    /// The records behind one another, as the store framed them.
    pub records: Vec<u8>,
    /// The highest barrier that the shard had seen when it pushed this: every change which it made before is in this
    /// batch or an earlier one.
    pub barrier: u64,
}

/// What became of all batches up to one, since the settlement before.
#[derive(Clone, Copy, Debug, Default)]
struct Settlement {
    up_to: u64,
    ok: bool,
}

/// A shard's end.
pub struct JournalLink {
    batches: Sender<Batch>,
    settlements: Receiver<Settlement>,
    /// Number and last ticket of each batch on the way.
    on_the_way: VecDeque<(u64, Ticket)>,
    pushed: u64,
    capacity: usize,
    barrier: Arc<AtomicU64>,
    barrier_passed: u64,
    clerk: Arc<Waker>,
}

/// The clerk's end.
pub struct JournalInlet {
    /// The batches to write, in order.
    pub batches: Receiver<Batch>,
    settlements: Sender<Settlement>,
    barrier: Arc<AtomicU64>,
    shard: Arc<Waker>,
}

/// Both ends, for `capacity` batches on the way.
pub fn journal(capacity: usize, shard: Arc<Waker>, clerk: Arc<Waker>) -> (JournalLink, JournalInlet) {
    let capacity = capacity.next_power_of_two();
    let (batches, written) = spsc::channel(capacity);
    let (settled, settlements) = spsc::channel(capacity);
    let barrier = Arc::new(AtomicU64::new(0));
    let link = JournalLink {
        batches,
        settlements,
        on_the_way: VecDeque::with_capacity(capacity),
        pushed: 0,
        capacity,
        barrier: barrier.clone(),
        barrier_passed: 0,
        clerk,
    };
    (link, JournalInlet { batches: written, settlements: settled, barrier, shard })
}

impl JournalLink {
    /// Hands `records` to the clerk and leaves them empty, if there are any or a barrier is asked for, and if a batch
    /// may go. `next_ticket` is the first that is not in them. Tells whether a batch went.
    pub fn push(&mut self, records: &mut Vec<u8>, next_ticket: Ticket) -> bool {
        let barrier = self.barrier.load(Ordering::Acquire);
        if records.is_empty() && barrier == self.barrier_passed || self.on_the_way.len() == self.capacity {
            return false;
        }
        self.pushed += 1;
        let batch = Batch { number: self.pushed, records: std::mem::take(records), barrier };
        self.batches.push(batch).expect("no more batches are on the way than the ring holds");
        self.on_the_way.push_back((self.pushed, Ticket(next_ticket.0.saturating_sub(1))));
        self.barrier_passed = barrier;
        self.clerk.wake();
        true
    }

    /// The next settlement: the last ticket that it speaks of, and whether its records are on the disk.
    pub fn settled(&mut self) -> Option<(Ticket, bool)> {
        let settlement = self.settlements.pop()?;
        let mut last = None;
        while let Some((_, ticket)) = self.on_the_way.pop_front_if(|(number, _)| *number <= settlement.up_to) {
            last = Some((ticket, settlement.ok));
        }
        last
    }

    pub(crate) fn has_settlement(&self) -> bool {
        !self.settlements.is_empty()
    }

    /// Whether a batch is not yet settled.
    pub(crate) fn is_pending(&self) -> bool {
        !self.on_the_way.is_empty()
    }
}

impl JournalInlet {
    /// Tells the shard what became of its batches up to the one of this number. Each batch is settled once, alone or
    /// with others.
    pub fn settle(&mut self, up_to: u64, ok: bool) {
        self.settlements.push(Settlement { up_to, ok }).expect("no more batches are on the way than the ring holds");
        self.shard.wake();
    }

    /// Asks the shard for a batch, empty perhaps, whose barrier is `number` or higher. Numbers increase.
    pub fn ask_barrier(&self, number: u64) {
        self.barrier.store(number, Ordering::Release);
        self.shard.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(capacity: usize) -> (JournalLink, JournalInlet) {
        let waker = || Arc::new(Waker::new().unwrap());
        journal(capacity, waker(), waker())
    }

    #[test]
    fn records_gather_while_too_many_batches_are_on_the_way() {
        let (mut link, mut inlet) = both(2);
        let mut records = Vec::new();
        let pushed = (1..=4).map(|n| {
            records.push(n as u8);
            link.push(&mut records, Ticket(n + 1))
        });
        assert_eq!(pushed.collect::<Vec<_>>(), [true, true, false, false]);
        assert_eq!(inlet.batches.pop().unwrap().records, [1]);
        assert_eq!(inlet.batches.pop().unwrap().number, 2);
        assert!(!link.push(&mut records, Ticket(5)), "taken is not settled");
        inlet.settle(2, true);
        assert_eq!(link.settled(), Some((Ticket(2), true)));
        assert!(!link.is_pending());
        assert!(link.push(&mut records, Ticket(5)));
        assert_eq!(inlet.batches.pop().unwrap().records, [3, 4]);
        inlet.settle(3, false);
        assert_eq!(link.settled(), Some((Ticket(4), false)));
    }

    #[test]
    fn a_barrier_is_answered_once_even_by_a_shard_without_records() {
        let (mut link, mut inlet) = both(4);
        assert!(!link.push(&mut Vec::new(), Ticket(1)));
        inlet.ask_barrier(7);
        assert!(link.push(&mut Vec::new(), Ticket(1)));
        assert!(!link.push(&mut Vec::new(), Ticket(1)));
        let batch = inlet.batches.pop().unwrap();
        assert_eq!((batch.records.len(), batch.barrier), (0, 7));
    }
}
