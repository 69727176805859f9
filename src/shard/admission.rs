//! Which new requests a shard takes on: all of them, until a backlog stands in its sockets; then as many as leave none.
//!
//! A backlog is no overload: after a pause (a processor that was taken away, a train of datagrams) there is much to do, and no more
//! than that. It is one if it stands, which is told by the least that a queue has had for a while and not by the most (the idea
//! of CoDel, RFC 8289 §3.2), and does not become less. Then the share that is taken on falls by factors, and rises steadily
//! while there is room, so that it stays about where the shard is just busy.
//!
//! Who is refused is drawn by Call-ID: a request that comes again, or with credentials, meets what it met before, and calls are
//! taken on whole. Each epoch draws anew, so that a phone which registers by one Call-ID for ever is not refused for ever.
//!
//! A refusal costs too, and to forward costs little more. What is dropped in place of that (RFC 3261 §21.5.4 allows it) comes
//! again and again, so it helps for a moment only: when the share is small and the backlog still stands, fewer and fewer of
//! the rest are answered.

use crate::io::Backlog;
use agent::{Flow, Now, ShardHash, counters};
use std::time::Duration;

/// The time from one look to the next that counts at most: the rest of it may have been a pause.
const LONGEST_LOOK: Duration = Duration::from_millis(25);

/// After so long without a look, what waits is a burst of its own.
const SILENCE: Duration = Duration::from_secs(1);

/// How long a backlog stands from one fall of the shares to the next.
const STEP: Duration = Duration::from_millis(25);

/// A backlog that has become less by this part of it since the step before is being worked off.
const WORKED_OFF: f64 = 1.0 / 8.0;

/// What a step takes from the share that is taken on: this part of the square of how full the fullest socket is (little where it is about right, much
/// before it overflows), or so many times what was lost for want of room (who is refused costs too, so as much more must be), and so much
/// at most.
const CUT_BY_LEVEL: f64 = 1.0 / 4.0;
const CUT_BY_LOSS: f64 = 1.5;
const LARGEST_CUT: f64 = 0.5;

/// What the share of new requests that are taken on gains a second, and what that of those that are answered does.
const TAKEN_ON_PER_SEC: f64 = 1.0;
const ANSWERED_PER_SEC: f64 = 2.0;
/// So many times faster until they fall again: it may have been no more than a moment.
const FASTER_AT_FIRST: f64 = 4.0;

/// The least of both shares: it tells whether there is still too much, and somebody gets through.
const LEAST: f64 = 1.0 / 64.0;

/// So much greater than the share that is taken on is that of what is answered: some are always told when to come back.
const ANSWERED_BESIDE: f64 = 1.25;

/// After so long of all being taken on it is over.
const CALM: Duration = Duration::from_secs(1);

/// How long a Call-ID keeps what it has drawn: for longer than it takes to answer a challenge, and not until who was refused comes back.
const EPOCH_SECS: u64 = 8;

/// So many octets of a malformed message draw for it: enough to tell it from others, and not what is longest.
const MALFORMED_OCTETS: usize = 512;

counters! {
    /// New requests that were refused because more came than is done.
    refused,
    /// New requests that were dropped without an answer because refusing them all would have been too much.
    dropped,
    /// Messages with faults of their framing that were dropped for the same reason, instead of being answered 400.
    dropped_malformed,
    /// The share of new requests that is taken on now, in percent.
    taken_on_percent,
}

/// What is borne before anything is refused.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Patience {
    /// How full the fullest socket may be, from 0 to 1.
    pub level: f64,
    /// How long it may be fuller.
    pub time: Duration,
}

/// What becomes of a new request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is handled like any other.
    TakenOn,
    /// It is told to come back later.
    Refused,
    /// It is forgotten.
    Dropped,
}

/// Decides on the new requests of one shard.
#[derive(Debug)]
pub(super) struct Admission {
    /// The share of new requests that are taken on.
    taken_on: f64,
    /// The share of those that get any answer, which is greater.
    answered: f64,
    /// The share taken on from which on down more are dropped before fewer are taken on.
    worth_refusing: f64,
    /// Whether it has begun to refuse, whether it has taken on more again, and whether that was too much, since it was calm.
    has_begun: bool,
    has_risen: bool,
    has_fallen_again: bool,
    /// Since when all are taken on again.
    all_since: Duration,
    looked: Option<Duration>,
    standing: Option<Standing>,
    counters: Counters,
}

/// A backlog above what is borne at every look.
#[derive(Debug)]
struct Standing {
    /// For how long, in this step.
    time: Duration,
    /// The least that waited in this step, and in the one before.
    least: f64,
    before: f64,
    /// What was received in it, and what was lost for want of room.
    received: u64,
    lost: u64,
    /// Whether some of that was lost while there was no pause.
    loses: bool,
}

impl Standing {
    fn new(before: f64) -> Self {
        Self { time: Duration::ZERO, least: 1.0, before, received: 0, lost: 0, loses: false }
    }

    /// What is to be taken from the share that is taken on; nothing if the backlog is being worked off.
    fn cut(&self) -> f64 {
        if !self.loses && self.least <= self.before * (1.0 - WORKED_OFF) {
            return 0.0;
        }
        let lost = self.lost as f64 / (self.lost + self.received).max(1) as f64;
        (CUT_BY_LOSS * lost).max(CUT_BY_LEVEL * self.least.powi(2)).min(LARGEST_CUT)
    }
}

impl Admission {
    /// Takes on everything. Where a refusal is little beside a request that is taken on (a call is served) all are answered while an eighth
    /// is taken on; elsewhere while a half is.
    pub fn new(is_refusal_cheap: bool) -> Self {
        Self {
            taken_on: 1.0,
            answered: 1.0,
            worth_refusing: if is_refusal_cheap { 0.125 } else { 0.5 },
            has_begun: false,
            has_risen: false,
            has_fallen_again: false,
            all_since: Duration::ZERO,
            looked: None,
            standing: None,
            counters: Counters::default(),
        }
    }

    /// Takes note of what waits in the sockets.
    pub fn note(&mut self, now: Duration, Backlog { level, received, lost }: Backlog, patience: Patience) {
        let passed = self.looked.replace(now).map_or(Duration::ZERO, |looked| now.saturating_sub(looked));
        if level <= patience.level {
            self.standing = None;
            if self.is_limited() {
                // Who slept had room.
                let speed = if self.has_fallen_again { 1.0 } else { FASTER_AT_FIRST };
                self.rise(speed * passed.as_secs_f64());
                self.has_risen = true;
                self.all_since = now;
            } else if self.has_begun && now >= self.all_since + CALM {
                self.end();
            }
            return;
        }
        let standing = match &mut self.standing {
            Some(standing) if passed < SILENCE => {
                standing.time += passed.min(LONGEST_LOOK);
                standing.loses |= lost > 0 && passed <= LONGEST_LOOK;
                standing
            }
            new => new.insert(Standing::new(level)),
        };
        standing.least = standing.least.min(level);
        (standing.received, standing.lost) = (standing.received + received, standing.lost + lost);
        let step = if self.taken_on < 1.0 { STEP } else { patience.time };
        if standing.time < step {
            return;
        }
        let cut = standing.cut();
        *standing = Standing::new(standing.least);
        if cut > 0.0 {
            self.begin();
            self.fall(1.0 - cut);
        }
    }

    fn begin(&mut self) {
        if !self.has_begun {
            tracing::warn!("more comes than is done: new requests are refused");
        }
        self.has_begun = true;
        self.has_fallen_again |= self.has_risen;
    }

    fn end(&mut self) {
        let Counters { refused, dropped, .. } = self.counters;
        tracing::info!(refused, dropped, "all new requests are taken on again");
        (self.has_begun, self.has_risen, self.has_fallen_again) = (false, false, false);
    }

    fn fall(&mut self, factor: f64) {
        if self.taken_on > self.worth_refusing {
            self.taken_on = (self.taken_on * factor).max(self.worth_refusing);
        } else if self.answered > self.least_answered() {
            self.answered = (self.answered * factor).max(self.least_answered());
        } else {
            self.taken_on = (self.taken_on * factor).max(LEAST);
            self.answered = self.least_answered();
        }
    }

    /// The way back is that of the fall.
    fn rise(&mut self, secs: f64) {
        let mut left = secs;
        let mut raise = |share: &mut f64, to: f64, per_sec: f64| {
            let takes = ((to - *share) / per_sec).max(0.0);
            *share = share.max((*share + left * per_sec).min(to));
            left = (left - takes).max(0.0);
        };
        raise(&mut self.taken_on, self.worth_refusing, TAKEN_ON_PER_SEC);
        self.answered = self.answered.max(self.taken_on * ANSWERED_BESIDE).min(1.0);
        raise(&mut self.answered, 1.0, ANSWERED_PER_SEC);
        raise(&mut self.taken_on, 1.0, TAKEN_ON_PER_SEC);
    }

    fn least_answered(&self) -> f64 {
        self.taken_on * ANSWERED_BESIDE
    }

    /// Whether any new request is refused now.
    pub fn is_limited(&self) -> bool {
        self.taken_on < 1.0
    }

    /// What becomes of a new request of that Call-ID. It draws the same in every shard and process, so of two on its way the one that takes on
    /// less decides, and what that one takes on the other one does not refuse.
    pub fn decide(&mut self, now: Now, hash: &ShardHash, call_id: Option<&[u8]>, flow: &Flow) -> Fate {
        // One without a Call-ID is against the grammar, which answers it if it is taken on.
        let fate = self.fate(now, hash, call_id.unwrap_or_default(), flow);
        match fate {
            Fate::TakenOn => {}
            Fate::Refused => self.counters.refused += 1,
            Fate::Dropped => self.counters.dropped += 1,
        }
        fate
    }

    /// Whether a message that cannot be read is dropped. There is no Call-ID to trust, so it draws by how it begins. A 503 would cost
    /// what the 400 does, so whatever is not dropped gets that.
    pub fn drops_malformed(&mut self, now: Now, hash: &ShardHash, octets: &[u8], flow: &Flow) -> bool {
        let beginning = &octets[..octets.len().min(MALFORMED_OCTETS)];
        let dropped = self.fate(now, hash, beginning, flow) == Fate::Dropped;
        self.counters.dropped_malformed += u64::from(dropped);
        dropped
    }

    fn fate(&self, now: Now, hash: &ShardHash, draws: &[u8], flow: &Flow) -> Fate {
        let drawn = hash.draw(now.unix.as_secs() / EPOCH_SECS, draws);
        let drawn = f64::from(drawn) / (f64::from(u32::MAX) + 1.0);
        if drawn < self.taken_on {
            Fate::TakenOn
        } else if drawn < self.answered || flow.transport.is_reliable() {
            // Over a stream nobody repeats what is dropped: he would wait for half a minute.
            Fate::Refused
        } else {
            Fate::Dropped
        }
    }

    /// What it has done, and what it does.
    pub fn counters(&self) -> Counters {
        Counters { taken_on_percent: (100.0 * self.taken_on) as u64, ..self.counters }
    }
}

#[cfg(test)]
mod tests;
