//! The clerk's promise on a disk that fails: nothing is acknowledged that a crash can take away, and nothing that ran out
//! or was removed comes back. Two shards and the real writer are led through random updates, calls, CDRs, compactions,
//! faults of the disk, time and crashes.

use super::world::{SEGMENT_OCTETS, Step, World, step};
use proptest::prelude::*;
use std::sync::atomic::Ordering::Relaxed;
use store::journal::SegmentHeader;

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

/// Hands a record over, and tells what becomes of it.
fn is_kept(world: &mut World) -> Option<bool> {
    world.update(0, "alice@example.com".into(), Some(60));
    world.turn(0);
    world.commit();
    let settled = world.shards[0].link.settled();
    world.turn(0);
    settled.map(|(_, ok)| ok)
}

#[test]
fn while_the_disk_refuses_one_try_a_second_is_made_and_the_next_success_ends_it() {
    let mut world = World::new();
    assert_eq!(is_kept(&mut world), Some(true));
    world.take(Step::Fault { after: 1, operations: 1, written: 0 });
    assert_eq!(is_kept(&mut world), Some(false), "the sync has failed");
    assert!(world.state.is_failing());
    assert_eq!(is_kept(&mut world), Some(false), "it would succeed, but is not tried");
    world.take(Step::Pass { secs: 1 });
    assert_eq!(is_kept(&mut world), Some(true));
    assert!(!world.state.is_failing());
    assert_eq!(world.disk.borrow_mut().segments().count(), 2, "the segment with the failed group is written no more");
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
    world = world.again();
    world.heal();
    assert!(world.state.deleted.load(Relaxed) > 0);
}

#[test]
fn groups_go_over_the_zeros_of_a_spare_and_leave_none_behind() {
    let mut world = World::new();
    world.spare();
    let lengths = |world: &mut World| -> Vec<usize> {
        world.disk.borrow_mut().segments().map(|(_, file)| file.seen.len()).collect()
    };
    let register = |world: &mut World| {
        world.update(0, "alice@example.com".into(), Some(60));
        world.turn(0);
        world.commit();
        world.settle(0);
    };
    register(&mut world);
    assert_eq!(lengths(&mut world), [SEGMENT_OCTETS as usize], "the first segment is the spare");
    world.spare();
    (0..2).for_each(|_| register(&mut world));
    let found = lengths(&mut world);
    assert!(found.len() == 2 && found[0] < SEGMENT_OCTETS as usize, "what did not fit is in the next: {found:?}");
    assert_eq!(found[1], SEGMENT_OCTETS as usize);
    world.crash(0);
    let found = lengths(&mut world);
    assert!(found.len() == 2 && found[1] < SEGMENT_OCTETS as usize, "the start has cut the zeros: {found:?}");
    assert_eq!(world.table.census().bindings, 1);
}

#[test]
fn a_file_that_is_in_the_way_of_a_segment_stays() {
    for has_spare in [false, true] {
        let mut world = World::new();
        if has_spare {
            world.spare();
        }
        world.disk.borrow_mut().put_stranger(1, b"not ours");
        assert_eq!(is_kept(&mut world), Some(false));
        world.take(Step::Pass { secs: 1 });
        assert_eq!(is_kept(&mut world), Some(true), "the next number is free");
        assert_eq!(world.disk.borrow_mut().files[&1].seen, b"not ours");
    }
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
