//! The promise of table and journal together: whatever is acknowledged outlives any crash, and nothing that ran out or
//! was removed comes back. Two shards, a clerk and a disk, all in memory, are led through random updates, failed writes,
//! compactions, time and crashes.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

mod promise;

use agent::Wheel;
use promise::{Promises, binding};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;
use store::journal::{Fault, Item, Kind, Replay, Segment, SegmentHeader, Segments, frame};
use store::{Bindings, Record, TooLong};

const SHARDS: usize = 2;
const ROTATE_OCTETS: u64 = 200;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A shard gives an AOR one binding for so long; None removes all.
    Update { shard: usize, aor: u8, lifetime: Option<u64> },
    /// The clerk writes what a shard has waiting.
    Write { shard: usize },
    /// The write fails, when all or some of it may be on the disk; the shard undoes its updates, newest first or last.
    Fail { shard: usize, written: usize, newest_first: bool },
    /// The clerk looks through the segment to compact.
    Look,
    /// The clerk writes the copies and, when the barrier is passed, deletes the segment.
    Delete,
    /// Time passes.
    Pass { secs: u64 },
    /// The process dies with some of a shard's waiting octets on the disk, and starts again.
    Crash { shard: usize, written: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let shard = 0..SHARDS;
    let written = 0..600usize;
    // Some AORs change often and fill segments, others seldom and must be copied forward.
    let lifetime = prop::option::weighted(0.7, prop_oneof![1..20u64, 100..400u64]);
    prop_oneof![
        8 => (shard.clone(), 0..2u8, lifetime.clone()).prop_map(|(shard, aor, lifetime)| Step::Update { shard, aor, lifetime }),
        2 => (shard.clone(), 2..6u8, lifetime).prop_map(|(shard, aor, lifetime)| Step::Update { shard, aor, lifetime }),
        6 => shard.clone().prop_map(|shard| Step::Write { shard }),
        1 => (shard.clone(), written.clone(), any::<bool>())
            .prop_map(|(shard, written, newest_first)| Step::Fail { shard, written, newest_first }),
        3 => Just(Step::Look),
        4 => Just(Step::Delete),
        2 => (1..30u64).prop_map(|secs| Step::Pass { secs }),
        1 => (shard, written).prop_map(|(shard, written)| Step::Crash { shard, written }),
    ]
}

/// An update that waits to be written.
struct Waiting {
    aor: String,
    version: u64,
    previous: Option<Record>,
    framed: Vec<u8>,
}

struct World {
    now: u64,
    table: Bindings,
    wheel: Wheel<store::AorId>,
    rings: [Vec<Waiting>; SHARDS],
    disk: BTreeMap<u64, Vec<u8>>,
    segments: Segments,
    /// The segment under compaction, the copies of what it must keep, and per shard the versions before the mark.
    compaction: Option<(Segment, Vec<u8>, Vec<u64>)>,
    promises: Promises,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            now: 1000,
            table: Bindings::new([3; 16]),
            wheel: Wheel::new(1000),
            rings: Default::default(),
            disk: BTreeMap::new(),
            segments: Segments::new(ROTATE_OCTETS, []),
            compaction: None,
            promises: Promises::default(),
        };
        world.begin(world.segments.current());
        world
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Update { shard, aor, lifetime } => self.update(shard, format!("{aor}@example.com"), lifetime),
            Step::Write { shard } => {
                for update in std::mem::take(&mut self.rings[shard]) {
                    self.append(&update.framed);
                    self.promises.acknowledged(&update.aor, update.version);
                }
            }
            Step::Fail { shard, written, newest_first } => {
                self.write_some(shard, written);
                let mut failed = std::mem::take(&mut self.rings[shard]);
                if newest_first {
                    failed.reverse();
                }
                for Waiting { aor, version, previous, .. } in failed {
                    self.table.restore(&aor, version, previous);
                }
                // The disk may end in a torn frame: go on in a new segment. What was being compacted is looked at anew.
                let next = self.segments.rotate();
                self.begin(next);
                self.compaction = None;
            }
            Step::Look => {
                let Some(oldest) = self.segments.to_compact(self.table.census().journal_octets) else { return };
                let mut copies = Vec::new();
                let items = Replay::new(&self.disk[&oldest.number]).flatten();
                for record in items.filter_map(Item::into_binding).filter(|r| self.table.holds(r)) {
                    frame(&mut copies, Kind::Record, record.octets());
                }
                let before_mark = self.rings.iter().flatten().map(|update| update.version).collect();
                self.compaction = Some((oldest, copies, before_mark));
            }
            Step::Delete => {
                let waits = |mark: &Vec<u64>| self.rings.iter().flatten().any(|update| mark.contains(&update.version));
                let Some((oldest, copies, _)) = self.compaction.take_if(|(_, _, mark)| !waits(mark)) else { return };
                self.append(&copies);
                self.disk.remove(&oldest.number);
                self.segments.deleted(oldest.number);
            }
            Step::Pass { secs } => {
                self.now += secs;
                self.wheel.advance(self.now, usize::MAX, |id| self.table.expire(id, self.now, |_, _| {}));
            }
            Step::Crash { shard, written } => {
                self.write_some(shard, written);
                self.start_again();
            }
        }
    }

    fn update(&mut self, shard: usize, aor: String, lifetime: Option<u64>) {
        let expires_at = lifetime.map(|secs| self.now + secs);
        let mut framed = Vec::new();
        let updated = self
            .table
            .update::<TooLong>(
                self.table.hashed(&aor),
                |_, draft| expires_at.map_or(Ok(()), |expires_at| draft.push(&binding(expires_at))),
                |record| frame(&mut framed, Kind::Record, record.octets()),
            )
            .unwrap();
        if let Some((id, at)) = updated.arm {
            self.wheel.insert(at, id);
        }
        self.promises.updated(&aor, updated.version, expires_at);
        self.rings[shard].push(Waiting { aor, version: updated.version, previous: updated.previous, framed });
    }

    fn begin(&mut self, segment: Segment) {
        self.disk.insert(segment.number, SegmentHeader { number: segment.number }.encode().to_vec());
    }

    fn append(&mut self, octets: &[u8]) {
        if self.segments.is_full() {
            let next = self.segments.rotate();
            self.begin(next);
        }
        self.segments.appended(octets.len() as u64);
        self.disk.get_mut(&self.segments.current().number).unwrap().extend_from_slice(octets);
    }

    /// Leaves the first octets of what `shard` has waiting on the disk.
    fn write_some(&mut self, shard: usize, written: usize) {
        let octets: Vec<u8> = self.rings[shard].iter().flat_map(|update| update.framed.clone()).take(written).collect();
        self.append(&octets);
    }

    /// Replays the disk into a new process, and checks what came back.
    fn start_again(&mut self) {
        self.rings = Default::default();
        self.compaction = None;
        self.table = Bindings::new([4; 16]);
        for segment in self.disk.values() {
            let records = Replay::new(segment)
                .filter_map(|item| item.inspect_err(|damage| assert_eq!(damage.fault, Fault::TornTail)).ok())
                .filter_map(Item::into_binding);
            self.table.load(records, self.now);
        }
        self.table.finish_replay(self.now);
        self.wheel = Wheel::new(self.now);
        self.table.arm(usize::MAX, |id, at| self.wheel.insert(at, id));
        let found = self.disk.iter().map(|(&number, octets)| Segment { number, octets: octets.len() as u64 });
        self.segments = Segments::new(ROTATE_OCTETS, found);
        self.begin(self.segments.current());

        self.promises.check(&self.table, self.now);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_acknowledged_outlives_any_crash_and_what_is_gone_stays_gone(steps in vec(step(), 1..400)) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        world.start_again();
    }
}
