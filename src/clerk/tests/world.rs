//! Two shards, the real writer of the journal, a disk that may fail and a database, step by step.

use super::disk::Medium;
use super::promise::{Promises, binding};
use crate::cdr;
use crate::clerk::cdrs::Cdrs;
use crate::clerk::journal::Journal;
use crate::clerk::kept::Kept;
use crate::clerk::replay::{Told, standing};
use crate::clerk::spare::Spares;
use crate::clerk::state::JournalState;
use crate::config;
use crate::io::{JournalLink, Waker, journal};
use agent::{Ticket, Wheel};
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use store::journal::{Kind, Replay, Segment, frame};
use store::{
    AorId, Bindings, CallEnd, CallIndex, Cdr, CdrId, EndedBy, KeptCall, LegDirection, Record, TooLong, put_call,
    put_call_end, put_cdr,
};

pub(super) const SHARDS: usize = 2;
pub(super) const SEGMENT_OCTETS: u64 = 200;

/// CDRs on the way to the database.
const QUEUE: usize = 4;

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// A shard gives an AOR one binding for so long; None removes all.
    Update { shard: usize, aor: u8, lifetime: Option<u64> },
    /// A shard writes the state of a call of its own, or its end.
    Call { shard: usize, call: u8, ends: bool },
    /// A leg of some call has ended.
    Cdr { shard: usize },
    /// The database takes so many CDRs.
    Database { records: usize },
    /// A shard takes its settlements, in the middle of a turn.
    Settle { shard: usize },
    /// A shard ends its turn: it hands its records to the clerk.
    Turn { shard: usize },
    /// The clerk commits a group.
    Commit,
    /// The file of the next segment is made ready.
    Spare,
    /// From so many operations on, so many of the disk fail, when some of the octets are written.
    Fault { after: usize, operations: usize, written: usize },
    /// Time passes.
    Pass { secs: u64 },
    /// The power fails; of what was not synced, some is on the disk. Then the process starts again.
    Crash { written: usize },
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let shard = 0..SHARDS;
    let written = 0..600usize;
    // One AOR lives long and is seldom heard of: its record must be carried along.
    let update = prop_oneof![
        12 => (1..4u8, prop::option::weighted(0.7, 1..60u64)),
        1 => (Just(0), (1000..3000u64).prop_map(Some)),
    ];
    prop_oneof![
        8 => (shard.clone(), update).prop_map(|(shard, (aor, lifetime))| Step::Update { shard, aor, lifetime }),
        6 => (shard.clone(), 0..3u8, prop::bool::weighted(0.3))
            .prop_map(|(shard, call, ends)| Step::Call { shard, call, ends }),
        3 => shard.clone().prop_map(|shard| Step::Cdr { shard }),
        2 => (0..6usize).prop_map(|records| Step::Database { records }),
        2 => shard.clone().prop_map(|shard| Step::Settle { shard }),
        8 => shard.prop_map(|shard| Step::Turn { shard }),
        10 => Just(Step::Commit),
        2 => Just(Step::Spare),
        1 => (0..8usize, 1..6usize, written.clone())
            .prop_map(|(after, operations, written)| Step::Fault { after, operations, written }),
        3 => (1..5u64).prop_map(|secs| Step::Pass { secs }),
        1 => written.prop_map(|written| Step::Crash { written }),
    ]
}

/// What waits to be settled.
enum Waiting {
    Update { aor: String, version: u64, previous: Option<Record> },
    Call { key: u128, version: u64 },
    Cdr(CdrId),
}

pub(super) struct Shard {
    pub(super) link: JournalLink,
    records: Vec<u8>,
    next_ticket: u64,
    waiting: VecDeque<(Ticket, Waiting)>,
    /// Whether this turn has taken its settlements already.
    has_settled: bool,
}

impl Shard {
    fn wait(&mut self, waiting: Waiting) {
        self.waiting.push_back((Ticket(self.next_ticket), waiting));
        self.next_ticket += 1;
    }
}

/// What a crash does not take: the disk, the database, and what the world was promised.
#[derive(Default)]
struct Lasting {
    disk: Rc<RefCell<Medium>>,
    database: BTreeSet<CdrId>,
    promises: Promises,
    /// Of each call, by version: whether it is its end, and whether it was acknowledged.
    calls: BTreeMap<u128, BTreeMap<u64, (bool, bool)>>,
    /// CDRs that were acknowledged.
    cdrs: BTreeSet<CdrId>,
    legs: u16,
}

pub(super) struct World {
    pub(super) now: u64,
    started: Instant,
    pub(super) table: Arc<Bindings>,
    wheel: Wheel<AorId>,
    pub(super) shards: Vec<Shard>,
    journal: Journal<Rc<RefCell<Medium>>>,
    spares: Rc<Spares<u64>>,
    pub(super) state: Arc<JournalState>,
    pub(super) disk: Rc<RefCell<Medium>>,
    outlet: cdr::Outlet,
    /// What the database was given since the start of the process.
    offered: BTreeSet<CdrId>,
    /// The calls that the start has found.
    pub(super) found_calls: Vec<KeptCall>,
    lasting: Lasting,
}

impl World {
    pub(super) fn new() -> Self {
        Self::on(Lasting::default(), 1000)
    }

    /// Replays the disk into a new process.
    fn on(lasting: Lasting, now: u64) -> Self {
        let disk = lasting.disk.clone();
        let table = Arc::new(Bindings::new([3; 16]));
        let (mut found, mut all_told) = (Vec::new(), Vec::new());
        for (number, file) in disk.borrow_mut().segments() {
            let mut told = Told::new(now);
            let mut replay = Replay::new(&file.seen);
            table.load(replay.by_ref().flatten().filter_map(|item| told.take(item)), now);
            all_told.push((number, told));
            let end = replay.end();
            file.seen.truncate(end);
            found.push(Segment { number, octets: end as u64 });
        }
        table.finish_replay(now);
        let (found_calls, cdr_index) = standing(all_told, now);
        let mut wheel = Wheel::new(now);
        table.arm(usize::MAX, |id, at| wheel.insert(at, id));
        let waker = || Arc::new(Waker::new().unwrap());
        let clerk = waker();
        let link = |_| journal(8, waker(), clerk.clone());
        let (links, inlets): (Vec<_>, Vec<_>) = (0..SHARDS).map(link).unzip();
        let shard =
            |link| Shard { link, records: Vec::new(), next_ticket: 1, waiting: VecDeque::new(), has_settled: false };
        let settings =
            config::Journal { segment_bytes: SEGMENT_OCTETS, group_bytes: 300, window_usecs: 0, queue_batches: 8 };
        let state = Arc::new(JournalState::default());
        let (queue, outlet) = cdr::Queue::new(QUEUE);
        let kept = Kept {
            bindings: table.clone(),
            calls: CallIndex::new(&found_calls),
            cdrs: Cdrs::new(cdr_index, Some(queue)),
        };
        let spares = Rc::new(Spares::new(SEGMENT_OCTETS));
        let journal = Journal::new(disk.clone(), &settings, found, spares.clone(), inlets, kept, state.clone());
        let shards = links.into_iter().map(shard).collect();
        #[expect(clippy::disallowed_methods, reason = "an instant to count from; the clock is not read again")]
        let started = Instant::now();
        let offered = BTreeSet::new();
        Self { now, started, table, wheel, shards, journal, spares, state, disk, outlet, offered, found_calls, lasting }
    }

    /// The process starts again, without a crash of the machine.
    pub(super) fn again(self) -> Self {
        Self::on(self.lasting, self.now)
    }

    pub(super) fn take(&mut self, step: Step) {
        match step {
            Step::Update { shard, aor, lifetime } => self.update(shard, format!("{aor}@example.com"), lifetime),
            Step::Call { shard, call, ends } => self.call(shard, call, ends),
            Step::Cdr { shard } => drop(self.cdr(shard)),
            Step::Database { records } => self.database(records),
            Step::Settle { shard } => self.settle(shard),
            Step::Turn { shard } => self.turn(shard),
            Step::Commit => self.commit(),
            Step::Spare => self.spare(),
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

    pub(super) fn update(&mut self, shard: usize, aor: String, lifetime: Option<u64>) {
        let shard = &mut self.shards[shard];
        let expires_at = lifetime.map(|secs| self.now + secs);
        let updated = self
            .table
            .update::<TooLong>(
                self.table.hashed(&aor),
                |_, draft| expires_at.map_or(Ok(()), |expires_at| draft.push(&binding(expires_at))),
                |record| frame(&mut shard.records, Kind::Record, record.octets()),
            )
            .unwrap();
        if let Some((id, at)) = updated.arm {
            self.wheel.insert(at, id);
        }
        self.lasting.promises.updated(&aor, updated.version, expires_at);
        shard.wait(Waiting::Update { aor, version: updated.version, previous: updated.previous });
    }

    /// Each shard has calls of its own.
    pub(super) fn call(&mut self, shard: usize, call: u8, ends: bool) {
        let key = u128::from(call) << 64 | shard as u128;
        let history = self.lasting.calls.entry(key).or_default();
        let version = history.last_key_value().map_or(1, |(version, _)| version + 1);
        history.insert(version, (ends, false));
        let shard = &mut self.shards[shard];
        match ends {
            // Long ago.
            true => put_call_end(&mut shard.records, key, version, CallEnd { at: 0, note: 0 }),
            false => put_call(&mut shard.records, key, version, &[call; 40]).unwrap(),
        }
        shard.wait(Waiting::Call { key, version });
    }

    pub(super) fn cdr(&mut self, shard: usize) -> CdrId {
        let id = CdrId { call: 7, leg: self.lasting.legs };
        self.lasting.legs += 1;
        let shard = &mut self.shards[shard];
        put_cdr(&mut shard.records, &detail(id));
        shard.wait(Waiting::Cdr(id));
        id
    }

    /// The database takes what it is offered. Within one process nothing is offered twice.
    pub(super) fn database(&mut self, records: usize) {
        let taken: Vec<_> = self.outlet.records.try_iter().take(records).collect();
        for record in &taken {
            assert_eq!(record.read(), detail(record.id()));
            assert!(self.offered.insert(record.id()), "{:?} was offered twice", record.id());
            self.lasting.database.insert(record.id());
        }
        self.outlet.written(taken.iter().map(store::PackedCdr::id));
    }

    pub(super) fn has_row(&self, id: CdrId) -> bool {
        self.lasting.database.contains(&id)
    }

    pub(super) fn settle(&mut self, shard: usize) {
        let shard = &mut self.shards[shard];
        shard.has_settled = true;
        while let Some((up_to, ok)) = shard.link.settled() {
            while let Some((_, waiting)) = shard.waiting.pop_front_if(|(ticket, _)| *ticket <= up_to) {
                match waiting {
                    Waiting::Update { aor, version, .. } if ok => self.lasting.promises.acknowledged(&aor, version),
                    Waiting::Update { aor, version, previous } => self.table.restore(&aor, version, previous),
                    Waiting::Call { key, version } => {
                        self.lasting.calls.get_mut(&key).unwrap().get_mut(&version).unwrap().1 = ok;
                    }
                    Waiting::Cdr(id) if ok => drop(self.lasting.cdrs.insert(id)),
                    Waiting::Cdr(_) => {}
                }
            }
        }
    }

    pub(super) fn turn(&mut self, shard: usize) {
        if !self.shards[shard].has_settled {
            self.settle(shard);
        }
        let shard = &mut self.shards[shard];
        shard.has_settled = false;
        shard.link.push(&mut shard.records, Ticket(shard.next_ticket));
    }

    pub(super) fn commit(&mut self) {
        let now = self.started + Duration::from_secs(self.now);
        at_once(self.journal.commit(now));
    }

    pub(super) fn spare(&mut self) {
        if !self.spares.is_ready() {
            // Where it fails there is none.
            let _ = at_once(self.spares.make(&self.disk));
        }
    }

    pub(super) fn crash(&mut self, written: usize) {
        self.disk.borrow_mut().crash(written);
        *self = Self::on(std::mem::take(&mut self.lasting), self.now);
        self.lasting.promises.check(&self.table, self.now);
        self.check_calls();
    }

    /// Of each call the newest acknowledged version came back, or a newer one.
    fn check_calls(&mut self) {
        for (key, history) in &mut self.lasting.calls {
            let found = self.found_calls.iter().find(|call| call.key == *key).map(|call| call.version);
            let acknowledged = history.iter().rev().find(|(_, (_, acknowledged))| *acknowledged);
            let (version, ended) = acknowledged.map_or((0, true), |(&version, &(ended, _))| (version, ended));
            match found {
                Some(found) => {
                    assert!(found >= version, "call {key}: version {found} came back, {version} was acknowledged");
                    assert!(!history[&found].0, "call {key} has ended by version {found}");
                    assert!(found > version || !ended, "call {key} came back from its end");
                }
                None => {
                    let may_have_ended = history.range(version + 1..).any(|(_, (ends, _))| *ends);
                    assert!(ended || may_have_ended, "call {key}: version {version} was lost");
                }
            }
        }
    }

    /// The disk works again, the database takes everything, and the shards go on until all is settled. Then no CDR lacks.
    pub(super) fn heal(&mut self) {
        self.disk.borrow_mut().faulty = 0;
        self.now += 60;
        for _ in 0..500 {
            (0..SHARDS).for_each(|shard| self.turn(shard));
            self.commit();
            self.database(usize::MAX);
        }
        assert!(self.shards.iter().all(|shard| shard.waiting.is_empty()), "all is settled");
        let lost: Vec<_> = self.lasting.cdrs.difference(&self.lasting.database).collect();
        assert!(lost.is_empty(), "{lost:?} were acknowledged and are in no database");
        assert!(self.state.unwritten_cdrs.load(std::sync::atomic::Ordering::Relaxed) == 0, "the journal knows of it");
        let now = self.started + Duration::from_secs(self.now);
        assert!(self.journal.is_idle(now), "nothing goes on for ever");
    }
}

/// What the future gives: the disk of this test never waits.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(std::task::Waker::noop())) {
        Poll::Ready(given) => given,
        Poll::Pending => panic!("something waits that the test does not know of"),
    }
}

fn detail(id: CdrId) -> Cdr<'static> {
    Cdr {
        id,
        direction: LegDirection::Out,
        attempted_at: 1_800_000_000_000,
        progress_at: None,
        answered_at: Some(1_800_000_000_500),
        ended_at: 1_800_000_030_000,
        ended_by: EndedBy::Peer,
        status: 200,
        reason: "OK",
        caller: "sip:alice@example.com",
        callee: "",
        user: "",
        plan: "",
        provider: "",
        account_code: "",
        call_id: "",
        source: "",
    }
}
