//! Dial plans: per user some texts with names, of which one may be chosen for the calls that he makes and one for those
//! that come in to him.
//!
//! The table is a copy of the operator's database, as [`Accounts`](crate::Accounts) is. A text is never changed in place:
//! a call keeps the one that it began with.

use crate::hash::KeyedHash;
use dashmap::DashMap;
use std::sync::Arc;

/// Which calls a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Those that come in to the user.
    In,
    /// Those that he makes.
    Out,
}

/// A dial plan's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanText {
    /// Whose it is: the canonical `user@domain`.
    pub owner: Box<str>,
    /// Its name, unique for the owner.
    pub name: Box<str>,
    /// The text.
    pub source: Box<str>,
    /// Another one for each text that the plan has had: with owner and name it names a compilation of it.
    pub version: u64,
}

/// A plan, and what its owner uses it for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The text.
    pub text: Arc<PlanText>,
    /// Whether it runs for calls that come in. One plan of an owner does at most.
    pub is_in: bool,
    /// Whether it runs for calls that go out. One plan of an owner does at most.
    pub is_out: bool,
}

/// All dial plans, by owner. Many threads read, one writes.
#[derive(Debug)]
pub struct Plans {
    by_owner: DashMap<Box<str>, Vec<Plan>, KeyedHash>,
}

impl Plans {
    /// An empty table. `key` is secret (see [`AorId`](crate::AorId)).
    pub fn new(key: [u8; 16]) -> Self {
        Self { by_owner: DashMap::with_hasher(KeyedHash::new(key)) }
    }

    /// The plan that runs for calls of `owner` in this direction.
    pub fn chosen(&self, owner: &str, direction: Direction) -> Option<Arc<PlanText>> {
        let plans = self.by_owner.get(owner)?;
        let is_chosen = |plan: &&Plan| match direction {
            Direction::In => plan.is_in,
            Direction::Out => plan.is_out,
        };
        plans.iter().find(is_chosen).map(|plan| Arc::clone(&plan.text))
    }

    /// The plan of this name.
    pub fn named(&self, owner: &str, name: &str) -> Option<Arc<PlanText>> {
        let plans = self.by_owner.get(owner)?;
        plans.iter().find(|plan| &*plan.text.name == name).map(|plan| Arc::clone(&plan.text))
    }

    /// How many there are. Counts them.
    pub fn len(&self) -> usize {
        self.by_owner.iter().map(|plans| plans.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_owner.is_empty()
    }

    /// Adds a plan, or takes the new state of a known one. Where it is chosen, no other of its owner is any longer.
    pub fn put(&self, plan: Plan) {
        let mut plans = self.by_owner.entry(plan.text.owner.clone()).or_default();
        plans.retain(|known| known.text.name != plan.text.name);
        for known in plans.iter_mut() {
            known.is_in &= !plan.is_in;
            known.is_out &= !plan.is_out;
        }
        plans.push(plan);
    }

    /// Takes a plan away.
    pub fn remove(&self, owner: &str, name: &str) {
        if let Some(mut plans) = self.by_owner.get_mut(owner) {
            plans.retain(|known| &*known.text.name != name);
        }
        self.by_owner.remove_if(owner, |_, plans| plans.is_empty());
    }

    /// Makes these the plans, and no others.
    pub fn replace_all(&self, plans: Vec<Plan>) {
        let mut by_owner = std::collections::HashMap::<Box<str>, Vec<Plan>>::new();
        for plan in plans {
            by_owner.entry(plan.text.owner.clone()).or_default().push(plan);
        }
        self.by_owner.retain(|owner, _| by_owner.contains_key(owner));
        for (owner, plans) in by_owner {
            self.by_owner.insert(owner, plans);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: &str = "alice@example.com";

    fn plan(name: &str, version: u64, is_in: bool, is_out: bool) -> Plan {
        let text = PlanText { owner: ALICE.into(), name: name.into(), source: "".into(), version };
        Plan { text: Arc::new(text), is_in, is_out }
    }

    #[test]
    fn one_plan_a_direction_is_chosen() {
        let plans = Plans::new([1; 16]);
        let chosen = |direction| plans.chosen(ALICE, direction).map(|text| text.name.to_string());
        plans.put(plan("main", 1, true, true));
        plans.put(plan("night", 2, true, false));
        assert_eq!((chosen(Direction::In).unwrap(), chosen(Direction::Out).unwrap()), ("night".into(), "main".into()));
        plans.put(plan("night", 3, false, false));
        assert_eq!(chosen(Direction::In), None);
        assert_eq!(plans.named(ALICE, "night").unwrap().version, 3);
        plans.remove(ALICE, "main");
        plans.remove(ALICE, "night");
        assert!(plans.is_empty() && chosen(Direction::Out).is_none());
    }

    #[test]
    fn a_call_keeps_the_text_that_it_began_with() {
        let plans = Plans::new([1; 16]);
        plans.put(plan("main", 1, false, true));
        let running = plans.chosen(ALICE, Direction::Out).unwrap();
        plans.replace_all(vec![plan("main", 2, false, true)]);
        assert_eq!((running.version, plans.chosen(ALICE, Direction::Out).unwrap().version), (1, 2));
        plans.replace_all(Vec::new());
        assert!(plans.is_empty());
    }
}
