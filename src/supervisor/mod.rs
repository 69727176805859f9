//! The supervisor: starts the processes of a switch, watches them, starts them again, and replaces them one at a time.
//!
//! It does no SIP. It binds every socket and keeps a copy of each, so that what the kernel has queued for a process that
//! ended waits there for the next one ([`crate::process`] is the other side). It owns the control socket and hands on what it does
//! not know itself ([`orders`](self)).
//!
//! One thread, this one, owns all processes and hears of everything as an [`Event`]; [`member`] is what becomes of one process
//! from one generation to the next. Nothing is waited for here: who asks a child does so on a thread of his own.
#![expect(
    clippy::disallowed_methods,
    reason = "the edge: it reads the clock, draws the chance of a pause, and starts threads"
)]

mod apps;
mod backoff;
mod child;
mod member;
mod notify;
mod orders;
mod replacement;
mod settings;

pub use backoff::{Backoff, Pauses};
pub use settings::Settings;

use crate::config::{self, Config};
use crate::control::{Answer, ControlServer, Done};
use crate::io::Sockets;
use crate::process::{AppPlace, Inherited, PROTOCOL, SWITCH, Start, ToChild, ToSupervisor};
use crate::{capabilities, logging, raw, switch};
use anyhow::{Context, anyhow, bail};
use apps::AppsTable;
use child::{Child, Spec};
use member::{Member, Running, Seat};
use notify::Notifier;
use orders::Shared;
use replacement::app_seat;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Events that may wait.
const EVENTS: usize = 1024;

/// How often deadlines are looked at, while something is under way and while nothing is.
const STEP: Duration = Duration::from_millis(10);
const CALM: Duration = Duration::from_secs(1);

/// What happens.
pub enum Event {
    /// To us.
    Signal(i32),
    /// A child has said something.
    Heard(u64, ToSupervisor),
    /// A child has ended, for that reason.
    Ended(u64, String),
    /// A child has answered what we asked.
    Answered(Purpose, anyhow::Result<Answer>),
    /// An operator wants something done.
    Ordered(Order, mpsc::SyncSender<Answer>),
}

/// What a question to a child was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// That child has the calls which the one before it has left.
    Adopt(u64),
    /// The switch has that version of the table of application servers.
    Apps(u64),
}

/// What an operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// A process replaced.
    Restart(String),
    /// An application server out of service.
    Drain(String),
    /// Everything stopped.
    Stop,
}

/// Runs the switch that `config`, which is what `text` says, asks for as processes, until SIGTERM or SIGINT.
pub fn run(config: Config, text: String, level: logging::Level) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).context("watching for signals")?;
    let (sender, events) = mpsc::sync_channel(EVENTS);
    let mut supervisor = Supervisor::new(config, text, level, sender.clone())?;
    let handle = signals.handle();
    let watching =
        std::thread::spawn(move || signals.forever().try_for_each(|signal| sender.send(Event::Signal(signal))));
    let control = ControlServer::start(supervisor.shared.data_dir(), Arc::clone(&supervisor.shared) as _)?;
    switch::tell_steering(supervisor.shared.steering());
    let ended = supervisor.supervise(&events);
    handle.close();
    // It can wait for this thread only, which takes no more.
    drop(events);
    let stopped = control.stop().context("the control socket could not be closed");
    if watching.join().is_err() {
        bail!("the thread that waits for signals has panicked");
    }
    ended?;
    stopped?;
    tracing::info!("stopped");
    Ok(())
}

struct Supervisor {
    settings: Settings,
    shared: Arc<Shared>,
    /// The switch, then the application servers in the order of the configuration.
    members: Vec<Member>,
    /// Where the shards of the switch hear the application servers.
    switch_hop: Vec<SocketAddr>,
    notifier: Notifier,
    events: mpsc::SyncSender<Event>,
    children: u64,
    apps: AppsTable,
    /// A socket that no application server has keeps the process that sends for callbacks alive.
    _raw: Vec<OwnedFd>,
    is_up: bool,
    stopping: Option<Stopping>,
    beat_at: Instant,
    alive_at: Instant,
    /// Why everything ends.
    fault: Option<anyhow::Error>,
}

struct Stopping {
    since: Instant,
    killed: bool,
}

impl Supervisor {
    fn new(
        config: Config,
        text: String,
        level: logging::Level,
        events: mpsc::SyncSender<Event>,
    ) -> anyhow::Result<Self> {
        switch::prepare_data_dir(&config.data_dir)?;
        // Made before any process asks for it, so that all find the same.
        let secret = switch::secret(&config.secret())?;
        let settings = Settings::new(&config.supervisor);
        let edge = switch::edge_settings(&config);
        let mut sockets = Sockets::bind(&edge)?;
        let steering = switch::steer(&config, &secret, &sockets);
        let switch_hop = sockets.add_hop(&edge)?;
        let spec = |cores: &config::Shards, binary| Spec {
            binary,
            cores: cores.cores().iter().map(|&core| usize::from(core)).collect(),
            oom_score: 0,
            log: config.log.format,
        };
        let switch_spec = spec(&config.cores.switch, None);
        let seat = Seat { sockets, addresses: switch_hop.clone() };
        let mut members = vec![Member::new(SWITCH, switch_spec, seat, &settings)];
        for app in config.app.iter().filter(|app| app.uri.is_none()) {
            let spec = Spec {
                // Scripts stand back for the proxy and the registrar, in memory too.
                oom_score: settings.app_oom_score,
                ..spec(&app.cores, app.binary.clone())
            };
            let seat = app_seat(&config, app.cores.count())?;
            let mut member = Member::new(&app.name, spec, seat, &settings);
            member.memory_limit = (app.memory_limit_mb > 0).then_some(u64::from(app.memory_limit_mb) << 20);
            member.journals = Some(config.data_dir.join("apps").join(&app.name));
            members.push(member);
        }
        // Whatever needs a capability has been done: all others have what is left, which is none.
        let raw = raw::start(&config, members.len() - 1)?;
        capabilities::give_up().context("giving up capabilities")?;
        let mut raw = raw.map(raw::Started::watch).unwrap_or_default();
        for member in &mut members[1..] {
            member.raw = raw.pop();
        }
        let shared = Arc::new(Shared::new(config, text, level, events.clone(), steering));
        let now = Instant::now();
        Ok(Self {
            settings,
            shared,
            members,
            switch_hop,
            notifier: Notifier::from_env(),
            events,
            children: 0,
            apps: AppsTable::default(),
            _raw: raw,
            is_up: false,
            stopping: None,
            beat_at: now,
            alive_at: now,
            fault: None,
        })
    }

    /// Starts everything and sees to it until it has ended.
    fn supervise(&mut self, events: &mpsc::Receiver<Event>) -> anyhow::Result<()> {
        self.apps.places = self.places();
        for place in 0..self.members.len() {
            self.start(place);
        }
        while self.stopping.is_none() || self.members.iter().any(Member::is_alive) {
            let step = if self.is_calm() { CALM } else { STEP };
            match events.recv_timeout(step) {
                Ok(event) => self.handle(event),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => unreachable!("we hold a sender"),
            }
            self.handle_timeout(Instant::now());
            self.shared.publish(self.members.iter().map(|member| (member.status(), member.serving_child())));
        }
        self.fault.take().map_or(Ok(()), Err)
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Signal(SIGHUP) => self.shared.reload_later(),
            Event::Signal(_) => self.stop(),
            Event::Heard(id, said) => self.heard(id, said),
            Event::Ended(id, reason) => self.ended(id, reason),
            Event::Answered(purpose, answer) => self.answered(purpose, answer),
            Event::Ordered(order, reply) => self.obey(order, reply),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if let Some(interval) = self.notifier.interval()
            && now >= self.alive_at
        {
            self.notifier.alive();
            self.alive_at = now + interval;
        }
        let beats = now >= self.beat_at;
        if beats {
            self.beat_at = now + self.settings.beat;
        }
        for place in 0..self.members.len() {
            if beats {
                self.members[place].beat();
                self.weigh(place);
            }
            self.members[place].end_the_overdue(now, &self.settings);
            if self.members[place].resume_at.is_some_and(|at| at <= now) && self.stopping.is_none() {
                self.start(place);
            }
        }
        self.tell_apps(now);
        self.pass_waiting_on(now);
        if let Some(stopping) = &mut self.stopping
            && !stopping.killed
            && now >= stopping.since + self.settings.stop
        {
            stopping.killed = true;
            tracing::warn!("what still runs is killed");
            self.members.iter().for_each(|member| member.each(Child::kill));
        }
    }

    /// Whether nothing is under way that has a deadline soon.
    fn is_calm(&self) -> bool {
        self.stopping.is_none() && self.members.iter().all(Member::is_calm) && self.apps.is_taken()
    }

    /// Starts a member's process, in the place of one that has ended.
    fn start(&mut self, place: usize) {
        let member = &mut self.members[place];
        member.resume_at = None;
        if std::mem::take(&mut member.told_down) {
            member.seat.sockets.discard_waiting();
        }
        let inherited = Inherited::of(&member.seat.sockets);
        let journal = member.journal();
        match self.spawn(place, inherited, journal, false) {
            Ok(running) => self.members[place].current = Some(running),
            Err(error) => self.failed(place, Duration::ZERO, format!("{error:#}")),
        }
    }

    fn spawn(
        &mut self,
        place: usize,
        sockets: Inherited,
        journal: Option<std::path::PathBuf>,
        waits: bool,
    ) -> anyhow::Result<Running> {
        let member = &self.members[place];
        let (file, text) = self.shared.text();
        let start = Start {
            protocol: PROTOCOL,
            name: member.name.clone(),
            file,
            text,
            journald: self.shared.logs_to_journald(),
            sockets,
            waits,
            apps: self.apps.places.clone(),
            switch: self.switch_hop.clone(),
            journal,
            raw: member.raw.as_ref().map(AsRawFd::as_raw_fd),
        };
        self.children += 1;
        let child = Child::spawn(self.children, &member.spec, &start, &self.events)?;
        tracing::debug!(name = member.name, pid = child.pid, "a process is started");
        Ok(Running::new(child))
    }

    fn place_of(&self, id: u64) -> Option<usize> {
        self.members.iter().position(|member| member.running().any(|running| running.child.id == id))
    }

    fn heard(&mut self, id: u64, said: ToSupervisor) {
        let Some(place) = self.place_of(id) else { return };
        let member = &mut self.members[place];
        match said {
            ToSupervisor::Prepared => member.is_prepared(id),
            ToSupervisor::Serving => {
                let is_first = member.serves(id);
                if let Some(running) = member.running().find(|running| running.child.id == id) {
                    tracing::info!(name = member.name, pid = running.child.pid, "a process serves");
                }
                if place == 0 {
                    // It was told of an older table when it was started.
                    self.apps.tell_again(Instant::now());
                }
                if is_first {
                    self.look_whether_all_serve();
                }
            }
            ToSupervisor::Beat { turns } => member.has_beaten(id, turns),
            ToSupervisor::Drained => member.is_drained(id),
            ToSupervisor::Answer { .. } | ToSupervisor::Failed { .. } => {}
        }
    }

    /// Says once that the switch is up: each process serves, or has failed for now.
    fn look_whether_all_serve(&mut self) {
        let is_settled = |member: &Member| member.is_serving() || member.resume_at.is_some();
        if !self.is_up && self.members[0].is_serving() && self.members.iter().all(is_settled) {
            self.is_up = true;
            self.notifier.ready();
            self.notifier.status("serving");
            tracing::info!(processes = self.members.len(), pid = std::process::id(), "serving");
        }
    }

    fn ended(&mut self, id: u64, reason: String) {
        let Some(place) = self.place_of(id) else { return };
        let stops = self.stopping.is_some();
        let ended = self.members[place].has_ended(id, &reason);
        match ended {
            member::Ended::Stays => {}
            member::Ended::Failed { served, reason } if !stops => self.failed(place, served, reason),
            member::Ended::Failed { reason, .. } => {
                tracing::debug!(name = self.members[place].name, reason, "a process has ended");
            }
            member::Ended::Replaced { .. } if stops => {}
            member::Ended::Replaced { successor } => self.succeed(place, successor),
        }
    }

    /// A member is without a process, unasked: it is started again after a pause. The switch fails its first start for good: what it
    /// lacks, the operator must see to.
    fn failed(&mut self, place: usize, served: Duration, reason: String) {
        let is_first = place == 0 && !self.is_up;
        let pause = self.members[place].has_failed(served, &reason, chance());
        let name = &self.members[place].name;
        if is_first {
            self.fault = Some(anyhow!("{reason}"));
            return self.stop();
        }
        tracing::error!(name, reason, pause_ms = pause.as_millis() as u64, "a process has ended and is started again");
        self.look_whether_all_serve();
    }

    /// The process before the successor has ended.
    fn succeed(&mut self, place: usize, successor: Arc<Child>) {
        match place {
            // It waits for the journal.
            0 => successor.say(&ToChild::Go),
            _ => self.ask(successor, Purpose::Adopt, |id| ToChild::Adopt { id }),
        }
    }

    /// Asks a child on a thread of its own; the answer comes as an event.
    fn ask(
        &self,
        child: Arc<Child>,
        purpose: impl FnOnce(u64) -> Purpose,
        question: impl FnOnce(u64) -> ToChild + Send + 'static,
    ) {
        let (events, patience, purpose) = (self.events.clone(), self.settings.answer, purpose(child.id));
        std::thread::spawn(move || events.send(Event::Answered(purpose, child.ask(question, patience))));
    }

    fn answered(&mut self, purpose: Purpose, answer: anyhow::Result<Answer>) {
        let answer = answer.and_then(|answer| answer.into_result::<Done>().map_err(anyhow::Error::msg));
        match (purpose, answer) {
            (Purpose::Adopt(id), answer) => {
                let Some(place) = self.place_of(id) else { return };
                if let Err(error) = answer {
                    tracing::error!(
                        name = self.members[place].name,
                        "the calls before a restart are not taken up: {error:#}"
                    );
                }
                self.members[place].has_adopted();
            }
            (Purpose::Apps(version), Ok(Done {})) => self.apps.took(version),
            // It ends too, and may do so without an answer.
            (Purpose::Apps(_), Err(_)) if self.stopping.is_some() => {}
            (Purpose::Apps(_), Err(error)) => {
                tracing::warn!("the switch has not taken up where the application servers are: {error:#}");
                self.apps.tell_again(Instant::now() + self.settings.beat);
            }
        }
    }

    /// Where the application servers are, and what they take.
    fn places(&self) -> Vec<AppPlace> {
        self.members[1..].iter().map(Member::place).collect()
    }

    /// Ends everything: at first with a drain, at a second call at once.
    fn stop(&mut self) {
        if self.stopping.is_some() {
            self.members.iter().for_each(|member| member.each(|child| child.say(&ToChild::StopNow)));
            return;
        }
        if self.fault.is_none() {
            tracing::info!("draining; a second signal stops at once");
        }
        self.notifier.stopping();
        self.stopping = Some(Stopping { since: Instant::now(), killed: false });
        self.members.iter_mut().for_each(Member::stop);
    }
}

fn chance() -> u8 {
    let mut octet = [128];
    // Without entropy there is no chance, and the pause is what it is.
    let _ = getrandom::fill(&mut octet);
    octet[0]
}
