//! Prints what a binding costs in memory, as the kernel counts it, and the time of an update, a refresh and a lookup:
//! `cargo run --release -p store --example memory -- [AORS]`.

#![expect(clippy::disallowed_methods, reason = "a measurement reads /proc")]

mod phones;
mod stopwatch;

use agent::Wheel;
use phones::{NOW, aor, with_binding};
use stopwatch::timed;
use store::{Bindings, TooLong};

fn main() {
    let aors: u64 = std::env::args().nth(1).map_or(1_000_000, |n| n.parse().expect("a number of AORs"));
    let before = resident_octets();
    let (table, mut wheel) = (Bindings::new([1; 16]), Wheel::new(NOW));
    let register = |n| {
        with_binding(n, |binding| {
            table.update::<TooLong>(table.hashed(&aor(n)), |_, draft| draft.push(binding), |_| {})
        })
        .expect("a binding fits")
    };
    // A step coprime to any round number visits all, far apart.
    let scattered = || (0..aors).map(|n| n * 777_767_777 % aors);
    timed("making up an AOR and a binding", aors, || {
        scattered().for_each(|n| drop((aor(n), with_binding(n, |binding| std::hint::black_box(binding).q))));
    });
    timed("new binding", aors, || {
        for n in scattered() {
            let (id, at) = register(n).arm.expect("it is new");
            wheel.insert(at, id);
        }
    });
    println!("{} octets resident a binding at {aors} AORs", (resident_octets() - before) / aors);
    timed("refresh", aors, || scattered().for_each(|n| drop(register(n))));
    println!("{} octets resident a binding after a refresh of all", (resident_octets() - before) / aors);
    timed("lookup", aors, || {
        for n in scattered() {
            table.lookup(&aor(n), NOW, |record| record.len()).expect("it is registered");
        }
    });
    let end = NOW + 3600;
    timed("sweep", aors, || wheel.advance(end, usize::MAX, |id| table.expire(id, end, |_, _| {})));
    assert_eq!((wheel.len(), table.census().bindings), (0, 0), "all have run out");
}

fn resident_octets() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    let pages: u64 = statm.split(' ').nth(1).expect("the second field is resident").parse().expect("a number of pages");
    pages * 4096
}
