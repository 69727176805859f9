//! How much longer requests wait beside a load than without it: what [`crate::isolation`] and [`crate::callbacks`] have in common.

use std::{
    fmt::{self, Display},
    net::{SocketAddrV4, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::load::{self, Load, Workload};

/// How the application servers are placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// All in one process.
    One,
    /// Each in its own.
    Separate,
}

impl Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::One => "one",
            Self::Separate => "separate",
        })
    }
}

/// The p99 of one kind of request in one repetition.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What was waited for.
    pub what: String,
    /// Microseconds.
    pub p99_us: f64,
    /// What of it was lost or failed.
    pub failed: u64,
}

/// The p99 of one kind of request, idle and beside the load.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// How the application servers are placed.
    pub placement: Placement,
    /// What was waited for.
    pub what: String,
    /// Microseconds without the load.
    pub idle_p99_us: f64,
    /// Microseconds beside it.
    pub beside_p99_us: f64,
    /// What of it was lost or failed, in all repetitions.
    pub failed: u64,
}

impl Line {
    /// How much longer it takes beside the load.
    pub fn ratio(&self) -> f64 {
        self.beside_p99_us / self.idle_p99_us
    }
}

/// The lines of one placement from its repetitions, each of which has the same samples in the same order.
pub fn lines(placement: Placement, idle: &[Vec<Sample>], beside: &[Vec<Sample>]) -> Result<Vec<Line>> {
    let first = beside.first().context("there is at least one repetition")?;
    let p99_us = |runs: &[Vec<Sample>], number: usize| median(runs.iter().map(|run| run[number].p99_us).collect());
    let line = |(number, sample): (usize, &Sample)| Line {
        placement,
        what: sample.what.clone(),
        idle_p99_us: p99_us(idle, number),
        beside_p99_us: p99_us(beside, number),
        failed: idle.iter().chain(beside).map(|run| run[number].failed).sum(),
    };
    Ok(first.iter().enumerate().map(line).collect())
}

/// The median; of an even number the upper one of the two.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// A table in Markdown; `load` names what was beside.
pub fn write_table(f: &mut fmt::Formatter, load: impl Display, lines: &[Line]) -> fmt::Result {
    writeln!(f, "| processes | what | p99 µs idle | p99 µs beside {load} | ratio | failed |")?;
    writeln!(f, "| --- | --- | --: | --: | --: | --: |")?;
    for line in lines {
        let Line { placement, what, idle_p99_us, beside_p99_us, failed } = line;
        let ratio = line.ratio();
        writeln!(f, "| {placement} | {what} | {idle_p99_us:.0} | {beside_p99_us:.0} | {ratio:.2} | {failed} |")?;
    }
    Ok(())
}

/// Requests that pass no application server.
#[derive(Clone, Copy, Debug)]
pub struct Requests<'a> {
    /// Where the switch listens.
    pub server: SocketAddrV4,
    /// The addresses of record by number.
    pub aors: &'a [u32],
    /// Requests a second.
    pub rate: f64,
    /// For how long.
    pub time: Duration,
}

impl Requests<'_> {
    /// Sends them to `phone` and from it; `meanwhile` is called again and again.
    pub fn sample(
        &self,
        what: &str,
        workload: Workload,
        phone: &UdpSocket,
        meanwhile: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Sample> {
        let load = Load {
            server: self.server,
            workload,
            aors: self.aors,
            first_cseq: load::fresh_cseq(),
            rate: self.rate,
            count: (self.rate * self.time.as_secs_f64()) as u64,
            sources: 4,
            trains: false,
            patience: Duration::from_secs(2),
            pid: None,
        };
        let outcome = load::run_beside(&load, phone, meanwhile)?;
        let failed = outcome.sent - outcome.completed;
        if failed > 0 {
            eprintln!("{failed} of {what} have failed; the answers by status: {:?}", outcome.statuses);
        }
        Ok(Sample { what: what.into(), p99_us: outcome.latency.p99_us, failed })
    }
}
