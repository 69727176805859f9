//! A hierarchical timing wheel (Varghese and Lauck, 1987): what is due next among millions.
//!
//! Time is counted in ticks, whose length is the caller's: a second for bindings, less for transactions. Six levels of 64
//! slots reach 2³² ticks. An item waits in the level of the highest 6-bit digit in which its time
//! differs from the wheel's, and falls to a lower level when that digit's turn comes; at most five times in its life. A
//! bit per slot tells which hold anything, so that empty time, however long, is skipped at once.
//!
//! Items are linked through one list of nodes: inserting costs no allocation of its own, and a node of a `Wheel<u64>`
//! takes 16 octets. Nothing is ever removed before its time; whoever is told that an item is due looks whether it
//! really is, and names the time to ask again.

use crate::Pages;

const LEVELS: usize = 6;
const DIGIT_BITS: u32 = 6;
const SLOTS: usize = 1 << DIGIT_BITS;

/// Where the highest level's digit begins: two bits are left for it.
const TOP_SHIFT: u32 = DIGIT_BITS * (LEVELS as u32 - 1);

/// End of a list.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Node<T> {
    item: T,
    at: u32,
    next: u32,
}

/// The timing wheel of one shard.
#[derive(Debug)]
pub struct Wheel<T> {
    /// The tick that the wheel calls 0.
    epoch: u64,
    /// Ticks since then; what is due at it may still be waiting in its slot.
    now: u32,
    heads: [[u32; SLOTS]; LEVELS],
    occupied: [u64; LEVELS],
    nodes: Pages<Node<T>>,
    free: u32,
    len: usize,
}

impl<T: Copy> Wheel<T> {
    /// An empty wheel which starts at tick `now`.
    pub fn new(now: u64) -> Self {
        Self {
            epoch: now,
            now: 0,
            heads: [[NONE; SLOTS]; LEVELS],
            occupied: [0; LEVELS],
            nodes: Pages::default(),
            free: NONE,
            len: 0,
        }
    }

    /// How many items wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Asks for `item` at tick `at`, or a tick from the wheel's time where that is no later. What is further than 2³¹
    /// ticks off may be asked for then.
    pub fn insert(&mut self, at: u64, item: T) {
        let at = self.clamp(at);
        let node = Node { item, at, next: NONE };
        let index = if self.free == NONE {
            let index = u32::try_from(self.nodes.push(node)).ok().filter(|&index| index != NONE);
            index.expect("memory ends before 2^32 nodes do")
        } else {
            let index = self.free;
            self.free = self.nodes[index as usize].next;
            self.nodes[index as usize] = node;
            index
        };
        self.len += 1;
        self.link(index);
    }

    /// Takes the wheel to tick `now` and hands over what is due, at most `limit` items; `due` gives the tick at which to ask for the item again, or None to let go of it. What the limit left over comes with the next call.
    pub fn advance(&mut self, now: u64, limit: usize, mut due: impl FnMut(T) -> Option<u64>) {
        self.rebase();
        let target = u32::try_from(now.saturating_sub(self.epoch)).unwrap_or(u32::MAX);
        let mut left = limit;
        loop {
            let slot = self.now as usize % SLOTS;
            while self.heads[0][slot] != NONE {
                if left == 0 {
                    return;
                }
                left -= 1;
                let index = self.unlink_first(0, slot);
                let node = &mut self.nodes[index as usize];
                match due(node.item) {
                    Some(again) => {
                        self.nodes[index as usize].at = self.clamp(again);
                        self.link(index);
                    }
                    None => {
                        node.next = self.free;
                        self.free = index;
                        self.len -= 1;
                    }
                }
            }
            let Some((level, slot, at)) = self.next_slot().filter(|&(_, _, at)| at <= target) else { break };
            self.now = at;
            if level > 0 {
                while self.heads[level][slot] != NONE {
                    let index = self.unlink_first(level, slot);
                    self.link(index);
                }
            }
        }
        // No slot begins between the two, so every item stays in the level of its highest differing digit.
        self.now = self.now.max(target);
    }

    /// The tick at which [`Self::advance`] is next of use. It may then have nothing to hand over.
    pub fn next_due(&self) -> Option<u64> {
        let waiting = self.heads[0][self.now as usize % SLOTS] != NONE;
        let at = if waiting { self.now } else { self.next_slot()?.2 };
        Some(self.epoch + u64::from(at))
    }

    /// The first slot behind the wheel's time that holds anything: level, slot, and the tick at which it begins. The
    /// lowest level that has one has the first: all it holds comes before the next turn of a level above.
    fn next_slot(&self) -> Option<(usize, usize, u32)> {
        (0..LEVELS).find_map(|level| {
            let shift = DIGIT_BITS * level as u32;
            let digit = (self.now >> shift) as usize % SLOTS;
            let later = self.occupied[level] & (u64::MAX << digit) & !(1 << digit);
            (later != 0).then(|| {
                let slot = later.trailing_zeros();
                let above = u64::from(self.now) >> (shift + DIGIT_BITS) << (shift + DIGIT_BITS);
                (level, slot as usize, (above | u64::from(slot) << shift) as u32)
            })
        })
    }

    /// Moves the epoch along, so that a wheel of short ticks never reaches its end. A step of the highest digit leaves all
    /// lower ones as they are: only the lists of the highest level change places.
    fn rebase(&mut self) {
        let steps = self.now >> TOP_SHIFT;
        if steps < 2 {
            return;
        }
        let ticks = steps << TOP_SHIFT;
        self.epoch += u64::from(ticks);
        self.now -= ticks;
        for node in self.nodes.iter_mut() {
            // Of nodes in use none is before the wheel's time; those that are free have no time.
            node.at = node.at.wrapping_sub(ticks);
        }
        self.heads[LEVELS - 1].rotate_left(steps as usize);
        self.occupied[LEVELS - 1] >>= steps;
    }

    fn clamp(&self, at: u64) -> u32 {
        let at = u32::try_from(at.saturating_sub(self.epoch)).unwrap_or(u32::MAX);
        at.max(self.now.saturating_add(1))
    }

    fn link(&mut self, index: u32) {
        let at = self.nodes[index as usize].at;
        let differing = u32::BITS - 1 - ((at ^ self.now) | 1).leading_zeros();
        let level = (differing / DIGIT_BITS) as usize;
        let slot = (at >> (DIGIT_BITS * level as u32)) as usize % SLOTS;
        self.nodes[index as usize].next = self.heads[level][slot];
        self.heads[level][slot] = index;
        self.occupied[level] |= 1 << slot;
    }

    fn unlink_first(&mut self, level: usize, slot: usize) -> u32 {
        let index = self.heads[level][slot];
        self.heads[level][slot] = self.nodes[index as usize].next;
        if self.heads[level][slot] == NONE {
            self.occupied[level] &= !(1 << slot);
        }
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const START: u64 = 1_800_000_000;

    fn fired(wheel: &mut Wheel<u64>, now: u64) -> Vec<u64> {
        let mut items = Vec::new();
        wheel.advance(now, usize::MAX, |item| {
            items.push(item);
            None
        });
        items.sort_unstable();
        items
    }

    #[test]
    fn a_node_takes_sixteen_octets() {
        assert_eq!(size_of::<Node<u64>>(), 16);
    }

    #[test]
    fn an_item_fires_at_its_second_and_not_before() {
        for delay in [1, 63, 64, 65, 3600, 4095, 4096, 86_400, 1 << 24, (1 << 32) - 1] {
            let mut wheel = Wheel::new(START);
            wheel.insert(START + delay, 1);
            assert_eq!(fired(&mut wheel, START + delay - 1), []);
            assert_eq!(fired(&mut wheel, START + delay), [1], "{delay}");
            assert_eq!(wheel.next_due(), None);
        }
    }

    #[test]
    fn what_is_past_fires_in_the_next_second_and_what_is_too_far_at_the_end() {
        let mut wheel = Wheel::new(START);
        wheel.insert(0, 1);
        wheel.insert(u64::MAX, 2);
        assert_eq!(wheel.next_due(), Some(START + 1));
        assert_eq!(fired(&mut wheel, START + 1), [1]);
        assert_eq!(fired(&mut wheel, START + (1 << 32) - 1), [2]);
    }

    #[test]
    fn an_item_is_asked_for_again_without_a_new_node() {
        let mut wheel = Wheel::new(START);
        wheel.insert(START + 10, 7u64);
        for turn in 1..100 {
            let mut count = 0;
            wheel.advance(START + turn * 10, usize::MAX, |_| {
                count += 1;
                Some(START + (turn + 1) * 10)
            });
            assert_eq!((count, wheel.len(), wheel.nodes.len()), (1, 1, 1));
        }
        assert_eq!(fired(&mut wheel, START + 1000), [7]);
        wheel.insert(START + 2000, 8);
        assert_eq!((wheel.len(), wheel.nodes.len()), (1, 1));
    }

    #[test]
    fn a_wheel_turns_for_ever() {
        let mut wheel = Wheel::new(START);
        let far = START + (5 << 30) + 77;
        let mut now = START;
        wheel.insert(START + (3 << 30) + 5, 1);
        while now < far {
            now += (1 << 29) + 12_345;
            wheel.insert(now + 3, 2);
            wheel.insert(now + (1 << 30), 3);
            let due = fired(&mut wheel, now);
            assert_eq!(
                due.contains(&1),
                (START + (3 << 30) + 5..START + (3 << 30) + 5 + (1 << 29) + 12_345).contains(&now)
            );
            assert_eq!(fired(&mut wheel, now + 3).iter().filter(|&&item| item == 2).count(), 1);
        }
        assert!(wheel.next_due().is_some_and(|at| at > now));
    }

    #[test]
    fn the_limit_bounds_a_call_and_the_rest_comes_with_the_next() {
        let mut wheel = Wheel::new(START);
        for item in 0..10u64 {
            wheel.insert(START + 5, item);
        }
        wheel.insert(START + 6, 10);
        let mut count = 0;
        wheel.advance(START + 100, 4, |_| {
            count += 1;
            None
        });
        assert_eq!((count, wheel.len(), wheel.next_due()), (4, 7, Some(START + 5)));
        assert_eq!(fired(&mut wheel, START + 100).len(), 7);
    }

    #[test]
    fn a_clock_that_steps_back_changes_nothing() {
        let mut wheel = Wheel::new(START);
        wheel.insert(START + 100, 1);
        assert_eq!(fired(&mut wheel, START + 50), []);
        assert_eq!(fired(&mut wheel, START - 50), []);
        assert_eq!(fired(&mut wheel, START + 100), [1]);
    }

    proptest! {
        /// The slow obvious twin: a list of times.
        #[test]
        fn the_wheel_agrees_with_a_list(steps in vec((vec(0..20_000u64, 0..5), 0..9_000u64), 1..60)) {
            let (mut wheel, mut list, mut now) = (Wheel::new(START), Vec::new(), START);
            for (delays, step) in steps {
                for delay in delays {
                    let at = now + delay;
                    wheel.insert(at, at.max(now + 1));
                    list.push(at.max(now + 1));
                }
                now += step;
                let mut due: Vec<u64> = list.extract_if(.., |at| *at <= now).collect();
                due.sort_unstable();
                prop_assert!(due.first().is_none_or(|first| wheel.next_due().unwrap() <= *first));
                prop_assert_eq!(fired(&mut wheel, now), due);
                prop_assert_eq!(wheel.len(), list.len());
            }
        }
    }
}
