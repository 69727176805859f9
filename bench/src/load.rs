//! The load generator: one thread that sends at a fixed pace, whatever comes back, and is the sink as well.
//!
//! The load is open: message *i* is due at *i* / rate, and its latency counts from that instant, so a server (or a
//! generator) that stalls is charged for every message that should have been sent meanwhile (no coordinated omission).
//! Nothing is retransmitted: what does not come back is lost. Sending, the sink and the answers share one loop without a
//! wait, so that no second thread disturbs the server's core.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::{SocketAddrV4, UdpSocket},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{
    digest::Credentials,
    message::{self, Arrival, DOMAIN, Kind, Method, Numbers, Template},
    mmsg::{self, Inbox, Mailer},
    process::{Cpu, CpuPerMessage, Memory},
    search::{self, Trial},
    sources::Sources,
};

/// Most messages that one call sends, and so the most that arrive at once at a rate below the generator's ceiling.
const BATCH: usize = 16;
const INBOX: usize = 64;
/// The longest latency that is told apart.
pub(crate) const LONGEST: Duration = Duration::from_secs(60);
/// The loss (errors included) that a highest rate may have.
pub const TOLERATED_LOSS: f64 = 0.001;

/// What is sent, and what counts as its completion.
#[derive(Clone, Debug)]
pub enum Workload {
    /// A request whose Request-URI is the sink; complete when it arrives there.
    Forward {
        /// The request.
        method: Method,
        /// The sink answers 200; complete when the answer arrives at the source.
        answered: bool,
    },
    /// Such requests of several kinds and sizes.
    Mixed {
        /// The kinds.
        mix: &'static [Kind],
        /// As above.
        answered: bool,
    },
    /// A request for an address of record that has been registered with the sink as its contact; complete as above.
    Lookup {
        /// The request.
        method: Method,
        /// As above.
        answered: bool,
    },
    /// A REGISTER of the sink as the contact; complete when its 200 arrives.
    Register {
        /// Answers a challenge; the exchange of both requests then counts as one.
        credentials: Option<Credentials>,
    },
}

impl Workload {
    /// The messages, and which of them is sent for each ordinal, again and again in this order.
    fn templates(&self, sink: SocketAddrV4) -> Result<(Vec<Template>, Vec<usize>)> {
        let target = format!("sip:bench@{sink}");
        let one = match self {
            Self::Forward { method, .. } => Template::request(*method, &target)?,
            Self::Lookup { method, .. } => Template::request(*method, &format!("sip:user%%%%%%%@{DOMAIN}"))?,
            Self::Register { .. } => Template::register(DOMAIN, sink, ""),
            Self::Mixed { mix, .. } => {
                let kinds = mix.iter().map(|kind| Template::sized(kind.method, &target, kind.size));
                return Ok((kinds.collect::<Result<_>>()?, mixed(mix)));
            }
        };
        Ok((vec![one], vec![0]))
    }

    fn completes_at_sink(&self) -> bool {
        match self {
            Self::Forward { answered, .. } | Self::Mixed { answered, .. } | Self::Lookup { answered, .. } => !answered,
            Self::Register { .. } => false,
        }
    }
}

/// One run.
#[derive(Clone, Debug)]
pub struct Load<'a> {
    /// Where the server listens.
    pub server: SocketAddrV4,
    /// What is sent.
    pub workload: Workload,
    /// The addresses of record by number: message *i* is for `aors[i % aors.len()]`.
    pub aors: &'a [u32],
    /// The CSeq number of the first round over the addresses of record; each round adds 1 (2 with credentials).
    pub first_cseq: u32,
    /// Messages a second.
    pub rate: f64,
    /// Messages in all.
    pub count: u64,
    /// Source sockets, each a 4-tuple of its own.
    pub sources: usize,
    /// Whether what is due at once goes as one (UDP GSO), as from a NIC that gathers what comes in a row.
    pub trains: bool,
    /// How long the last messages may take before they count as lost.
    pub patience: Duration,
    /// The server's process, whose cost is read.
    pub pid: Option<u32>,
}

/// What a run found.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Messages a second that were asked for.
    pub rate: f64,
    /// Messages a second that were sent.
    pub sent_rate: f64,
    /// Messages sent; requests that answer a challenge are not counted.
    pub sent: u64,
    /// Messages that completed.
    pub completed: u64,
    /// The part of the sent messages that did not complete.
    pub loss: f64,
    /// Arrivals of what had completed before.
    pub duplicates: u64,
    /// Responses that arrived at the sources, by status code.
    pub statuses: BTreeMap<u16, u64>,
    /// The most that the generator was behind its own pace.
    pub behind_max_us: f64,
    /// From the instant a message was due until it completed.
    pub latency: Latency,
    /// The server's CPU time per completed message.
    pub cpu: Option<CpuPerMessage>,
    /// The server's memory after the run.
    pub memory: Option<Memory>,
    /// The CSeq number with which a next run over the same addresses of record may begin.
    pub next_cseq: u32,
    /// The numbers of the addresses of record of lost messages.
    #[serde(skip)]
    pub lost_aors: Vec<u32>,
}

/// Quantiles of a run, microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    /// How many were recorded.
    pub count: u64,
    /// The median.
    pub p50_us: f64,
    /// 90 %.
    pub p90_us: f64,
    /// 99 %.
    pub p99_us: f64,
    /// 99.9 %.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
}

impl From<&Histogram<u64>> for Latency {
    fn from(nanoseconds: &Histogram<u64>) -> Self {
        let us = |quantile| nanoseconds.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            count: nanoseconds.len(),
            p50_us: us(0.5),
            p90_us: us(0.9),
            p99_us: us(0.99),
            p999_us: us(0.999),
            max_us: nanoseconds.max() as f64 / 1e3,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Latency { p50_us, p90_us, p99_us, p999_us, max_us, .. } = self.latency;
        writeln!(f, "sent       {} at {:.0}/s of {:.0}/s asked for", self.sent, self.sent_rate, self.rate)?;
        writeln!(f, "completed  {} (loss {:.3} %, {} duplicates)", self.completed, 100.0 * self.loss, self.duplicates)?;
        for (status, count) in &self.statuses {
            writeln!(f, "status     {status}: {count}")?;
        }
        writeln!(
            f,
            "latency    p50 {p50_us:.0}  p90 {p90_us:.0}  p99 {p99_us:.0}  p99.9 {p999_us:.0}  max {max_us:.0} µs"
        )?;
        writeln!(f, "behind     {:.0} µs at most", self.behind_max_us)?;
        if let Some(CpuPerMessage { user_us, system_us, total_us }) = self.cpu {
            writeln!(f, "server     {total_us:.2} µs CPU a message ({user_us:.2} user, {system_us:.2} system)")?;
        }
        if let Some(Memory { rss, pss }) = self.memory {
            writeln!(f, "memory     {} KiB resident, {} KiB proportional", rss / 1024, pss / 1024)?;
        }
        writeln!(f, "next cseq  {}", self.next_cseq)
    }
}

impl Outcome {
    /// Whether the rate was served: nearly nothing lost, and the generator kept its pace.
    pub fn sustained(&self) -> bool {
        self.loss < TOLERATED_LOSS && self.sent_rate > 0.98 * self.rate
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

/// Runs the load against its server, with `sink` as the target of what the server forwards.
pub fn run(load: &Load, sink: &UdpSocket) -> Result<Outcome> {
    run_beside(load, sink, &mut || Ok(()))
}

/// The same with another load in this thread, of which `meanwhile` runs a turn. It must be short: this load waits for it.
pub fn run_beside(load: &Load, sink: &UdpSocket, meanwhile: &mut dyn FnMut() -> Result<()>) -> Result<Outcome> {
    ensure!(load.count > 0 && load.rate > 0.0, "a load has at least one message and a rate");
    ensure!(!load.aors.is_empty(), "a load has addresses of record");
    let mut sources = Sources::open(load.sources, load.server)?;
    let (templates, order) = load.workload.templates(mmsg::address(sink))?;
    sink.set_nonblocking(true)?;
    let mut run = Run {
        load,
        sink: mmsg::address(sink),
        templates,
        order,
        start: Instant::now(),
        sent: 0,
        completed: 0,
        done: vec![0; (load.count as usize).div_ceil(64)],
        duplicates: 0,
        statuses: BTreeMap::new(),
        latency: Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, 3).context("the bounds are in order")?,
    };

    let mut inbox = Inbox::new(INBOX);
    while inbox.receive(sink)? > 0 {} // What an earlier run left.
    let before = load.pid.map(Cpu::read).transpose()?;
    let (sent_rate, behind) = run.drive(&mut sources, sink, &mut inbox, meanwhile)?;
    let cpu = match (load.pid, before) {
        (Some(pid), Some(before)) => Some(Cpu::read(pid)?.per_message_since(&before, run.completed)),
        _ => None,
    };

    let lost = (0..run.sent).filter(|&ordinal| !run.is_done(ordinal)).map(|ordinal| run.numbers(ordinal, 0, 0).aor);
    Ok(Outcome {
        rate: load.rate,
        sent_rate,
        sent: run.sent,
        completed: run.completed,
        loss: (run.sent - run.completed) as f64 / run.sent.max(1) as f64,
        duplicates: run.duplicates,
        behind_max_us: behind.as_secs_f64() * 1e6,
        latency: Latency::from(&run.latency),
        cpu,
        memory: load.pid.map(Memory::read).transpose()?,
        next_cseq: run.numbers(run.sent.saturating_sub(1), 0, 0).cseq + run.cseqs_per_round(),
        lost_aors: lost.collect(),
        statuses: run.statuses,
    })
}

/// Finds the highest rate up to `load.rate` that is served with a loss below [`TOLERATED_LOSS`], in trials of
/// `trial` each; returns that rate's outcome, or the lowest rate's if none was served.
pub fn find_max(load: &Load, sink: &UdpSocket, trial: Duration) -> Result<Outcome> {
    let mut load = load.clone();
    let ceiling = load.rate;
    let tried = |rate: f64| {
        load.rate = rate;
        load.count = ((rate * trial.as_secs_f64()) as u64).max(1);
        let outcome = run(&load, sink)?;
        load.first_cseq = outcome.next_cseq;
        Ok(outcome)
    };
    let mut best = search::highest(ceiling, 0.02, tried)?;
    best.next_cseq = load.first_cseq;
    Ok(best)
}

struct Run<'a> {
    load: &'a Load<'a>,
    sink: SocketAddrV4,
    templates: Vec<Template>,
    /// Which of them is sent for each ordinal, again and again.
    order: Vec<usize>,
    start: Instant,
    sent: u64,
    completed: u64,
    /// One bit for each ordinal.
    done: Vec<u64>,
    duplicates: u64,
    statuses: BTreeMap<u16, u64>,
    latency: Histogram<u64>,
}

impl Run<'_> {
    /// Sends, sinks and counts until all is done or lost; returns the rate sent and the most it was behind.
    fn drive(
        &mut self,
        sources: &mut Sources,
        sink: &UdpSocket,
        inbox: &mut Inbox,
        meanwhile: &mut dyn FnMut() -> Result<()>,
    ) -> Result<(f64, Duration)> {
        let load = self.load;
        // A generator that cannot keep its pace ends after twice the time, with less sent.
        let deadline = Duration::from_secs_f64(2.0 * load.count as f64 / load.rate) + load.patience;
        // Each place of a batch has a copy of every message, so that only digits are written.
        let copies: Vec<Vec<u8>> = self.templates.iter().map(|template| template.octets().to_vec()).collect();
        let mut batch = vec![copies; BATCH];
        let mut mailer = Mailer::default();
        let mut behind = Duration::ZERO;
        let mut sending = Duration::ZERO;
        self.start = Instant::now();
        for turn in 0.. {
            let now = self.start.elapsed();
            let due = ((now.as_secs_f64() * load.rate) as u64 + 1).min(load.count);
            let size = (due - self.sent).min(BATCH as u64) as usize;
            if size > 0 && now < deadline {
                behind = behind.max(now.saturating_sub(self.due(self.sent)));
                let (source, port) = sources.of_turn(turn);
                for (ordinal, copies) in (self.sent..).zip(&mut batch[..size]) {
                    let kind = self.kind(ordinal);
                    self.templates[kind].stamp(&mut copies[kind], &self.numbers(ordinal, 0, port));
                }
                let datagrams = (self.sent..).zip(&batch[..size]).map(|(it, copies)| copies[self.kind(it)].as_slice());
                let sent = match load.trains {
                    true => mailer.send_segmented(source, load.server, datagrams).map(|()| size),
                    false => mailer.send(source, None, datagrams),
                };
                self.sent += sent.map_err(|error| unreachable_server(error, load.server))? as u64;
                sending = self.start.elapsed();
            }
            self.take_at_sink(sink, inbox)?;
            for source in sources.to_look_at(turn)? {
                self.take_at_source(source, inbox)?;
            }
            meanwhile()?;
            let all_sent = self.sent == load.count || now >= deadline;
            if all_sent && (self.completed == self.sent || now > sending + load.patience) {
                break;
            }
        }
        Ok((self.sent as f64 / sending.as_secs_f64().max(1e-9), behind))
    }

    fn take_at_sink(&mut self, sink: &UdpSocket, inbox: &mut Inbox) -> Result<()> {
        if inbox.receive(sink)? == 0 {
            return Ok(());
        }
        let now = self.start.elapsed();
        for (datagram, from) in inbox.datagrams().zip(inbox.sources()) {
            match Arrival::read(datagram) {
                Some(arrival) if self.load.workload.completes_at_sink() => self.complete(arrival.ordinal, now),
                // An answer that the kernel refuses is lost like any other.
                Some(_) => drop(sink.send_to(&message::ok_to(datagram), from)),
                // A server that asks whether the sink is there gives it nothing until it has an answer.
                None if datagram.starts_with(b"OPTIONS ") => drop(sink.send_to(&message::ok_to(datagram), from)),
                None => {}
            }
        }
        Ok(())
    }

    fn take_at_source(&mut self, source: &UdpSocket, inbox: &mut Inbox) -> Result<()> {
        let taken = inbox.receive(source).map_err(|error| unreachable_server(error, self.load.server))?;
        if taken == 0 {
            return Ok(());
        }
        let now = self.start.elapsed();
        for datagram in inbox.datagrams() {
            let Some(arrival) = Arrival::read(datagram) else { continue };
            let Some(status) = arrival.status else { continue };
            *self.statuses.entry(status).or_default() += 1;
            match (status, &self.load.workload) {
                (100..200, _) => {}
                (200..300, _) => self.complete(arrival.ordinal, now),
                (401 | 407, Workload::Register { credentials: Some(credentials) }) if arrival.attempt == 0 => {
                    let numbers = self.numbers(arrival.ordinal, 1, mmsg::address(source).port());
                    let Some(authorization) = credentials.answer(datagram, &numbers) else {
                        bail!("no challenge that this bench can answer: {}", String::from_utf8_lossy(datagram));
                    };
                    // As lost as any other, should the kernel refuse it.
                    drop(source.send(&Template::register(DOMAIN, self.sink, &authorization).stamped(&numbers)));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn complete(&mut self, ordinal: u64, now: Duration) {
        if ordinal >= self.sent || self.is_done(ordinal) {
            self.duplicates += 1;
            return;
        }
        self.done[ordinal as usize / 64] |= 1 << (ordinal % 64);
        self.completed += 1;
        self.latency.saturating_record(now.saturating_sub(self.due(ordinal)).as_nanos() as u64);
    }

    fn is_done(&self, ordinal: u64) -> bool {
        self.done[ordinal as usize / 64] >> (ordinal % 64) & 1 == 1
    }

    fn due(&self, ordinal: u64) -> Duration {
        Duration::from_secs_f64(ordinal as f64 / self.load.rate)
    }

    fn cseqs_per_round(&self) -> u32 {
        if matches!(self.load.workload, Workload::Register { credentials: Some(_) }) { 2 } else { 1 }
    }

    fn kind(&self, ordinal: u64) -> usize {
        self.order[(ordinal % self.order.len() as u64) as usize]
    }

    /// The numbers of a message are a function of its ordinal: the run keeps no table of what it has sent.
    fn numbers(&self, ordinal: u64, attempt: u8, port: u16) -> Numbers {
        let aors = self.load.aors;
        let round = (ordinal / aors.len() as u64) as u32;
        Numbers {
            ordinal,
            attempt,
            aor: aors[(ordinal % aors.len() as u64) as usize],
            cseq: self.load.first_cseq + round * self.cseqs_per_round() + u32::from(attempt),
            port,
        }
    }
}

pub(crate) fn unreachable_server(error: io::Error, server: SocketAddrV4) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => anyhow::anyhow!("nothing listens on {server}"),
        _ => error.into(),
    }
}

/// A CSeq number above those of all runs before, as long as none takes more than a hundred a second (RFC 3261 §10.3 step 7).
pub fn fresh_cseq() -> u32 {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (unix.as_millis() / 10) as u32 & 0x3FFF_FFFF
}

/// Numbers of addresses of record, each once, in an order that has nothing to do with the order of their registration and
/// is the same in every run.
pub fn shuffled(count: u32) -> Vec<u32> {
    let mut aors: Vec<u32> = (0..count).collect();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for last in (1..aors.len()).rev() {
        // xorshift64 and Fisher-Yates.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        aors.swap(last, (state % (last as u64 + 1)) as usize);
    }
    aors
}

/// A hundred places in a mix, each kind as often as that says, in an order that is the same in every run.
fn mixed(mix: &[Kind]) -> Vec<usize> {
    let kinds = mix.iter().enumerate();
    let sorted: Vec<usize> = kinds.flat_map(|(at, kind)| std::iter::repeat_n(at, kind.percent)).collect();
    shuffled(sorted.len() as u32).into_iter().map(|place| sorted[place as usize]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_has_each_kind_as_often_as_it_says() {
        for mix in [&message::MIX, &message::NEAR] {
            let order = mixed(mix);
            assert_eq!(order.len(), 100);
            for (at, kind) in mix.iter().enumerate() {
                assert_eq!(order.iter().filter(|&&place| place == at).count(), kind.percent);
            }
            assert!(!order.is_sorted());
        }
    }
}
