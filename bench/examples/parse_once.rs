//! One parser of `bench/benches/parsers` on the INVITE, as often as asked: for a counter of instructions, or by the clock.
//!
//! ```sh
//! parse_once sip 101        # 101 calls, for `valgrind --tool=callgrind`: less what it counts of one call, and by 100
//! parse_once sip 1000 3000  # 3,000 rounds of 1,000 calls; prints the nanoseconds of one call in the best round
//! ```
#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]

#[path = "../benches/parsers/mod.rs"]
mod parsers;

use bytes::Bytes;
use clap::{Parser, ValueEnum};
use parsers::{INVITE, assert_agreement, ezk, hold, ours, rsip};
use std::{hint::black_box, time::Instant};

/// Parses an INVITE of 992 octets.
#[derive(Parser)]
struct Args {
    parser: Kind,
    /// Calls, of each round if there are rounds.
    calls: u32,
    /// Rounds to time.
    rounds: Option<u32>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Sip,
    Rsip,
    EzkSipTypes,
}

fn main() {
    let Args { parser, calls, rounds } = Args::parse();
    let octets = Bytes::from_static(INVITE.as_bytes());
    assert_agreement(&octets);
    let round = || match parser {
        Kind::Sip => (0..calls).for_each(|_| ours(black_box(&octets), &mut hold)),
        Kind::Rsip => (0..calls).for_each(|_| rsip(black_box(&octets), &mut hold)),
        Kind::EzkSipTypes => (0..calls).for_each(|_| ezk(black_box(&octets), &mut hold)),
    };
    let Some(rounds) = rounds else { return round() };
    let time = |_| {
        let start = Instant::now();
        round();
        start.elapsed()
    };
    let best = (0..rounds).map(time).min().unwrap_or_default();
    println!("{:.0} ns", best.as_secs_f64() * 1e9 / f64::from(calls));
}
