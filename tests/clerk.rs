//! The clerk on a real disk: what it keeps through kill -9 and a full disk, and what a record costs. A test that needs a
//! process of its own runs itself again, with the role in an environment variable.
#![expect(clippy::disallowed_methods, reason = "a test owns its files, sockets, threads and time")]
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod kept;

use agent::Ticket;
use kept::{NOW, aor, binding, record};
use ringswitch::accounts::{CdrPage, Database};
use ringswitch::cdr;
use ringswitch::clerk::{Clerk, Replayed, Settings, StartError, read_ahead, replay, replay_rest};
use ringswitch::config;
use ringswitch::control::{Answer, ControlHandler, ControlServer, Request};
use ringswitch::io::{JournalInlet, JournalLink, Waker, journal};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use store::journal::{Fault, Kind, SegmentHeader, frame};
use store::{
    Bindings, CallEnd, Cdr, CdrId, Draft, EndedBy, LegDirection, Record, TooLong, put_call, put_call_end, put_cdr,
};

/// Names the data directory to the child of a test.
const CHILD: &str = "RINGSWITCH_CLERK_TEST_CHILD";

#[test]
fn kill_9_at_any_moment_loses_no_settled_record() {
    if let Some(data_dir) = std::env::var_os(CHILD) {
        register_for_ever(Path::new(&data_dir));
    }
    for seed in 0..20u64 {
        let data_dir = tempfile::tempdir().unwrap();
        let mut child = child("kill_9_at_any_moment_loses_no_settled_record", data_dir.path());
        let mut output = BufReader::new(child.stdout.take().unwrap());
        // From the first settlement on, some moment in the next 40 ms.
        let mut line = String::new();
        while !line.starts_with("settled ") {
            line.clear();
            assert_ne!(output.read_line(&mut line).unwrap(), 0, "the child ends by itself");
        }
        std::thread::sleep(Duration::from_micros(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48) / 2);
        child.kill().unwrap();
        child.wait().unwrap();
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        // What was printed last may be cut.
        let settled = |line: &str| line.strip_prefix("settled ").and_then(|n| n.parse::<u64>().ok());
        let whole = rest.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let settled = line.trim().lines().chain(whole.lines()).filter_map(settled).max().unwrap();

        let table = Bindings::new([1; 16]);
        let replayed = replay(&data_dir.path().join("journal"), &table, NOW).unwrap();
        assert_eq!(replayed.damage, [], "seed {seed}");
        // Ticket n was for AOR n % 1000, with the expiry NOW + n.
        for ticket in settled.saturating_sub(999)..=settled {
            let Some(expires_at) = expiry(&table, &aor(ticket % 1000)) else {
                assert_eq!(ticket, 0, "seed {seed}: nothing of the AOR of ticket {ticket} is there");
                continue;
            };
            assert!(expires_at >= NOW + ticket, "seed {seed}: ticket {ticket} was settled and is lost");
        }
    }
}

/// The child: refreshes a thousand AORs in turn, and prints each ticket as it is settled.
fn register_for_ever(data_dir: &Path) -> ! {
    let journal = config::Journal { segment_bytes: 200_000, ..config::Journal::default() };
    let (_clerk, mut shards, table) = start(data_dir, journal, 1);
    let shard = &mut shards[0];
    let mut output = std::io::stdout();
    loop {
        for _ in 0..1 + shard.next_ticket % 50 {
            shard.refresh(&table, &aor(shard.next_ticket % 1000), NOW + shard.next_ticket);
        }
        shard.push();
        // Now and then several batches wait at once.
        if shard.next_ticket % 3 == 0 {
            assert!(shard.settle());
            output.write_all(format!("settled {}\n", shard.next_ticket - 1).as_bytes()).unwrap();
        }
    }
}

#[test]
fn a_full_disk_refuses_and_keeps_nothing_by_halves_until_there_is_room() {
    let Some(data_dir) = std::env::var_os(CHILD) else {
        let data_dir = tempfile::tempdir().unwrap();
        let mut child = child("a_full_disk_refuses_and_keeps_nothing_by_halves_until_there_is_room", data_dir.path());
        assert!(child.wait().unwrap().success(), "see the child's output");
        return;
    };
    // The limit of a file's size stands for the size of the disk: what exceeds it is written up to it, then refused.
    let limit = |octets| {
        let limit = Rlimit { current: octets, ..getrlimit(Resource::Fsize) };
        setrlimit(Resource::Fsize, limit).unwrap();
    };
    let signal = Arc::default();
    signal_hook::flag::register(libc::SIGXFSZ, signal).unwrap();
    let data_dir = Path::new(&data_dir);
    let (clerk, mut shards, table) = start(data_dir, config::Journal::default(), 2);
    let state = clerk.journal_state();

    let mut tell = |shard: usize, n: u64| {
        shards[shard].refresh(&table, &aor(n), NOW + n);
        shards[shard].push();
        shards[shard].settle()
    };
    assert!(tell(0, 1) && tell(1, 2));
    limit(Some(SegmentHeader::OCTETS as u64 + 500));
    assert!(!tell(0, 3), "there is room for a part of it only");
    assert!(state.is_failing());
    assert!(state.status().state.starts_with("failing: "), "{}", state.status().state);
    let tried = Instant::now();
    assert!(!tell(1, 4) && !tell(0, 5), "not tried");
    limit(Some(0));
    std::thread::sleep(Duration::from_millis(1001).saturating_sub(tried.elapsed()));
    assert!(!tell(0, 6), "no segment can be begun");
    limit(None);
    std::thread::sleep(Duration::from_millis(1001));
    assert!(tell(0, 7), "there is room again");
    assert!(!state.is_failing());
    clerk.stop().unwrap();

    let table = Bindings::new([1; 16]);
    let replayed = replay(&data_dir.join("journal"), &table, NOW).unwrap();
    assert_eq!((replayed.records, replayed.damage), (3, vec![]), "a refused record is not there, not even in part");
    let kept: Vec<u64> = (0..9).filter(|&n| expiry(&table, &aor(n)).is_some()).collect();
    assert_eq!(kept, [1, 2, 7]);
}

/// What a commit waits for, and what it does not.
#[test]
fn long_groups_begin_a_window_apart_and_short_ones_at_once() {
    const WINDOW: Duration = Duration::from_millis(100);
    let data_dir = tempfile::tempdir().unwrap();
    let journal = config::Journal { window_usecs: WINDOW.as_micros() as u32, ..config::Journal::default() };
    let (clerk, mut shards, table) = start(data_dir.path(), journal, 1);
    let mut commits = |records: u64| {
        let started = Instant::now();
        for _ in 0..10 {
            (0..records).for_each(|n| shards[0].refresh(&table, &aor(n), NOW + 60));
            shards[0].push();
            assert!(shards[0].settle());
        }
        started.elapsed()
    };
    let (short, long) = (commits(1), commits(100));
    assert!(short < 5 * WINDOW, "{short:?}");
    assert!(long >= 9 * WINDOW, "{long:?}");
    clerk.stop().unwrap();
}

#[test]
fn a_file_is_made_ready_however_busy_the_journal_is() {
    let data_dir = tempfile::tempdir().unwrap();
    let spare = data_dir.path().join("journal/spare");
    let journal = config::Journal { window_usecs: 0, ..config::Journal::default() };
    let (clerk, mut shards, table) = start(data_dir.path(), journal, 1);
    let shard = &mut shards[0];
    shard.refresh(&table, &aor(1), NOW + 60);
    let record = std::mem::take(&mut shard.records);
    // The first record takes the file that the start has made. The next one is made while something waits whenever a commit
    // ends.
    let (state, mut longest) = (clerk.journal_state(), 0);
    while longest < 4 << 20 {
        let groups = state.groups.load(Relaxed);
        assert!(groups < 1000, "{groups} groups are written and {longest} octets made ready");
        for _ in 0..100 {
            shard.records.extend_from_slice(&record);
            shard.next_ticket += 1;
            // Far fewer than a ring holds, in the time of a commit.
            let next = Instant::now() + Duration::from_micros(20);
            while Instant::now() < next || !shard.link.push(&mut shard.records, Ticket(shard.next_ticket)) {
                while shard.link.settled().is_some() {}
            }
        }
        longest = longest.max(fs::metadata(&spare).map_or(0, |metadata| metadata.len()));
    }
    clerk.stop().unwrap();
}

#[test]
fn a_hundred_thousand_refreshes_keep_the_journal_short_and_replay_to_the_same_table() {
    const AORS: u64 = 1000;
    const SEGMENT: u64 = 256 << 10;
    let data_dir = tempfile::tempdir().unwrap();
    let directory = data_dir.path().join("journal");
    let journal = config::Journal { segment_bytes: SEGMENT, ..config::Journal::default() };
    let (clerk, mut shards, table) = start(data_dir.path(), journal.clone(), 2);
    let mut longest = 0;
    let early = Bindings::new([3; 16]);
    let mut ahead = None;
    for n in 0..1000u64 {
        if n == 500 {
            ahead = Some(read_ahead(&directory, &early, NOW).unwrap());
        }
        for shard in &mut shards {
            for k in 0..50 {
                let aor = aor((n * 7919 + k * 31) % AORS);
                if (n + k) % 97 == 0 {
                    shard.remove(&table, &aor)
                } else {
                    shard.refresh(&table, &aor, NOW + n + 1)
                };
            }
            shard.push();
        }
        // Barriers are asked for at any time, and answered at the end of a turn.
        for shard in &mut shards {
            assert!(shard.settle());
            shard.push();
        }
        if n % 20 == 0 {
            longest = longest.max(octets_in(&directory));
        }
    }
    let live = table.census().journal_octets;
    let state = clerk.journal_state();
    assert!(state.deleted.load(Relaxed) > 20, "{state:?}");
    let bound = 2 * live + 2 * SEGMENT + (2 << 20);
    assert!(longest < bound, "{longest} octets for {live} live ones, more than {bound}");
    clerk.stop().unwrap();

    let check = |back: &Bindings, replayed: Replayed| {
        assert_eq!(replayed.damage, []);
        for n in 0..AORS {
            assert_eq!(contents(back, &aor(n)), contents(&table, &aor(n)), "AOR {n}");
        }
        assert_eq!(back.census(), table.census());
        replayed.segments.len()
    };
    let back = Bindings::new([2; 16]);
    let replayed = replay(&directory, &back, NOW).unwrap();
    let segments = check(&back, replayed);
    // Who has read the first half ahead, of which compaction has deleted much since, finds the same.
    let replayed = replay_rest(&directory, &early, NOW, ahead.unwrap()).unwrap();
    assert_eq!(check(&early, replayed), segments);
}

/// Run it in release with `--nocapture --test-threads=1` for the figures.
#[test]
fn a_record_costs_less_the_more_are_committed_together() {
    let cost = [100, 1000].map(|records| {
        const GROUPS: u64 = 300;
        let data_dir = tempfile::tempdir().unwrap();
        let (clerk, mut shards, table) = start(data_dir.path(), config::Journal::default(), 1);
        let shard = &mut shards[0];
        (0..records).for_each(|n| shard.refresh(&table, &aor(n), NOW + 1800));
        let batch = std::mem::take(&mut shard.records);
        let (start, before) = (Instant::now(), processor_time());
        for _ in 0..GROUPS {
            shard.records.clone_from(&batch);
            shard.push();
            assert!(shard.settle());
        }
        let cpu = (processor_time() - before).as_nanos() as u64 / (GROUPS * records);
        println!(
            "groups of {records}: {cpu} ns of processor time a record, {:?} a group",
            start.elapsed() / GROUPS as u32
        );
        clerk.stop().unwrap();
        cpu
    });
    assert!(cost[1] < cost[0], "{cost:?}");
}

#[test]
fn a_torn_tail_is_cut_and_a_damaged_middle_is_told_and_salvaged() {
    let data_dir = tempfile::tempdir().unwrap();
    let directory = data_dir.path().join("journal");
    fs::create_dir(&directory).unwrap();
    let file = |number: u64| directory.join(format!("{number:020}.seg"));
    let segment = |number| {
        let mut octets = SegmentHeader { number }.encode().to_vec();
        let ends = (0..10).map(|n| {
            let n = number * 10 + n;
            frame(&mut octets, Kind::Record, record(n, &aor(n), NOW + 60).octets());
            octets.len()
        });
        let ends: Vec<usize> = ends.collect();
        (octets, ends)
    };
    let (mut damaged, ends) = segment(1);
    damaged[ends[3] + 20] ^= 1;
    fs::write(file(1), &damaged).unwrap();
    let (torn, ends_of_torn) = segment(2);
    fs::write(file(2), &torn[..torn.len() - 1]).unwrap();
    // A crash while a segment was begun leaves a file like these.
    fs::write(file(3), []).unwrap();

    let table = Bindings::new([1; 16]);
    fs::remove_file(file(3)).unwrap();
    let replayed = replay(&directory, &table, NOW).unwrap();
    assert_eq!(replayed.records, 9 + 9);
    let [damage] = replayed.damage[..] else { panic!("{:?}", replayed.damage) };
    assert_eq!((damage.segment, damage.damage.offset, damage.damage.fault), (1, ends[3], Fault::Damaged));
    assert_eq!(damage.damage.skipped, ends[4] - ends[3]);
    assert_eq!(fs::metadata(file(2)).unwrap().len(), ends_of_torn[8] as u64, "the tail is cut");
    drop(replayed);

    fs::write(file(3), []).unwrap();
    let replayed = replay(&directory, &Bindings::new([1; 16]), NOW).unwrap();
    assert_eq!((replayed.records, replayed.damage.len(), replayed.segments.len()), (18, 1, 2));
    assert!(!file(3).exists(), "a segment without a header is removed");
}

#[test]
fn a_process_without_bindings_keeps_its_calls() {
    let data_dir = tempfile::tempdir().unwrap();
    let (clerk, mut shards, _) = start(data_dir.path(), config::Journal::default(), 1);
    for key in 1..=3 {
        put_call(&mut shards[0].records, key, 1, b"established").unwrap();
    }
    put_call_end(&mut shards[0].records, 2, 2, CallEnd { at: 0, note: 0 });
    shards[0].next_ticket += 4;
    shards[0].push();
    assert!(shards[0].settle());
    // The state is told after the settlement.
    let start = Instant::now();
    while clerk.journal_state().calls.load(Relaxed) != 2 {
        assert!(start.elapsed() < Duration::from_secs(5), "the clerk counts its calls");
        std::thread::yield_now();
    }
    clerk.stop().unwrap();
    let found = replay(&data_dir.path().join("journal"), &Bindings::new([1; 16]), NOW).unwrap();
    let mut calls: Vec<_> = found.calls.iter().map(|call| (call.key, &*call.octets)).collect();
    calls.sort_unstable();
    assert_eq!(calls, [(1, &b"established"[..]), (3, b"established")]);
}

#[test]
fn cdrs_wait_for_a_place_that_refuses_and_are_written_once() {
    let data_dir = tempfile::tempdir().unwrap();
    let (database, lines) = (data_dir.path().join("ringswitch.db"), data_dir.path().join("cdr.json"));
    let serve_lines = |json_lines: &Path| {
        let table = Arc::new(Bindings::new([1; 16]));
        let replayed = replay(&data_dir.path().join("journal"), &table, NOW).unwrap();
        let cdrs = Some(cdr::Settings { database: database.clone(), json_lines: Some(json_lines.to_owned()) });
        let journal = config::Journal::default();
        serve_with(Settings { journal, core: None, cdrs }, 1, &table, replayed)
    };
    let rows = || {
        let page = CdrPage { user: None, since: 0, limit: 100 };
        Database::open(&database).unwrap().list_cdrs(&page).unwrap().iter().map(|row| row.leg).collect::<Vec<_>>()
    };
    let end_leg = |shard: &mut Shard, leg| {
        put_cdr(&mut shard.records, &detail(leg));
        shard.next_ticket += 1;
        shard.push();
        assert!(shard.settle());
    };
    let until = |legs: &[u16]| {
        let start = Instant::now();
        while rows() != legs {
            assert!(start.elapsed() < Duration::from_secs(20), "{:?}", rows());
            std::thread::sleep(Duration::from_millis(20));
        }
    };

    // The file of lines cannot be made: the record is acknowledged, and waits.
    let (clerk, mut shards) = serve_lines(&data_dir.path().join("nowhere").join("cdr.json"));
    end_leg(&mut shards[0], 0);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(rows(), [0; 0]);
    clerk.stop().unwrap();

    // The next process finds it. The file is rotated by a rename.
    let (clerk, mut shards) = serve_lines(&lines);
    until(&[0]);
    fs::rename(&lines, data_dir.path().join("cdr.json.1")).unwrap();
    end_leg(&mut shards[0], 1);
    until(&[0, 1]);
    clerk.stop().unwrap();
    let legs = |name: &str| {
        let text = fs::read_to_string(data_dir.path().join(name)).unwrap();
        let leg = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["leg"].as_u64().unwrap();
        text.lines().map(leg).collect::<Vec<_>>()
    };
    assert_eq!((legs("cdr.json.1"), legs("cdr.json")), (vec![0], vec![1]));
}

fn detail(leg: u16) -> Cdr<'static> {
    Cdr {
        id: CdrId { call: 7, leg },
        direction: LegDirection::Out,
        attempted_at: 1_800_000_000_000,
        progress_at: None,
        answered_at: None,
        ended_at: 1_800_000_000_000 + u64::from(leg),
        ended_by: EndedBy::Peer,
        status: 486,
        reason: "Busy Here",
        caller: "sip:alice@example.com",
        callee: "sip:bob@example.com",
        user: "alice@example.com",
        plan: "",
        provider: "",
        account_code: "",
        call_id: "1@ringswitch.invalid",
        source: "udp 192.0.2.7:5060",
    }
}

#[test]
fn what_another_version_wrote_is_not_touched() {
    let data_dir = tempfile::tempdir().unwrap();
    let directory = data_dir.path().join("journal");
    fs::create_dir(&directory).unwrap();
    let mut octets = SegmentHeader { number: 7 }.encode();
    octets[8] = 9;
    let sum = crc32fast::hash(&octets[..20]);
    octets[20..].copy_from_slice(&sum.to_le_bytes());
    fs::write(directory.join("00000000000000000007.seg"), octets).unwrap();
    let error = replay(&directory, &Bindings::new([1; 16]), NOW).unwrap_err().to_string();
    assert!(error.contains("00000000000000000007.seg") && error.contains("format 9"), "{error}");
}

#[test]
fn a_second_process_is_told_whose_the_journal_is() {
    let data_dir = tempfile::tempdir().unwrap();
    let (clerk, ..) = start(data_dir.path(), config::Journal::default(), 1);
    let control = ControlServer::start(data_dir.path().to_owned(), Arc::new(Handler)).unwrap();
    let error = replay(&data_dir.path().join("journal"), &Bindings::new([1; 16]), NOW).unwrap_err();
    let told = error.to_string();
    assert!(matches!(error, StartError::InUse { .. }));
    assert!(told.contains(&format!("process {}", std::process::id())), "{told}");
    control.stop().unwrap();
    clerk.stop().unwrap();
    replay(&data_dir.path().join("journal"), &Bindings::new([1; 16]), NOW).unwrap();
}

/// Nobody asks it here.
struct Handler;

impl ControlHandler for Handler {
    fn handle(&self, _: Request) -> Answer {
        Answer::error("it is not asked here")
    }
}

/// A shard, as far as the clerk sees one.
struct Shard {
    link: JournalLink,
    waker: Arc<Waker>,
    records: Vec<u8>,
    next_ticket: u64,
}

impl Shard {
    fn refresh(&mut self, table: &Bindings, aor: &str, expires_at: u64) {
        self.update(table, aor, |draft| draft.push(&binding(expires_at)));
    }

    fn remove(&mut self, table: &Bindings, aor: &str) {
        self.update(table, aor, |_| Ok(()));
    }

    fn update(&mut self, table: &Bindings, aor: &str, pack: impl FnOnce(&mut Draft) -> Result<(), TooLong>) {
        let journal = |record: &Record| frame(&mut self.records, Kind::Record, record.octets());
        table.update::<TooLong>(table.hashed(aor), |_, draft| pack(draft), journal).unwrap();
        self.next_ticket += 1;
    }

    /// Ends a turn.
    fn push(&mut self) {
        while !self.link.push(&mut self.records, Ticket(self.next_ticket)) && !self.records.is_empty() {
            self.wait();
        }
    }

    /// Waits until all that was handed over is settled. Tells whether the last of it is kept.
    fn settle(&mut self) -> bool {
        loop {
            // One with an earlier ticket is that of a barrier without records.
            if let (Ticket(last), ok) = self.wait()
                && last + 1 == self.next_ticket
            {
                return ok;
            }
        }
    }

    /// Sleeps until the next settlement.
    fn wait(&mut self) -> (Ticket, bool) {
        loop {
            self.waker.prepare_to_sleep();
            if let Some(settled) = self.link.settled() {
                self.waker.stay_awake();
                return settled;
            }
            rustix::io::read(self.waker.as_fd(), &mut [0; 8]).unwrap();
            self.link.push(&mut self.records, Ticket(self.next_ticket));
        }
    }
}

fn start(data_dir: &Path, journal: config::Journal, shards: usize) -> (Clerk, Vec<Shard>, Arc<Bindings>) {
    let table = Arc::new(Bindings::new([1; 16]));
    let replayed = replay(&data_dir.join("journal"), &table, NOW).unwrap();
    let (clerk, shards) = serve(journal, shards, &table, replayed);
    (clerk, shards, table)
}

fn serve(journal: config::Journal, shards: usize, table: &Arc<Bindings>, replayed: Replayed) -> (Clerk, Vec<Shard>) {
    serve_with(Settings { journal, core: None, cdrs: None }, shards, table, replayed)
}

fn serve_with(settings: Settings, shards: usize, table: &Arc<Bindings>, replayed: Replayed) -> (Clerk, Vec<Shard>) {
    let clerk = Arc::new(Waker::new().unwrap());
    let (shards, inlets): (Vec<Shard>, Vec<JournalInlet>) = (0..shards).map(|_| shard(&clerk)).unzip();
    let clerk = Clerk::start(settings, inlets, clerk, table.clone(), replayed).unwrap();
    (clerk, shards)
}

fn shard(clerk: &Arc<Waker>) -> (Shard, JournalInlet) {
    let waker = Arc::new(Waker::new().unwrap());
    let (link, inlet) = journal(64, waker.clone(), clerk.clone());
    (Shard { link, waker, records: Vec::new(), next_ticket: 1 }, inlet)
}

/// Runs a test of this file as a process of its own.
fn child(test: &str, data_dir: &Path) -> std::process::Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(CHILD, data_dir).stdout(Stdio::piped());
    command.spawn().unwrap()
}

fn expiry(table: &Bindings, aor: &str) -> Option<u64> {
    table.lookup(aor, NOW, |record| record.live(NOW).map(|binding| binding.expires_at).max())?
}

fn contents(table: &Bindings, aor: &str) -> Option<Vec<u8>> {
    table.lookup(aor, NOW, |record| record.octets().to_vec())
}

fn octets_in(directory: &Path) -> u64 {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().metadata().map_or(0, |metadata| metadata.len())).sum()
}

fn processor_time() -> Duration {
    rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime).try_into().unwrap()
}
