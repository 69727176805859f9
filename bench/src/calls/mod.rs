//! Complete calls through the switch, both phones in one thread: INVITE, 180, 200, ACK, a while of talk, BYE, 200; or calls back,
//! for which the INVITE only asks.
//!
//! The load is open as that of [`crate::load`]: call *i* is due at *i* / rate, and what its caller waits for counts from then.
//! Unlike there, phones retransmit (RFC 3261 §17, §13.3.1.4), so that one lost datagram is a late call and not a failed one;
//! retransmissions are counted, and a highest rate has next to none.

mod back;
mod phone;
mod run;

use std::{
    collections::BTreeMap,
    fmt,
    net::{SocketAddrV4, UdpSocket},
    ops::Range,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde::Serialize;

pub use back::Media;
pub use phone::{End, Mark};
use run::Run;

use crate::{
    load::{self, Latency, TOLERATED_LOSS},
    message::{Numbers, Template},
    mmsg::{self, Inbox, Mailer},
    process::{Cpu, CpuPerMessage, Memory},
    search::{self, Trial},
};

/// How many REGISTERs wait for their 200 at a time.
const REGISTERS: usize = 64;
/// How often a REGISTER is sent until it counts as refused.
const ATTEMPTS: usize = 20;
/// How long a server may take until it serves calls.
const START: Duration = Duration::from_secs(60);

/// Who hangs up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HangsUp {
    /// Who called.
    Caller,
    /// Both in turn, one call after another.
    Alternately,
}

/// How the two parties come together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begins {
    /// One calls the other.
    Called,
    /// Somebody asks by an INVITE that gets a 480; then the switch calls both and joins them. Their media are there.
    CalledBack(Media),
}

/// What the callee does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It rings and answers at once.
    AtOnce,
    /// It rings for ever; a call is complete when its caller hears that.
    Never,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Calls<'a> {
    /// Where the server listens.
    pub server: SocketAddrV4,
    /// The domain of callers and callees.
    pub domain: &'a str,
    /// The user part of the callers.
    pub caller: &'a str,
    /// The numbers of the callees, user0000000 and so on, called in turn; of a call back, by whom its plan knows the parties.
    pub callees: Range<u32>,
    /// Calls a second.
    pub rate: f64,
    /// Calls in all.
    pub count: u64,
    /// From answer to hang-up; of a call back from the joining.
    pub hold: Duration,
    /// How the parties come together.
    pub begins: Begins,
    /// What the callee does.
    pub answer: Answer,
    /// Who hangs up.
    pub hangs_up: HangsUp,
    /// Source sockets of the callers.
    pub sources: usize,
    /// How long a request may go unanswered; 64 * T1 unless the run is to be short (§17.1.1.2).
    pub patience: Duration,
    /// Sleeps while nothing is due: for loads beside others. It costs the accuracy of a wake-up.
    pub sleeps: bool,
    /// The server's process, whose cost is read.
    pub pid: Option<u32>,
    /// When the server's memory is read; None is at the end.
    pub memory_at: Option<Duration>,
}

impl<'a> Calls<'a> {
    /// Calls that end at once, a thousand a second for one second.
    pub fn new(server: SocketAddrV4, domain: &'a str) -> Self {
        Self {
            server,
            domain,
            caller: "caller",
            callees: 0..1,
            rate: 1000.0,
            count: 1000,
            hold: Duration::ZERO,
            begins: Begins::Called,
            answer: Answer::AtOnce,
            hangs_up: HangsUp::Caller,
            sources: 8,
            patience: Duration::from_secs(32),
            sleeps: false,
            pid: None,
            memory_at: None,
        }
    }
}

/// What a run found.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Calls a second that were asked for.
    pub rate: f64,
    /// Calls a second that were begun.
    pub sent_rate: f64,
    /// Calls begun.
    pub sent: u64,
    /// Calls whose 200 arrived at the caller, and calls back whose parties were joined.
    pub answered: u64,
    /// Calls that went through all of their course.
    pub completed: u64,
    /// The part of the calls that did not.
    pub loss: f64,
    /// Why calls did not complete: the request and the status with its reason phrase, or that none came.
    pub failures: BTreeMap<String, u64>,
    /// Requests and responses that were sent again.
    pub retransmissions: u64,
    /// The most calls that were answered and not yet hung up.
    pub most_at_a_time: u64,
    /// The most that the generator was behind its own pace.
    pub behind_max_us: f64,
    /// From the instant a call was due until its first 180.
    pub ringing: Latency,
    /// From that instant until its 200, or until a call back's parties were joined.
    pub answering: Latency,
    /// From the instant a hang-up was due until the 200 of its BYE.
    pub hanging_up: Latency,
    /// The server's CPU time per completed call.
    pub cpu: Option<CpuPerMessage>,
    /// The server's memory when it was to be read.
    pub memory: Option<Memory>,
    /// The Call-IDs of the answered calls, as their callers have them.
    #[serde(skip)]
    pub answered_call_ids: Vec<String>,
}

impl Outcome {
    /// Whether the rate was served: nearly nothing failed or was sent again, and the generator kept its pace.
    pub fn sustained(&self) -> bool {
        let repeated = self.retransmissions as f64 / self.sent.max(1) as f64;
        self.loss < TOLERATED_LOSS && repeated < TOLERATED_LOSS && self.sent_rate > 0.98 * self.rate
    }

    /// Calls a second for which one core would be enough.
    pub fn calls_per_core(&self) -> Option<f64> {
        self.cpu.map(|cpu| 1e6 / cpu.total_us)
    }
}

impl Trial for Outcome {
    fn served(&self) -> bool {
        self.sustained()
    }

    fn completed_rate(&self) -> f64 {
        (1.0 - self.loss) * self.sent_rate
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "calls      {} at {:.0}/s of {:.0}/s asked for", self.sent, self.sent_rate, self.rate)?;
        writeln!(
            f,
            "completed  {} ({} answered, {:.3} % failed, {} retransmissions, {} at a time)",
            self.completed,
            self.answered,
            100.0 * self.loss,
            self.retransmissions,
            self.most_at_a_time
        )?;
        for (failure, count) in &self.failures {
            writeln!(f, "failed     {failure}: {count}")?;
        }
        for (name, latency) in
            [("180 after", self.ringing), ("200 after", self.answering), ("BYE 200", self.hanging_up)]
        {
            let Latency { p50_us, p90_us, p99_us, p999_us, max_us, count } = latency;
            if count > 0 {
                writeln!(
                    f,
                    "{name:<10} p50 {p50_us:.0}  p90 {p90_us:.0}  p99 {p99_us:.0}  p99.9 {p999_us:.0}  max {max_us:.0} µs"
                )?;
            }
        }
        writeln!(f, "behind     {:.0} µs at most", self.behind_max_us)?;
        if let Some(CpuPerMessage { user_us, system_us, total_us }) = self.cpu {
            let calls = 1e6 / total_us;
            writeln!(
                f,
                "server     {total_us:.2} µs CPU a call ({user_us:.2} user, {system_us:.2} system): {calls:.0} calls/s and core"
            )?;
        }
        if let Some(Memory { rss, pss }) = self.memory {
            writeln!(f, "memory     {} KiB resident, {} KiB proportional", rss / 1024, pss / 1024)?;
        }
        Ok(())
    }
}

/// Runs the calls; `callee` is the socket of all callees, where [`register`] has registered them.
pub fn run(calls: &Calls, callee: &UdpSocket) -> Result<Outcome> {
    UnderWay::begin(calls, callee)?.finish()
}

/// Calls that are under way in the thread of another load, which gives them a turn again and again.
pub struct UnderWay<'a> {
    run: Run<'a>,
    inbox: Inbox,
    pid: Option<u32>,
    before: Option<Cpu>,
}

impl<'a> UnderWay<'a> {
    /// Begins them; otherwise as [`run`].
    pub fn begin(calls: &'a Calls<'a>, callee: &'a UdpSocket) -> Result<Self> {
        ensure!(calls.count > 0 && calls.rate > 0.0, "there is at least one call and a rate");
        ensure!(!calls.callees.is_empty() && calls.sources > 0, "calls have callees and sources");
        callee.set_nonblocking(true)?;
        let mut inbox = Inbox::new(64);
        while inbox.receive(callee)? > 0 {} // What an earlier run left.
        let before = calls.pid.map(Cpu::read).transpose()?;
        Ok(Self { run: Run::new(calls, callee)?, inbox, pid: calls.pid, before })
    }

    /// Sends what is due and takes what has come; false when all calls are over.
    pub fn turn(&mut self) -> Result<bool> {
        self.run.turn(&mut self.inbox)
    }

    /// Goes on for a while, with nothing else to do in this thread.
    pub fn go_on_for(&mut self, time: Duration) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < time && self.turn()? {}
        Ok(())
    }

    /// Goes on until all are over.
    pub fn finish(mut self) -> Result<Outcome> {
        while self.turn()? {}
        let mut outcome = self.run.outcome();
        if let (Some(pid), Some(before)) = (self.pid, self.before) {
            outcome.cpu = Some(Cpu::read(pid)?.per_message_since(&before, outcome.completed));
            if outcome.memory.is_none() {
                outcome.memory = Some(Memory::read(pid)?);
            }
        }
        Ok(outcome)
    }
}

/// Finds the highest rate up to `calls.rate` at which next to no call fails, in trials of `trial` each; returns
/// that rate's outcome, or the lowest rate's if none was served.
pub fn find_max(calls: &Calls, callee: &UdpSocket, trial: Duration) -> Result<Outcome> {
    let mut calls = calls.clone();
    let ceiling = calls.rate;
    let tried = |rate: f64| {
        calls.rate = rate;
        calls.count = ((rate * trial.as_secs_f64()) as u64).max(1);
        run(&calls, callee)
    };
    search::highest(ceiling, 0.03, tried)
}

/// Registers the users of these numbers in `domain` with `callee` as their contact, and repeats what is lost.
pub fn register(server: SocketAddrV4, domain: &str, callees: Range<u32>, callee: &UdpSocket) -> Result<()> {
    let template = Template::register(domain, mmsg::address(callee), "");
    let source = mmsg::bind(0)?;
    source.connect(server)?;
    source.set_read_timeout(Some(Duration::from_millis(500)))?;
    let (mut inbox, mut mailer) = (Inbox::new(64), Mailer::default());
    let cseq = load::fresh_cseq();
    let port = mmsg::address(&source).port();
    let mut ordinal = 0;
    let all: Vec<u32> = callees.collect();
    for batch in all.chunks(REGISTERS) {
        let mut missing = batch.to_vec();
        for attempt in 0.. {
            ensure!(attempt < ATTEMPTS, "the server does not take REGISTERs for {domain}");
            let requests: Vec<Vec<u8>> = missing
                .iter()
                .map(|&aor| {
                    ordinal += 1;
                    template.stamped(&Numbers { ordinal, attempt: 0, aor, cseq: cseq + attempt as u32, port })
                })
                .collect();
            mailer.send(&source, None, requests.iter().map(Vec::as_slice))?;
            let deadline = Instant::now() + Duration::from_millis(500);
            while !missing.is_empty() && Instant::now() < deadline {
                inbox.receive(&source)?;
                for response in inbox.datagrams().filter(|datagram| datagram.starts_with(b"SIP/2.0 200 ")) {
                    missing.retain(|aor| memchr::memmem::find(response, format!("user{aor:07}@").as_bytes()).is_none());
                }
            }
            if missing.is_empty() {
                break;
            }
        }
    }
    Ok(())
}

/// Waits until a call goes through, as it does once all processes of the server are up.
pub fn await_service(calls: &Calls, callee: &UdpSocket) -> Result<()> {
    let deadline = Instant::now() + START;
    let one =
        Calls { count: 1, patience: Duration::from_secs(1), hold: Duration::ZERO, memory_at: None, ..calls.clone() };
    loop {
        let outcome = run(&one, callee)?;
        if outcome.completed == 1 {
            return Ok(());
        }
        let failures = outcome.failures;
        ensure!(Instant::now() < deadline, "no call to {} goes through within {START:?}: {failures:?}", calls.domain);
        std::thread::sleep(Duration::from_millis(100));
    }
}
