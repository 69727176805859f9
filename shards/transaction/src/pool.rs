//! The slots of one kind of transaction, and when each is due.

use crate::{settings::tick_of, step::Next};
use agent::{Pages, Wheel};
use std::time::Duration;

/// No timer runs.
const NEVER: u64 = u64::MAX;

/// Names a slot, and the transaction that had it when the name was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Slot {
    pub(crate) index: u32,
    generation: u32,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    /// When its timer fires.
    due: u64,
    /// The tick at which the wheel asks for it first. It may be too early, never too late.
    armed: u64,
    transaction: T,
}

/// Transactions of one kind.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    entries: Pages<Option<Entry<T>>>,
    free: Vec<u32>,
    generation: u32,
    wheel: Wheel<Slot>,
}

impl<T> Pool<T> {
    pub(crate) fn new(now: Duration) -> Self {
        Self { entries: Pages::default(), free: Vec::new(), generation: 0, wheel: Wheel::new(tick_of(now)) }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    pub(crate) fn insert(&mut self, transaction: T) -> Slot {
        self.generation = self.generation.wrapping_add(1);
        let entry = Entry { generation: self.generation, due: NEVER, armed: NEVER, transaction };
        let index = match self.free.pop() {
            Some(index) => {
                self.entries[index as usize] = Some(entry);
                index
            }
            None => self.entries.push(Some(entry)) as u32,
        };
        Slot { index, generation: self.generation }
    }

    /// The slot's transaction, if it is still the one that is meant.
    pub(crate) fn get(&self, slot: Slot) -> Option<&T> {
        let entry =
            self.entries.get(slot.index as usize)?.as_ref().filter(|entry| entry.generation == slot.generation)?;
        Some(&entry.transaction)
    }

    /// Like [`Self::get`], to change it.
    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        Some(&mut entry_of(&mut self.entries, slot)?.transaction)
    }

    /// The transaction at a place that a table names, and its full name.
    pub(crate) fn at(&self, index: u32) -> (Slot, &T) {
        let entry = self.entries[index as usize].as_ref().expect("a table names none that has ended");
        (Slot { index, generation: entry.generation }, &entry.transaction)
    }

    /// Sets the timer of `slot` as its machine says; true if the transaction is to be removed.
    #[must_use]
    pub(crate) fn settle(&mut self, slot: Slot, next: Next) -> bool {
        let entry = entry_of(&mut self.entries, slot).expect("it lives");
        match next {
            Next::Keep => {}
            Next::Wait => entry.due = NEVER,
            Next::At(tick) => {
                entry.due = tick;
                if tick < entry.armed {
                    entry.armed = tick;
                    self.wheel.insert(tick, slot);
                }
            }
            Next::Terminated => return true,
        }
        false
    }

    /// Takes it out. The wheel may still ask for the slot, in vain.
    pub(crate) fn remove(&mut self, slot: Slot) -> T {
        let entry = self.entries[slot.index as usize].take().expect("it lives");
        self.free.push(slot.index);
        entry.transaction
    }

    /// When [`Self::due`] is next of use.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.wheel.next_due()
    }

    /// Fires every timer that is due at tick `now`; `fire` says how it goes on. Those that ended come back.
    pub(crate) fn advance(
        &mut self,
        now: u64,
        mut fire: impl FnMut(Slot, &mut T) -> Next,
        mut ended: impl FnMut(Slot, T),
    ) {
        let Self { entries, free, wheel, .. } = self;
        wheel.advance(now, usize::MAX, |slot| {
            let entry = entry_of(entries, slot)?;
            // Another question to the wheel is out, for a later tick or an earlier one that has been answered.
            if entry.armed > now {
                return None;
            }
            if entry.due <= now {
                match fire(slot, &mut entry.transaction) {
                    Next::Keep | Next::Wait => entry.due = NEVER,
                    Next::At(tick) => entry.due = tick,
                    Next::Terminated => {
                        let entry = entries[slot.index as usize].take()?;
                        free.push(slot.index);
                        ended(slot, entry.transaction);
                        return None;
                    }
                }
            }
            entry.armed = entry.due;
            (entry.due != NEVER).then_some(entry.due)
        });
    }
}

fn entry_of<T>(entries: &mut Pages<Option<Entry<T>>>, slot: Slot) -> Option<&mut Entry<T>> {
    entries.get_mut(slot.index as usize)?.as_mut().filter(|entry| entry.generation == slot.generation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{client::Client, server::Server};
    use proptest::{collection::vec, prelude::*};
    use std::collections::BTreeMap;

    #[test]
    fn a_slot_is_small() {
        assert_eq!(size_of::<Option<Entry<Server<u64>>>>(), 168);
        assert_eq!(size_of::<Option<Entry<Client<u64>>>>(), 160);
    }

    #[derive(Clone, Debug)]
    enum Op {
        Insert,
        /// The which-th one that lives gets another timer, so many ticks from now.
        Set(usize, u64),
        Stop(usize),
        Remove(usize),
        /// Time passes. Of what fires, what has an even number goes on after so many ticks.
        Pass(u64, u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            Just(Op::Insert),
            (0..8usize, 1..5000u64).prop_map(|(which, ticks)| Op::Set(which, ticks)),
            (0..8usize).prop_map(Op::Stop),
            (0..8usize).prop_map(Op::Remove),
            (1..3000u64, 1..500u64).prop_map(|(ticks, again)| Op::Pass(ticks, again)),
        ]
    }

    proptest! {
        /// The slow obvious twin: a map of times, asked at every tick.
        #[test]
        fn timers_agree_with_a_map(ops in vec(op(), 1..80)) {
            let mut pool = Pool::new(Duration::ZERO);
            let mut map: BTreeMap<u32, (Slot, Option<u64>)> = BTreeMap::new();
            let (mut now, mut number) = (0, 0);
            for op in ops {
                let nth = |which: usize| map.values().nth(which).map(|&(slot, _)| slot);
                match op {
                    Op::Insert => {
                        number += 1;
                        map.insert(number, (pool.insert(number), None));
                    }
                    Op::Set(which, ticks) => {
                        let Some(slot) = nth(which) else { continue };
                        prop_assert!(!pool.settle(slot, Next::At(now + ticks)));
                        map.values_mut().nth(which).expect("it is there").1 = Some(now + ticks);
                    }
                    Op::Stop(which) => {
                        let Some(slot) = nth(which) else { continue };
                        prop_assert!(!pool.settle(slot, Next::Wait));
                        map.values_mut().nth(which).expect("it is there").1 = None;
                    }
                    Op::Remove(which) => {
                        let Some(slot) = nth(which) else { continue };
                        let number = pool.remove(slot);
                        map.remove(&number);
                        prop_assert!(pool.get(slot).is_none());
                    }
                    Op::Pass(ticks, again) => {
                        for _ in 0..ticks {
                            now += 1;
                            let mut fired = Vec::new();
                            pool.advance(now, |_, &mut number| {
                                fired.push(number);
                                if number % 2 == 0 { Next::At(now + again) } else { Next::Terminated }
                            }, |_, _| {});
                            let mut due = Vec::new();
                            map.retain(|&number, (_, at)| {
                                if *at != Some(now) {
                                    return true;
                                }
                                due.push(number);
                                *at = Some(now + again);
                                number % 2 == 0
                            });
                            fired.sort_unstable();
                            prop_assert_eq!(fired, due);
                        }
                    }
                }
                prop_assert_eq!(pool.len(), map.len());
                let first = map.values().filter_map(|&(_, at)| at).min();
                prop_assert!(first.is_none_or(|first| pool.next_due().is_some_and(|due| due <= first)));
            }
        }
    }
}
