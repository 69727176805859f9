//! What the journal must keep of what it holds, of every kind.

use super::cdrs::Cdrs;
use std::sync::Arc;
use store::journal::{Item, Kind, frame, frames};
use store::{Bindings, CallIndex, PackedCdr};

/// The tables that say what stands. That of the bindings is the shards', and empty where no registrar runs; those of
/// calls and CDRs follow what is committed here.
pub(super) struct Kept {
    pub(super) bindings: Arc<Bindings>,
    pub(super) calls: CallIndex,
    pub(super) cdrs: Cdrs,
}

/// What a group brings to the tables when it is committed.
#[derive(Default)]
pub(super) struct News {
    /// Key, version and length of the state of calls; no length at their end.
    calls: Vec<(u128, u64, Option<usize>)>,
    cdrs: Vec<PackedCdr<'static>>,
}

impl News {
    /// What the shards' records say.
    pub(super) fn of(records: &[u8]) -> Self {
        let mut news = Self::default();
        for (kind, payload) in frames(records) {
            if !matches!(kind, Kind::Call | Kind::CallEnd | Kind::Cdr) {
                continue;
            }
            match Item::decode(kind, payload) {
                Ok(Some(Item::Call(call))) => news.calls.push((call.key, call.version, call.state_octets())),
                Ok(Some(Item::Cdr(cdr))) => news.cdrs.push(cdr.into_owned()),
                _ => tracing::error!(?kind, "a record that a shard has framed cannot be read: this is a fault of ours"),
            }
        }
        news
    }
}

impl Kept {
    /// About how many octets of the journal stand.
    pub(super) fn journal_octets(&self) -> u64 {
        self.bindings.census().journal_octets + self.calls.journal_octets() + self.cdrs.index.journal_octets()
    }

    /// Appends the frame of `item`, if it stands.
    pub(super) fn copy(&self, item: &Item<'_>, group: &mut Vec<u8>) {
        match item {
            Item::Binding(record) if self.bindings.holds(record) => frame(group, Kind::Record, record.octets()),
            Item::Call(call) if self.calls.holds(call) => call.put(group),
            Item::Cdr(cdr) if self.cdrs.index.holds(cdr.id()) => cdr.put(group),
            _ => {}
        }
    }

    /// A group with this news is on the disk.
    pub(super) fn committed(&mut self, news: News) {
        for (key, version, octets) in news.calls {
            self.calls.committed(key, version, octets);
        }
        news.cdrs.into_iter().for_each(|cdr| self.cdrs.committed(cdr));
    }
}
