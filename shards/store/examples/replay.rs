//! Prints how long the replay of a journal takes, from memory, into an empty table, with one thread and with two:
//! `cargo run --release -p store --example replay -- [RECORDS]`.

mod phones;
mod stopwatch;

use agent::Wheel;
use phones::{NOW, aor, with_binding};
use stopwatch::timed;
use store::{Bindings, Draft, journal};

fn main() {
    let records: u64 = std::env::args().nth(1).map_or(1_000_000, |n| n.parse().expect("a number of records"));
    let segments: Vec<Vec<u8>> = (0..4)
        .map(|number| {
            let mut segment = journal::SegmentHeader { number }.encode().to_vec();
            for n in (number..records).step_by(4) {
                let mut draft = Draft::default();
                with_binding(n, |binding| draft.push(binding)).expect("a binding fits");
                let record = draft.seal(n + 1, &aor(n), 0).expect("a record fits");
                journal::frame(&mut segment, journal::Kind::Record, record.octets());
            }
            segment
        })
        .collect();
    let octets: usize = segments.iter().map(Vec::len).sum();
    println!("{records} records, {octets} octets in {} segments", segments.len());
    for threads in [1, 2] {
        let table = Bindings::new([1; 16]);
        timed(&format!("replay, {threads} thread(s)"), records, || {
            std::thread::scope(|scope| {
                for share in segments.chunks(segments.len() / threads) {
                    let table = &table;
                    scope.spawn(move || {
                        for segment in share {
                            let records = journal::Replay::new(segment)
                                .filter_map(|item| item.expect("nothing is damaged").into_binding());
                            table.load(records, NOW);
                        }
                    });
                }
            });
            table.finish_replay(NOW);
        });
        timed("its wheel", records, || {
            let mut wheel = Wheel::new(NOW);
            table.arm(usize::MAX, |id, at| wheel.insert(at, id));
        });
        assert_eq!(table.census().bindings, records, "all are back");
    }
}
