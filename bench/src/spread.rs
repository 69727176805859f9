//! How the messages of one big trunk, which is one 4-tuple, and those of many sources are spread over a switch's shards.
//!
//! By itself the kernel chooses a socket by addresses alone, so one shard receives a whole trunk and passes on what is not its own. Steering has it choose
//! by Call-ID.

use std::{collections::HashMap, fmt, path::PathBuf, thread, time::Duration};

use anyhow::Result;
use rustix::process::Signal;
use serde::Serialize;

use crate::{
    load::{self, Latency, Load, Outcome, Workload},
    message::Method,
    mmsg,
    server::{Place, Probe, Ringswitch, Running, Scene, free_port},
};

/// How long the last messages of a trial may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// While the switch works off what it has queued.
const REST: Duration = Duration::from_millis(200);

/// What is tried.
#[derive(Clone, Debug)]
pub struct Spread {
    /// The switch.
    pub program: PathBuf,
    /// The core of each of its shards.
    pub cores: Vec<usize>,
    /// The core of generator and sink; None leaves it to the scheduler.
    pub generator: Option<usize>,
    /// Numbers of source sockets to try, in this order.
    pub sources: Vec<usize>,
    /// The request that is forwarded.
    pub method: Method,
    /// Where the search for the highest rate begins.
    pub max_rate: f64,
    /// How long each trial of the search takes, and the run at the rate that it finds.
    pub trial: Duration,
    /// Where data directories are made.
    pub dir: PathBuf,
}

/// What one number of sources came to.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// Whether the kernel was to steer.
    pub steering: bool,
    /// How many they were.
    pub sources: usize,
    /// A run at the highest rate that was served in the search for it.
    pub outcome: Outcome,
    /// What each shard did in that run.
    pub shards: Vec<Shard>,
}

/// Messages of one shard.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Shard {
    /// Received from the kernel.
    pub received: u64,
    /// Of these, passed on to another shard.
    pub passed_on: u64,
    /// Forwarded to the sink, whoever received them.
    pub forwarded: u64,
}

/// The lines of all numbers of sources.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// In the order that was asked for.
    pub lines: Vec<Line>,
}

/// Runs it, with a switch of its own for each number of sources.
pub fn run(spread: &Spread) -> Result<Report> {
    if let Some(core) = spread.generator {
        mmsg::pin(core)?; // The shards go to cores of their own, wherever they are started.
    }
    let cases = spread.sources.iter().flat_map(|&sources| [(sources, true), (sources, false)]);
    let lines = cases.map(|(sources, steering)| with(spread, sources, steering)).collect::<Result<_>>()?;
    Ok(Report { lines })
}

fn with(spread: &Spread, sources: usize, steering: bool) -> Result<Line> {
    let dir = tempfile::tempdir_in(&spread.dir)?;
    let sink = mmsg::bind(0)?;
    let place = Place { listen: free_port()?, sink: mmsg::address(&sink), cores: None, dir: dir.path() };
    let scene = Scene { steering, ..Scene::proxy().with_shards(&spread.cores) };
    let switch = Ringswitch { program: spread.program.clone(), scene };
    let running = Running::start(&switch, &place, &sink, Probe::Forwards)?;
    let mut load = Load {
        server: running.address,
        workload: Workload::Forward { method: spread.method, answered: false },
        aors: &[0],
        first_cseq: 1,
        rate: spread.max_rate,
        count: 1,
        sources,
        trains: false,
        patience: PATIENCE,
        pid: Some(running.pid()),
    };
    load.rate = load::find_max(&load, &sink, spread.trial)?.rate;
    load.count = ((load.rate * spread.trial.as_secs_f64()) as u64).max(1);
    thread::sleep(REST);
    // Each run has sources of its own, so only the counts of one run tell where a 4-tuple has gone.
    let before = counts(&switch, &place)?;
    let outcome = load::run(&load, &sink)?;
    let shards = before.iter().zip(counts(&switch, &place)?).map(|(before, after)| after.since(before)).collect();
    running.stop(Signal::TERM)?;
    Ok(Line { steering, sources, outcome, shards })
}

fn counts(switch: &Ringswitch, place: &Place) -> Result<Vec<Shard>> {
    let shards = switch.counters(place.dir)?;
    let shard = |counters: HashMap<String, u64>| {
        let count = |name: &str| counters.get(name).copied().unwrap_or_default();
        Shard {
            received: count("edge.received"),
            passed_on: count("edge.passed_on"),
            forwarded: count("proxy.forwarded_requests"),
        }
    };
    Ok(shards.into_iter().map(shard).collect())
}

impl Shard {
    fn since(&self, before: &Self) -> Self {
        Self {
            received: self.received - before.received,
            passed_on: self.passed_on - before.passed_on,
            forwarded: self.forwarded - before.forwarded,
        }
    }
}

impl fmt::Display for Report {
    /// Two tables in Markdown.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "| sources | steering | messages/s | p50 µs | p99 µs | p99.9 µs | loss % | CPU µs |")?;
        writeln!(f, "| --: | --- | --: | --: | --: | --: | --: | --: |")?;
        let named = |steering: bool| if steering { "auto" } else { "off" };
        for Line { sources, steering, outcome: Outcome { sent_rate, latency, loss, cpu, .. }, .. } in &self.lines {
            let Latency { p50_us, p99_us, p999_us, .. } = latency;
            let cpu = cpu.map(|cpu| format!("{:.2}", cpu.total_us)).unwrap_or_default();
            let loss = 100.0 * loss;
            writeln!(
                f,
                "| {sources} | {} | {sent_rate:.0} | {p50_us:.0} | {p99_us:.0} | {p999_us:.0} | {loss:.3} | {cpu} |",
                named(*steering)
            )?;
        }
        writeln!(f, "\n| sources | steering | shard | received | passed on | forwarded |")?;
        writeln!(f, "| --: | --- | --: | --: | --: | --: |")?;
        for Line { sources, steering, shards, .. } in &self.lines {
            let steering = named(*steering);
            for (number, Shard { received, passed_on, forwarded }) in shards.iter().enumerate() {
                writeln!(f, "| {sources} | {steering} | {number} | {received} | {passed_on} | {forwarded} |")?;
            }
        }
        Ok(())
    }
}
