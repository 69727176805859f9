//! A list that grows by pages: what it holds never moves. A vector that doubles copies all it has at once, and one shard's
//! hundred thousand transactions would wait for that.

use std::ops::{Index, IndexMut};

/// Items of a page; a power of two.
const PAGE_ITEMS: usize = 1024;

/// The list.
#[derive(Debug)]
pub struct Pages<T> {
    pages: Vec<Vec<T>>,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self { pages: Vec::new() }
    }
}

impl<T> Pages<T> {
    /// How many items there are.
    pub fn len(&self) -> usize {
        self.pages.last().map_or(0, |last| (self.pages.len() - 1) * PAGE_ITEMS + last.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// Appends an item. Returns its index.
    pub fn push(&mut self, item: T) -> usize {
        let index = self.len();
        if index.is_multiple_of(PAGE_ITEMS) {
            self.pages.push(Vec::with_capacity(PAGE_ITEMS));
        }
        self.pages[index / PAGE_ITEMS].push(item);
        index
    }

    /// The item at an index, if there is one.
    pub fn get(&self, index: usize) -> Option<&T> {
        self.pages.get(index / PAGE_ITEMS)?.get(index % PAGE_ITEMS)
    }

    /// Like [`Self::get`], to change it.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.pages.get_mut(index / PAGE_ITEMS)?.get_mut(index % PAGE_ITEMS)
    }

    /// All items in order, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.pages.iter_mut().flatten()
    }
}

impl<T> Index<usize> for Pages<T> {
    type Output = T;

    fn index(&self, index: usize) -> &T {
        &self.pages[index / PAGE_ITEMS][index % PAGE_ITEMS]
    }
}

impl<T> IndexMut<usize> for Pages<T> {
    fn index_mut(&mut self, index: usize) -> &mut T {
        &mut self.pages[index / PAGE_ITEMS][index % PAGE_ITEMS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_stay_where_they_are_as_the_list_grows() {
        let mut pages = Pages::default();
        assert!(pages.is_empty() && pages.get(0).is_none());
        let first: *const usize = {
            pages.push(0);
            &raw const pages[0]
        };
        for n in 1..3 * PAGE_ITEMS + 1 {
            assert_eq!((pages.len(), pages.push(n)), (n, n));
        }
        assert_eq!(&raw const pages[0], first);
        pages.iter_mut().for_each(|item| *item += 1);
        pages[PAGE_ITEMS] = 7;
        let all: Vec<_> = (0..pages.len()).map(|n| pages[n]).collect();
        assert_eq!(all[..PAGE_ITEMS], (1..=PAGE_ITEMS).collect::<Vec<_>>());
        assert_eq!((all[PAGE_ITEMS], all[PAGE_ITEMS + 1]), (7, PAGE_ITEMS + 2));
        assert_eq!(pages.get(3 * PAGE_ITEMS), Some(&(3 * PAGE_ITEMS + 1)));
        assert_eq!(pages.get_mut(3 * PAGE_ITEMS + 1), None);
    }
}
