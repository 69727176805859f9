//! Servers under test: how each is started, when it is ready, how it is stopped.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
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
    /// port, requests from the loopback to a foreign URI are relayed, [`DOMAIN`] is local, nobody is authenticated.
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

/// The switch of this repository with one shard.
#[derive(Clone, Debug)]
pub struct Ringswitch {
    /// The program.
    pub program: PathBuf,
}

impl Server for Ringswitch {
    fn name(&self) -> String {
        "ringswitch".into()
    }

    fn command(&self, place: &Place) -> Result<Command> {
        let config = place.dir.join("ringswitch.toml");
        let core = place.cores.map_or(0, |cores| cores.server);
        let text = format!(
            "domains  = [\"{DOMAIN}\"]\n\
             data_dir = {:?}\n\n\
             [[listen]]\ntransport = \"udp\"\naddress = \"127.0.0.1:{}\"\n\n\
             [cores]\nswitch = [{core}]\n\n\
             [registrar]\nauthenticate = false\n\n\
             [proxy]\nrelay_from = [\"127.0.0.0/8\"]\n",
            place.dir.join("data"),
            place.listen,
        );
        fs::create_dir_all(place.dir.join("data"))?;
        fs::write(&config, text)?;
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
