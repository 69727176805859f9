//! Scripts that loop for ever beside phones that register and users who call: how much longer these wait for an answer.

use std::{fmt, net::UdpSocket, path::PathBuf, thread, time::Duration};

use anyhow::Result;
use rustix::process::Signal;
use serde::Serialize;

use crate::{
    beside::{Line, Placement, Requests, Sample, lines, write_table},
    calls::{self, Calls},
    load::{self, Workload},
    message::DOMAIN,
    mmsg,
    server::{CALLEES, Cores, EDGE, Place, Probe, Ringswitch, Running, Scene, free_port},
};

/// What the looping user's calls run.
const PLAN: &str = "loop { }";
/// How long such a run lasts: `dialplan.max_script_secs`.
const RUN_SECS: u32 = 10;

/// What is tried.
#[derive(Clone, Debug)]
pub struct Isolation {
    /// The switch.
    pub program: PathBuf,
    /// The placements to try, in this order.
    pub placements: Vec<Placement>,
    /// Scripts that loop at a time.
    pub scripts: u32,
    /// REGISTERs a second.
    pub register_rate: f64,
    /// Other users' calls a second.
    pub call_rate: f64,
    /// How long each of these lasts.
    pub time: Duration,
    /// Repetitions, of which the medians are taken.
    pub repetitions: usize,
    /// The cores; None leaves all to the scheduler.
    pub cores: Option<Cores>,
    /// The core of the application servers' shards, where they have processes of their own.
    pub app_core: Option<usize>,
    /// Where data directories are made.
    pub dir: PathBuf,
}

/// The lines of all placements.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// How many scripts looped.
    pub scripts: u32,
    /// In the order that was asked for.
    pub lines: Vec<Line>,
}

/// Runs it.
pub fn run(isolation: &Isolation) -> Result<Report> {
    let mut lines = Vec::new();
    for &placement in &isolation.placements {
        lines.extend(beside(isolation, placement)?);
    }
    Ok(Report { scripts: isolation.scripts, lines })
}

fn beside(isolation: &Isolation, placement: Placement) -> Result<Vec<Line>> {
    let (scene, domains) = match placement {
        Placement::One => (Scene::one().with_plan("one", "looper", PLAN), &[DOMAIN][..]),
        Placement::Separate => {
            (Scene::separate(isolation.app_core).with_plan("separate", "looper", PLAN), &[DOMAIN, EDGE][..])
        }
    };
    let dir = tempfile::tempdir_in(&isolation.dir)?;
    let (phone, unheard) = (mmsg::bind(0)?, mmsg::bind(0)?);
    let sink = mmsg::address(&phone);
    let place = Place { listen: free_port()?, sink, cores: isolation.cores, dir: dir.path() };
    let switch = Ringswitch { program: isolation.program.clone(), scene };
    let running = Running::start(&switch, &place, &phone, Probe::Forwards)?;
    for domain in domains {
        calls::register(running.address, domain, 0..CALLEES, &phone)?;
        calls::await_service(&Calls::new(running.address, domain), &phone)?;
    }
    measure(isolation, &running, domains, &phone)?; // Touches what is allocated once.

    let repeated = || -> Result<Vec<Vec<Sample>>> {
        (0..isolation.repetitions).map(|_| measure(isolation, &running, domains, &phone)).collect()
    };
    let idle = repeated()?;
    // One run begins as another one ends, so that as many loop at any time.
    let rate = f64::from(isolation.scripts) / f64::from(RUN_SECS);
    let each = isolation.time.as_secs_f64() * (1 + domains.len()) as f64 + 3.0;
    let count = (rate * (f64::from(RUN_SECS) + each * isolation.repetitions as f64 + 5.0)) as u64;
    let loops = Calls { caller: "looper", rate, count, sleeps: true, ..Calls::new(running.address, DOMAIN) };
    let beside = thread::scope(|scope| {
        let looping = scope.spawn(|| calls::run(&loops, &unheard));
        thread::sleep(Duration::from_secs(u64::from(RUN_SECS) + 1));
        let beside = repeated();
        looping.join().map_err(|_| anyhow::anyhow!("the thread of the loops has panicked"))??;
        beside
    })?;
    running.stop(Signal::TERM)?;
    lines(placement, &idle, &beside)
}

fn measure(isolation: &Isolation, running: &Running, domains: &[&str], phone: &UdpSocket) -> Result<Vec<Sample>> {
    let seconds = isolation.time.as_secs_f64();
    let aors = load::shuffled(CALLEES);
    let requests =
        Requests { server: running.address, aors: &aors, rate: isolation.register_rate, time: isolation.time };
    let registers = Workload::Register { credentials: None };
    let mut samples = vec![requests.sample("REGISTER", registers, phone, &mut || Ok(()))?];
    for domain in domains {
        let calls = Calls {
            callees: 0..CALLEES,
            rate: isolation.call_rate,
            count: (isolation.call_rate * seconds) as u64,
            sources: 4,
            ..Calls::new(running.address, domain)
        };
        let outcome = calls::run(&calls, phone)?;
        let app = if *domain == EDGE { "edge" } else { "stable" };
        let failed = outcome.sent - outcome.completed;
        samples.push(Sample { what: format!("INVITE to 200, {app}"), p99_us: outcome.answering.p99_us, failed });
        samples.push(Sample { what: format!("BYE to 200, {app}"), p99_us: outcome.hanging_up.p99_us, failed });
    }
    Ok(samples)
}

impl fmt::Display for Report {
    /// A table in Markdown.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write_table(f, format_args!("{} loops", self.scripts), &self.lines)
    }
}
