//! One process of the switch through its generations: the one that serves, the one that is to follow it, and what the
//! supervisor knows about both.
//!
//! A generation that ends unasked is followed, after a pause, by one on the same sockets and the same journal. One that is
//! replaced is followed by one which was prepared beside it:
//!
//! - The switch's waits for the journal. When it is prepared, the old one stops reading, settles its journal and ends; the
//!   new one replays that and reads on, from the same sockets.
//! - An application server's has sockets and a journal of its own and serves at once. The old one keeps what belongs to the calls
//!   that are being set up in it, and passes on what does not. When these are through, or their time is, it ends;
//!   the new one takes up the calls that it has left, and the switch sends there.
#![expect(clippy::disallowed_methods, reason = "the edge: it reads the clock")]

use super::child::{Child, Spec};
use super::{Backoff, Settings};
use crate::control::{Answer, ProcessStatus, Restart, Restarted};
use crate::io::Sockets;
use crate::process::{AppPlace, AppState, ToChild};
use anyhow::bail;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Restarts whose reasons are kept.
const REASONS: usize = 16;

/// The sockets of a process, and where others send to its shards.
pub(super) struct Seat {
    pub(super) sockets: Sockets,
    pub(super) addresses: Vec<SocketAddr>,
}

/// How far a running process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It reads its configuration and its journal.
    Starting,
    /// It waits for the journal of the one before.
    Prepared,
    /// It serves.
    Serving,
    /// It takes on nothing new.
    Draining,
    /// It is to end.
    Leaving,
}

/// A running process.
pub(super) struct Running {
    pub(super) child: Arc<Child>,
    pub(super) stage: Stage,
    since: Instant,
    served_since: Option<Instant>,
    heard: Instant,
    /// The last count of turns of each shard, and since when it is that.
    turns: Vec<(u64, Instant)>,
    /// Why we have killed it.
    doom: Option<String>,
}

/// A process of the switch.
pub(super) struct Member {
    pub(super) name: String,
    pub(super) spec: Spec,
    pub(super) seat: Seat,
    pub(super) memory_limit: Option<u64>,
    /// The directory of its journals, if it has several.
    pub(super) journals: Option<PathBuf>,
    /// What all its generations ask the process by that sends for callbacks.
    pub(super) raw: Option<OwnedFd>,
    journal_number: u64,
    pub(super) current: Option<Running>,
    /// The one that is to follow; on sockets of its own, if it has some.
    pub(super) next: Option<(Running, Option<Seat>)>,
    /// Sockets of generations before, in which something may still wait.
    pub(super) retired: Vec<Retired>,
    /// When it is started again.
    pub(super) resume_at: Option<Instant>,
    pub(super) wanted: bool,
    pub(super) told_down: bool,
    pub(super) asker: Option<mpsc::SyncSender<Answer>>,
    backoff: Backoff,
    ended_at: Option<Instant>,
    handed_over_at: Option<Instant>,
    has_served: bool,
    restarts: u64,
    reasons: VecDeque<Restart>,
}

/// Sockets that nobody reads any more, until the switch has heard it.
pub(super) struct Retired {
    pub(super) seat: Seat,
    pub(super) since: Instant,
}

/// What the end of a process means.
pub(super) enum Ended {
    /// Nothing more.
    Stays,
    /// Nobody takes its place.
    Failed { served: Duration, reason: String },
    /// That one does.
    Replaced { successor: Arc<Child> },
}

/// A process is larger than it may be.
pub(super) enum Excess {
    /// It has been killed for it.
    Doomed,
    /// By so much.
    Over(String),
}

impl Running {
    pub(super) fn new(child: Child) -> Self {
        let now = child.started;
        let child = Arc::new(child);
        Self {
            child,
            stage: Stage::Starting,
            since: now,
            served_since: None,
            heard: now,
            turns: Vec::new(),
            doom: None,
        }
    }

    fn enter(&mut self, stage: Stage) {
        (self.stage, self.since) = (stage, Instant::now());
    }

    fn kill(&mut self, why: String) {
        if self.doom.is_none() {
            self.doom = Some(why);
            self.child.kill();
        }
    }

    /// Whether it must give signs of life.
    fn is_watched(&self) -> bool {
        matches!(self.stage, Stage::Serving | Stage::Draining)
    }

    /// Why it has to end, if it has to.
    fn is_overdue(&self, now: Instant, settings: &Settings) -> Option<String> {
        let passed = now.saturating_duration_since(self.since);
        let over =
            |limit: Duration, what: &str| (passed > limit).then(|| format!("it {what} for {} s", limit.as_secs()));
        match self.stage {
            Stage::Starting => over(settings.start, "did not serve"),
            Stage::Leaving => over(settings.leave, "did not end"),
            Stage::Prepared => None,
            Stage::Serving | Stage::Draining => {
                let silent = |since: Instant| now.saturating_duration_since(since) > settings.silence;
                let stuck = || self.turns.iter().position(|&(_, since)| silent(since));
                if silent(self.heard) {
                    return Some(format!("it gave no sign of life for {} s", settings.silence.as_secs()));
                }
                stuck().map(|shard| format!("shard {shard} took no turn for {} s", settings.silence.as_secs()))
            }
        }
    }
}

impl Member {
    pub(super) fn new(name: &str, spec: Spec, seat: Seat, settings: &Settings) -> Self {
        Self {
            name: name.to_owned(),
            spec,
            seat,
            memory_limit: None,
            journals: None,
            raw: None,
            journal_number: 1,
            current: None,
            next: None,
            retired: Vec::new(),
            resume_at: None,
            wanted: true,
            told_down: false,
            asker: None,
            backoff: Backoff::new(settings.pauses),
            ended_at: None,
            handed_over_at: None,
            has_served: false,
            restarts: 0,
            reasons: VecDeque::new(),
        }
    }

    pub(super) fn shards(&self) -> u16 {
        self.seat.addresses.len() as u16
    }

    /// The directory of its latest generation's journal.
    pub(super) fn journal(&self) -> Option<PathBuf> {
        self.journals.as_ref().map(|journals| journals.join(self.journal_number.to_string()))
    }

    /// Lets the next generation have a journal of its own.
    pub(super) fn begin_journal(&mut self) {
        self.journal_number += 1;
    }

    pub(super) fn running(&self) -> impl Iterator<Item = &Running> {
        self.current.iter().chain(self.next.iter().map(|(running, _)| running))
    }

    fn running_mut(&mut self) -> impl Iterator<Item = &mut Running> {
        self.current.iter_mut().chain(self.next.iter_mut().map(|(running, _)| running))
    }

    fn of(&mut self, id: u64) -> Option<&mut Running> {
        self.running_mut().find(|running| running.child.id == id)
    }

    fn is_current(&self, id: u64) -> bool {
        self.current.as_ref().is_some_and(|current| current.child.id == id)
    }

    pub(super) fn each(&self, act: impl FnMut(&Child)) {
        self.running().map(|running| &*running.child).for_each(act);
    }

    pub(super) fn is_alive(&self) -> bool {
        self.current.is_some() || self.next.is_some()
    }

    /// Whether what comes for it is taken.
    pub(super) fn is_serving(&self) -> bool {
        self.running().any(|running| matches!(running.stage, Stage::Serving))
    }

    pub(super) fn is_calm(&self) -> bool {
        let is_settled = match &self.current {
            Some(current) => matches!(current.stage, Stage::Serving),
            None => !self.wanted,
        };
        is_settled && self.next.is_none() && self.retired.is_empty()
    }

    /// The process to ask.
    pub(super) fn serving_child(&self) -> Option<Arc<Child>> {
        let current = self.current.iter().filter(|current| current.is_watched());
        current.map(|current| Arc::clone(&current.child)).next()
    }

    /// As the switch is to know it.
    pub(super) fn place(&self) -> AppPlace {
        let state = match (&self.current, self.wanted) {
            _ if self.told_down => AppState::Down,
            (Some(_), false) => AppState::Draining,
            _ => AppState::Serving,
        };
        AppPlace { name: self.name.clone(), addresses: self.seat.addresses.clone(), state }
    }

    /// What comes for a process that is not there waits in its sockets, for a while.
    pub(super) fn look_whether_down(&mut self, now: Instant, settings: &Settings) {
        let absent = |at: Instant| now.saturating_duration_since(at) >= settings.grace;
        let is_there = self.current.as_ref().is_some_and(|current| current.served_since.is_some());
        if !is_there && (!self.wanted && self.current.is_none() || self.ended_at.is_some_and(absent)) {
            self.told_down = true;
        } else if is_there {
            self.told_down = false;
        }
    }

    /// Asks for a sign of life.
    pub(super) fn beat(&self) {
        self.running().filter(|running| running.is_watched()).for_each(|running| running.child.say(&ToChild::Beat));
    }

    pub(super) fn has_beaten(&mut self, id: u64, turns: Vec<u64>) {
        let now = Instant::now();
        let Some(running) = self.of(id) else { return };
        running.heard = now;
        running.turns.resize(turns.len(), (0, now));
        for (known, turns) in running.turns.iter_mut().zip(turns) {
            if known.0 != turns {
                *known = (turns, now);
            }
        }
    }

    /// Kills what has taken too long, and lets those leave that have drained long enough.
    pub(super) fn end_the_overdue(&mut self, now: Instant, settings: &Settings) {
        for running in self.running_mut() {
            if let Some(why) = running.is_overdue(now, settings) {
                running.kill(why);
            }
        }
        let is_followed = self.next.is_some();
        if let Some(current) = &mut self.current
            && is_followed
            && current.stage == Stage::Draining
            && now.saturating_duration_since(current.since) > settings.drain
        {
            Self::let_go(current);
        }
    }

    fn let_go(running: &mut Running) {
        running.child.say(&ToChild::HandOver);
        running.enter(Stage::Leaving);
    }

    /// The next one has all but the journal: the one before is to let it go.
    pub(super) fn is_prepared(&mut self, id: u64) {
        let Some(running) = self.of(id) else { return };
        running.enter(Stage::Prepared);
        let child = Arc::clone(&running.child);
        self.handed_over_at = Some(Instant::now());
        match &mut self.current {
            Some(current) if current.child.id != id => Self::let_go(current),
            _ => child.say(&ToChild::Go),
        }
    }

    /// A process serves. Tells whether this member has never had one that did.
    pub(super) fn serves(&mut self, id: u64) -> bool {
        let now = Instant::now();
        let Some(running) = self.of(id) else { return false };
        running.enter(Stage::Serving);
        (running.served_since, running.heard) = (Some(now), now);
        let pid = running.child.pid;
        if self.is_current(id) {
            self.ended_at = None;
        } else if let (Some(current), Some((_, Some(seat)))) = (&mut self.current, &self.next) {
            current.child.say(&ToChild::Drain { successor: seat.addresses.clone() });
            current.enter(Stage::Draining);
        }
        let gap = self.handed_over_at.take().map_or(Duration::ZERO, |at| now - at);
        self.reply(Answer::ok(&Restarted { pid, gap_msecs: gap.as_millis() as u64 }));
        !std::mem::replace(&mut self.has_served, true)
    }

    fn reply(&mut self, answer: Answer) {
        if let Some(asker) = self.asker.take() {
            // Who has asked may have lost patience.
            let _ = asker.try_send(answer);
        }
    }

    /// Nothing is left of what the process had.
    pub(super) fn is_drained(&mut self, id: u64) {
        if let Some(running) = self.of(id)
            && running.stage == Stage::Draining
        {
            Self::let_go(running);
        }
    }

    /// By order: no new calls, and an end when the last one has ended.
    pub(super) fn drain(&mut self) -> anyhow::Result<()> {
        if self.next.is_some() {
            bail!("{} is being replaced; try again", self.name);
        }
        self.wanted = false;
        self.resume_at = None;
        if let Some(current) = &mut self.current {
            current.child.say(&ToChild::Drain { successor: Vec::new() });
            current.enter(Stage::Draining);
        }
        Ok(())
    }

    /// All its processes are to end.
    pub(super) fn stop(&mut self) {
        self.wanted = false;
        self.resume_at = None;
        for running in self.running_mut() {
            running.child.say(&ToChild::Stop);
        }
        self.reply(Answer::error("the switch is being stopped"));
    }

    /// One of its processes has ended.
    pub(super) fn has_ended(&mut self, id: u64, reason: &str) -> Ended {
        let now = Instant::now();
        if self.is_current(id) {
            let current = self.current.take().expect("it is the one that has ended");
            let served = current.served_since.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
            let reason = current.doom.unwrap_or_else(|| reason.to_owned());
            match self.next.as_ref().map(|(next, _)| (next.stage, Arc::clone(&next.child))) {
                Some((stage @ (Stage::Prepared | Stage::Serving), successor)) => {
                    if current.stage != Stage::Leaving {
                        self.note(reason);
                    }
                    if stage == Stage::Prepared {
                        self.current = self.next.take().map(|(next, _)| next);
                        self.handed_over_at.get_or_insert(now);
                    }
                    Ended::Replaced { successor }
                }
                // It goes on by itself, and finds the journal free when it comes to that.
                Some(_) => {
                    self.note(reason);
                    self.ended_at = Some(now);
                    self.adopt_next();
                    Ended::Stays
                }
                None if !self.wanted => Ended::Stays,
                None => {
                    self.ended_at = Some(now);
                    Ended::Failed { served, reason }
                }
            }
        } else if let Some((next, _)) = self.next.take_if(|(next, _)| next.child.id == id) {
            let reason = next.doom.unwrap_or_else(|| reason.to_owned());
            self.reply(Answer::error(format!("the new process has failed, and the old one goes on: {reason}")));
            tracing::error!(name = self.name, reason, "a process is not replaced");
            // What the old one has passed on is lost with the new one; it cannot go back to serve all alone.
            match &mut self.current {
                Some(current) if current.stage == Stage::Serving => {}
                Some(current) => {
                    current.doom.get_or_insert(format!("the one that was to follow has failed: {reason}"));
                    Self::let_go(current);
                }
                None => return Ended::Failed { served: Duration::ZERO, reason },
            }
            Ended::Stays
        } else {
            Ended::Stays
        }
    }

    /// The next one is the current one, and its sockets are this member's.
    fn adopt_next(&mut self) {
        let Some((next, seat)) = self.next.take() else { return };
        self.current = Some(next);
        if let Some(seat) = seat {
            let seat = std::mem::replace(&mut self.seat, seat);
            self.retired.push(Retired { seat, since: Instant::now() });
        }
    }

    /// The next one has the calls of the one before: all that comes is its own.
    pub(super) fn has_adopted(&mut self) {
        if self.current.is_none() {
            self.adopt_next();
        }
    }

    /// Keeps why a process was started again.
    pub(super) fn note(&mut self, reason: String) {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.restarts += 1;
        if self.reasons.len() == REASONS {
            self.reasons.pop_front();
        }
        self.reasons.push_back(Restart { at: unix.as_secs(), reason });
    }

    /// It is without a process, unasked. Gives the pause until the next start.
    pub(super) fn has_failed(&mut self, served: Duration, reason: &str, chance: u8) -> Duration {
        self.note(reason.to_owned());
        let pause = self.backoff.failed(served, chance);
        self.resume_at = Some(Instant::now() + pause);
        self.reply(Answer::error(format!("the process has failed: {reason}")));
        pause
    }

    /// Whether its process occupies more than `limit` octets. One that occupies twice as much is killed.
    pub(super) fn excess(&mut self, limit: u64) -> Option<Excess> {
        let has_next = self.next.is_some();
        let current = self.current.as_mut().filter(|current| current.is_watched())?;
        let octets = current.child.memory_octets();
        let reason = format!("it occupies {} MB of the {} that it may", octets >> 20, limit >> 20);
        if octets > 2 * limit {
            current.kill(reason);
            return Some(Excess::Doomed);
        }
        (octets > limit && !has_next && current.stage == Stage::Serving).then_some(Excess::Over(reason))
    }

    pub(super) fn status(&self) -> ProcessStatus {
        let running = self.current.as_ref().or(self.next.as_ref().map(|(next, _)| next));
        let state = match running.map(|running| running.stage) {
            Some(Stage::Starting | Stage::Prepared) => "starting",
            Some(Stage::Serving) => "serving",
            Some(Stage::Draining) => "draining",
            Some(Stage::Leaving) => "ending",
            None if self.resume_at.is_some() => "waiting",
            None => "off",
        };
        ProcessStatus {
            name: self.name.clone(),
            pid: running.map(|running| running.child.pid),
            state: state.to_owned(),
            uptime_secs: running.map_or(0, |running| running.child.started.elapsed().as_secs()),
            memory_bytes: running.map_or(0, |running| running.child.memory_octets()),
            shards: self.shards(),
            restarts: self.restarts,
            reasons: self.reasons.iter().cloned().collect(),
        }
    }
}
