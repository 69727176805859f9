//! Tables of what lives for a while: a slot each, with a generation that tells a slot's users apart, and the time when each
//! wants to be woken.
//!
//! A thing is taken out of its slot to be worked on and put back after it, so that the work may use everything else.

use std::{collections::BTreeSet, marker::PhantomData, time::Duration};

/// Names a thing in a [`Slab`].
pub(crate) struct Key<T> {
    slot: u32,
    generation: u32,
    of: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    /// Names nothing.
    pub const NONE: Self = Self { slot: u32::MAX, generation: 0, of: PhantomData };
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Key<T> {}

impl<T> PartialEq for Key<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.slot, self.generation) == (other.slot, other.generation)
    }
}

impl<T> Eq for Key<T> {}

impl<T> std::fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

/// What a slab holds says when it wants to be woken.
pub(crate) trait Timed {
    /// The next moment at which it has something to do, in monotonic time.
    fn next_timeout(&self) -> Option<Duration>;
}

pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    due: BTreeSet<(Duration, u32)>,
}

struct Slot<T> {
    generation: u32,
    /// Under which moment the slot stands in `due`.
    due: Option<Duration>,
    thing: Option<T>,
}

impl<T: Timed> Slab<T> {
    pub fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), due: BTreeSet::new() }
    }

    /// How many slots are in use, those whose things are out included.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// A slot for a thing that [`Self::put`] brings.
    pub fn reserve(&mut self) -> Key<T> {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, due: None, thing: None });
            self.slots.len() as u32 - 1
        });
        Key { slot, generation: self.slots[slot as usize].generation, of: PhantomData }
    }

    /// Takes the thing out, to be put back or released.
    pub fn take(&mut self, key: Key<T>) -> Option<T> {
        self.slots.get_mut(key.slot as usize).filter(|slot| slot.generation == key.generation)?.thing.take()
    }

    /// Looks at the thing.
    pub fn peek(&self, key: Key<T>) -> Option<&T> {
        self.slots.get(key.slot as usize).filter(|slot| slot.generation == key.generation)?.thing.as_ref()
    }

    /// Puts the thing into its slot.
    pub fn put(&mut self, key: Key<T>, thing: T) {
        let slot = &mut self.slots[key.slot as usize];
        let wanted = thing.next_timeout();
        slot.thing = Some(thing);
        arm(&mut self.due, &mut slot.due, wanted, key.slot);
    }

    /// Gives the slot free, whose thing has been taken out.
    pub fn release(&mut self, key: Key<T>) {
        let slot = &mut self.slots[key.slot as usize];
        slot.generation = slot.generation.wrapping_add(1);
        arm(&mut self.due, &mut slot.due, None, key.slot);
        self.free.push(key.slot);
    }

    /// When the first of all wants to be woken.
    pub fn next_timeout(&self) -> Option<Duration> {
        self.due.first().map(|&(due, _)| due)
    }

    /// The next one that is due at `now`; it is not given again before it has been put back.
    pub fn pop_due(&mut self, now: Duration) -> Option<Key<T>> {
        let &(due, slot) = self.due.first().filter(|&&(due, _)| due <= now)?;
        self.due.remove(&(due, slot));
        let generation = {
            let slot = &mut self.slots[slot as usize];
            slot.due = None;
            slot.generation
        };
        Some(Key { slot, generation, of: PhantomData })
    }

    /// Everything that is in its slot.
    pub fn iter(&self) -> impl Iterator<Item = (Key<T>, &T)> {
        self.slots.iter().enumerate().filter_map(|(slot, s)| {
            Some((Key { slot: slot as u32, generation: s.generation, of: PhantomData }, s.thing.as_ref()?))
        })
    }
}

fn arm(all: &mut BTreeSet<(Duration, u32)>, armed: &mut Option<Duration>, wanted: Option<Duration>, slot: u32) {
    if *armed == wanted {
        return;
    }
    if let Some(due) = armed.take() {
        all.remove(&(due, slot));
    }
    if let Some(due) = wanted {
        all.insert((due, slot));
    }
    *armed = wanted;
}

#[cfg(test)]
mod tests {
    use super::*;

    struct At(Option<u64>);

    impl Timed for At {
        fn next_timeout(&self) -> Option<Duration> {
            self.0.map(Duration::from_secs)
        }
    }

    #[test]
    fn a_key_of_a_slot_used_before_finds_nothing() {
        let mut slab = Slab::new();
        let key = slab.reserve();
        slab.put(key, At(Some(1)));
        assert!(slab.peek(key).is_some());
        slab.take(key);
        slab.release(key);
        let again = slab.reserve();
        slab.put(again, At(None));
        assert!(slab.take(key).is_none() && slab.take(again).is_some());
    }

    #[test]
    fn each_is_due_when_it_said_last() {
        let mut slab = Slab::new();
        let (a, b) = (slab.reserve(), slab.reserve());
        slab.put(a, At(Some(5)));
        slab.put(b, At(Some(3)));
        slab.take(a);
        slab.put(a, At(Some(2)));
        assert_eq!(slab.next_timeout(), Some(Duration::from_secs(2)));
        assert_eq!(slab.pop_due(Duration::from_secs(4)), Some(a));
        assert_eq!(slab.pop_due(Duration::from_secs(4)), Some(b));
        assert_eq!(slab.pop_due(Duration::from_secs(9)), None);
        slab.take(b);
        slab.release(b);
        assert_eq!(slab.len(), 1);
    }
}
