//! Calls and CDRs in the journal, case by case.

use super::world::{Step, World};

/// A turn of shard 0, and its group.
fn commit(world: &mut World) {
    world.turn(0);
    world.commit();
    world.settle(0);
}

/// Refreshes one binding until compaction has been through old segments.
fn churn(world: &mut World) {
    for _ in 0..200 {
        world.update(1, "bob@example.com".into(), Some(1000));
        world.turn(0);
        world.turn(1);
        world.commit();
    }
}

/// The numbers of the segments on the disk.
fn segments(world: &World) -> Vec<u64> {
    world.disk.borrow().files.keys().copied().collect()
}

#[test]
fn a_call_that_lasts_is_carried_from_segment_to_segment() {
    let mut world = World::new();
    world.call(0, 1, false);
    commit(&mut world);
    churn(&mut world);
    assert!(segments(&world)[0] > 1, "the segment of the call is compacted");
    world.crash(0);
    assert_eq!((world.found_calls.len(), world.found_calls[0].version), (1, 1));
}

#[test]
fn a_call_that_has_ended_stays_so_when_an_old_segment_comes_back() {
    let mut world = World::new();
    world.call(0, 1, false);
    commit(&mut world);
    let old = world.disk.borrow().files[&1].clone();
    world.call(0, 1, true);
    commit(&mut world);
    churn(&mut world);
    assert!(segments(&world)[0] > 2, "the end of the call is compacted away");
    world.disk.borrow_mut().files.insert(1, old);
    world.crash(0);
    assert_eq!(world.found_calls, []);
}

#[test]
fn a_cdr_is_offered_again_only_until_the_database_has_told() {
    let mut world = World::new();
    let id = world.cdr(0);
    commit(&mut world);
    // The process is killed before the database has it.
    world = world.again();
    world.commit();
    world.commit();
    world.commit();
    world.database(1);
    assert!(world.has_row(id));
    // The database has it, and the journal is told.
    world.commit();
    world = world.again();
    for _ in 0..5 {
        world.commit();
    }
    world.database(1);
    world.heal();
}

#[test]
fn what_a_busy_database_cannot_take_waits_in_the_journal() {
    let mut world = World::new();
    let ids: Vec<_> = (0..100).map(|_| world.cdr(0)).collect();
    commit(&mut world);
    assert!(ids.iter().all(|&id| !world.has_row(id)));
    world.heal();
    assert!(ids.iter().all(|&id| world.has_row(id)));
}

#[test]
fn a_hole_in_a_segment_costs_only_what_it_touches() {
    let mut world = World::new();
    for call in 0..3 {
        world.call(0, call, false);
    }
    commit(&mut world);
    {
        let mut disk = world.disk.borrow_mut();
        let octets = &mut disk.files.get_mut(&1).unwrap().seen;
        let middle = octets.len() / 2;
        octets[middle] ^= 0xFF;
    }
    world = world.again();
    assert_eq!(world.found_calls.len(), 2);
}

#[test]
fn a_torn_tail_takes_no_call_that_was_acknowledged() {
    let mut world = World::new();
    world.call(0, 0, false);
    commit(&mut world);
    world.call(0, 1, false);
    world.turn(0);
    world.take(Step::Fault { after: 0, operations: 3, written: 30 });
    world.commit();
    world.crash(30);
    assert_eq!(world.found_calls.len(), 1);
}

#[test]
fn a_clerk_that_panics_is_told() {
    let world = World::new();
    let state = world.state.clone();
    let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _world = world;
        panic!("this test's own");
    }));
    assert!(died.is_err());
    assert!(state.fault().is_some_and(|fault| fault.contains("panicked")));
}
