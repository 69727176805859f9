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
    named: OnceLock<Vec<(&'static str, &'static str, AtomicU64)>>,
}

impl Figures {
    /// Publishes every figure; they are the same ones in the same order each time.
    pub fn publish(&self, figures: impl Iterator<Item = (&'static str, &'static str, u64)> + Clone) {
        let zero = |(agent, name, _)| (agent, name, AtomicU64::new(0));
        let named = self.named.get_or_init(|| figures.clone().map(zero).collect());
        for ((.., shared), (.., value)) in named.iter().zip(figures) {
            shared.store(value, Ordering::Relaxed);
        }
    }

    /// What was published last, by names such as `proxy.answered`.
    pub fn read(&self) -> BTreeMap<String, u64> {
        let named = self.named.get().map_or(&[][..], Vec::as_slice);
        named.iter().map(|(agent, name, value)| (format!("{agent}.{name}"), value.load(Ordering::Relaxed))).collect()
    }
}
