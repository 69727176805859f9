//! The decisions one by one, and a simulated shard that they keep from losing what is under way.

use super::*;
use agent::{ListenerId, Secret};
use proptest::prelude::*;
use sip::Transport;
use std::collections::VecDeque;

const PATIENCE: Patience = Patience { level: 0.12, time: Duration::from_millis(100) };

fn flow(transport: Transport) -> Flow {
    Flow { listener: ListenerId(0), transport, peer: ([192, 0, 2, 1], 5060).into(), connection: None }
}

fn at(millis: u64) -> Duration {
    Duration::from_millis(5000 + millis)
}

/// How much is taken on after each of these looks: when, what waits, and the share that was lost.
fn looks(admission: &mut Admission, looks: impl IntoIterator<Item = (u64, f64, f64)>) -> Vec<f64> {
    let each = looks.into_iter().map(|(millis, level, lost)| {
        let lost = (1000.0 * lost) as u64;
        admission.note(at(millis), Backlog { level, received: 1000 - lost, lost }, PATIENCE);
        admission.taken_on
    });
    each.collect()
}

/// How much is taken on where two fifths are lost at each look.
fn busy(times: impl IntoIterator<Item = u64>) -> f64 {
    *looks(&mut Admission::new(true), times.into_iter().map(|millis| (millis, 1.0, 0.4))).last().unwrap()
}

#[test]
fn a_burst_is_worked_off_and_what_stands_is_overload() {
    assert_eq!(busy((0..10).map(|n| 10 * n)), 1.0);
    assert_eq!(busy((0..11).map(|n| 10 * n)), 0.5);
    assert_eq!(busy((0..16).map(|n| 10 * n)), 0.25, "a step later");
    assert_eq!(busy((0..100).map(|n| 10 * n)), LEAST);
    let mut admission = Admission::new(true);
    let bursts = (0..100).map(|n| (10 * n, 0.2 * f64::from(u8::from(n % 8 > 0)), 0.0));
    assert_eq!(looks(&mut admission, bursts), [1.0; 100]);
    let falling = (0..40).map(|n| (1000 + 10 * n, 1.0 - 0.02 * n as f64, 0.0));
    assert_eq!(looks(&mut Admission::new(true), falling), [1.0; 40], "it becomes less");
}

#[test]
fn what_the_kernel_drops_is_not_worked_off() {
    let mut admission = Admission::new(true);
    let falling = (0..40).map(|n| (10 * n, 1.0 - 0.02 * n as f64, 0.25));
    assert!(*looks(&mut admission, falling).last().unwrap() < 0.2, "{admission:?}");
}

#[test]
fn who_has_hardly_too_much_refuses_hardly_anything() {
    let after_a_while = |level: f64, lost: f64| {
        let steady = (0..20).map(|n| (10 * n, level, lost));
        *looks(&mut Admission::new(true), steady).last().unwrap()
    };
    assert!(after_a_while(0.5, 0.03) > 0.7);
    assert!(after_a_while(0.13, 0.0) > 0.95);
    assert!(after_a_while(1.0, 0.2) <= 0.5);
}

#[test]
fn what_was_dropped_in_a_pause_does_not_count() {
    let mut admission = Admission::new(true);
    for start in (0..10).map(|n| 1000 * n) {
        // Two pauses, and after each the backlog becomes less by and by.
        let after = |pause, count| {
            (0..count).map(move |n| (start + pause + 10 * n, 1.0 - 0.05 * n as f64, 0.5 * f64::from(u8::from(n == 0))))
        };
        let all = [(start, 0.0, 0.0)].into_iter().chain(after(60, 2)).chain(after(140, 40));
        looks(&mut admission, all);
    }
    assert!(!admission.is_limited(), "{admission:?}");
}

#[test]
fn a_pause_does_not_count_nor_does_a_silence() {
    assert_eq!(busy([0, 150, 155]), 1.0, "the processor was away");
    assert_eq!(busy((0..20).map(|burst| 60_000 * burst)), 1.0, "a burst a minute");
    assert!(busy((0..20).map(|turn| 400 * turn)) < 1.0, "turns that are that long are overload");
}

#[test]
fn a_shard_that_has_gone_quiet_takes_on_all_again() {
    for is_refusal_cheap in [true, false] {
        let mut admission = Admission::new(is_refusal_cheap);
        looks(&mut admission, (0..100).map(|n| (10 * n, 1.0, 0.4)));
        assert_eq!(admission.taken_on, LEAST);
        looks(&mut admission, (2..6).map(|n| (1000 * n, 0.0, 0.0)));
        assert!(!admission.is_limited(), "{admission:?}");
    }
}

#[test]
fn it_is_over_when_all_have_been_taken_on_for_a_while() {
    let mut admission = Admission::new(true);
    // Again and again a little too much: that is one time of overload, and is told once.
    for round in (0..20).map(|n| 400 * n) {
        looks(&mut admission, (0..20).map(|n| (round + 10 * n, 0.2, 0.0)));
        looks(&mut admission, (20..40).map(|n| (round + 10 * n, 0.0, 0.0)));
        assert!(admission.has_begun && !admission.is_limited(), "{admission:?}");
    }
    assert!(admission.has_fallen_again, "{admission:?}");
    looks(&mut admission, (0..110).map(|n| (8000 + 10 * n, 0.0, 0.0)));
    assert!(!admission.has_begun && !admission.has_fallen_again, "{admission:?}");
}

#[test]
fn without_patience_the_first_look_counts() {
    let mut admission = Admission::new(true);
    let backlog = Backlog { level: 0.5, received: 100, lost: 0 };
    admission.note(at(0), backlog, Patience { time: Duration::ZERO, ..PATIENCE });
    assert_eq!(admission.taken_on, 1.0 - CUT_BY_LEVEL / 4.0);
}

#[test]
fn the_shares_fall_one_after_the_other_and_rise_the_same_way() {
    let shares = |admission: &Admission| (admission.taken_on, admission.answered);
    let mut admission = Admission::new(true);
    let mut seen = vec![shares(&admission)];
    for _ in 0..10 {
        admission.fall(0.5);
        seen.push(shares(&admission));
    }
    let expected = [
        (1.0, 1.0),
        (0.5, 1.0),
        (0.25, 1.0),
        (0.125, 1.0),
        (0.125, 0.5),
        (0.125, 0.25),
        (0.125, 0.15625),
        (0.0625, 0.078125),
        (0.03125, 0.0390625),
        (LEAST, 1.25 * LEAST),
        (LEAST, 1.25 * LEAST),
    ];
    assert_eq!(seen, expected);
    let mut millis = 0;
    while admission.is_limited() {
        let before = shares(&admission);
        admission.rise(0.01);
        assert!(admission.taken_on >= before.0 && admission.answered >= before.1, "{admission:?}");
        assert!(admission.taken_on <= admission.answered, "{admission:?}");
        millis += 10;
    }
    assert!((1000..1500).contains(&millis), "{millis}");
}

#[test]
fn a_call_is_taken_on_as_a_whole_and_nobody_is_refused_for_ever() {
    let hash = ShardHash::new(&Secret::new([7; 32]));
    let mut admission = Admission { taken_on: 0.25, answered: 0.5, ..Admission::new(true) };
    let now = |secs| Now { monotonic: Duration::ZERO, unix: Duration::from_secs(1_700_000_000 + secs) };
    let mut decide =
        |secs, n: u32| admission.decide(now(secs), &hash, Some(format!("{n}@host").as_bytes()), &flow(Transport::Udp));
    let mut fates = [0; 3];
    for n in 0..8000 {
        let fate = decide(0, n);
        fates[fate as usize] += 1;
        assert_eq!(decide(7, n), fate, "the epoch is the same");
    }
    for (fate, expected) in fates.into_iter().zip([2000, 2000, 4000]) {
        assert!((expected - 200..expected + 200).contains(&fate), "{fates:?}");
    }
    let chances = |n| (0..32).filter(|epoch| decide(EPOCH_SECS * epoch, n) == Fate::TakenOn).count();
    let chances: Vec<_> = (0..200).map(chances).collect();
    assert!(chances.iter().all(|&chances| (1..20).contains(&chances)), "{chances:?}");
    assert_eq!(admission.counters().taken_on_percent, 25);
}

#[test]
fn what_comes_over_a_stream_is_answered() {
    let hash = ShardHash::new(&Secret::new([7; 32]));
    let mut admission = Admission { taken_on: LEAST, answered: LEAST, ..Admission::new(true) };
    let now = Now { monotonic: Duration::ZERO, unix: Duration::from_secs(1_700_000_000) };
    let mut dropped = |transport| {
        let all = (0..200u32).map(|n| admission.decide(now, &hash, Some(&n.to_le_bytes()), &flow(transport)));
        all.filter(|&fate| fate == Fate::Dropped).count()
    };
    assert!(dropped(Transport::Udp) > 150);
    assert_eq!(dropped(Transport::Tls), 0);
}

#[test]
fn what_is_drawn_is_nothing_that_the_owner_tells() {
    let hash = ShardHash::new(&Secret::new([7; 32]));
    let mut admission = Admission { taken_on: 0.5, ..Admission::new(true) };
    let now = Now { monotonic: Duration::ZERO, unix: Duration::from_secs(1_700_000_000) };
    let mine: Vec<_> = (0..8000).map(|n| n.to_string()).filter(|id| hash.owner(id.as_bytes(), 4) == 1).collect();
    let taken = mine
        .iter()
        .filter(|id| admission.decide(now, &hash, Some(id.as_bytes()), &flow(Transport::Udp)) == Fate::TakenOn)
        .count();
    assert!((900..1100).contains(&taken) && (1900..2100).contains(&mine.len()), "{taken} of {}", mine.len());
}

/// A shard and its socket: what it costs to handle a message, in microseconds, and how many find room.
struct Simulated {
    admission: Admission,
    hash: ShardHash,
    work: Work,
    room: usize,
    now: f64,
    looked: f64,
    arrived: f64,
    /// How many have arrived, and how many have drawn.
    number: u32,
    drawn: u32,
    /// Since the last look: how many came, and how many found no room.
    came: [u64; 2],
    /// Whether each is new.
    queue: VecDeque<bool>,
    told: Told,
}

#[derive(Clone, Copy, Debug)]
struct Work {
    take_on: f64,
    refuse: f64,
    drop: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Told {
    taken_on: u32,
    refused: u32,
    dropped: u32,
    /// What the socket had no room for, new and not.
    lost: [u32; 2],
    others: u32,
}

impl Simulated {
    fn new(work: Work, room: usize, is_refusal_cheap: bool) -> Self {
        Self {
            admission: Admission::new(is_refusal_cheap),
            hash: ShardHash::new(&Secret::new([7; 32])),
            work,
            room,
            now: 0.0,
            looked: 0.0,
            arrived: 0.0,
            number: 0,
            drawn: 0,
            came: [0; 2],
            queue: VecDeque::new(),
            told: Told::default(),
        }
    }

    fn arrive(&mut self, gap: f64) {
        while self.arrived <= self.now {
            self.arrived += gap;
            self.number += 1;
            // Every 16th is under way.
            let is_new = !self.number.is_multiple_of(16);
            self.came[0] += 1;
            if self.queue.len() >= self.room {
                self.told.lost[usize::from(!is_new)] += 1;
                self.came[1] += 1;
            } else {
                self.queue.push_back(is_new);
            }
        }
    }

    /// Goes on for so long at a message each `gap` microseconds.
    fn go_on(&mut self, millis: u32, gap: f64) -> Told {
        self.told = Told::default();
        self.arrived = self.arrived.max(self.now);
        let until = self.now + 1000.0 * f64::from(millis);
        while self.now < until {
            self.arrive(gap);
            let batch: Vec<_> = self.queue.drain(..self.queue.len().min(48)).collect();
            if self.now >= self.looked {
                self.looked = self.now + 10_000.0;
                let level = self.queue.len() as f64 / self.room as f64;
                let now = Duration::from_nanos((1000.0 * self.now) as u64);
                let [came, dropped] = std::mem::take(&mut self.came);
                self.admission.note(now, Backlog { level, received: came - dropped, lost: dropped }, PATIENCE);
            }
            let now = Now { monotonic: Duration::ZERO, unix: Duration::from_secs(self.now as u64 / 1_000_000) };
            // An idle shard sleeps until the next one.
            self.now = if batch.is_empty() { self.arrived } else { self.now };
            for is_new in batch {
                self.drawn += 1;
                let call_id = self.drawn.to_le_bytes();
                let fate = if is_new && self.admission.is_limited() {
                    self.admission.decide(now, &self.hash, Some(&call_id), &flow(Transport::Udp))
                } else {
                    Fate::TakenOn
                };
                let (count, work) = match fate {
                    Fate::TakenOn if is_new => (&mut self.told.taken_on, self.work.take_on),
                    Fate::TakenOn => (&mut self.told.others, self.work.take_on.min(10.0)),
                    Fate::Refused => (&mut self.told.refused, self.work.refuse),
                    Fate::Dropped => (&mut self.told.dropped, self.work.drop),
                };
                *count += 1;
                self.now += work;
            }
        }
        self.told
    }
}

/// A shard that forwards, requests and their answers, and one that serves calls.
const FORWARDS: Work = Work { take_on: 8.0, refuse: 3.0, drop: 1.2 };
const SERVES: Work = Work { take_on: 60.0, refuse: 5.0, drop: 2.0 };

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Within what could at least be dropped. What the socket loses it loses in the first second.
    #[test]
    fn what_is_under_way_gets_through_a_flood_and_new_requests_as_many_as_can_be_done(
        serves: bool,
        more in 1.15..2.2f64,
        room in 400usize..8000,
    ) {
        let work = if serves { SERVES } else { FORWARDS };
        let mut shard = Simulated::new(work, room, serves);
        let calm = shard.go_on(2000, work.take_on / 0.9);
        prop_assert_eq!((calm.refused, calm.dropped, calm.lost), (0, 0, [0; 2]));

        let gap = work.take_on / more;
        shard.go_on(1000, gap);
        let flood = shard.go_on(4000, gap);
        prop_assert!(f64::from(flood.lost[1]) <= 0.01 * f64::from(flood.others), "{:?}", flood);
        prop_assert!(flood.refused > 100, "{:?}", flood);
        // Where refusals cost nothing and it is known who is to be refused.
        let best = 4e6 / gap * (gap - work.drop) / (work.take_on - work.drop);
        let least = if serves { 0.75 } else { 0.5 };
        prop_assert!(f64::from(flood.taken_on) >= least * best, "{:?}, at best {}", flood, best);

        shard.go_on(1700, work.take_on / 0.6);
        let after = shard.go_on(1000, work.take_on / 0.6);
        prop_assert_eq!((after.refused, after.dropped, after.lost), (0, 0, [0; 2]));
    }

    #[test]
    fn of_what_is_hardly_too_much_nearly_all_is_taken_on(serves: bool, more in 1.0..1.1f64, room in 400usize..8000) {
        let work = if serves { SERVES } else { FORWARDS };
        let mut shard = Simulated::new(work, room, serves);
        let gap = work.take_on / more;
        shard.go_on(1000, gap);
        let flood = shard.go_on(4000, gap);
        let new = 4e6 / gap * 15.0 / 16.0;
        prop_assert!(f64::from(flood.taken_on) >= 0.8 * new, "{:?} of {}", flood, new);
    }

    #[test]
    fn a_pause_of_the_host_refuses_nobody(load in 0.1..0.8f64, millis in 1.0..50.0f64, serves: bool) {
        let work = if serves { SERVES } else { FORWARDS };
        let mut shard = Simulated::new(work, 6500, serves);
        for _ in 0..5 {
            shard.go_on(1000, work.take_on / load);
            shard.now += 1000.0 * millis;
        }
        let told = shard.go_on(1000, work.take_on / load);
        prop_assert_eq!((told.refused, told.dropped), (0, 0));
        prop_assert!(!shard.admission.is_limited() && shard.admission.counters.refused == 0);
    }
}
