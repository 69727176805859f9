//! Servers under test: how each is started, when it is ready, how it is stopped.

use std::{
    collections::HashMap,
    fs,
    io::Write,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

use crate::{
    digest::Algorithm,
    floor::Way,
    message::{Arrival, DOMAIN, Method, Numbers, Template},
    mmsg::{self, Inbox},
};

/// How long a server may take until it answers.
const START: Duration = Duration::from_secs(60);
/// How long a server may take to stop after SIGTERM.
const STOP: Duration = Duration::from_secs(30);

/// Where a server under test runs.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Its UDP port on 127.0.0.1.
    pub listen: u16,
    /// The sink.
    pub sink: SocketAddrV4,
    /// The cores; None leaves both to the scheduler.
    pub cores: Option<Cores>,
    /// A directory of its own for config, data and log.
    pub dir: &'a Path,
}

/// Which core is whose.
#[derive(Clone, Copy, Debug)]
pub struct Cores {
    /// The generator's and the sink's.
    pub generator: usize,
    /// All threads of the server.
    pub server: usize,
}

/// A server that can be put under test.
pub trait Server {
    /// Its name in the tables.
    fn name(&self) -> String;

    /// Writes the config for `place` and returns the command that runs the server in the foreground: UDP on the given
    /// port, requests from the loopback to a foreign URI are relayed, [`DOMAIN`] is local, and nobody is authenticated unless
    /// that is what is tried.
    fn command(&self, place: &Place) -> Result<Command>;
}

/// The null forwarder.
#[derive(Clone, Debug)]
pub struct Floor {
    /// This program.
    pub program: PathBuf,
    /// How it forwards.
    pub way: Way,
}

impl Server for Floor {
    fn name(&self) -> String {
        format!("floor ({})", format!("{:?}", self.way).to_lowercase())
    }

    fn command(&self, place: &Place) -> Result<Command> {
        let mut command = Command::new(&self.program);
        command.args(["floor", "--way", &format!("{:?}", self.way).to_lowercase()]);
        command.args(["--listen", &place.listen.to_string(), "--to", &place.sink.to_string(), "--seconds", "600"]);
        Ok(command)
    }
}

/// The switch of this repository, with one shard unless its scene has more.
#[derive(Clone, Debug)]
pub struct Ringswitch {
    /// The program.
    pub program: PathBuf,
    /// What it serves.
    pub scene: Scene,
}

/// Application servers, accounts and plans of a switch under test.
#[derive(Clone, Debug)]
pub struct Scene {
    /// What distinguishes it in the tables.
    pub name: &'static str,
    /// The top level of the config: `processes`, `app`.
    pub top: &'static str,
    /// Further tables.
    pub tables: String,
    /// Accounts, as user@domain.
    pub accounts: Vec<String>,
    /// What runs for the calls that an account makes: whose, and the plan's text.
    pub plans: Vec<(String, &'static str)>,
    /// The one algorithm of its challenges to REGISTER; None challenges nobody.
    pub digest: Option<Algorithm>,
    /// The cores of its shards; without any it has one, which is where the place says.
    pub shards: Vec<usize>,
    /// Whether the sink is an application server elsewhere, which gets all calls for [`DOMAIN`].
    pub sink_is_app: bool,
    /// Whether it stays on the path of dialogs.
    pub record_route: bool,
    /// Whether it sends what goes to one peer as one (UDP GSO).
    pub offload: bool,
    /// Whether the kernel puts each datagram into the socket of the shard that owns it.
    pub steering: bool,
}

impl Scene {
    /// The proxy and the registrar alone.
    pub fn proxy() -> Self {
        Self {
            name: "",
            top: "app = []",
            tables: String::new(),
            accounts: Vec::new(),
            plans: Vec::new(),
            digest: None,
            shards: Vec::new(),
            sink_is_app: false,
            record_route: false,
            offload: true,
            steering: true,
        }
    }

    /// The same, but each datagram is sent by itself.
    pub fn one_by_one() -> Self {
        Self { name: "no offload", offload: false, ..Self::proxy() }
    }

    /// The same with [`ACCOUNTS`] accounts, whose REGISTERs are challenged.
    pub fn challenging(algorithm: Algorithm) -> Self {
        let accounts = (0..ACCOUNTS).map(|number| format!("user{number:07}@{DOMAIN}")).collect();
        Self { accounts, digest: Some(algorithm), ..Self::proxy() }
    }

    /// The proxy before an application server elsewhere, which it chooses by Call-ID: the sink.
    pub fn dispatching() -> Self {
        Self { top: "", sink_is_app: true, record_route: true, ..Self::proxy() }
    }

    /// Proxy, registrar and one application server in one process.
    pub fn one() -> Self {
        let accounts = users(DOMAIN).collect();
        let tables = UNBOUNDED.into();
        Self { top: "processes = \"one\"", tables, accounts, record_route: true, ..Self::proxy() }
    }

    /// The application servers stable and edge, each with a process of its own, and a shard on `core` if that is given; edge
    /// serves [`EDGE`].
    pub fn separate(core: Option<usize>) -> Self {
        let cores = core.map_or("1".into(), |core| format!("[{core}]"));
        let apps = format!(
            "[[app]]\nname = \"stable\"\ncores = {cores}\nmemory_limit_mb = 0\n\n\
             [[app]]\nname = \"edge\"\ndomains = [\"{EDGE}\"]\ncores = {cores}\nmemory_limit_mb = 0\n\n"
        );
        Self {
            top: "processes = \"separate\"",
            tables: apps + UNBOUNDED,
            accounts: users(DOMAIN).chain(users(EDGE)).collect(),
            record_route: true,
            ..Self::proxy()
        }
    }

    /// The same with a shard on each of `cores`.
    pub fn with_shards(mut self, cores: &[usize]) -> Self {
        self.shards = cores.to_vec();
        self
    }

    /// The same with `plan` for the calls that `user` of [`DOMAIN`] makes.
    pub fn with_plan(mut self, name: &'static str, user: &str, plan: &'static str) -> Self {
        self.name = name;
        self.plans.push((format!("{user}@{DOMAIN}"), plan));
        self
    }
}

/// The domain that the application server edge serves.
pub const EDGE: &str = "edge.example";
/// How many callees a scene has accounts for, in each of its domains: user0000000 and so on.
pub const CALLEES: u32 = 100;
/// How many accounts a switch has that challenges REGISTERs: user0000000 and so on.
pub const ACCOUNTS: u32 = 1_000;
/// The password of every account.
pub const PASSWORD: &str = "secret";
/// The callers that a scene has accounts for, in each of its domains.
pub const CALLERS: [&str; 3] = ["caller", "waiter", "looper"];

/// No bound but the machine's: users and plans of a bench are few.
const UNBOUNDED: &str = "[calls]\nauthenticate = false\nmax_calls = 2000000\nmax_calls_per_user = 2000000\n\
    max_setup_secs = 3600\nring_secs = 3600\n\n\
    [dialplan]\nmax_runs = 2000000\nmax_runs_per_user = 2000000\nmax_run_secs = 3600\nmax_ring_secs = 3600\n\
    max_operations = 1000000000\nmax_memory_total_bytes = 17179869184\n";

fn users(domain: &str) -> impl Iterator<Item = String> {
    let callees = (0..CALLEES).map(|number| format!("user{number:07}"));
    callees.chain(CALLERS.map(String::from)).map(move |user| format!("{user}@{domain}"))
}

impl Ringswitch {
    /// Runs a command of the switch's own that works on the database.
    fn order(&self, config: &Path, arguments: &[&str], input: &str) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.args(arguments).arg("--config").arg(config);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        child.stdin.take().context("stdin is piped")?.write_all(input.as_bytes())?;
        let status = child.wait()?;
        ensure!(status.success(), "`{} {}` ended with {status}", self.program.display(), arguments.join(" "));
        Ok(())
    }

    /// The legs of calls whose records are in the database, by Call-ID: whether they were answered.
    pub fn records(&self, dir: &Path) -> Result<HashMap<String, bool>> {
        let records: Vec<Record> = self.ask(dir, &["cdr", "--limit", "100000"])?;
        Ok(records.into_iter().map(|record| (record.call_id, record.answered_at.is_some())).collect())
    }

    /// A counter of all shards of a switch that runs.
    pub fn counter(&self, dir: &Path, name: &str) -> Result<u64> {
        Ok(self.counters(dir)?.iter().filter_map(|counters| counters.get(name)).sum())
    }

    /// The counters of each shard of a switch that runs.
    pub fn counters(&self, dir: &Path) -> Result<Vec<HashMap<String, u64>>> {
        let status: Status = self.ask(dir, &["status"])?;
        Ok(status.shards.into_iter().map(|shard| shard.counters).collect())
    }

    /// What a command of the switch's own prints as JSON.
    fn ask<T: serde::de::DeserializeOwned>(&self, dir: &Path, arguments: &[&str]) -> Result<T> {
        let mut command = Command::new(&self.program);
        command.args(arguments).args(["--json", "--config"]).arg(dir.join("ringswitch.toml"));
        let output = command.stderr(Stdio::inherit()).output()?;
        ensure!(output.status.success(), "`ringswitch {}` ended with {}", arguments.join(" "), output.status);
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

/// What the bench reads of a call detail record.
#[derive(Deserialize)]
struct Record {
    call_id: String,
    answered_at: Option<i64>,
}

/// What the bench reads of a status.
#[derive(Deserialize)]
struct Status {
    shards: Vec<Shard>,
}

#[derive(Deserialize)]
struct Shard {
    counters: HashMap<String, u64>,
}

impl Server for Ringswitch {
    fn name(&self) -> String {
        match self.scene.name {
            "" => "ringswitch".into(),
            name => format!("ringswitch ({name})"),
        }
    }

    fn command(&self, place: &Place) -> Result<Command> {
        let config = place.dir.join("ringswitch.toml");
        let Scene {
            top, tables, accounts, plans, digest, shards, sink_is_app, record_route, offload, steering, ..
        } = &self.scene;
        let steering = if *steering { "auto" } else { "off" };
        let cores = match (&shards[..], place.cores) {
            ([], Some(cores)) => format!("[{}]", cores.server),
            ([], None) => "1".into(),
            (shards, _) => format!("{shards:?}"),
        };
        let registrar = match digest {
            Some(algorithm) => format!("authenticate = true\nalgorithms = [\"{}\"]", algorithm.token()),
            None => "authenticate = false".into(),
        };
        let elsewhere = match sink_is_app {
            true => format!("[[app]]\nname = \"elsewhere\"\nuri = \"sip:{}\"\n\n", place.sink),
            false => String::new(),
        };
        let text = format!(
            "domains  = [\"{DOMAIN}\", \"{EDGE}\"]\n\
             data_dir = {:?}\n{top}\n\n\
             [[listen]]\ntransport = \"udp\"\naddress = \"127.0.0.1:{}\"\n\n\
             [cores]\nswitch = {cores}\n\n\
             [registrar]\n{registrar}\n\n\
             [udp]\noffload = {offload}\nsteering = \"{steering}\"\n\n\
             [proxy]\nrelay_from = [\"127.0.0.0/8\"]\nrecord_route = {record_route}\n\n{elsewhere}{tables}",
            place.dir.join("data"),
            place.listen,
        );
        let is_new = !config.exists();
        fs::create_dir_all(place.dir.join("data"))?;
        fs::write(&config, text)?;
        if is_new {
            for account in accounts {
                self.order(&config, &["account", "add", account, "--password-stdin"], PASSWORD)?;
            }
            for (user, plan) in plans {
                self.order(&config, &["plan", "set", user, "bench", "--as", "out", "--file", "-"], plan)?;
            }
        }
        let mut command = Command::new(&self.program);
        command.arg("run").arg("--config").arg(config);
        Ok(command)
    }
}

/// The request that tells whether a server serves.
#[derive(Clone, Copy, Debug)]
pub enum Probe {
    /// It forwards to the sink.
    Forwards,
    /// It finds the binding of this address of record, whose contact is the sink.
    Finds(u32),
}

/// A server that runs; killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Its address.
    pub address: SocketAddrV4,
    /// From the start of the process until the probe came through.
    pub ready_after: Duration,
}

impl Running {
    /// Starts `server` and waits until `probe` arrives at `sink`.
    pub fn start(server: &dyn Server, place: &Place, sink: &UdpSocket, probe: Probe) -> Result<Self> {
        let mut command = server.command(place)?;
        let log = place.dir.join("log");
        let file = fs::OpenOptions::new().create(true).append(true).open(&log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        // A child inherits the affinity of the thread that starts it, and so do all of its threads.
        if let Some(cores) = place.cores {
            mmsg::pin(cores.server)?;
        }
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()));
        if let Some(cores) = place.cores {
            mmsg::pin(cores.generator)?;
        }
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, place.listen);
        let mut running = Self { child: child?, address, ready_after: Duration::ZERO };
        running.await_probe(server, sink, probe, started).with_context(|| {
            let log = fs::read_to_string(&log).unwrap_or_default();
            format!("{} does not serve; the end of its log:\n{}", server.name(), tail(&log))
        })?;
        running.ready_after = started.elapsed();
        Ok(running)
    }

    fn await_probe(&mut self, server: &dyn Server, sink: &UdpSocket, probe: Probe, started: Instant) -> Result<()> {
        let source = mmsg::bind(0)?;
        sink.set_nonblocking(true)?;
        let (uri, aor) = match probe {
            Probe::Forwards => (format!("sip:probe@{}", mmsg::address(sink)), 0),
            Probe::Finds(aor) => (format!("sip:user%%%%%%%@{DOMAIN}"), aor),
        };
        let template = Template::request(Method::Options, &uri)?;
        let mut inbox = Inbox::new(1);
        for ordinal in 0.. {
            let numbers = Numbers { ordinal, attempt: 0, aor, cseq: 1, port: mmsg::address(&source).port() };
            source.send_to(&template.stamped(&numbers), self.address)?;
            thread::sleep(Duration::from_millis(1));
            while inbox.receive(sink)? > 0 {
                if inbox.datagrams().any(|datagram| Arrival::read(datagram).is_some_and(|it| it.status.is_none())) {
                    return Ok(());
                }
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}", server.name());
            }
            if started.elapsed() > START {
                bail!("{} did not let the probe through within {START:?}", server.name());
            }
        }
        unreachable!("the probe's numbers outlast its time")
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends `signal` and waits for the end of the process; returns the time that took.
    pub fn stop(mut self, signal: Signal) -> Result<Duration> {
        let begun = Instant::now();
        kill_process(Pid::from_child(&self.child), signal)?;
        loop {
            if let Some(status) = self.child.try_wait()? {
                if signal == Signal::TERM && !status.success() && status.signal() != Some(signal.as_raw()) {
                    bail!("after SIGTERM the server ended with {status}");
                }
                return Ok(begun.elapsed());
            }
            if begun.elapsed() > STOP {
                bail!("the server did not stop within {STOP:?}");
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if the process has ended, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A UDP port of the loopback that is free at this moment.
pub fn free_port() -> Result<u16> {
    Ok(mmsg::address(&mmsg::bind(0)?).port())
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
