//! What a message costs in a shard of the switch between its receipt and its send: no socket, no journal, no kernel.
//!
//! ```sh
//! cargo build --release --example packet_path
//! target/release/examples/packet_path forward-invite 100 300   # time a message: the best of 300 rounds of 100 turns
//! valgrind --tool=callgrind --toggle-collect='*Table::turn' target/release/examples/packet_path forward-invite 100
//! ```
//!
//! The second prints instructions under "Collected": divided by 6,400, those of a message. A turn has 64 messages, and a refresh
//! counts with the answer that goes out when its record is kept. With `--users 1000000` the table of bindings is out of the
//! cache, as it is in a large switch.
#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]

#[path = "../tests/shard/table.rs"]
mod table;

use clap::{Parser, ValueEnum};
use mimalloc::MiMalloc;
use std::time::{Duration, Instant};
use table::{DOMAIN, Table, answered, invite, ok, options, register};

/// As in the program.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Messages of a turn.
const TURN: u32 = 64;
/// From one user to the next: a prime that divides no round number, so that all come, far apart.
const STEP: u64 = 7_368_787;

/// Takes turns of a shard.
#[derive(Parser)]
struct Args {
    work: Work,
    /// Turns of a round.
    turns: u32,
    /// Rounds to time.
    #[arg(default_value_t = 1)]
    rounds: u32,
    /// Addresses of record that are registered, and come in scattered order.
    #[arg(long, default_value_t = 1000)]
    users: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Work {
    /// An OPTIONS of 462 octets whose Request-URI is an address.
    ForwardOptions,
    /// An INVITE of 975 octets, with SDP, whose Request-URI is an address.
    ForwardInvite,
    /// The same INVITE with a Record-Route of ours.
    RecordRoute,
    /// An INVITE for a user of ours, forwarded to where he is registered.
    Lookup,
    /// A REGISTER that repeats a binding with a new CSeq.
    Refresh,
    /// A REGISTER without credentials, which is challenged for MD5.
    Challenge,
    /// The REGISTER that answers the challenge, and repeats a binding with a new CSeq.
    Digest,
    /// The 200 to a forwarded INVITE.
    Response,
}

fn main() -> anyhow::Result<()> {
    let Args { work, turns, rounds, users } = Args::parse();
    let directory = tempfile::tempdir()?;
    let mut table = match work {
        Work::Challenge | Work::Digest => Table::challenging(users, directory.path())?,
        _ => Table::new(work == Work::RecordRoute, directory.path())?,
    };
    for first in (0..users).step_by(TURN as usize) {
        let some = first..users.min(first + TURN);
        let mut requests: Vec<_> = some.clone().map(|user| register(user, 1)).collect();
        if matches!(work, Work::Challenge | Work::Digest) {
            let challenges = some.zip(table.sent(&requests));
            requests = challenges.map(|(user, challenge)| answered(user, 1, &challenge)).collect();
        }
        assert_eq!(table.sent(&requests).len(), requests.len());
    }

    let mut best = Duration::MAX;
    for round in 0..rounds {
        let mut spent = Duration::ZERO;
        for turn in round * turns..(round + 1) * turns {
            let numbers = turn * TURN..(turn + 1) * TURN;
            let mut messages: Vec<_> = numbers.clone().map(|number| work.message(number, users)).collect();
            match work {
                Work::Response => messages = table.sent(&messages).iter().map(|request| ok(request)).collect(),
                Work::Digest => {
                    let challenges = numbers.zip(table.sent(&messages));
                    let answer = |(number, challenge): (u32, Vec<u8>)| {
                        answered(user(number, users), cseq(number, users), &challenge)
                    };
                    messages = challenges.map(answer).collect();
                }
                _ => {}
            }
            let start = Instant::now();
            let sent = table.turn(&messages);
            spent += start.elapsed();
            assert_eq!(sent, TURN as usize, "each message is sent on, or answered");
        }
        best = best.min(spent);
    }
    println!("{:.0} ns", best.as_secs_f64() * 1e9 / f64::from(turns * TURN));
    Ok(())
}

impl Work {
    /// The message of that number, where there are so many users.
    fn message(self, number: u32, users: u32) -> Vec<u8> {
        let user = user(number, users);
        match self {
            Self::ForwardOptions => options("sip:callee@127.0.0.1:15070", number),
            Self::ForwardInvite | Self::RecordRoute | Self::Response => invite("sip:callee@127.0.0.1:15070", number),
            Self::Lookup => invite(&format!("sip:user{user:07}@{DOMAIN}"), number),
            Self::Refresh | Self::Challenge | Self::Digest => register(user, cseq(number, users)),
        }
    }
}

/// Whose the message of that number is, where there are so many users.
fn user(number: u32, users: u32) -> u32 {
    (u64::from(number) * STEP % u64::from(users)) as u32
}

/// The CSeq of that user's REGISTER.
fn cseq(number: u32, users: u32) -> u32 {
    2 + number / users
}
