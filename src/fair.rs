//! A queue to threads that wait for others: bounded, and fair to the users whose scripts fill it.
//!
//! Users take turns, one item each, so that what waits of one delays nobody else; and each may have so much in it and no more, so
//! that there is room for the others.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

/// The queue.
#[derive(Debug)]
pub struct FairQueue<T> {
    waiting: Mutex<Waiting<T>>,
    changed: Condvar,
    max: usize,
    max_per_user: usize,
}

#[derive(Debug)]
struct Waiting<T> {
    by_user: HashMap<Arc<str>, VecDeque<T>>,
    /// Everybody in `by_user`, whose turn it is first.
    turns: VecDeque<Arc<str>>,
    items: usize,
    is_closed: bool,
}

/// What does not go into the queue comes back.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused<T> {
    /// It is full, or closed.
    Full(T),
    /// Its user has as much in it as one may have.
    Share(T),
}

impl<T> FairQueue<T> {
    /// An empty queue for `max` items, `max_per_user` of one user.
    pub fn new(max: usize, max_per_user: usize) -> Self {
        let (by_user, turns) = (HashMap::new(), VecDeque::new());
        let waiting = Mutex::new(Waiting { by_user, turns, items: 0, is_closed: false });
        Self { waiting, changed: Condvar::new(), max, max_per_user }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        // Nothing panics with the lock held.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an item of `user`'s behind his others.
    ///
    /// # Errors
    /// There is no room.
    pub fn push(&self, user: &str, item: T) -> Result<(), Refused<T>> {
        let mut waiting = self.lock();
        if waiting.is_closed || waiting.items >= self.max {
            return Err(Refused::Full(item));
        }
        match waiting.by_user.get_mut(user) {
            Some(own) if own.len() >= self.max_per_user => return Err(Refused::Share(item)),
            Some(own) => own.push_back(item),
            None => {
                let user: Arc<str> = user.into();
                waiting.turns.push_back(Arc::clone(&user));
                waiting.by_user.insert(user, VecDeque::from([item]));
            }
        }
        waiting.items += 1;
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for the next item, in turn. None once the queue is closed and nothing is left.
    pub fn pop(&self) -> Option<T> {
        let mut waiting = self.lock();
        loop {
            if let Some(user) = waiting.turns.pop_front() {
                let own = waiting.by_user.get_mut(&user).expect("who has a turn has items");
                let item = own.pop_front().expect("who has a turn has items");
                if own.is_empty() {
                    waiting.by_user.remove(&user);
                } else {
                    waiting.turns.push_back(user);
                }
                waiting.items -= 1;
                return Some(item);
            }
            if waiting.is_closed {
                return None;
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes nothing more.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_take_turns_and_each_has_his_share() {
        let queue = FairQueue::new(5, 3);
        for item in ["a1", "a2", "a3"] {
            assert_eq!(queue.push("alice", item), Ok(()));
        }
        assert_eq!(queue.push("alice", "a4"), Err(Refused::Share("a4")));
        assert_eq!((queue.push("bob", "b1"), queue.push("carol", "c1")), (Ok(()), Ok(())));
        assert_eq!(queue.push("dave", "d1"), Err(Refused::Full("d1")));
        queue.close();
        assert_eq!(queue.push("bob", "b2"), Err(Refused::Full("b2")));
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, ["a1", "b1", "c1", "a2", "a3"]);
        assert!(queue.lock().by_user.is_empty(), "nothing is kept of who has nothing");
    }
}
