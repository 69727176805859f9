//! The side-by-side run: floor, switch and rival in turn, every figure the median of several repetitions.
//!
//! Each workload is measured *paced*, at one rate for all, and *full*, at the highest rate that the server itself
//! sustains; forwarding also at 80 % of that. A paced figure shows what wake-ups cost, a full one what the work costs.

use std::{
    fmt, fs,
    net::UdpSocket,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use serde::Serialize;

use crate::{
    calls::{self, Calls},
    digest::{Algorithm, Credentials},
    goals::{self, Goal},
    load::{self, Latency, Load, Outcome, Workload},
    message::{DOMAIN, Method},
    mmsg,
    process::{CpuPerMessage, Memory},
    server::{ACCOUNTS, CALLEES, Cores, PASSWORD, Place, Probe, Running, Server, free_port},
};

/// How often what was lost is sent again, each time at half the rate, until all addresses of record are registered or found.
const PASSES: u32 = 6;
const SOURCES: usize = 8;
const PATIENCE: Duration = Duration::from_secs(1);
/// From a call's answer to its hang-up.
const HOLD: Duration = Duration::from_millis(100);
/// The names of the rows' work.
pub(crate) const FORWARD_OPTIONS: &str = "forward OPTIONS 462 B";
pub(crate) const FORWARD_INVITE: &str = "forward INVITE 975 B";
pub(crate) const REGISTER_NEW: &str = "REGISTER new";
pub(crate) const REGISTER_REFRESH: &str = "REGISTER refresh";
pub(crate) const LOOKUP_OPTIONS: &str = "lookup OPTIONS 462 B";
pub(crate) const LOOKUP_INVITE: &str = "lookup INVITE 975 B";
pub(crate) const REGISTER_DIGEST: &str = "REGISTER with digest";
pub(crate) const DISPATCH: &str = "forward, Record-Route, sanity, dispatch";
const CALL: &str = "call, INVITE to BYE";
/// Datagrams in and datagrams out of one call, as pairs of which the floor moves one at a time: INVITE, 100, 180, 200, ACK,
/// BYE and 200 on each of two legs.
const CALL_PAIRS: u32 = 7;
/// The same of REGISTER, 401, REGISTER and 200.
const DIGEST_PAIRS: u32 = 2;
/// The plan of the calls that have one.
pub const ONE_DIAL: &str = "sys.dial(\"${dst}\", 30);";

/// What a comparison runs.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Repetitions, of which the medians are taken.
    pub repetitions: usize,
    /// Messages a second of the paced runs: the first is that of all work, the others are those of forwarding alone.
    pub rates: Vec<u32>,
    /// How long a paced run takes.
    pub time: Duration,
    /// Where the search for the highest rate begins.
    pub max_rate: f64,
    /// How long each trial of the search takes.
    pub trial: Duration,
    /// How many addresses of record are registered, in turn; the last is also restarted. Without any there are calls only.
    pub aors: Vec<u32>,
    /// What REGISTERs are challenged with.
    pub algorithm: Algorithm,
    /// Calls a second of their paced runs.
    pub call_rate: u32,
    /// Where the search for the highest rate of calls begins.
    pub max_call_rate: f64,
    /// The cores.
    pub cores: Cores,
    /// Where the data directories are made; a real disk, if durability is to cost what it costs.
    pub dir: PathBuf,
}

/// A program under test, set up in each way that the rows ask for, and under one name.
#[derive(Clone, Copy)]
pub struct Contender<'a> {
    /// It asks nobody for a password.
    pub open: &'a dyn Server,
    /// It challenges every REGISTER.
    pub challenging: &'a dyn Server,
    /// It records its route in requests for [`DOMAIN`] and dispatches them to the sink by their Call-ID.
    pub dispatching: &'a dyn Server,
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was sent.
    pub work: String,
    /// How many addresses of record were registered.
    pub aors: Option<u32>,
    /// Paced or full.
    pub pace: Pace,
    /// The server under test.
    pub server: String,
    /// Messages a second.
    pub rate: f64,
    /// The server's CPU time per message.
    pub cpu: CpuPerMessage,
    /// That total, as a multiple of the first floor's at the same pace.
    pub of_floor: f64,
    /// That total, as a multiple of the rival's for the same work at the same pace; None without a rival, and for the rival.
    pub of_rival: Option<f64>,
    /// The median latency.
    pub p50_us: f64,
    /// The latency of 99 %.
    pub p99_us: f64,
    /// The latency of 99.9 %.
    pub p999_us: f64,
    /// The part of the messages that was lost or refused.
    pub loss: f64,
}

/// At what rate a row was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pace {
    /// So many messages or calls a second, the same for all servers.
    Paced(u32),
    /// The highest that this server sustains.
    Full,
    /// Eighty of a hundred parts of that.
    Eighty,
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Paced(rate) => write!(f, "paced {rate}"),
            Self::Full => f.write_str("full"),
            Self::Eighty => f.write_str("80 % of full"),
        }
    }
}

/// Memory that bindings take, in one repetition.
#[derive(Clone, Debug, Serialize)]
pub struct Bindings {
    /// The server under test.
    pub server: String,
    /// How many there are.
    pub count: u32,
    /// Growth of the proportional set from before the first to after the last, for each.
    pub octets_each: f64,
}

/// A stop and a start with all bindings, in one repetition.
#[derive(Clone, Debug, Serialize)]
pub struct Restart {
    /// The server under test.
    pub server: String,
    /// How it was stopped: TERM or KILL.
    pub signal: &'static str,
    /// Bindings registered before.
    pub bindings: u32,
    /// Bindings found after; less only if the server has lost some.
    pub found: u32,
    /// Seconds from the signal to the end of the process.
    pub stop_secs: f64,
    /// Seconds from the start of the process until it forwards a request to a registered contact.
    pub start_secs: f64,
}

/// All that a comparison found.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The machine: processor, cores, kernel.
    pub machine: String,
    /// Repetitions of which the rows are the medians.
    pub repetitions: usize,
    /// The figures of CPU and latency.
    pub rows: Vec<Row>,
    /// The figures of memory.
    pub bindings: Vec<Bindings>,
    /// The figures of restarts.
    pub restarts: Vec<Restart>,
    /// What the switch is to reach, and whether it does; none where only calls are compared.
    pub goals: Vec<Goal>,
}

/// Runs the `floors`, then the `switch` and then its `rival` through the plan, and calls through each of `callees`. All are held against the first
/// of the floors. The switch forwards `one_by_one` too. The rival keeps its bindings in memory, and is not restarted.
pub fn run(
    plan: &Plan,
    floors: &[&dyn Server],
    switch: Contender,
    one_by_one: &dyn Server,
    rival: Option<Contender>,
    callees: &[&dyn Server],
) -> Result<Comparison> {
    ensure!(plan.repetitions > 0, "a comparison has repetitions");
    ensure!(!floors.is_empty() && !plan.rates.is_empty(), "a comparison has a floor and a rate");
    mmsg::pin(plan.cores.generator)?;
    let mut bench =
        Bench { plan, sink: mmsg::bind(0)?, samples: Vec::new(), bindings: Vec::new(), restarts: Vec::new() };
    for repetition in 1..=plan.repetitions {
        // Standard output is the tables' own; this says that it goes on.
        eprintln!("repetition {repetition} of {}", plan.repetitions);
        for &floor in floors {
            bench.forward(floor)?;
        }
        if !plan.aors.is_empty() {
            bench.forward(one_by_one)?;
            for contender in [Some(switch), rival].into_iter().flatten() {
                bench.forward(contender.open)?;
                bench.dispatch(contender.dispatching)?;
                bench.register_with_digest(contender.challenging)?;
            }
        }
        for &aors in &plan.aors {
            bench.register(switch.open, aors, plan.aors.last() == Some(&aors))?;
            rival.map(|rival| bench.register(rival.open, aors, false)).transpose()?;
        }
        for &server in callees {
            bench.call(server)?;
        }
    }
    bench.conclude(floors[0], [switch.open, one_by_one], rival.map(|rival| rival.open))
}

struct Sample {
    work: &'static str,
    aors: Option<u32>,
    pace: Pace,
    server: String,
    figures: Figures,
}

/// What a row takes from a run.
struct Figures {
    rate: f64,
    cpu: CpuPerMessage,
    latency: Latency,
    loss: f64,
}

impl From<Outcome> for Figures {
    fn from(outcome: Outcome) -> Self {
        let Outcome { sent_rate, cpu, latency, loss, .. } = outcome;
        Self { rate: sent_rate, cpu: cpu.unwrap_or_default(), latency, loss }
    }
}

impl From<calls::Outcome> for Figures {
    fn from(outcome: calls::Outcome) -> Self {
        let calls::Outcome { sent_rate, cpu, answering, loss, .. } = outcome;
        Self { rate: sent_rate, cpu: cpu.unwrap_or_default(), latency: answering, loss }
    }
}

struct Bench<'a> {
    plan: &'a Plan,
    sink: UdpSocket,
    samples: Vec<Sample>,
    bindings: Vec<Bindings>,
    restarts: Vec<Restart>,
}

impl Bench<'_> {
    fn forward(&mut self, server: &dyn Server) -> Result<()> {
        let dir = tempfile::tempdir_in(&self.plan.dir)?;
        let running = Running::start(server, &self.place(dir.path())?, &self.sink, Probe::Forwards)?;
        self.warm_up(&running)?;
        for (work, method) in [(FORWARD_OPTIONS, Method::Options), (FORWARD_INVITE, Method::Invite)] {
            let load = self.load(&running, Workload::Forward { method, answered: false }, &[0]);
            let highest = self.paced_and_full(work, None, server, load.clone())?;
            let paces = self.plan.rates[1..].iter().map(|&rate| (Pace::Paced(rate), f64::from(rate)));
            for (pace, rate) in paces.chain(highest.map(|highest| (Pace::Eighty, 0.8 * highest))) {
                let load = Load { rate, count: self.count_at(rate), ..load.clone() };
                let paced = load::run(&load, &self.sink)?;
                self.keep(work, None, pace, server, paced);
            }
        }
        running.stop(Signal::TERM)?;
        Ok(())
    }

    fn dispatch(&mut self, server: &dyn Server) -> Result<()> {
        let dir = tempfile::tempdir_in(&self.plan.dir)?;
        let running = Running::start(server, &self.place(dir.path())?, &self.sink, Probe::Forwards)?;
        self.warm_up(&running)?;
        let load = self.load(&running, Workload::Lookup { method: Method::Invite, answered: false }, &[0]);
        self.paced_and_full(DISPATCH, None, server, load)?;
        running.stop(Signal::TERM)?;
        Ok(())
    }

    fn register_with_digest(&mut self, server: &dyn Server) -> Result<()> {
        let dir = tempfile::tempdir_in(&self.plan.dir)?;
        let running = Running::start(server, &self.place(dir.path())?, &self.sink, Probe::Forwards)?;
        self.warm_up(&running)?;
        let credentials = Credentials { password: PASSWORD.into(), algorithm: self.plan.algorithm };
        let register = Workload::Register { credentials: Some(credentials) };
        let aors = load::shuffled(ACCOUNTS);
        let (missing, next_cseq) = self.repeat_lost(&running, &register, aors.clone(), 1)?;
        ensure!(missing.is_empty(), "{} of {ACCOUNTS} accounts cannot be registered", missing.len());
        let mut load = self.load(&running, register, &aors);
        load.first_cseq = next_cseq;
        // As many datagrams a second as in all other work.
        load.rate /= f64::from(DIGEST_PAIRS);
        load.count /= u64::from(DIGEST_PAIRS);
        self.paced_and_full(REGISTER_DIGEST, None, server, load)?;
        running.stop(Signal::TERM)?;
        Ok(())
    }

    fn register(&mut self, server: &dyn Server, count: u32, restarts: bool) -> Result<()> {
        let dir = tempfile::tempdir_in(&self.plan.dir)?;
        let place = self.place(dir.path())?;
        let running = Running::start(server, &place, &self.sink, Probe::Forwards)?;
        self.warm_up(&running)?;

        let before = Memory::read(running.pid())?;
        let all: Vec<u32> = (0..count).collect();
        let register = Workload::Register { credentials: None };
        let mut load = self.load(&running, register.clone(), &all);
        load.count = u64::from(count);
        let outcome = load::run(&load, &self.sink)?;
        let next_cseq = outcome.next_cseq;
        let (missing, next_cseq) = self.repeat_lost(&running, &register, outcome.lost_aors.clone(), next_cseq)?;
        ensure!(missing.is_empty(), "{} of {count} addresses of record cannot be registered", missing.len());
        self.keep(REGISTER_NEW, Some(count), self.pace(), server, outcome);
        let growth = Memory::read(running.pid())?.pss.saturating_sub(before.pss);
        let octets_each = growth as f64 / f64::from(count);
        self.bindings.push(Bindings { server: server.name(), count, octets_each });

        let shuffled = load::shuffled(count);
        let mut refresh = self.load(&running, register, &shuffled);
        refresh.first_cseq = next_cseq;
        self.paced_and_full(REGISTER_REFRESH, Some(count), server, refresh)?;
        for (work, method) in [(LOOKUP_OPTIONS, Method::Options), (LOOKUP_INVITE, Method::Invite)] {
            let load = self.load(&running, Workload::Lookup { method, answered: false }, &shuffled);
            self.paced_and_full(work, Some(count), server, load)?;
        }

        if !restarts {
            running.stop(Signal::TERM)?;
            return Ok(());
        }
        let running = self.restart(server, &place, running, count, Signal::TERM, "TERM")?;
        let running = self.restart(server, &place, running, count, Signal::KILL, "KILL")?;
        running.stop(Signal::TERM)?;
        Ok(())
    }

    fn call(&mut self, server: &dyn Server) -> Result<()> {
        let dir = tempfile::tempdir_in(&self.plan.dir)?;
        let running = Running::start(server, &self.place(dir.path())?, &self.sink, Probe::Forwards)?;
        let mut calls = Calls {
            callees: 0..CALLEES,
            rate: f64::from(self.plan.call_rate),
            count: self.count_at(f64::from(self.plan.call_rate)),
            hold: HOLD,
            pid: Some(running.pid()),
            ..Calls::new(running.address, DOMAIN)
        };
        calls::register(running.address, DOMAIN, calls.callees.clone(), &self.sink)?;
        calls::await_service(&calls, &self.sink)?;
        calls::run(&Calls { count: calls.count / 4 + 1, ..calls.clone() }, &self.sink)?; // What is allocated once.
        let paced = calls::run(&calls, &self.sink)?;
        calls.rate = self.plan.max_call_rate;
        // A trial lasts longer than one of messages: a call does.
        let full = calls::find_max(&calls, &self.sink, 2 * self.plan.trial)?;
        self.keep(CALL, None, Pace::Paced(self.plan.call_rate), server, paced);
        self.keep(CALL, None, Pace::Full, server, full);
        running.stop(Signal::TERM)?;
        Ok(())
    }

    fn restart(
        &mut self,
        server: &dyn Server,
        place: &Place,
        running: Running,
        count: u32,
        signal: Signal,
        name: &'static str,
    ) -> Result<Running> {
        let stop_secs = running.stop(signal)?.as_secs_f64();
        let running = Running::start(server, place, &self.sink, Probe::Finds(count - 1))?;
        let lookup = Workload::Lookup { method: Method::Options, answered: false };
        let (missing, _) = self.repeat_lost(&running, &lookup, load::shuffled(count), 1)?;
        self.restarts.push(Restart {
            server: server.name(),
            signal: name,
            bindings: count,
            found: count - missing.len() as u32,
            stop_secs,
            start_secs: running.ready_after.as_secs_f64(),
        });
        Ok(running)
    }

    /// Sends `workload` for each of `aors`, and again for those that were lost; returns those that remain.
    fn repeat_lost(
        &self,
        running: &Running,
        workload: &Workload,
        mut aors: Vec<u32>,
        mut cseq: u32,
    ) -> Result<(Vec<u32>, u32)> {
        for pass in 1..=PASSES {
            if aors.is_empty() {
                break;
            }
            let mut load = self.load(running, workload.clone(), &aors);
            (load.first_cseq, load.count) = (cseq, aors.len() as u64);
            // A server that takes its memory from the kernel meanwhile may be slower than it is afterwards.
            load.rate /= f64::from(1u32 << (pass - 1));
            let outcome = load::run(&load, &self.sink)?;
            (aors, cseq) = (outcome.lost_aors, outcome.next_cseq);
        }
        Ok((aors, cseq))
    }

    /// Returns the highest rate, if one was served.
    fn paced_and_full(
        &mut self,
        work: &'static str,
        aors: Option<u32>,
        server: &dyn Server,
        mut load: Load,
    ) -> Result<Option<f64>> {
        let (pace, paced) = (Pace::Paced(load.rate as u32), load::run(&load, &self.sink)?);
        load.first_cseq = paced.next_cseq;
        load.rate = self.plan.max_rate;
        let full = load::find_max(&load, &self.sink, self.plan.trial)?;
        let highest = full.sustained().then_some(full.rate);
        self.keep(work, aors, pace, server, paced);
        self.keep(work, aors, Pace::Full, server, full);
        Ok(highest)
    }

    fn keep(
        &mut self,
        work: &'static str,
        aors: Option<u32>,
        pace: Pace,
        server: &dyn Server,
        found: impl Into<Figures>,
    ) {
        let (figures, server) = (found.into(), server.name());
        let aors_told = aors.map(|aors| format!(" ({aors} AORs)")).unwrap_or_default();
        eprintln!("{work}{aors_told}, {pace}, {server}: {:.2} µs at {:.0}/s", figures.cpu.total_us, figures.rate);
        self.samples.push(Sample { work, aors, pace, server, figures });
    }

    /// Touches what a server allocates once: buffers, stacks, code.
    fn warm_up(&self, running: &Running) -> Result<()> {
        let mut load = self.load(running, Workload::Forward { method: Method::Invite, answered: false }, &[0]);
        load.count = (load.rate / 2.0) as u64 + 1;
        load::run(&load, &self.sink)?;
        Ok(())
    }

    fn load<'a>(&self, running: &Running, workload: Workload, aors: &'a [u32]) -> Load<'a> {
        Load {
            server: running.address,
            workload,
            aors,
            first_cseq: 1,
            rate: f64::from(self.plan.rates[0]),
            count: self.count_at(f64::from(self.plan.rates[0])),
            sources: SOURCES,
            trains: false,
            patience: PATIENCE,
            pid: Some(running.pid()),
        }
    }

    /// That of the paced runs of all work.
    fn pace(&self) -> Pace {
        Pace::Paced(self.plan.rates[0])
    }

    /// How many messages a paced run has.
    fn count_at(&self, rate: f64) -> u64 {
        (rate * self.plan.time.as_secs_f64()) as u64
    }

    fn place<'a>(&self, dir: &'a Path) -> Result<Place<'a>> {
        let (listen, sink) = (free_port()?, mmsg::address(&self.sink));
        Ok(Place { listen, sink, cores: Some(self.plan.cores), dir })
    }

    fn conclude(
        self,
        floor: &dyn Server,
        switches: [&dyn Server; 2],
        rival: Option<&dyn Server>,
    ) -> Result<Comparison> {
        let mut rows: Vec<Row> = Vec::new();
        for first in &self.samples {
            let same = |one: &&Sample| {
                (one.work, one.aors, one.pace, &one.server) == (first.work, first.aors, first.pace, &first.server)
            };
            if !std::ptr::eq(self.samples.iter().find(same).unwrap_or(first), first) {
                continue; // The row of an earlier repetition holds it.
            }
            let median_of = |figure: &dyn Fn(&Figures) -> f64| {
                median(self.samples.iter().filter(same).map(|one| figure(&one.figures)).collect())
            };
            rows.push(Row {
                work: first.work.into(),
                aors: first.aors,
                pace: first.pace,
                server: first.server.clone(),
                rate: median_of(&|it| it.rate),
                cpu: CpuPerMessage {
                    user_us: median_of(&|it| it.cpu.user_us),
                    system_us: median_of(&|it| it.cpu.system_us),
                    total_us: median_of(&|it| it.cpu.total_us),
                },
                of_floor: 0.0,
                of_rival: None,
                p50_us: median_of(&|it| it.latency.p50_us),
                p99_us: median_of(&|it| it.latency.p99_us),
                p999_us: median_of(&|it| it.latency.p999_us),
                loss: median_of(&|it| it.loss),
            });
        }
        let first_pace = self.pace();
        let floors: Vec<(Pace, String, f64)> = rows
            .iter()
            .filter(|row| row.server == floor.name())
            .map(|row| (row.pace, row.work.clone(), row.cpu.total_us))
            .collect();
        for row in &mut rows {
            let (work, pairs) = floor_of(&row.work);
            let at = |pace: Pace| floors.iter().find(|(its, name, _)| (*its, name.as_str()) == (pace, work));
            let floor = match row.pace {
                // At as many datagrams a second, or else at the first pace.
                Pace::Paced(rate) => at(Pace::Paced(rate * pairs)).or(at(first_pace)),
                pace => at(pace),
            };
            let floor = floor.map_or(f64::NAN, |(_, _, floor)| floor * f64::from(pairs));
            row.of_floor = row.cpu.total_us / floor;
        }
        let rival = rival.map(Server::name);
        if let Some(rival) = &rival {
            hold_against(&mut rows, rival);
        }
        let goals = match self.plan.aors.is_empty() {
            true => Vec::new(),
            false => goals::judge(&rows, &self.bindings, switches.map(Server::name), rival.as_deref()),
        };
        Ok(Comparison {
            machine: machine(),
            repetitions: self.plan.repetitions,
            rows,
            bindings: self.bindings,
            restarts: self.restarts,
            goals,
        })
    }
}

/// What the floor does that a row's work is held against: which of its messages, and how many of them.
fn floor_of(work: &str) -> (&'static str, u32) {
    match work {
        FORWARD_INVITE | LOOKUP_INVITE | DISPATCH => (FORWARD_INVITE, 1),
        REGISTER_DIGEST => (FORWARD_OPTIONS, DIGEST_PAIRS),
        CALL => (FORWARD_OPTIONS, CALL_PAIRS),
        _ => (FORWARD_OPTIONS, 1),
    }
}

/// Tells each row but the rival's own what multiple of its CPU time it is, where both do the same work.
fn hold_against(rows: &mut [Row], rival: &str) {
    let its: Vec<Row> = rows.iter().filter(|row| row.server == rival).cloned().collect();
    for row in rows.iter_mut().filter(|row| row.server != rival) {
        let same = |its: &&Row| (&its.work, its.aors, its.pace) == (&row.work, row.aors, row.pace);
        row.of_rival = its.iter().find(same).map(|its| row.cpu.total_us / its.cpu.total_us);
    }
}

pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    match (figures.len(), figures.len() / 2) {
        (0, _) => f64::NAN,
        (count, middle) if count % 2 == 0 => (figures[middle - 1] + figures[middle]) / 2.0,
        (_, middle) => figures[middle],
    }
}

/// Processor, cores and kernel.
pub fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':')).map(|(_, name)| name);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    format!("{}, {cores} cores, Linux {}", model.unwrap_or(" unknown processor").trim(), kernel.trim())
}

impl fmt::Display for Comparison {
    /// The tables, in Markdown.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "{}; medians of {}.\n", self.machine, self.repetitions)?;
        writeln!(
            f,
            "| work | AORs | pace | server | messages/s | user µs | system µs | CPU µs | × floor | × rival | p50 µs | p99 µs | p99.9 µs | loss % |"
        )?;
        writeln!(f, "| --- | --: | --- | --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |")?;
        for row in &self.rows {
            let aors = row.aors.map(|aors| aors.to_string()).unwrap_or_default();
            let of_rival = row.of_rival.map(|of_rival| format!("{of_rival:.2}")).unwrap_or_default();
            let CpuPerMessage { user_us, system_us, total_us } = row.cpu;
            writeln!(
                f,
                "| {} | {aors} | {} | {} | {:.0} | {user_us:.2} | {system_us:.2} | {total_us:.2} | {:.2} | {of_rival} | {:.0} | {:.0} | {:.0} | {:.3} |",
                row.work,
                row.pace,
                row.server,
                row.rate,
                row.of_floor,
                row.p50_us,
                row.p99_us,
                row.p999_us,
                100.0 * row.loss
            )?;
        }
        if self.bindings.is_empty() {
            return Ok(());
        }
        writeln!(f, "\n| server | bindings | octets each |\n| --- | --: | --: |")?;
        for Bindings { server, count, octets_each } in &self.bindings {
            writeln!(f, "| {server} | {count} | {octets_each:.0} |")?;
        }
        writeln!(
            f,
            "\n| server | stopped by | stop s | start s | bindings | found |\n| --- | --- | --: | --: | --: | --: |"
        )?;
        for Restart { server, signal, bindings, found, stop_secs, start_secs } in &self.restarts {
            writeln!(f, "| {server} | {signal} | {stop_secs:.3} | {start_secs:.3} | {bindings} | {found} |")?;
        }
        writeln!(f, "\n## Goals\n")?;
        goals::write_table(f, &self.goals)
    }
}

#[cfg(test)]
impl Row {
    /// A row of which nothing matters but this.
    pub(crate) fn of(work: &str, aors: Option<u32>, pace: Pace, server: &str, total_us: f64) -> Self {
        Self {
            work: work.into(),
            aors,
            pace,
            server: server.into(),
            rate: 1.0,
            cpu: CpuPerMessage { total_us, ..CpuPerMessage::default() },
            of_floor: 1.0,
            of_rival: None,
            p50_us: 1.0,
            p99_us: 1.0,
            p999_us: 1.0,
            loss: 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_the_mean_of_the_middle_two() {
        assert_eq!(median(vec![4.0, 1.0, 3.0]), 3.0);
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), 2.5);
    }

    #[test]
    fn a_row_is_held_against_the_rivals_of_the_same_work_and_pace() {
        let row = |server: &str, aors, pace, total_us| Row::of("lookup", aors, pace, server, total_us);
        let (few, many) = (Some(1), Some(2));
        let mut rows = [
            row("ours", few, Pace::Full, 3.0),
            row("theirs", few, Pace::Full, 12.0),
            row("theirs", few, Pace::Paced(5), 6.0),
            row("ours", many, Pace::Full, 3.0),
        ];
        hold_against(&mut rows, "theirs");
        assert_eq!(rows.map(|row| row.of_rival), [Some(0.25), None, None, None]);
    }
}
