//! Prints the CPU time that a row of the CDRs costs the thread which writes it, as the tables are and with an index by user,
//! over 200,000 rows in transactions of 500: `cargo run --release --example cdr_rows -- [DIRECTORY]`

use ringswitch::accounts::Database;
use rustix::time::{ClockId, clock_gettime};
use std::path::PathBuf;
use std::time::Duration;
use store::{Cdr, CdrId, EndedBy, LegDirection};

const CALLS: u64 = 100_000;
const ROWS_AT_A_TIME: usize = 500;
const USERS: u64 = 10_000;

fn main() {
    let directory = std::env::args().nth(1).map_or_else(|| PathBuf::from("target"), PathBuf::from);
    for index in [None, Some("CREATE INDEX cdr_user ON cdr (user, ended_at)")] {
        let place = tempfile::tempdir_in(&directory).expect("the directory can be written to");
        let file = place.path().join("ringswitch.db");
        let mut database = Database::open(&file).expect("the database can be made");
        if let Some(index) = index {
            let shell = rusqlite::Connection::open(&file).expect("it is there");
            shell.execute_batch(index).expect("there is no such index yet");
        }
        let texts: Vec<(String, String)> =
            (0..USERS).map(|n| (format!("user{n:07}@example.com"), format!("sip:user{n:07}@example.com"))).collect();
        let rows: Vec<Cdr<'_>> = (0..2 * CALLS).map(|n| row(n / 2, n % 2, &texts)).collect();
        let began = processor_time();
        for rows in rows.chunks(ROWS_AT_A_TIME) {
            database.add_cdrs(rows.iter().cloned()).expect("the disk has room");
        }
        let each = (processor_time() - began) / rows.len() as u32;
        let with = index.map_or("as they are", |_| "with an index by user");
        println!("{with}: {:.2} us a row", each.as_secs_f64() * 1e6);
    }
}

/// A leg of a call that began four a millisecond, lasted a while, and was some user's.
fn row(call: u64, leg: u64, texts: &[(String, String)]) -> Cdr<'_> {
    let mixed = call.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let began = 1_800_000_000_000 + call / 4;
    let (user, uri) = &texts[(mixed >> 40) as usize % texts.len()];
    Cdr {
        id: CdrId { call: u128::from(began) << 80 | u128::from(mixed >> 16) << 32, leg: leg as u16 },
        direction: if leg == 0 { LegDirection::In } else { LegDirection::Out },
        attempted_at: began,
        progress_at: Some(began + 1),
        answered_at: Some(began + 5),
        ended_at: began + 100 + (mixed >> 50) % 1000,
        ended_by: EndedBy::Peer,
        status: 200,
        reason: "OK",
        caller: uri,
        callee: "sip:callee@example.com",
        user,
        plan: "",
        provider: "",
        account_code: "",
        call_id: "0123456789abcdef0123456789abcdef",
        source: "udp 127.0.0.1:41234",
    }
}

fn processor_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().expect("no time is negative")
}
