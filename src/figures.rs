//! What a shard counts, for others to read while it runs.

use std::{
    collections::BTreeMap,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// Numbers, each with the agent that counts it and its name there. One shard writes them at the end of a turn; anybody reads.
#[derive(Debug, Default)]
pub struct Figures {
    named: OnceLock<Named>,
}

#[derive(Debug)]
struct Named {
    names: Vec<(&'static str, &'static str)>,
    values: Box<[AtomicU64]>,
}

/// What one agent counts: as many values as names.
#[derive(Clone, Copy)]
pub struct Counted<'v> {
    /// The agent.
    pub agent: &'static str,
    /// What its numbers are called.
    pub names: &'static [&'static str],
    /// The numbers.
    pub values: &'v [u64],
}

impl Figures {
    /// Publishes every figure; they are the same ones in the same order each time. It is done once a turn, so it stores numbers and does
    /// nothing else.
    pub fn publish(&self, all: &[Counted<'_>]) {
        let named = self.named.get_or_init(|| {
            let named = all.iter().flat_map(|counted| counted.names.iter().map(|name| (counted.agent, *name)));
            let names: Vec<_> = named.collect();
            Named { values: names.iter().map(|_| AtomicU64::new(0)).collect(), names }
        });
        let mut shared = &named.values[..];
        for Counted { values, .. } in all {
            let (own, rest) = shared.split_at(values.len());
            own.iter().zip(*values).for_each(|(shared, value)| shared.store(*value, Ordering::Relaxed));
            shared = rest;
        }
    }

    /// What was published last, by names such as `proxy.answered`.
    pub fn read(&self) -> BTreeMap<String, u64> {
        let Some(Named { names, values }) = self.named.get() else { return BTreeMap::new() };
        let read =
            |((agent, name), value): (&(_, _), &AtomicU64)| (format!("{agent}.{name}"), value.load(Ordering::Relaxed));
        names.iter().zip(values).map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_was_published_last() {
        let figures = Figures::default();
        assert!(figures.read().is_empty());
        for round in [1, 2] {
            let (own, others) = ([round], [10 * round, 20 * round]);
            figures.publish(&[
                Counted { agent: "shard", names: &["turns"], values: &own },
                Counted { agent: "proxy", names: &["answered", "turns"], values: &others },
            ]);
            let expected = [("proxy.answered", 10 * round), ("proxy.turns", 20 * round), ("shard.turns", round)];
            assert!(figures.read().iter().map(|(name, value)| (&**name, *value)).eq(expected));
        }
    }
}
