//! `kill -9` of one application server again and again under load: what survives, and what must.
//!
//! Four things run at once: users of stable call each other, those of edge do too, phones register and requests pass the proxy,
//! and stable is killed. Afterwards every answered call must have been hung up and have its record.

use std::{
    fmt,
    net::{SocketAddrV4, UdpSocket},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

use crate::{
    calls::{self, Calls, HangsUp},
    load,
    message::{self, DOMAIN, Method, Numbers, Template},
    mmsg, process,
    server::{CALLEES, EDGE, Place, Probe, Ringswitch, Running, Scene, free_port},
};

/// How long the answer to a REGISTER or to an OPTIONS may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most records that `ringswitch cdr` prints.
const MOST_RECORDS: f64 = 100_000.0;

/// What is tried.
#[derive(Clone, Debug)]
pub struct Kills {
    /// The switch.
    pub program: PathBuf,
    /// Calls a second of stable's users.
    pub rate: f64,
    /// Calls a second of edge's users.
    pub edge_rate: f64,
    /// REGISTERs a second, and as many OPTIONS through the proxy.
    pub register_rate: f64,
    /// From answer to hang-up.
    pub hold: Duration,
    /// How long it lasts.
    pub time: Duration,
    /// From one kill to the next.
    pub every: Duration,
    /// Where the data directory is made.
    pub dir: PathBuf,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// How often stable was killed.
    pub kills: u32,
    /// Stable's calls.
    pub stable: calls::Outcome,
    /// Edge's calls.
    pub edge: calls::Outcome,
    /// Requests to the registrar and through the proxy.
    pub beside: Beside,
    /// Answered calls without a record of an answered leg.
    pub without_record: u64,
}

/// REGISTERs and OPTIONS beside the calls.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Beside {
    /// REGISTERs sent.
    pub registers: u64,
    /// REGISTERs without a 200.
    pub registers_lost: u64,
    /// OPTIONS sent through the proxy.
    pub options: u64,
    /// OPTIONS whose 200 did not come back.
    pub options_lost: u64,
    /// The longest that an answer took.
    pub longest_us: f64,
}

impl Report {
    /// What must not be, and is: empty if all is well. A call that was being set up when its server was killed may get a final
    /// response other than 200, but not silence.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut complain = |count: u64, what: String| {
            if count > 0 {
                complaints.push(format!("{count}: {what}"));
            }
        };
        for (failure, &count) in &self.stable.failures {
            let is_refusal =
                failure.strip_prefix("INVITE ").is_some_and(|what| what.starts_with(|c: char| c.is_ascii_digit()));
            if !is_refusal {
                complain(count, format!("stable: {failure}"));
            }
        }
        for (failure, &count) in &self.edge.failures {
            complain(count, format!("edge: {failure}"));
        }
        complain(self.beside.registers_lost, "REGISTERs lost".into());
        complain(self.beside.options_lost, "OPTIONS through the proxy lost".into());
        complain(self.without_record, "answered calls without a record".into());
        complaints
    }
}

/// Runs it.
pub fn run(kills: &Kills) -> Result<Report> {
    let seconds = kills.time.as_secs_f64();
    ensure!(2.0 * (kills.rate + kills.edge_rate) * seconds < MOST_RECORDS, "these are more calls than can be checked");
    let dir = tempfile::tempdir_in(&kills.dir)?;
    let (stable_phone, edge_phone) = (mmsg::bind(0)?, mmsg::bind(0)?);
    let place = Place { listen: free_port()?, sink: mmsg::address(&stable_phone), cores: None, dir: dir.path() };
    let switch = Ringswitch { program: kills.program.clone(), scene: Scene::separate(None) };
    let running = Running::start(&switch, &place, &stable_phone, Probe::Forwards)?;
    let calls = |domain, rate: f64| Calls {
        callees: 0..CALLEES,
        rate,
        count: (rate * seconds) as u64,
        hold: kills.hold,
        hangs_up: HangsUp::Alternately,
        sources: 2,
        sleeps: true,
        ..Calls::new(running.address, domain)
    };
    let (stable, edge) = (calls(DOMAIN, kills.rate), calls(EDGE, kills.edge_rate));
    for (calls, phone) in [(&stable, &stable_phone), (&edge, &edge_phone)] {
        calls::register(running.address, calls.domain, 0..CALLEES, phone)?;
        calls::await_service(calls, phone)?;
    }

    let ended = |_| anyhow!("a thread of the load has panicked");
    let (killed, stable, edge, beside) = thread::scope(|scope| {
        let stable = scope.spawn(|| calls::run(&stable, &stable_phone));
        let edge = scope.spawn(|| calls::run(&edge, &edge_phone));
        let beside = scope.spawn(|| beside(running.address, &stable_phone, kills.register_rate, kills.time));
        let killed = kill_again_and_again(running.pid(), kills)?;
        let joined = (stable.join().map_err(ended)??, edge.join().map_err(ended)??, beside.join().map_err(ended)??);
        anyhow::Ok((killed, joined.0, joined.1, joined.2))
    })?;
    // The records are written to the database in the background; a drain ends with them.
    running.stop(Signal::TERM)?;
    let records = switch.records(dir.path())?;
    let all = stable.answered_call_ids.iter().chain(&edge.answered_call_ids);
    let without_record = all.filter(|call_id| records.get(*call_id) != Some(&true)).count() as u64;
    Ok(Report { kills: killed, stable, edge, beside, without_record })
}

fn kill_again_and_again(root: u32, kills: &Kills) -> Result<u32> {
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() + kills.every < kills.time {
        thread::sleep(kills.every);
        // None while the supervisor is starting it; the next time is soon enough.
        if let Some(pid) = process::named(root, "stable")?.and_then(|pid| Pid::from_raw(pid as i32)) {
            kill_process(pid, Signal::KILL)?;
            count += 1;
        }
    }
    Ok(count)
}

/// Sends REGISTERs for `phone`, and OPTIONS through the proxy, one pair after another.
fn beside(server: SocketAddrV4, phone: &UdpSocket, rate: f64, time: Duration) -> Result<Beside> {
    let (source, sink) = (mmsg::bind(0)?, mmsg::bind(0)?);
    source.connect(server)?;
    for socket in [&source, &sink] {
        socket.set_read_timeout(Some(PATIENCE))?;
    }
    let register = Template::register(DOMAIN, mmsg::address(phone), "");
    let options = Template::request(Method::Options, &format!("sip:bench@{}", mmsg::address(&sink)))?;
    let (cseq, port) = (load::fresh_cseq(), mmsg::address(&source).port());
    let mut found = Beside::default();
    let start = Instant::now();
    let mut buffer = [0; mmsg::DATAGRAM];
    for ordinal in 0.. {
        let due = Duration::from_secs_f64(ordinal as f64 / rate);
        if due >= time {
            break;
        }
        thread::sleep(due.saturating_sub(start.elapsed()));
        let aor = ordinal as u32 % CALLEES;
        let numbers = Numbers { ordinal: 2 * ordinal, attempt: 0, aor, cseq: cseq + ordinal as u32 / CALLEES, port };
        let sent = Instant::now();
        source.send(&register.stamped(&numbers))?;
        found.registers += 1;
        found.registers_lost += u64::from(!is_answered(&source, 2 * ordinal)?);
        found.longest_us = found.longest_us.max(sent.elapsed().as_secs_f64() * 1e6);

        let sent = Instant::now();
        source.send(&options.stamped(&Numbers { ordinal: 2 * ordinal + 1, ..numbers }))?;
        found.options += 1;
        let is_back = match sink.recv_from(&mut buffer) {
            Ok((octets, from)) => {
                sink.send_to(&message::ok_to(&buffer[..octets]), from)?;
                is_answered(&source, 2 * ordinal + 1)?
            }
            Err(_) => false,
        };
        found.options_lost += u64::from(!is_back);
        found.longest_us = found.longest_us.max(sent.elapsed().as_secs_f64() * 1e6);
    }
    Ok(found)
}

/// Waits for the 200 of that request; passes over what comes late of others.
fn is_answered(source: &UdpSocket, ordinal: u64) -> Result<bool> {
    let deadline = Instant::now() + PATIENCE;
    let mut buffer = [0; mmsg::DATAGRAM];
    while Instant::now() < deadline {
        match source.recv(&mut buffer) {
            Ok(octets) => match message::Arrival::read(&buffer[..octets]) {
                Some(arrival) if arrival.ordinal == ordinal => return Ok(arrival.status == Some(200)),
                _ => {}
            },
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "stable was killed {} times\n", self.kills)?;
        writeln!(f, "stable\n{}\nedge\n{}", self.stable, self.edge)?;
        let Beside { registers, registers_lost, options, options_lost, longest_us } = self.beside;
        writeln!(
            f,
            "beside     {registers} REGISTERs, {registers_lost} lost; {options} OPTIONS, {options_lost} lost; the longest took \
             {longest_us:.0} µs"
        )?;
        writeln!(f, "records    {} answered calls without one", self.without_record)?;
        let complaints = self.complaints();
        match complaints.is_empty() {
            true => writeln!(f, "nothing was lost"),
            false => writeln!(f, "LOST\n  {}", complaints.join("\n  ")),
        }
    }
}
