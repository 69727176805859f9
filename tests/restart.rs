//! How soon a switch with a million bindings serves again. It is alone here, for what else runs would count in its time.
#![expect(clippy::disallowed_methods, reason = "a test owns its files and measures time")]

mod kept;

use kept::{NOW, aor, record};
use ringswitch::clerk::{Clerk, Settings, replay};
use ringswitch::config;
use ringswitch::io::Waker;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::Bindings;
use store::journal::{Kind, SegmentHeader, frame};

#[test]
fn a_start_with_a_million_bindings_serves_within_two_seconds() {
    // Without optimization, a tenth of them in the same time.
    const RECORDS: u64 = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };
    let data_dir = tempfile::tempdir().unwrap();
    let directory = data_dir.path().join("journal");
    fs::create_dir(&directory).unwrap();
    for number in 1..=4 {
        let mut octets = SegmentHeader { number }.encode().to_vec();
        (0..RECORDS).filter(|n| n % 4 + 1 == number).for_each(|n| {
            frame(&mut octets, Kind::Record, record(n + 1, &aor(n), NOW + 1800).octets());
        });
        fs::write(directory.join(format!("{number:020}.seg")), octets).unwrap();
    }
    let start = Instant::now();
    let table = Arc::new(Bindings::new([1; 16]));
    let replayed = replay(&directory, &table, NOW).unwrap();
    let (read, records) = (start.elapsed(), replayed.records);
    let settings = Settings { journal: config::Journal::default(), core: None, cdrs: None };
    let waker = Arc::new(Waker::new().unwrap());
    let clerk = Clerk::start(settings, Vec::new(), waker, table.clone(), replayed).unwrap();
    let served = start.elapsed();
    clerk.stop().unwrap();
    println!("{records} records: read after {} ms, served after {} ms", read.as_millis(), served.as_millis());
    assert_eq!((records, table.census().bindings), (RECORDS, RECORDS));
    assert!(served < Duration::from_secs(2), "{served:?}");
}
