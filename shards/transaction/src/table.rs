//! A hash table in parts. One that doubles takes all its entries along at once, and looks each one's hash up where it is:
//! among a hundred thousand that would keep a shard for tens of milliseconds. A part has few, and each doubles by itself.

use hashbrown::HashTable;

/// A power of two.
const PARTS: usize = 64;

/// Places of transactions in their pool, by a hash that is spread well.
#[derive(Debug)]
pub(crate) struct Table {
    parts: Box<[HashTable<u32>]>,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self { parts: (0..PARTS).map(|_| HashTable::new()).collect() }
    }

    /// The table within a part looks at the highest bits and the lowest.
    fn part(hash: u64) -> usize {
        (hash >> 40) as usize % PARTS
    }

    /// The place of what has that hash and `is_it`.
    pub(crate) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.parts[Self::part(hash)].find(hash, |&index| is_it(index)).copied()
    }

    /// Adds a place; `hash_of` gives the hash of what is at one.
    pub(crate) fn insert(&mut self, hash: u64, index: u32, hash_of: impl Fn(u32) -> u64) {
        self.parts[Self::part(hash)].insert_unique(hash, index, |&index| hash_of(index));
    }

    /// Takes a place out.
    pub(crate) fn remove(&mut self, hash: u64, index: u32) {
        if let Ok(entry) = self.parts[Self::part(hash)].find_entry(hash, |&other| other == index) {
            entry.remove();
        }
    }
}
