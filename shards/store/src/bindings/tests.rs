//! The table under updates, undoing, replay, forgetting, and what is fetched in advance.

use super::*;
use crate::binding::tests::typical;
use crate::record::tests::sealed;
use agent::Wheel;

const ALICE: &str = "alice@example.com";
const NOW: u64 = 1_800_000_000;

fn table() -> Bindings {
    Bindings::new([7; 16])
}

fn until(expires_at: u64) -> Binding<'static> {
    Binding { expires_at, ..typical() }
}

/// Gives `aor` these bindings.
fn put(table: &Bindings, aor: &str, bindings: &[Binding<'_>]) -> Updated {
    table
        .update::<TooLong>(
            table.hashed(aor),
            |_, draft| bindings.iter().try_for_each(|binding| draft.push(binding)),
            |_| {},
        )
        .unwrap()
}

fn expiries(table: &Bindings, aor: &str, now: u64) -> Option<Vec<u64>> {
    table.lookup(aor, now, |record| record.live(now).map(|b| b.expires_at).collect())
}

#[test]
fn an_update_is_seen_counted_and_journaled_with_the_next_version() {
    let table = table();
    let mut journaled = Vec::new();
    let first = put(&table, ALICE, &[until(NOW + 60), until(NOW + 90)]);
    let second = table
        .update::<TooLong>(
            table.hashed(ALICE),
            |current, draft| draft.push(&current.unwrap().bindings().next().unwrap()),
            |record| journaled.push(record.version()),
        )
        .unwrap();
    assert_eq!((first.version, second.version, journaled), (1, 2, vec![2]));
    assert!(first.previous.is_none() && first.arm.is_some_and(|(_, at)| at == NOW + 60));
    assert!(second.previous.is_some_and(|record| record.version() == 1) && second.arm.is_none());
    assert_eq!(expiries(&table, ALICE, NOW), Some(vec![NOW + 60]));
    assert_eq!((table.census().aors, table.census().bindings), (1, 1));
}

#[test]
fn a_refused_update_changes_nothing() {
    let table = table();
    put(&table, ALICE, &[until(NOW + 60)]);
    let before = table.census();
    let refused = table.update(
        table.hashed(ALICE),
        |_, draft| {
            draft.push(&until(NOW + 90))?;
            Err(TooLong)
        },
        |_| panic!("nothing is journaled"),
    );
    assert!(refused.is_err());
    assert_eq!((expiries(&table, ALICE, NOW), table.census()), (Some(vec![NOW + 60]), before));
}

#[test]
fn a_binding_is_gone_at_its_second_even_before_it_is_swept() {
    let table = table();
    put(&table, ALICE, &[until(NOW + 60), until(NOW + 90)]);
    assert_eq!(expiries(&table, ALICE, NOW + 59).map(|e| e.len()), Some(2));
    assert_eq!(expiries(&table, ALICE, NOW + 60), Some(vec![NOW + 90]));
    assert_eq!(expiries(&table, ALICE, NOW + 90), None);
    assert_eq!(expiries(&table, "bob@example.com", NOW), None);
}

#[test]
fn the_wheel_sweeps_what_has_run_out_and_follows_a_refresh() {
    let (table, mut wheel) = (table(), Wheel::new(NOW));
    let (id, at) = put(&table, ALICE, &[until(NOW + 60)]).arm.unwrap();
    wheel.insert(at, id);
    put(&table, ALICE, &[until(NOW + 90), until(NOW + 120)]);
    let mut dropped = Vec::new();
    let mut sweep = |now| {
        wheel.advance(now, usize::MAX, |id| {
            table.expire(id, now, |aor, b| dropped.push((aor.to_owned(), b.expires_at)))
        });
        wheel.next_due()
    };
    assert!(sweep(NOW + 60).is_some());
    assert!(sweep(NOW + 95).is_some());
    assert_eq!(table.census().bindings, 1);
    assert_eq!(sweep(NOW + 120), None);
    assert_eq!(dropped, [(ALICE.to_owned(), NOW + 90), (ALICE.to_owned(), NOW + 120)]);
    assert_eq!(table.census(), Census { aors: 0, bindings: 0, journal_octets: 0 });
    assert!(table.map.is_empty());
}

#[test]
fn a_tombstone_stands_until_what_it_superseded_has_run_out() {
    let table = table();
    let (id, _) = put(&table, ALICE, &[until(NOW + 3600)]).arm.unwrap();
    put(&table, ALICE, &[until(NOW + 60)]);
    let mut tombstone = None;
    table.update::<TooLong>(table.hashed(ALICE), |_, _| Ok(()), |record| tombstone = Some(record.clone())).unwrap();
    let tombstone = tombstone.unwrap();
    assert_eq!((expiries(&table, ALICE, NOW), table.census().aors), (None, 0));
    assert_eq!(table.expire(id, NOW + 100, |_, _| {}), Some(NOW + 3600));
    assert!(table.holds(&tombstone));
    assert_eq!(table.expire(id, NOW + 3600, |_, _| {}), None);
    assert!(!table.holds(&tombstone));
}

#[test]
fn a_failed_update_is_undone() {
    let table = table();
    let first = put(&table, ALICE, &[until(NOW + 60)]);
    let second = put(&table, ALICE, &[until(NOW + 90)]);
    table.restore(ALICE, second.version, second.previous);
    assert_eq!(expiries(&table, ALICE, NOW), Some(vec![NOW + 60]));
    table.restore(ALICE, first.version, first.previous);
    assert_eq!((expiries(&table, ALICE, NOW), table.census().journal_octets), (None, 0));
}

#[test]
fn an_update_that_was_built_upon_is_not_undone() {
    let table = table();
    let first = put(&table, ALICE, &[until(NOW + 60)]);
    put(&table, ALICE, &[until(NOW + 90)]);
    table.restore(ALICE, first.version, first.previous);
    assert_eq!(expiries(&table, ALICE, NOW), Some(vec![NOW + 90]));
}

#[test]
fn failed_updates_of_several_shards_are_undone_in_any_order() {
    for order in [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]] {
        let table = table();
        put(&table, ALICE, &[until(NOW + 60)]);
        let mut failed: Vec<_> = (1..4).map(|n| Some(put(&table, ALICE, &[until(NOW + 60 + n)]))).collect();
        for n in order {
            let Updated { version, previous, .. } = failed[n - 1].take().unwrap();
            table.restore(ALICE, version, previous);
        }
        assert_eq!(expiries(&table, ALICE, NOW), Some(vec![NOW + 60]), "{order:?}");
        assert!(table.undone.lock().unwrap().is_empty());
    }
}

#[test]
fn a_replay_keeps_the_highest_version_in_any_order() {
    let old = sealed(5, ALICE, &[until(NOW + 60)]);
    let new = sealed(6, ALICE, &[until(NOW + 90)]);
    let removed = Draft::default().seal(9, "bob@example.com", NOW + 60).unwrap();
    let bob = sealed(8, "bob@example.com", &[until(NOW + 60)]);
    let expired = sealed(7, "carol@example.com", &[until(NOW)]);
    for order in [[&old, &new, &removed, &bob, &expired], [&new, &expired, &old, &bob, &removed]] {
        let table = table();
        table.load(order[..3].iter().map(|&record| record.clone()), NOW);
        table.load(order[3..].iter().map(|&record| record.clone()), NOW);
        table.finish_replay(NOW);
        assert_eq!(expiries(&table, ALICE, NOW), Some(vec![NOW + 90]));
        assert_eq!(expiries(&table, "bob@example.com", NOW), None);
        assert!(table.holds(&new) && table.holds(&removed));
        assert!(!table.holds(&old) && !table.holds(&bob) && !table.holds(&expired));
        assert_eq!((table.census().aors, table.census().bindings), (1, 1));
        assert_eq!(put(&table, ALICE, &[]).version, 10);
    }
}

#[test]
fn after_a_replay_each_aor_is_armed_once() {
    let table = table();
    table.load((0..100).map(|n| sealed(n, &format!("{n}@example.com"), &[until(NOW + n)])), NOW - 1);
    table.load([sealed(200, "7@example.com", &[until(NOW + 500)])], NOW - 1);
    let mut due = Vec::new();
    while table.arm(30, |_, at| due.push(at)) {}
    due.sort_unstable();
    let expected = (0..100).filter(|&n| n != 7).map(|n| NOW + n).chain([NOW + 500]);
    assert_eq!(due, expected.collect::<Vec<_>>());
}

#[test]
fn a_listing_is_bounded_and_shows_only_what_holds() {
    let table = table();
    for n in 0..20 {
        put(&table, &format!("a{n}@example.com"), &[until(NOW + n)]);
        put(&table, &format!("b{n}@example.com"), &[until(NOW + n)]);
    }
    let listed = |prefix, now, limit| {
        let mut aors = Vec::new();
        table.list(prefix, now, limit, |record| aors.push(record.aor().to_owned()));
        aors
    };
    assert_eq!(listed("a", NOW + 9, 100).len(), 10);
    assert_eq!(listed("a", NOW + 9, 3).len(), 3);
    assert_eq!(listed("b19@", NOW, 100), ["b19@example.com"]);
}

#[test]
fn anything_can_be_prefetched_from_any_table() {
    for aors in [0, 1, 3000] {
        let table = table();
        for n in 0..aors {
            let user_agent = vec![b'u'; n as usize / 2];
            put(&table, &format!("{n}@example.com"), &[Binding { user_agent: &user_agent, ..until(NOW + 60) }]);
        }
        for n in 0..aors + 100 {
            let aor = format!("{n}@example.com");
            table.prefetch_slot(table.hashed(&aor));
            table.prefetch_record(table.hashed(&aor));
        }
    }
}

#[test]
fn the_slots_that_are_fetched_are_mostly_the_right_ones() {
    for aors in [100, 20_000, 50_000] {
        let table = table();
        let aors: Vec<_> = (0..aors).map(|n| format!("{n}@example.com")).collect();
        aors.iter().for_each(|aor| drop(put(&table, aor, &[until(NOW + 60)])));
        let fetched = aors.iter().filter(|aor| {
            let HashedAor { aor, id } = table.hashed(aor);
            let part = table.map.shards()[table.part(id)].read();
            let slot: *const Slot = part.get(id.0, slot_of(id, aor.as_bytes())).unwrap();
            let (_, first) = likely_places(part.data_end().as_ptr(), part.buckets(), id);
            (first..first.wrapping_add(LIKELY_SLOTS)).contains(&slot)
        });
        let share = fetched.count() as f64 / aors.len() as f64;
        assert!(share > 0.7, "{share} of {}", aors.len());
    }
}

#[test]
fn prefetching_does_not_wait_for_an_update() {
    let table = table();
    put(&table, ALICE, &[until(NOW + 60)]);
    let aor = table.hashed(ALICE);
    let (is_done, done) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let part = table.map.shards()[table.part(aor.id)].write();
        scope.spawn(|| {
            table.prefetch_slot(aor);
            table.prefetch_record(aor);
            is_done.send(()).unwrap();
        });
        let told = done.recv_timeout(std::time::Duration::from_secs(5));
        drop(part);
        told.expect("it does not wait");
    });
}

#[test]
fn shards_that_update_one_aor_at_once_lose_nothing() {
    let table = table();
    std::thread::scope(|scope| {
        for shard in 0..4u64 {
            let table = &table;
            scope.spawn(move || {
                for n in 0..250 {
                    let add = |current: Option<&Record>, draft: &mut Draft| {
                        current.map_or(Ok(()), |r| r.bindings().try_for_each(|b| draft.push(&b)))?;
                        draft.push(&Binding {
                            contact: b"sip:a",
                            call_id: b"c",
                            user_agent: b"",
                            ..until(NOW + shard * 1000 + n)
                        })
                    };
                    table.update::<TooLong>(table.hashed(ALICE), add, |_| {}).unwrap();
                }
            });
        }
    });
    assert_eq!(expiries(&table, ALICE, 0).unwrap().len(), 1000);
    assert_eq!(table.census().bindings, 1000);
    assert_eq!(put(&table, ALICE, &[]).version, 1001);
}
