//! The table of bindings: what a location service answers from (RFC 3261 §10, §16.5).
//!
//! One concurrent map for the whole process, because a request is owned by its Call-ID and a binding by its AOR: any
//! shard reads and writes any AOR. The map is keyed by the records themselves, which know their AOR, so that an AOR costs
//! one slot of 24 octets and one allocation; the slot keeps the hash, so that the table grows without touching a record.
//! It is cut into 1024 parts with a lock each: a part of a table of a million is
//! grown, or read for a listing, in a fraction of a millisecond, and two shards seldom meet in one.
//!
//! The rule that durability rests on: for every AOR the table holds the record of the highest version that stands, until
//! that record's `forget_at`. Until then the journal must keep it (it overrules older ones), after it nobody needs it.
//!
//! In a large table the slot and the record of an AOR are in no cache. Whoever knows the AOR some time before the update says
//! so: [`Bindings::prefetch_slot`] and, once the slot is there, [`Bindings::prefetch_record`] fetch in advance.
//!
//! A closure that runs inside a method holds a lock and must not call the table again.

use crate::binding::Binding;
use crate::hash::{AorId, KeyedHash};
use crate::journal;
use crate::prefetch::prefetch;
use crate::record::{Draft, Record, TooLong};
use dashmap::{DashMap, SharedValue};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Parts of the map.
const PARTS: usize = 1024;

/// Most undone updates which are remembered for those that were built upon them; the oldest go first.
const MAX_UNDONE: usize = 4096;

/// What dashmap keeps in a part: key and value.
type Slot = (Record, SharedValue<AorId>);

/// Slots that [`Bindings::prefetch_slot`] has fetched: an AOR is put into the first that is free, and of a table of a million
/// 95 in a hundred lie within these three, of a full one 84.
const LIKELY_SLOTS: usize = 3;

/// Control octets that a search looks at in one step.
const GROUP_OCTETS: usize = 16;

/// The bindings of all AORs.
#[derive(Debug)]
pub struct Bindings {
    map: DashMap<Record, AorId, KeyedHash>,
    hash: KeyedHash,
    version: AtomicU64,
    aors: AtomicU64,
    bindings: AtomicU64,
    journal_octets: AtomicU64,
    /// Undone updates that others were built upon, and what was before them.
    undone: Mutex<BTreeMap<u64, Option<Record>>>,
    /// AORs to look at when the replay ends.
    forgettable: Mutex<Vec<AorId>>,
    /// AORs of the replay that no wheel knows yet.
    unarmed: Mutex<Vec<AorId>>,
}

/// An AOR and its hash under the key of the table that made it ([`Bindings::hashed`]): hashed once, however often it is
/// asked for.
#[derive(Clone, Copy, Debug)]
pub struct HashedAor<'a> {
    aor: &'a str,
    id: AorId,
}

impl<'a> HashedAor<'a> {
    /// The AOR.
    pub fn as_str(self) -> &'a str {
        self.aor
    }
}

/// What an update did.
#[derive(Debug)]
pub struct Updated {
    /// The version that the new record has.
    pub version: u64,
    /// The record before it, for [`Bindings::restore`].
    pub previous: Option<Record>,
    /// Set when no wheel knows the AOR yet: the caller's must, from this second on.
    pub arm: Option<(AorId, u64)>,
}

/// How much there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Census {
    /// AORs that have a binding, which may have run out since the last sweep.
    pub aors: u64,
    /// Their bindings.
    pub bindings: u64,
    /// What all records, tombstones too, take as frames of the journal.
    pub journal_octets: u64,
}

impl Bindings {
    /// An empty table. `key` is secret (see [`AorId`]).
    pub fn new(key: [u8; 16]) -> Self {
        let hash = KeyedHash::new(key);
        Self {
            map: DashMap::with_hasher_and_shard_amount(hash.clone(), PARTS),
            hash,
            version: AtomicU64::new(0),
            aors: AtomicU64::new(0),
            bindings: AtomicU64::new(0),
            journal_octets: AtomicU64::new(0),
            undone: Mutex::default(),
            forgettable: Mutex::default(),
            unarmed: Mutex::default(),
        }
    }

    /// Hashes `aor` for this table.
    pub fn hashed<'a>(&self, aor: &'a str) -> HashedAor<'a> {
        HashedAor { aor, id: self.hash.of(aor) }
    }

    /// Has the slot of `aor` brought into the cache, for [`Self::prefetch_record`] to find it there, which is to be called
    /// when it came: some 100 ns later. Neither waits: while an update holds the lock, nothing is fetched.
    pub fn prefetch_slot(&self, aor: HashedAor<'_>) {
        // From addresses alone: to look for the slot would be to wait for the control octets.
        if let Some(part) = self.map.shards()[self.part(aor.id)].try_read() {
            let (control, slots) = likely_places(part.data_end().as_ptr(), part.buckets(), aor.id);
            prefetch(control, GROUP_OCTETS);
            prefetch(slots.cast(), LIKELY_SLOTS * size_of::<Slot>());
        }
    }

    /// Has the record of `aor` brought into the cache, for [`Self::update`] to find it there.
    pub fn prefetch_record(&self, aor: HashedAor<'_>) {
        if let Some(part) = self.map.shards()[self.part(aor.id)].try_read()
            && let Some((record, _)) = part.get(aor.id.0, |(_, slot_id)| *slot_id.get() == aor.id)
        {
            prefetch(record.octets().as_ptr(), record.octets().len());
        }
    }

    /// Shows `read` the record of `aor` if it has a binding that holds at `now`. The record may have others beside it:
    /// [`Record::live`] tells them apart.
    pub fn lookup<R>(&self, aor: &str, now: u64, read: impl FnOnce(&Record) -> R) -> Option<R> {
        let id = self.hash.of(aor);
        let part = self.map.shards()[self.part(id)].read();
        let (record, _) = part.get(id.0, slot_of(id, aor.as_bytes()))?;
        record.live(now).next().is_some().then(|| read(record))
    }

    /// Replaces the record of `aor`. `decide` sees the one in force, whose bindings may have run out, and packs the
    /// bindings that the AOR is to have; none makes a tombstone. If it refuses, nothing changes. `journal` sees the new
    /// record, and puts it into the journal, before anybody else does.
    pub fn update<E: From<TooLong>>(
        &self,
        HashedAor { aor, id }: HashedAor<'_>,
        decide: impl FnOnce(Option<&Record>, &mut Draft) -> Result<(), E>,
        journal: impl FnOnce(&Record),
    ) -> Result<Updated, E> {
        debug_assert_eq!(id, self.hash.of(aor), "another table hashed it");
        let mut part = self.map.shards()[self.part(id)].write();
        let current = part.get_mut(id.0, slot_of(id, aor.as_bytes())).map(|(record, _)| record);
        let mut draft = Draft::default();
        decide(current.as_deref(), &mut draft)?;
        // Under the AOR's lock, so the versions of one AOR rise in the order of its updates.
        let version = self.version.fetch_add(1, Relaxed) + 1;
        let record = draft.seal(version, aor, current.as_ref().map_or(0, |record| record.forget_at()))?;
        journal(&record);
        self.count(Change::of(current.as_deref(), Some(&record)));
        let arm = current.is_none().then(|| (id, record.due()));
        let previous = match current {
            Some(current) => Some(current.replace(record)),
            None => {
                part.insert_entry(id.0, (record, SharedValue::new(id)), slot_hash);
                None
            }
        };
        Ok(Updated { version, previous, arm })
    }

    /// Undoes the update of `aor` that made version `ours`, which could not be kept: if that still stands, `previous`
    /// takes its place again. If a later update stands, it stays; should it be undone too, in any order and by any
    /// shard, then not to our record but to `previous`.
    pub fn restore(&self, aor: &str, ours: u64, previous: Option<Record>) {
        let id = self.hash.of(aor);
        let mut part = self.map.shards()[self.part(id)].write();
        let Some((current, _)) = part.get_mut(id.0, slot_of(id, aor.as_bytes())) else {
            return;
        };
        let mut undone = self.undone.lock().expect(NO_PANIC);
        if current.version() != ours {
            undone.insert(ours, previous);
            if undone.len() > MAX_UNDONE {
                undone.pop_first();
            }
            return;
        }
        let mut previous = previous;
        while let Some(before) = previous.as_ref().and_then(|record| undone.remove(&record.version())) {
            previous = before;
        }
        self.count(Change::of(Some(current), previous.as_ref()));
        match previous {
            Some(previous) => *current = previous,
            None => drop(part.remove_entry(id.0, slot_of(id, aor.as_bytes()))),
        }
    }

    /// A wheel's item came due: drops the AOR's bindings that have run out, telling `dropped` of each, and the whole
    /// record once it may be forgotten. Gives the second to look again, or None when nothing is left to look at.
    ///
    /// A record that was refreshed meanwhile is only looked at. One whose binding was shortened is swept when the longer
    /// time is over: until then lookups filter it by its time.
    pub fn expire(&self, id: AorId, now: u64, mut dropped: impl FnMut(&str, &Binding<'_>)) -> Option<u64> {
        let mut part = self.map.shards()[self.part(id)].write();
        let (current, _) = part.get_mut(id.0, |(_, slot_id)| *slot_id.get() == id)?;
        if current.due() > now {
            return Some(current.due());
        }
        let mut draft = Draft::default();
        for binding in current.bindings() {
            if binding.is_live(now) {
                draft.push(&binding).expect("a part of a record is no longer than the record");
            } else {
                dropped(current.aor(), &binding);
            }
        }
        // The version stays: what the journal has under it says the same at this hour.
        let rest = draft
            .seal(current.version(), current.aor(), current.forget_at())
            .expect("a record's AOR is no longer than an AOR may be");
        if rest.is_empty() && rest.forget_at() <= now {
            self.count(Change::of(Some(current), None));
            part.remove_entry(id.0, slot_of(id, rest.aor_octets()));
            return None;
        }
        self.count(Change::of(Some(current), Some(&rest)));
        let due = rest.due();
        *current = rest;
        Some(due)
    }

    /// Takes in records of the journal, say those of one segment: each unless one of a higher version is there. What may be
    /// forgotten at `now` is noted for [`Self::finish_replay`]. Order does not matter, and several threads may load at once.
    pub fn load(&self, records: impl IntoIterator<Item = Record>, now: u64) {
        // What is counted here is shared with other threads only at the end; and each record is read while it is in the
        // cache, for a second pass over a million of them would take as long again.
        let (mut version, mut change) = (0, Change::default());
        let (mut forgettable, mut unarmed) = (Vec::new(), Vec::new());
        for record in records {
            let id = self.hash.of_octets(record.aor_octets());
            version = version.max(record.version());
            if record.forget_at() <= now {
                forgettable.push(id);
            }
            let mut part = self.map.shards()[self.part(id)].write();
            match part.get_mut(id.0, slot_of(id, record.aor_octets())) {
                Some((present, _)) if present.version() >= record.version() => {}
                Some((present, _)) => {
                    change.add(Some(present), Some(&record));
                    *present = record;
                }
                None => {
                    change.add(None, Some(&record));
                    part.insert_entry(id.0, (record, SharedValue::new(id)), slot_hash);
                    unarmed.push(id);
                }
            }
        }
        self.version.fetch_max(version, Relaxed);
        self.count(change);
        self.forgettable.lock().expect(NO_PANIC).append(&mut forgettable);
        self.unarmed.lock().expect(NO_PANIC).append(&mut unarmed);
    }

    /// Ends a replay: forgets what may be forgotten at `now`. Until here it had to overrule older records.
    pub fn finish_replay(&self, now: u64) {
        for id in std::mem::take(&mut *self.forgettable.lock().expect(NO_PANIC)) {
            self.expire(id, now, |_, _| {});
        }
    }

    /// After a replay, gives the caller's wheel at most `limit` AORs which no wheel knows yet: who, and when to look. False
    /// once there are none. A shard takes a few each turn: a table of a million would keep it from serving for half a second.
    pub fn arm(&self, limit: usize, mut each: impl FnMut(AorId, u64)) -> bool {
        let taken = {
            let mut unarmed = self.unarmed.lock().expect(NO_PANIC);
            let rest = unarmed.len().saturating_sub(limit);
            let taken = unarmed.split_off(rest);
            if rest == 0 {
                *unarmed = Vec::new();
            }
            taken
        };
        for &id in &taken {
            let part = self.map.shards()[self.part(id)].read();
            // What has been forgotten since needs no wheel.
            if let Some((record, _)) = part.get(id.0, |(_, slot_id)| *slot_id.get() == id) {
                each(id, record.due());
            }
        }
        !taken.is_empty()
    }

    /// Whether a replay has left AORs that no wheel knows.
    pub fn has_unarmed(&self) -> bool {
        !self.unarmed.lock().expect(NO_PANIC).is_empty()
    }

    /// Shows `each` the records whose AOR begins with `prefix` and which have a binding at `now`, at most `limit` of
    /// them, in no order.
    pub fn list(&self, prefix: &str, now: u64, limit: usize, mut each: impl FnMut(&Record)) {
        let listed =
            |record: &Record| record.aor_octets().starts_with(prefix.as_bytes()) && record.live(now).next().is_some();
        self.map.iter().filter(|entry| listed(entry.key())).take(limit).for_each(|entry| each(entry.key()));
    }

    /// Whether this very record stands in the table, so that the journal must keep it. False for one that was superseded,
    /// undone, or forgotten.
    pub fn holds(&self, record: &Record) -> bool {
        let id = self.hash.of_octets(record.aor_octets());
        self.map.shards()[self.part(id)]
            .read()
            .get(id.0, slot_of(id, record.aor_octets()))
            .is_some_and(|(present, _)| present.version() == record.version())
    }

    /// How much there is, up to what other shards are just changing.
    pub fn census(&self) -> Census {
        Census {
            aors: self.aors.load(Relaxed),
            bindings: self.bindings.load(Relaxed),
            journal_octets: self.journal_octets.load(Relaxed),
        }
    }

    /// The part of the map that has `id`.
    fn part(&self, id: AorId) -> usize {
        self.map.determine_shard(id.0 as usize)
    }

    fn count(&self, change: Change) {
        for (counter, change) in [&self.aors, &self.bindings, &self.journal_octets].into_iter().zip(change.0) {
            // Most updates are refreshes, and change nothing.
            if change != 0 {
                counter.fetch_add(change, Relaxed);
            }
        }
    }
}

/// By how much AORs, bindings and journal octets change. A decrease is a number that wraps to it.
#[derive(Clone, Copy, Default)]
struct Change([u64; 3]);

impl Change {
    fn of(old: Option<&Record>, new: Option<&Record>) -> Self {
        let mut change = Self::default();
        change.add(old, new);
        change
    }

    fn add(&mut self, old: Option<&Record>, new: Option<&Record>) {
        let measure = |record: Option<&Record>| {
            let bindings = record.map_or(0, Record::len) as u64;
            let octets = record.map_or(0, |record| journal::framed_octets(record.octets().len())) as u64;
            [u64::from(bindings > 0), bindings, octets]
        };
        for ((sum, old), new) in self.0.iter_mut().zip(measure(old)).zip(measure(new)) {
            *sum = sum.wrapping_add(new).wrapping_sub(old);
        }
    }
}

/// Why the locks of this module are never poisoned.
const NO_PANIC: &str = "nothing panics while it is held";

/// Tells the slot of an AOR from others in its part.
fn slot_of(id: AorId, aor: &[u8]) -> impl Fn(&Slot) -> bool {
    move |(record, slot_id)| *slot_id.get() == id && record.aor_octets() == aor
}

/// Where the search for an AOR begins in a part of so many slots: its group of control octets, and its [`LIKELY_SLOTS`]. Both
/// are computed, and never followed.
fn likely_places(middle: *const Slot, slots: usize, id: AorId) -> (*const u8, *const Slot) {
    // The control octets, one a slot, go up from the middle, and the slots down. Should another hashbrown have them
    // elsewhere, a test below will say so, and no more than time is lost.
    let home = id.0 as usize & (slots - 1);
    (middle.cast::<u8>().wrapping_add(home), middle.wrapping_sub(home + LIKELY_SLOTS))
}

fn slot_hash((_, id): &Slot) -> u64 {
    id.get().0
}

#[cfg(test)]
mod tests;
