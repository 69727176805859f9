//! The commands that make calls: what is asked for on the command line, and the switch that they start for it.

use std::{net::SocketAddrV4, path::PathBuf, thread, time::Duration};

use anyhow::{Context, Result, bail};
use bench::{
    beside::Placement,
    callbacks::Callbacks,
    calls::{self, Calls},
    compare,
    isolation::Isolation,
    kills::Kills,
    message::{DOMAIN, Method},
    mmsg,
    process::Memory,
    server::{CALLEES, Cores, Place, Probe, Ringswitch, Running, Scene, free_port},
    spread::Spread,
    waiting::Waiting,
};
use clap::Args;
use rustix::process::Signal;
use serde::Serialize;

/// How long transactions outlive the set-up of their calls (RFC 3261 Timers B, H and I), and a little.
const SETTLE: Duration = Duration::from_secs(36);

/// What every command that starts a switch takes.
#[derive(Args)]
pub struct Start {
    /// The switch.
    #[arg(long, default_value = "target/release/ringswitch")]
    switch: PathBuf,
    /// Where data directories are made; on a real disk, or durability costs nothing.
    #[arg(long, default_value = "target")]
    dir: PathBuf,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

impl Start {
    fn program(&self) -> Result<PathBuf> {
        self.switch.canonicalize().with_context(|| format!("no switch at {}", self.switch.display()))
    }

    fn dir(&self) -> Result<PathBuf> {
        self.dir.canonicalize().with_context(|| format!("no directory {}", self.dir.display()))
    }

    fn print<R: Serialize + std::fmt::Display>(&self, report: &R) -> Result<()> {
        match self.json {
            true => println!("{}", serde_json::to_string_pretty(report)?),
            false => print!("{report}"),
        }
        Ok(())
    }
}

#[derive(Args)]
pub struct CallsArgs {
    #[command(flatten)]
    start: Start,
    /// A server that is running, in place of a switch of its own: users user0000000 and so on of bench.example.
    #[arg(long)]
    server: Option<SocketAddrV4>,
    /// That server's process, whose CPU time and memory are read.
    #[arg(long, requires = "server")]
    pid: Option<u32>,
    /// Gives the caller a plan with one dial.
    #[arg(long, conflicts_with = "server")]
    plan: bool,
    /// Runs each application server in a process of its own.
    #[arg(long, conflicts_with = "server")]
    separate: bool,
    /// Has the switch send each datagram by itself (`udp.offload = false`).
    #[arg(long, conflicts_with = "server")]
    no_offload: bool,
    /// Calls a second; with --find-max the highest that is tried.
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// How long calls are begun; with --find-max in each trial.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// From answer to hang-up.
    #[arg(long, default_value_t = 100)]
    hold_ms: u64,
    /// Searches the highest rate at which fewer than 0.1 % fail or are sent again.
    #[arg(long)]
    find_max: bool,
    /// Establishes that many calls, waits until their transactions are gone, and tells the memory of each.
    #[arg(long, conflicts_with = "find_max")]
    ramp: Option<u64>,
    /// How long a request may go unanswered.
    #[arg(long, default_value_t = 32.0)]
    patience_secs: f64,
    /// The core of the phones.
    #[arg(long, requires = "server_core")]
    core: Option<usize>,
    /// The core of the switch.
    #[arg(long, requires = "core")]
    server_core: Option<usize>,
}

impl CallsArgs {
    pub fn run(&self) -> Result<()> {
        let cores = self.core.zip(self.server_core).map(|(generator, server)| Cores { generator, server });
        if let Some(cores) = cores {
            mmsg::pin(cores.generator)?;
        }
        let phone = mmsg::bind(0)?;
        if let Some(server) = self.server {
            return self.against(server, self.pid, &phone);
        }
        let scene = if self.separate { Scene::separate(None) } else { Scene::one() };
        let scene = if self.plan { scene.with_plan("one dial", "caller", compare::ONE_DIAL) } else { scene };
        let scene = Scene { offload: !self.no_offload, ..scene };
        let dir = tempfile::tempdir_in(self.start.dir()?)?;
        let place = Place { listen: free_port()?, sink: mmsg::address(&phone), cores, dir: dir.path() };
        let switch = Ringswitch { program: self.start.program()?, scene };
        let running = Running::start(&switch, &place, &phone, Probe::Forwards)?;
        self.against(running.address, Some(running.pid()), &phone)?;
        running.stop(Signal::TERM)?;
        Ok(())
    }

    fn against(&self, server: SocketAddrV4, pid: Option<u32>, phone: &std::net::UdpSocket) -> Result<()> {
        let mut calls = Calls {
            callees: 0..CALLEES,
            rate: self.rate,
            count: ((self.rate * self.seconds) as u64).max(1),
            hold: Duration::from_millis(self.hold_ms),
            patience: Duration::from_secs_f64(self.patience_secs),
            pid,
            ..Calls::new(server, DOMAIN)
        };
        calls::register(server, DOMAIN, calls.callees.clone(), phone)?;
        calls::await_service(&calls, phone)?;
        let Some(count) = self.ramp else {
            let outcome = match self.find_max {
                true => calls::find_max(&calls, phone, Duration::from_secs_f64(self.seconds))?,
                false => calls::run(&calls, phone)?,
            };
            return self.start.print(&outcome);
        };
        let Some(pid) = pid else { bail!("the memory of a server without --pid cannot be read") };
        // Touches what is allocated once.
        calls::run(&Calls { count: (count / 20).clamp(1, 500), hold: Duration::ZERO, ..calls.clone() }, phone)?;
        thread::sleep(SETTLE);
        let before = Memory::read(pid)?;
        calls.count = count;
        calls.hold = Duration::from_secs_f64(count as f64 / self.rate) + SETTLE;
        calls.memory_at = Some(calls.hold - Duration::from_secs(1));
        let outcome = calls::run(&calls, phone)?;
        self.start.print(&outcome)?;
        let after = outcome.memory.unwrap_or_default();
        let each = |after: u64, before: u64| after.saturating_sub(before) as f64 / outcome.answered.max(1) as f64;
        if !self.start.json {
            let (pss, rss) = (each(after.pss, before.pss), each(after.rss, before.rss));
            println!("each       {pss:.0} octets proportional, {rss:.0} resident, of {} calls", outcome.answered);
        }
        Ok(())
    }
}

#[derive(Args)]
pub struct WaitingArgs {
    #[command(flatten)]
    start: Start,
    /// Calls that wait.
    #[arg(long, default_value_t = 100_000)]
    count: u64,
    /// How fast they come, a second.
    #[arg(long, default_value_t = 2000.0)]
    rate: f64,
    /// Calls a second of others, before and meanwhile.
    #[arg(long, default_value_t = 200.0)]
    others_rate: f64,
    /// How long others call.
    #[arg(long, default_value_t = 5.0)]
    others_seconds: f64,
}

impl WaitingArgs {
    pub fn run(&self) -> Result<()> {
        let report = bench::waiting::run(&Waiting {
            program: self.start.program()?,
            count: self.count,
            rate: self.rate,
            others_rate: self.others_rate,
            others_time: Duration::from_secs_f64(self.others_seconds),
            dir: self.start.dir()?,
        })?;
        self.start.print(&report)
    }
}

/// What is measured beside a load, how often, and where everything runs.
#[derive(Args)]
struct Measured {
    /// How long each kind of request is sent.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Repetitions, of which the medians are taken.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=99))]
    repeat: u16,
    /// The core of the phones; without it the scheduler chooses.
    #[arg(long, requires = "server_core")]
    core: Option<usize>,
    /// The core of the switch and all of its processes.
    #[arg(long, requires = "core")]
    server_core: Option<usize>,
    /// Another core, for the application servers' shards where they have processes of their own.
    #[arg(long)]
    app_core: Option<usize>,
}

impl Measured {
    fn time(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    fn cores(&self) -> Option<Cores> {
        self.core.zip(self.server_core).map(|(generator, server)| Cores { generator, server })
    }
}

#[derive(Args)]
pub struct IsolationArgs {
    #[command(flatten)]
    start: Start,
    #[command(flatten)]
    measured: Measured,
    /// How the application servers are placed; one table for all that are given.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Placement::One, Placement::Separate])]
    placement: Vec<Placement>,
    /// Scripts that loop at a time.
    #[arg(long, default_value_t = 100)]
    scripts: u32,
    /// REGISTERs a second.
    #[arg(long, default_value_t = 500.0)]
    register_rate: f64,
    /// Other users' calls a second.
    #[arg(long, default_value_t = 200.0)]
    call_rate: f64,
}

impl IsolationArgs {
    pub fn run(&self) -> Result<()> {
        let report = bench::isolation::run(&Isolation {
            program: self.start.program()?,
            placements: self.placement.clone(),
            scripts: self.scripts,
            register_rate: self.register_rate,
            call_rate: self.call_rate,
            time: self.measured.time(),
            repetitions: usize::from(self.measured.repeat),
            cores: self.measured.cores(),
            app_core: self.measured.app_core,
            dir: self.start.dir()?,
        })?;
        self.start.print(&report)
    }
}

#[derive(Args)]
pub struct CallbacksArgs {
    #[command(flatten)]
    start: Start,
    #[command(flatten)]
    measured: Measured,
    /// How the application servers are placed; one table for all that are given.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Placement::Separate])]
    placement: Vec<Placement>,
    /// Calls back a second.
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// From the joining of the parties to the hang-up.
    #[arg(long, default_value_t = 2000)]
    hold_ms: u64,
    /// REGISTERs a second, and then as many requests through the proxy.
    #[arg(long, default_value_t = 500.0)]
    request_rate: f64,
    /// Lets the switch send packets for the parties, to 198.51.100.0/24 and 203.0.113.0/24; refused unless those go to dummy0.
    #[arg(long)]
    impersonate: bool,
}

impl CallbacksArgs {
    pub fn run(&self) -> Result<()> {
        let report = bench::callbacks::run(&Callbacks {
            program: self.start.program()?,
            placements: self.placement.clone(),
            rate: self.rate,
            hold: Duration::from_millis(self.hold_ms),
            request_rate: self.request_rate,
            time: self.measured.time(),
            repetitions: usize::from(self.measured.repeat),
            impersonates: self.impersonate,
            cores: self.measured.cores(),
            app_core: self.measured.app_core,
            dir: self.start.dir()?,
        })?;
        self.start.print(&report)?;
        match report.is_complete() {
            true => Ok(()),
            false => bail!("something was left incomplete"),
        }
    }
}

#[derive(Args)]
pub struct KillsArgs {
    #[command(flatten)]
    start: Start,
    /// Calls a second of stable's users.
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// Calls a second of edge's users.
    #[arg(long, default_value_t = 50.0)]
    edge_rate: f64,
    /// REGISTERs a second, and OPTIONS through the proxy.
    #[arg(long, default_value_t = 20.0)]
    register_rate: f64,
    /// From answer to hang-up.
    #[arg(long, default_value_t = 12.0)]
    hold_secs: f64,
    /// How long calls are begun.
    #[arg(long, default_value_t = 120.0)]
    seconds: f64,
    /// From one kill to the next.
    #[arg(long, default_value_t = 10.0)]
    every_secs: f64,
}

impl KillsArgs {
    pub fn run(&self) -> Result<()> {
        let report = bench::kills::run(&Kills {
            program: self.start.program()?,
            rate: self.rate,
            edge_rate: self.edge_rate,
            register_rate: self.register_rate,
            hold: Duration::from_secs_f64(self.hold_secs),
            time: Duration::from_secs_f64(self.seconds),
            every: Duration::from_secs_f64(self.every_secs),
            dir: self.start.dir()?,
        })?;
        self.start.print(&report)?;
        match report.complaints().is_empty() {
            true => Ok(()),
            false => bail!("something was lost"),
        }
    }
}

#[derive(Args)]
pub struct SpreadArgs {
    #[command(flatten)]
    start: Start,
    /// The core of each shard.
    #[arg(long, value_delimiter = ',', default_value = "0,1")]
    shards: Vec<usize>,
    /// The core of generator and sink, better one that is no shard's.
    #[arg(long)]
    core: Option<usize>,
    /// Numbers of source sockets to try.
    #[arg(long, value_delimiter = ',', default_value = "1,64")]
    sources: Vec<usize>,
    /// The request that is forwarded.
    #[arg(long, value_enum, default_value = "invite")]
    method: Method,
    /// Where the search for the highest rate begins.
    #[arg(long, default_value_t = 300_000.0)]
    max_rate: f64,
    /// How long each trial of the search takes, and the run at the rate that it finds.
    #[arg(long, default_value_t = 1.0)]
    trial_seconds: f64,
}

impl SpreadArgs {
    pub fn run(&self) -> Result<()> {
        let spread = Spread {
            program: self.start.program()?,
            cores: self.shards.clone(),
            generator: self.core,
            sources: self.sources.clone(),
            method: self.method,
            max_rate: self.max_rate,
            trial: Duration::from_secs_f64(self.trial_seconds),
            dir: self.start.dir()?,
        };
        self.start.print(&bench::spread::run(&spread)?)
    }
}
