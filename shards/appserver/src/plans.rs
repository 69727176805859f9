//! Compiled plans: each text once per version and shard. A call keeps the one that it began with.

use crate::Tables;
use dialplan::{Fault, Limits, Plan};
use hashbrown::{Equivalent, HashMap};
use std::collections::hash_map::RandomState;
use store::{Direction, PlanText};

/// Compilations at a time; past it all are forgotten and those still in use are compiled again.
const MAX_COMPILED: usize = 4096;

/// The plans that this shard has compiled.
#[derive(Default)]
pub(crate) struct Compiled {
    plans: HashMap<Name, Compilation, RandomState>,
}

/// Owner and name of a plan.
type Name = (Box<str>, Box<str>);

/// A [`Name`] to look for.
#[derive(Hash)]
struct Named<'a>(&'a str, &'a str);

impl Equivalent<Name> for Named<'_> {
    fn equivalent(&self, name: &Name) -> bool {
        (self.0, self.1) == (&*name.0, &*name.1)
    }
}

/// What came of compiling the version of a text.
type Compilation = (u64, Result<Plan, Fault>);

impl Compiled {
    /// The plan that `owner` has chosen for this direction, if he has one. A text that does not compile is a fault for its
    /// author.
    pub fn chosen(
        &mut self,
        tables: &Tables,
        limits: &Limits,
        owner: &str,
        direction: Direction,
    ) -> Option<Result<Plan, Fault>> {
        let text = tables.plans.chosen(owner, direction)?;
        Some(self.compile(&text, limits))
    }

    fn compile(&mut self, text: &PlanText, limits: &Limits) -> Result<Plan, Fault> {
        let named = Named(&text.owner, &text.name);
        if let Some((version, compiled)) = self.plans.get(&named)
            && *version == text.version
        {
            return compiled.clone();
        }
        if self.plans.len() >= MAX_COMPILED {
            self.plans.clear();
        }
        let compiled = Plan::compile(&text.name, &text.source, limits);
        self.plans.insert((text.owner.clone(), text.name.clone()), (text.version, compiled.clone()));
        compiled
    }
}
