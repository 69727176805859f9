//! How soon a switch with a million bindings serves again. It is alone here, for what else runs would count in its time.
#![expect(clippy::disallowed_methods, reason = "a test owns its files and measures time")]
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use ringswitch::clerk::{Clerk, ControlHandler, Settings, replay};
use ringswitch::config;
use ringswitch::control::{Answer, Request};
use ringswitch::io::Waker;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::journal::{Kind, SegmentHeader, frame};
use store::{Binding, Bindings, Draft, Record, Source};

const NOW: u64 = 1_800_000_000;

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
    let settings = Settings { data_dir: data_dir.path().to_owned(), journal: config::Journal::default(), core: None };
    let waker = Arc::new(Waker::new().unwrap());
    let clerk = Clerk::start(settings, Vec::new(), waker, table.clone(), replayed, Arc::new(Nothing)).unwrap();
    let served = start.elapsed();
    clerk.stop().unwrap();
    println!("{records} records: read after {} ms, served after {} ms", read.as_millis(), served.as_millis());
    assert_eq!((records, table.census().bindings), (RECORDS, RECORDS));
    assert!(served < Duration::from_secs(2), "{served:?}");
}

struct Nothing;

impl ControlHandler for Nothing {
    fn handle(&self, _: Request) -> Answer {
        Answer::error("nobody asks here")
    }
}

fn aor(n: u64) -> String {
    format!("user{n:07}@pbx.example.com")
}

fn record(version: u64, aor: &str, expires_at: u64) -> Record {
    let mut draft = Draft::default();
    draft.push(&binding(expires_at)).unwrap();
    draft.seal(version, aor, 0).unwrap()
}

/// What a desk phone registers.
fn binding(expires_at: u64) -> Binding<'static> {
    Binding {
        contact: b"sip:alice1234@192.168.100.27:49152;line=a1b2c3",
        params: b"",
        q: 1000,
        registered_at: NOW,
        expires_at,
        call_id: b"3848276298220188511@192.168.100.27:49152",
        cseq: 4711,
        user_agent: b"Yealink T46S 66.85.0",
        source: Source {
            listener: 0,
            transport: sip::Transport::Udp,
            peer: "203.0.113.77:49152".parse().unwrap(),
            connection: None,
        },
        path: b"",
        instance: b"",
        reg_id: None,
        methods: b"",
    }
}
