//! Many calls that wait in a plan's dial command: what each takes of memory, and whether others feel them.

use std::{fmt, path::PathBuf, thread, time::Duration};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use serde::Serialize;

use crate::{
    calls::{self, Answer, Calls},
    load::Latency,
    message::DOMAIN,
    mmsg,
    process::Memory,
    server::{CALLEES, Place, Probe, Ringswitch, Running, Scene, free_port},
};

/// What waits.
const PLAN: &str = "sys.dial(\"${dst}\", 3600);";
/// Calls that touch what a server allocates once.
const WARM_UP: u64 = 500;

/// What is tried.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The switch.
    pub program: PathBuf,
    /// Calls that wait.
    pub count: u64,
    /// How fast they come, a second.
    pub rate: f64,
    /// Calls a second that others make meanwhile.
    pub others_rate: f64,
    /// For how long.
    pub others_time: Duration,
    /// Where data directories are made.
    pub dir: PathBuf,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Calls that waited.
    pub count: u64,
    /// Memory of each, without a plan and with one; the server's proportional set.
    pub octets_each: [f64; 2],
    /// What others' callers waited for an answer before, and while all these waited in their plan.
    pub others: [Latency; 2],
    /// Others' calls that failed meanwhile.
    pub others_failed: u64,
}

/// Runs it.
pub fn run(waiting: &Waiting) -> Result<Report> {
    let (plain, _) = ring(waiting, "caller")?;
    let (planned, [before, meanwhile]) = ring(waiting, "waiter")?;
    Ok(Report {
        count: waiting.count,
        octets_each: [plain, planned],
        others: [before.answering, meanwhile.answering],
        others_failed: meanwhile.sent - meanwhile.completed,
    })
}

/// Lets `count` calls of `caller` ring; returns the memory of each, and others' calls before and meanwhile.
fn ring(waiting: &Waiting, caller: &str) -> Result<(f64, [calls::Outcome; 2])> {
    let dir = tempfile::tempdir_in(&waiting.dir)?;
    let (answering, ringing) = (mmsg::bind(0)?, mmsg::bind(0)?);
    let place = Place { listen: free_port()?, sink: mmsg::address(&answering), cores: None, dir: dir.path() };
    let scene = Scene::one().with_plan("dial", "waiter", PLAN);
    let switch = Ringswitch { program: waiting.program.clone(), scene };
    let running = Running::start(&switch, &place, &answering, Probe::Forwards)?;

    let others = Calls {
        callees: 0..CALLEES - 1,
        rate: waiting.others_rate,
        count: (waiting.others_rate * waiting.others_time.as_secs_f64()) as u64,
        ..Calls::new(running.address, DOMAIN)
    };
    calls::register(running.address, DOMAIN, others.callees.clone(), &answering)?;
    calls::await_service(&others, &answering)?;
    let before = calls::run(&others, &answering)?;

    // All of them ring at one phone, and nobody answers.
    let rung = Calls {
        caller,
        callees: CALLEES - 1..CALLEES,
        rate: waiting.rate,
        count: WARM_UP,
        answer: Answer::Never,
        ..Calls::new(running.address, DOMAIN)
    };
    calls::register(running.address, DOMAIN, rung.callees.clone(), &ringing)?;
    calls::run(&rung, &ringing)?;
    let empty = Memory::read(running.pid())?;
    let outcome = calls::run(&Calls { count: waiting.count, ..rung }, &ringing)?;
    ensure!(outcome.completed == outcome.sent, "not all of the calls ring: {:?}", outcome.failures);
    thread::sleep(Duration::from_secs(2)); // What is left of setting them up.
    let full = Memory::read(running.pid())?;
    let octets_each = full.pss.saturating_sub(empty.pss) as f64 / waiting.count as f64;

    let meanwhile = calls::run(&others, &answering)?;
    // Hanging them all up is another matter than what is measured here.
    running.stop(Signal::KILL)?;
    Ok((octets_each, [before, meanwhile]))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let [plain, planned] = self.octets_each.map(|octets| octets / 1024.0);
        writeln!(f, "{} calls ring and nobody answers", self.count)?;
        writeln!(f, "without a plan       {plain:.2} KiB each")?;
        writeln!(f, "waiting in sys.dial  {planned:.2} KiB each, of which {:.2} KiB are the run's", planned - plain)?;
        let [before, meanwhile] = self.others;
        writeln!(
            f,
            "others' 200 after    p50 {:.0} p99 {:.0} µs before, p50 {:.0} p99 {:.0} µs meanwhile, {} failed",
            before.p50_us, before.p99_us, meanwhile.p50_us, meanwhile.p99_us, self.others_failed
        )
    }
}
