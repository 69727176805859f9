//! The clerk's promise on a disk that fails: nothing is acknowledged that a crash can take away, and nothing that ran out
//! or was removed comes back. Two shards and the real writer are led through random updates, compactions, faults of the
//! disk, time and crashes.

use super::binding;
use crate::clerk::disk::Disk;
use crate::clerk::journal::Journal;
use crate::clerk::state::JournalState;
use crate::config;
use crate::io::{JournalLink, Waker, journal};
use agent::Ticket;
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::pin::pin;
use std::rc::Rc;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use store::journal::{Kind, Replay, Segment, SegmentHeader, frame};
use store::{AorId, Bindings, Record, TooLong, Wheel};

const SHARDS: usize = 2;
const SEGMENT_OCTETS: u64 = 200;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A shard gives an AOR one binding for so long; None removes all.
    Update { shard: usize, aor: u8, lifetime: Option<u64> },
    /// A shard takes its settlements, in the middle of a turn.
    Settle { shard: usize },
    /// A shard ends its turn: it hands its records to the clerk.
    Turn { shard: usize },
    /// The clerk commits a group.
    Commit,
    /// From so many operations on, so many of the disk fail, when some of the octets are written.
    Fault { after: usize, operations: usize, written: usize },
    /// Time passes.
    Pass { secs: u64 },
    /// The power fails; of what was not synced, some is on the disk. Then the process starts again.
    Crash { written: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let shard = 0..SHARDS;
    let written = 0..600usize;
    // One AOR lives long and is seldom heard of: its record must be carried along.
    let update = prop_oneof![
        12 => (1..4u8, prop::option::weighted(0.7, 1..60u64)),
        1 => (Just(0), (1000..3000u64).prop_map(Some)),
    ];
    prop_oneof![
        8 => (shard.clone(), update).prop_map(|(shard, (aor, lifetime))| Step::Update { shard, aor, lifetime }),
        2 => shard.clone().prop_map(|shard| Step::Settle { shard }),
        8 => shard.prop_map(|shard| Step::Turn { shard }),
        10 => Just(Step::Commit),
        1 => (0..8usize, 1..6usize, written.clone())
            .prop_map(|(after, operations, written)| Step::Fault { after, operations, written }),
        3 => (1..5u64).prop_map(|secs| Step::Pass { secs }),
        1 => written.prop_map(|written| Step::Crash { written }),
    ]
}

/// A file as programs see it, and as it is found after a crash.
#[derive(Clone, Default)]
struct File {
    seen: Vec<u8>,
    synced: Vec<u8>,
    /// The system took these for written when a sync had failed: no later one writes them.
    lost: Vec<usize>,
    /// Whether the directory has it for good.
    is_listed: bool,
}

#[derive(Default)]
struct Medium {
    files: BTreeMap<u64, File>,
    healthy: usize,
    faulty: usize,
    written: usize,
}

impl Medium {
    /// Fails if it is time for a fault.
    fn operate(&mut self) -> io::Result<()> {
        if self.healthy > 0 {
            self.healthy -= 1;
        } else if self.faulty > 0 {
            self.faulty -= 1;
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        Ok(())
    }

    fn crash(&mut self, written: usize) {
        for (number, file) in std::mem::take(&mut self.files) {
            if !file.is_listed && written.is_multiple_of(2) {
                continue;
            }
            let mut found = file.synced;
            if found.len() < file.seen.len() {
                let more = file.seen[found.len()..].iter().take(written);
                found.extend(more);
            }
            self.files.insert(number, File { seen: found.clone(), synced: found, lost: Vec::new(), is_listed: true });
        }
        (self.healthy, self.faulty) = (0, 0);
    }
}

impl Disk for Rc<RefCell<Medium>> {
    type File = u64;

    async fn create(&self, number: u64) -> io::Result<u64> {
        let mut medium = self.borrow_mut();
        let fault = medium.operate();
        // Even an operation that fails may have been carried out.
        if fault.is_ok() || medium.written.is_multiple_of(2) {
            assert!(medium.files.insert(number, File::default()).is_none(), "segment {number} is there already");
        }
        fault.map(|()| number)
    }

    async fn open(&self, number: u64) -> io::Result<u64> {
        self.borrow_mut().operate().map(|()| number)
    }

    async fn write(&self, file: &u64, octets: Vec<u8>, at: u64) -> io::Result<usize> {
        let mut medium = self.borrow_mut();
        let fault = medium.operate();
        let written = if fault.is_ok() { octets.len() } else { medium.written.min(octets.len()) };
        let seen = &mut medium.files.get_mut(file).unwrap().seen;
        assert_eq!(seen.len() as u64, at, "a group lies right behind the one before");
        seen.extend_from_slice(&octets[..written]);
        // A full disk writes what fits and says so only by the number.
        if written.is_multiple_of(2) { fault.map(|()| written) } else { Ok(written) }
    }

    async fn read(&self, file: &u64, at: u64, len: usize, into: &mut Vec<u8>) -> io::Result<()> {
        let mut medium = self.borrow_mut();
        medium.operate()?;
        into.extend(medium.files[file].seen[at as usize..].iter().take(len));
        Ok(())
    }

    async fn sync(&self, file: &u64) -> io::Result<()> {
        let mut medium = self.borrow_mut();
        let fault = medium.operate();
        let file = medium.files.get_mut(file).unwrap();
        if fault.is_ok() {
            file.synced = file.seen.clone();
            file.lost.iter().filter(|&&at| at < file.seen.len()).for_each(|&at| file.synced[at] = 0);
        } else {
            file.lost.extend(file.synced.len()..file.seen.len());
        }
        fault
    }

    async fn sync_directory(&self) -> io::Result<()> {
        let mut medium = self.borrow_mut();
        medium.operate()?;
        medium.files.values_mut().for_each(|file| file.is_listed = true);
        Ok(())
    }

    async fn truncate(&self, file: &u64, octets: u64) -> io::Result<()> {
        let mut medium = self.borrow_mut();
        medium.operate()?;
        medium.files.get_mut(file).unwrap().seen.truncate(octets as usize);
        Ok(())
    }

    async fn close(&self, _: u64) {}

    fn delete(&self, number: u64) {
        let mut medium = self.borrow_mut();
        if medium.operate().is_ok() {
            medium.files.remove(&number);
        }
    }
}

/// An update that waits to be settled.
struct Waiting {
    ticket: Ticket,
    aor: String,
    version: u64,
    previous: Option<Record>,
}

struct Shard {
    link: JournalLink,
    records: Vec<u8>,
    next_ticket: u64,
    waiting: VecDeque<Waiting>,
    /// Whether this turn has taken its settlements already.
    has_settled: bool,
}

/// What an AOR was to have: by version, the second at which it runs out (0 for a removal), and whether it was
/// acknowledged.
type History = BTreeMap<u64, (u64, bool)>;

struct World {
    now: u64,
    started: Instant,
    disk: Rc<RefCell<Medium>>,
    table: Arc<Bindings>,
    wheel: Wheel<AorId>,
    shards: Vec<Shard>,
    journal: Journal<Rc<RefCell<Medium>>>,
    state: Arc<JournalState>,
    histories: BTreeMap<String, History>,
}

impl World {
    fn new() -> Self {
        Self::on(Rc::default(), 1000, BTreeMap::new())
    }

    /// Replays the disk into a new process.
    fn on(disk: Rc<RefCell<Medium>>, now: u64, histories: BTreeMap<String, History>) -> Self {
        let table = Arc::new(Bindings::new([3; 16]));
        let mut found = Vec::new();
        for (&number, file) in &disk.borrow().files {
            table.load(Replay::new(&file.seen).flatten(), now);
            found.push(Segment { number, octets: file.seen.len() as u64 });
        }
        table.finish_replay(now);
        let mut wheel = Wheel::new(now);
        table.arm(0, 1, |id, at| wheel.insert(at, id));
        let waker = || Arc::new(Waker::new().unwrap());
        let clerk = waker();
        let link = |_| journal(8, waker(), clerk.clone());
        let (links, inlets): (Vec<_>, Vec<_>) = (0..SHARDS).map(link).unzip();
        let shard =
            |link| Shard { link, records: Vec::new(), next_ticket: 1, waiting: VecDeque::new(), has_settled: false };
        let settings = config::Journal { segment_bytes: SEGMENT_OCTETS, group_bytes: 300, queue_batches: 8 };
        let state = Arc::new(JournalState::default());
        let journal = Journal::new(disk.clone(), &settings, found, inlets, table.clone(), state.clone());
        let shards = links.into_iter().map(shard).collect();
        #[expect(clippy::disallowed_methods, reason = "an instant to count from; the clock is not read again")]
        let started = Instant::now();
        Self { now, started, disk, table, wheel, shards, journal, state, histories }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Update { shard, aor, lifetime } => self.update(shard, format!("{aor}@example.com"), lifetime),
            Step::Settle { shard } => self.settle(shard),
            Step::Turn { shard } => self.turn(shard),
            Step::Commit => self.commit(),
            Step::Fault { after, operations, written } => {
                let mut disk = self.disk.borrow_mut();
                (disk.healthy, disk.faulty, disk.written) = (after, operations, written);
            }
            Step::Pass { secs } => {
                self.now += secs;
                self.wheel.advance(self.now, usize::MAX, |id| self.table.expire(id, self.now, |_, _| {}));
            }
            Step::Crash { written } => self.crash(written),
        }
    }

    fn update(&mut self, shard: usize, aor: String, lifetime: Option<u64>) {
        let shard = &mut self.shards[shard];
        let expires_at = lifetime.map(|secs| self.now + secs);
        let updated = self
            .table
            .update::<TooLong>(
                &aor,
                |_, draft| expires_at.map_or(Ok(()), |expires_at| draft.push(&binding(expires_at))),
                |record| frame(&mut shard.records, Kind::Record, record.octets()),
            )
            .unwrap();
        if let Some((id, at)) = updated.arm {
            self.wheel.insert(at, id);
        }
        self.histories.entry(aor.clone()).or_default().insert(updated.version, (expires_at.unwrap_or(0), false));
        let ticket = Ticket(shard.next_ticket);
        shard.next_ticket += 1;
        shard.waiting.push_back(Waiting { ticket, aor, version: updated.version, previous: updated.previous });
    }

    fn settle(&mut self, shard: usize) {
        let shard = &mut self.shards[shard];
        shard.has_settled = true;
        while let Some((up_to, ok)) = shard.link.settled() {
            while let Some(update) = shard.waiting.pop_front_if(|update| update.ticket <= up_to) {
                let Waiting { aor, version, previous, .. } = update;
                if ok {
                    self.histories.get_mut(&aor).unwrap().get_mut(&version).unwrap().1 = true;
                } else {
                    self.table.restore(&aor, version, previous);
                }
            }
        }
    }

    fn turn(&mut self, shard: usize) {
        if !self.shards[shard].has_settled {
            self.settle(shard);
        }
        let shard = &mut self.shards[shard];
        shard.has_settled = false;
        shard.link.push(&mut shard.records, Ticket(shard.next_ticket));
    }

    fn commit(&mut self) {
        let now = self.started + Duration::from_secs(self.now);
        let committing = pin!(self.journal.commit(now));
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert_eq!(committing.poll(&mut context), Poll::Ready(()), "the disk of this test never waits");
    }

    fn crash(&mut self, written: usize) {
        self.disk.borrow_mut().crash(written);
        *self = Self::on(self.disk.clone(), self.now, std::mem::take(&mut self.histories));
        for (aor, history) in &mut self.histories {
            let back = self.table.lookup(aor, self.now, |record| {
                (record.version(), record.live(self.now).next().expect("it is live").expires_at)
            });
            let acknowledged = history.iter().rev().find(|(_, (_, acknowledged))| *acknowledged);
            let (version, expires_at) =
                acknowledged.map_or((0, 0), |(&version, &(expires_at, _))| (version, expires_at));
            match back {
                // What was not acknowledged may be there all the same, but nothing older than what was.
                Some((back, until)) => {
                    assert!(back >= version, "{aor}: version {back} came back, {version} was acknowledged");
                    assert_eq!(history[&back].0, until);
                }
                None => {
                    let superseded = history.range(version + 1..).any(|(_, &(until, _))| until <= self.now);
                    assert!(expires_at <= self.now || superseded, "{aor}: version {version} was lost");
                }
            }
            // From here on what came back counts.
            if let Some((back, _)) = back {
                history.retain(|&version, _| version <= back);
                history.get_mut(&back).unwrap().1 = true;
            }
        }
    }

    /// The disk works again and the shards go on until all is settled.
    fn heal(&mut self) {
        self.disk.borrow_mut().faulty = 0;
        self.now += 60;
        for _ in 0..500 {
            (0..SHARDS).for_each(|shard| self.turn(shard));
            self.commit();
        }
        assert!(self.shards.iter().all(|shard| shard.waiting.is_empty()), "all is settled");
        let now = self.started + Duration::from_secs(self.now);
        assert!(self.journal.is_idle(now), "nothing goes on for ever");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn a_disk_that_fails_at_any_operation_takes_nothing_that_was_acknowledged(
        steps in prop::collection::vec(step(), 1..500),
    ) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        world.heal();
        world.crash(0);
    }
}

#[test]
fn while_the_disk_refuses_one_try_a_second_is_made_and_the_next_success_ends_it() {
    let mut world = World::new();
    let settle = |world: &mut World| {
        world.update(0, "alice@example.com".into(), Some(60));
        world.turn(0);
        world.commit();
        let settled = world.shards[0].link.settled();
        world.turn(0);
        settled.map(|(_, ok)| ok)
    };
    assert_eq!(settle(&mut world), Some(true));
    world.take(Step::Fault { after: 1, operations: 1, written: 0 });
    assert_eq!(settle(&mut world), Some(false), "the sync has failed");
    assert!(world.state.is_failing());
    assert_eq!(settle(&mut world), Some(false), "it would succeed, but is not tried");
    world.take(Step::Pass { secs: 1 });
    assert_eq!(settle(&mut world), Some(true));
    assert!(!world.state.is_failing());
    assert_eq!(world.disk.borrow().files.len(), 2, "the segment with the failed group is written no more");
}

#[test]
fn a_shard_that_learns_late_of_a_failure_gets_back_what_compaction_has_not_lost() {
    let mut world = World::new();
    let [alice, bob] = ["alice", "bob"].map(|user| format!("{user}@example.com"));
    world.update(0, alice.clone(), Some(1000));
    world.turn(0);
    world.commit();
    world.settle(0);
    (0..20).for_each(|_| world.update(1, bob.clone(), Some(1000)));
    world.turn(1);
    world.commit();

    // The next group begins a segment, so that the one with Alice's record is to be compacted, and fails. Meanwhile
    // shard 0 has begun a turn; at its end it answers the first barrier.
    world.update(0, alice, Some(2000));
    world.turn(0);
    world.settle(0);
    world.take(Step::Fault { after: 5, operations: 1, written: 0 });
    world.commit();
    assert!(world.state.is_failing());
    world.turn(0);
    world.take(Step::Pass { secs: 2 });
    for _ in 0..5 {
        world.update(1, bob.clone(), Some(1000));
        world.turn(1);
        world.commit();
    }
    assert!(!world.state.is_failing());
    world.heal();
    assert!(!world.disk.borrow().files.contains_key(&1), "it is compacted in the end");
    world.crash(0);
}

#[test]
fn records_that_a_cut_short_compaction_has_doubled_are_not_copied_for_ever() {
    let mut world = World::new();
    (1..4).for_each(|n| world.update(0, format!("{n}@example.com"), Some(10_000)));
    world.turn(0);
    world.commit();
    let segment = world.disk.borrow().files[&1].clone();
    world.disk.borrow_mut().files.extend((2..10).map(|number| (number, segment.clone())));
    world = World::on(world.disk, world.now, world.histories);
    world.heal();
    assert!(world.state.deleted.load(Relaxed) > 0);
}

#[test]
fn churn_keeps_the_journal_short_and_every_tombstone_dies() {
    let mut world = World::new();
    for n in 0..2000u64 {
        let lifetime = (n % 7 != 0).then_some(30);
        world.update((n % 2) as usize, format!("{}@example.com", n % 10), lifetime);
        world.turn(0);
        world.turn(1);
        world.commit();
        world.take(Step::Pass { secs: u64::from(n % 10 == 0) });
        let live = world.table.census().journal_octets;
        let octets: usize = world.disk.borrow().files.values().map(|file| file.seen.len()).sum();
        assert!(octets as u64 <= 2 * live + 6 * SEGMENT_OCTETS, "{octets} octets for {live} live ones");
    }
    world.take(Step::Pass { secs: 100 });
    assert_eq!(world.table.census().journal_octets, 0);
    world.heal();
    assert!(world.disk.borrow().files.len() <= 3, "what has run out is not kept");
    assert!(world.disk.borrow().files.values().all(|file| file.seen.len() >= SegmentHeader::OCTETS));
}
