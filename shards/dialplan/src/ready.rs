//! Runs that used up their slice, and whose turn it is: the users in turn, each user's runs in turn.
//!
//! So a hundred endless loops of one user take of the slices what one loop of another user takes.

use crate::RunId;
use std::collections::{HashMap, VecDeque};

/// Names a user among those who have runs.
pub(crate) type UserId = u32;

/// Users who have runs, and the queue of the ready ones.
#[derive(Default)]
pub(crate) struct Users {
    ids: HashMap<Box<str>, UserId>,
    users: Vec<User>,
    free: Vec<UserId>,
    /// Users with ready runs, each once.
    turns: VecDeque<UserId>,
}

#[derive(Default)]
struct User {
    key: Box<str>,
    runs: u32,
    ready: VecDeque<RunId>,
}

impl Users {
    /// The user of this key with one run more; None if he has `most` already.
    pub fn enter(&mut self, key: &str, most: u32) -> Option<UserId> {
        let id = match self.ids.get(key) {
            Some(id) => *id,
            None if most == 0 => return None,
            None => self.insert(key),
        };
        let user = &mut self.users[id as usize];
        if user.runs >= most {
            return None;
        }
        user.runs += 1;
        Some(id)
    }

    fn insert(&mut self, key: &str) -> UserId {
        let user = User { key: key.into(), ..User::default() };
        let id = match self.free.pop() {
            Some(id) => {
                self.users[id as usize] = user;
                id
            }
            None => {
                self.users.push(user);
                (self.users.len() - 1) as UserId
            }
        };
        self.ids.insert(key.into(), id);
        id
    }

    /// One run of the user's is over. It may still stand in the queue; whoever takes it from there finds it gone.
    pub fn leave(&mut self, id: UserId) {
        let user = &mut self.users[id as usize];
        user.runs -= 1;
        if user.runs == 0 {
            let user = std::mem::take(user);
            self.ids.remove(&user.key);
            if !user.ready.is_empty() {
                self.turns.retain(|turn| *turn != id);
            }
            self.free.push(id);
        }
    }

    /// Queues a run that can go on.
    pub fn push(&mut self, id: UserId, run: RunId) {
        let user = &mut self.users[id as usize];
        if user.ready.is_empty() {
            self.turns.push_back(id);
        }
        user.ready.push_back(run);
    }

    /// The run whose turn it is.
    pub fn pop(&mut self) -> Option<RunId> {
        let id = self.turns.pop_front()?;
        let user = &mut self.users[id as usize];
        let run = user.ready.pop_front();
        if !user.ready.is_empty() {
            self.turns.push_back(id);
        }
        run
    }

    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }
}
