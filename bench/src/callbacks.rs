//! Calls back beside phones that register and requests through the proxy: how much longer these wait, and what a call back costs.

use std::{collections::BTreeMap, fmt, net::UdpSocket, ops::Range, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde::Serialize;

use crate::{
    beside::{self, Line, Placement, Requests, Sample},
    calls::{self, Begins, Calls, HangsUp, Media, UnderWay},
    load::{self, Workload},
    message::{DOMAIN, Method},
    mmsg,
    server::{CALLEES, Cores, Place, Probe, Ringswitch, Running, Scene, free_port},
};

/// What the calls that ask for a call back run. The name that the first party sees tells the phones which call has asked; the second
/// party is one of [`SECONDS`].
const PLAN: &str = r#"sys.callback("${dst} [name=${callid}]", "user000009${exten:10}", #{ delay: 0, ring: 30 });
sys.respond(480, "Calling You Back");"#;
/// Who is called back first: who has been called by the one who asks.
const FIRSTS: Range<u32> = 80..90;
/// Who is called back then.
const SECONDS: Range<u32> = 90..CALLEES;
/// How long a call back may take until it is joined, or a request of its parties.
const PATIENCE: Duration = Duration::from_secs(10);
/// From the first call back until they are as many as they will be, beyond the time that one lasts.
const RISE: Duration = Duration::from_millis(500);
/// Packets that the two parties of a call back are sent together.
const PACKETS: u64 = 6;
/// Where the media of `--impersonate` go.
const DUMMY: &str = "dummy0";

/// What is tried.
#[derive(Clone, Debug)]
pub struct Callbacks {
    /// The switch.
    pub program: PathBuf,
    /// The placements to try, in this order.
    pub placements: Vec<Placement>,
    /// Calls back a second.
    pub rate: f64,
    /// From the joining to the hang-up.
    pub hold: Duration,
    /// REGISTERs a second, and then as many requests through the proxy.
    pub request_rate: f64,
    /// How long each of these lasts, and the calls back by themselves.
    pub time: Duration,
    /// Repetitions, of which the medians are taken.
    pub repetitions: usize,
    /// The switch sends packets for the parties, who have their media in networks for documentation.
    pub impersonates: bool,
    /// The cores; None leaves all to the scheduler.
    pub cores: Option<Cores>,
    /// The core of the application servers' shards, where they have processes of their own.
    pub app_core: Option<usize>,
    /// Where data directories are made.
    pub dir: PathBuf,
}

/// The calls back of one placement.
#[derive(Clone, Debug, Serialize)]
pub struct Done {
    /// How the application servers are placed.
    pub placement: Placement,
    /// How many were asked for.
    pub asked: u64,
    /// How many had both parties joined.
    pub joined: u64,
    /// How many were hung up by one party and heard by the other to be.
    pub completed: u64,
    /// Why the others were not: what came, and in place of what.
    pub incomplete: BTreeMap<String, u64>,
    /// Packets that the parties were sent in each other's name; None where that is off.
    pub packets: Option<u64>,
    /// From the instant one was due until its parties were joined, with nothing else to do: p99.
    pub joining_p99_us: f64,
    /// The CPU time of all of the switch's processes for each, with nothing else to do.
    pub cpu_us: f64,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Calls back a second.
    pub rate: f64,
    /// What else waited how long.
    pub lines: Vec<Line>,
    /// The calls back, for each placement.
    pub done: Vec<Done>,
}

impl Report {
    /// Whether every call back was completed and every other request too.
    pub fn is_complete(&self) -> bool {
        let has_all = |done: &Done| done.packets.is_none_or(|packets| packets == PACKETS * done.joined);
        self.done.iter().all(|done| done.completed == done.asked && has_all(done))
            && self.lines.iter().all(|line| line.failed == 0)
    }
}

/// Runs it.
pub fn run(callbacks: &Callbacks) -> Result<Report> {
    if callbacks.impersonates {
        ensure_nobody_is_sent_to()?;
    }
    let mut report = Report { rate: callbacks.rate, lines: Vec::new(), done: Vec::new() };
    for &placement in &callbacks.placements {
        let (lines, done) = try_placement(callbacks, placement)?;
        report.lines.extend(lines);
        report.done.push(done);
    }
    Ok(report)
}

fn try_placement(callbacks: &Callbacks, placement: Placement) -> Result<(Vec<Line>, Done)> {
    let dir = tempfile::tempdir_in(&callbacks.dir)?;
    let (phone, parties) = (mmsg::bind(0)?, mmsg::bind(0)?);
    let sink = mmsg::address(&phone);
    let place = Place { listen: free_port()?, sink, cores: callbacks.cores, dir: dir.path() };
    let switch = Ringswitch { program: callbacks.program.clone(), scene: scene(callbacks, placement) };
    let running = Running::start(&switch, &place, &phone, Probe::Forwards)?;
    calls::register(running.address, DOMAIN, FIRSTS.start..SECONDS.end, &parties)?;
    let media = if callbacks.impersonates { Media::Documentation } else { Media::Loopback };
    let asks = Calls {
        callees: FIRSTS,
        rate: callbacks.rate,
        count: count(callbacks.rate, callbacks.time),
        hold: callbacks.hold,
        begins: Begins::CalledBack(media),
        hangs_up: HangsUp::Alternately,
        patience: PATIENCE,
        pid: Some(running.pid()),
        ..Calls::new(running.address, DOMAIN)
    };
    calls::await_service(&asks, &parties)?;
    measure(callbacks, &running, &phone, &mut || Ok(()))?; // Touches what is allocated once.
    calls::run(&asks, &parties)?;
    let packets_sent = || callbacks.impersonates.then(|| switch.counter(dir.path(), "callback.sent")).transpose();
    let packets_before = packets_sent()?;

    let whole = callbacks.hold + RISE + 2 * callbacks.time;
    let loaded = Calls { count: count(callbacks.rate, whole), pid: None, ..asks.clone() };
    let (mut idle, mut beside, mut alone, mut outcomes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..callbacks.repetitions {
        idle.push(measure(callbacks, &running, &phone, &mut || Ok(()))?);
        alone.push(calls::run(&asks, &parties)?);
        let mut under_way = UnderWay::begin(&loaded, &parties)?;
        under_way.go_on_for(callbacks.hold + RISE)?;
        beside.push(measure(callbacks, &running, &phone, &mut || under_way.turn().map(drop))?);
        outcomes.push(under_way.finish()?);
    }
    let packets = packets_sent()?.zip(packets_before).map(|(all, before)| all - before);
    running.stop(Signal::TERM)?;

    let mut done = Done {
        placement,
        asked: 0,
        joined: 0,
        completed: 0,
        incomplete: BTreeMap::new(),
        packets,
        joining_p99_us: beside::median(alone.iter().map(|outcome| outcome.answering.p99_us).collect()),
        cpu_us: beside::median(alone.iter().filter_map(|outcome| Some(outcome.cpu?.total_us)).collect()),
    };
    for outcome in alone.iter().chain(&outcomes) {
        done.asked += outcome.sent;
        done.joined += outcome.answered;
        done.completed += outcome.completed;
        for (what, count) in &outcome.failures {
            *done.incomplete.entry(what.clone()).or_default() += count;
        }
    }
    Ok((beside::lines(placement, &idle, &beside)?, done))
}

fn count(rate: f64, time: Duration) -> u64 {
    ((rate * time.as_secs_f64()) as u64).max(1)
}

fn scene(callbacks: &Callbacks, placement: Placement) -> Scene {
    let mut scene = match placement {
        Placement::One => Scene::one(),
        Placement::Separate => Scene::separate(callbacks.app_core),
    };
    if callbacks.impersonates {
        scene.tables +=
            "\n[callback]\nimpersonate = true\nmax_packets_per_sec = 10000\nmax_packets_per_destination = 100000\n";
    }
    scene.with_plan("call back", "caller", PLAN)
}

/// REGISTERs, and then requests through the proxy, of others than the parties.
fn measure(
    callbacks: &Callbacks,
    running: &Running,
    phone: &UdpSocket,
    meanwhile: &mut dyn FnMut() -> Result<()>,
) -> Result<Vec<Sample>> {
    let aors = load::shuffled(FIRSTS.start);
    let requests =
        Requests { server: running.address, aors: &aors, rate: callbacks.request_rate, time: callbacks.time };
    let forward = Workload::Forward { method: Method::Options, answered: false };
    Ok(vec![
        requests.sample("REGISTER", Workload::Register { credentials: None }, phone, meanwhile)?,
        requests.sample("forward OPTIONS", forward, phone, meanwhile)?,
    ])
}

/// Refuses unless what the switch sends to the parties goes to a device behind which there is nothing.
fn ensure_nobody_is_sent_to() -> Result<()> {
    for party in [calls::End::Caller, calls::End::Callee] {
        let address = Media::Documentation.address(0, party).ip().to_string();
        let output = Command::new("ip").args(["route", "get", &address]).output().context("cannot run `ip`")?;
        let route = String::from_utf8_lossy(&output.stdout);
        let device = device(&route).unwrap_or("no device");
        ensure!(
            output.status.success() && device == DUMMY,
            "packets to {address} would go out by {device} and not by {DUMMY}: bench/README.md tells how to make a network for them"
        );
    }
    Ok(())
}

/// The device that the output of `ip route get` names.
fn device(route: &str) -> Option<&str> {
    route.split_ascii_whitespace().skip_while(|word| *word != "dev").nth(1)
}

impl fmt::Display for Report {
    /// Tables in Markdown.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        beside::write_table(f, format_args!("{} calls back/s", self.rate), &self.lines)?;
        writeln!(f, "\n| processes | asked | joined | completed | p99 µs until joined | CPU µs each |")?;
        writeln!(f, "| --- | --: | --: | --: | --: | --: |")?;
        for done in &self.done {
            let Done { placement, asked, joined, completed, joining_p99_us, cpu_us, .. } = done;
            writeln!(f, "| {placement} | {asked} | {joined} | {completed} | {joining_p99_us:.0} | {cpu_us:.0} |")?;
        }
        for done in &self.done {
            if let Some(packets) = done.packets {
                writeln!(f, "packets {}: {packets} of {}", done.placement, PACKETS * done.joined)?;
            }
            for (what, count) in &done.incomplete {
                writeln!(f, "incomplete {}: {what}: {count}", done.placement)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_of_a_route_is_the_word_behind_dev() {
        let routed = "198.51.100.1 dev dummy0 src 192.0.2.7 uid 0 \n    cache \n";
        assert_eq!(device(routed), Some("dummy0"));
        assert_eq!(device("198.51.100.1 via 192.0.2.1 dev eth0 src 192.0.2.7 uid 0 \n    cache \n"), Some("eth0"));
        assert_eq!(device("RTNETLINK answers: Network is unreachable\n"), None);
    }
}
