//! The core of an application server with a process of its own: no proxy, no registrar, one hop to the switch.
//!
//! Everything comes from the switch with a sealed header that tells the flow from outside; it is checked and taken away, and the
//! server sees what it would see on the switch's own shards. What the server writes goes to the switch with a sealed header
//! that tells the way. Where a user is reached is asked of the switch too ([`lookups`]). The hop is datagrams on one
//! machine: what is lost there the transactions of both sides repeat.
//!
//! A server that is drained passes on to its successor what belongs to nothing that it has, and serves the calls that it
//! has. What is to be said for calls that a sudden death leaves without an answer is kept in advance ([`last_words`]).

mod last_words;
mod lookups;
pub mod setups;

use super::{
    AppRules, AppSeat, SideLink,
    admission::{self, Admission, Fate},
    is_new_request,
    neighbours::{run_due, tell_reports},
    side::Answered,
};
use crate::{
    figures::{Counted, Figures},
    io::{self, Backlog},
    proxy::{self, Errand, HopTokens, Probe, sealed},
};
use agent::{AppBranch, Draft, Flow, ListenerId, Now, Outbox, PLACEHOLDER, Received, ShardHash, Ticket, Way};
use appserver::{Answer, AppServer, CallLine, Impersonator, Query, QueryId, Surroundings};
use last_words::LastWords;
use lookups::Lookups;
use setups::Setups;
use sip::{Edit, Message, Transport};
use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, mpsc},
    time::Duration,
};
use store::KeptCall;

agent::counters! {
    /// Messages that no process of ours has sealed.
    unsealed,
    /// Messages of the server that nobody could read.
    unreadable_posts,
    /// Users that were looked up.
    lookups,
    /// Lookups that the switch did not answer in time.
    lookups_lost,
    /// Messages passed on to the successor.
    passed_to_successor,
    /// Calls that were being set up when the process before ended, and legs of theirs.
    bereaved,
}

/// What a shard of an application server is told while it runs.
pub enum Order {
    /// To follow other rules.
    Rules(Box<AppRules>),
    /// To take on nothing new but pass it on to the successor, whose shards receive there; without one it is refused.
    Drain(Vec<SocketAddr>),
    /// To take up what another process had.
    Adopt(Estate),
    /// To end the call of that number, and to say whether there is one.
    HangUp(u128, mpsc::SyncSender<bool>),
    /// To call two parties back in the name of that user, by these dial strings, and to say the call's number or why there is none.
    CallBack {
        /// An address of record.
        user: String,
        /// Whom first, whom then.
        dials: [String; 2],
        /// Hears of it.
        done: mpsc::SyncSender<Result<u128, String>>,
    },
    /// To say which calls there are.
    Calls(mpsc::SyncSender<Vec<CallLine>>),
}

/// What a process that has ended leaves to a shard.
pub struct Estate {
    /// Its answered calls.
    pub calls: Vec<KeptCall>,
    /// What is to be sent for those that were being set up.
    pub last_words: Vec<Box<[u8]>>,
    /// Hears when the calls are kept here.
    pub kept: mpsc::SyncSender<()>,
}

/// What such a shard grows from.
pub struct Seat {
    /// When it is made.
    pub now: Now,
    /// The server's.
    pub app: AppSeat,
    /// What it follows until others come.
    pub rules: AppRules,
    /// What it is told.
    pub orders: mpsc::Receiver<Order>,
    /// Seals of the hop.
    pub tokens: HopTokens,
    /// Whose Call-ID it is.
    pub hash: ShardHash,
    /// The socket of the hop.
    pub hop: ListenerId,
    /// Where the shards of the switch receive.
    pub switch: Vec<SocketAddr>,
    /// What scripts ask the edge by.
    pub side: SideLink,
    /// Where it keeps what is to be said if this process dies.
    pub setups: Setups,
    /// Where it publishes what it counts.
    pub figures: Arc<Figures>,
}

impl io::Seed for Seat {
    type Core = AppShard;

    fn grow(self) -> AppShard {
        let Self { now, app, rules, orders, tokens, hash, hop, switch, side, setups, figures } = self;
        let lookups = Lookups::new(app.place.clone(), app.run);
        AppShard {
            app: app.grow(now, &rules),
            link: Link { tokens, hash, hop, switch },
            rules,
            lookups,
            side,
            successor: Vec::new(),
            admission: Admission::new(true),
            last_words: LastWords::new(setups),
            adopting: Vec::new(),
            orders,
            figures,
            counters: Counters::default(),
            now,
        }
    }
}

/// The hop to the switch.
struct Link {
    tokens: HopTokens,
    hash: ShardHash,
    hop: ListenerId,
    switch: Vec<SocketAddr>,
}

impl Link {
    /// The flow to the shard of the switch that owns `call_id`.
    fn to_switch(&self, call_id: &[u8]) -> Flow {
        let owner = self.hash.owner(call_id, self.switch.len() as u16);
        self.to(self.switch[usize::from(owner)])
    }

    /// The datagram that has the switch send a message that way.
    fn posted<'t>(&self, call_id: &[u8], way: Way, octets: &[u8], out: &Outbox<'t>) -> Option<Draft<'t>> {
        let (start_line, rest) = octets.split_at(memchr::memchr(b'\n', octets)? + 1);
        let mut datagram = out.draft();
        datagram.extend_from_slice(start_line);
        self.tokens.write_errand(call_id, Errand::Post(way), &mut datagram);
        datagram.extend_from_slice(rest);
        Some(datagram)
    }

    fn to(&self, peer: SocketAddr) -> Flow {
        Flow { listener: self.hop, transport: Transport::Udp, peer, connection: None }
    }
}

/// One shard of an application server with a process of its own.
pub struct AppShard {
    app: AppServer,
    link: Link,
    rules: AppRules,
    lookups: Lookups,
    side: SideLink,
    /// Who takes what is new; empty while that is we.
    successor: Vec<SocketAddr>,
    admission: Admission,
    last_words: LastWords,
    /// Who wants to know that what was adopted is kept, with the last ticket of that.
    adopting: Vec<(Ticket, mpsc::SyncSender<()>)>,
    orders: mpsc::Receiver<Order>,
    figures: Arc<Figures>,
    counters: Counters,
    now: Now,
}

/// What surrounds the server.
struct World<'w> {
    lookups: &'w mut Lookups,
    rules: &'w AppRules,
    side: &'w SideLink,
}

impl Surroundings for World<'_> {
    fn ask(&mut self, now: Now, id: QueryId, query: &Query<'_>) -> Option<Answer> {
        match query {
            Query::Bindings { aor } => {
                self.lookups.begin(now, id, aor);
                None
            }
            other => self.side.ask(0, id, other),
        }
    }

    fn is_trusted(&self, source: IpAddr) -> bool {
        self.rules.is_trusted(source)
    }

    fn impersonator(&self) -> Option<&dyn Impersonator> {
        self.side.impersonator()
    }
}

impl AppShard {
    fn handle<'t>(&mut self, now: Now, received: &Received<'t>, out: &mut Outbox<'t>) {
        let mut message = Message::empty();
        let opened = sealed::take_source(received.octets, out.arena()).and_then(|(token, octets)| {
            message.read(octets, &self.rules.settings.limits).ok()?;
            let flow = self.link.tokens.open_source(message.call_id()?, token)?;
            Some(Received { flow, octets, passed: false })
        });
        let Some(from_outside) = opened else {
            self.counters.unsealed += 1;
            return;
        };
        if !message.is_request()
            && let Some((id, targets)) = self.lookups.answered(&message, out.arena())
        {
            return self.answer(now, id, Answer::Bindings(targets), out);
        }
        let successor = self.successor.get(usize::from(self.lookups.place.shard) % self.successor.len().max(1));
        if let Some(&peer) = successor.filter(|_| !self.app.knows(&message)) {
            self.counters.passed_to_successor += 1;
            return out.send(self.link.to(peer), out.arena().alloc([received.octets]));
        }
        // A probe and what has never left the switch come on an inward flow; that is of a call that was taken on.
        if self.admission.is_limited()
            && is_new_request(&message)
            && !proxy::is_inward(&from_outside.flow)
            && !self.app.knows(&message)
        {
            match self.admission.decide(now, &self.link.hash, message.call_id(), &from_outside.flow) {
                Fate::TakenOn => {}
                Fate::Refused => return self.app.refuse_overloaded(&from_outside, &message, out),
                Fate::Dropped => return,
            }
        }
        let is_known = || self.app.knows(&message);
        self.last_words.note_received(now, &message, from_outside.flow, is_known, &self.link, out);
        let mut world = World { lookups: &mut self.lookups, rules: &self.rules, side: &self.side };
        self.app.handle_message(now, &from_outside, &message, &mut world, out);
    }

    fn answer(&mut self, now: Now, id: QueryId, answer: Answer, out: &mut Outbox<'_>) {
        let mut world = World { lookups: &mut self.lookups, rules: &self.rules, side: &self.side };
        self.app.handle_answer(now, id, answer, &mut world, out);
    }

    /// Sends what the server has written, and asks what it wants to know.
    fn send_posted(&mut self, now: Now, out: &mut Outbox<'_>) {
        let limits = self.rules.settings.limits;
        for posted in &out.take_posted() {
            let mut message = Message::empty();
            let read = message.read(posted.octets, &limits).ok();
            let Some(call_id) = read.and_then(|()| message.call_id()) else {
                self.counters.unreadable_posts += 1;
                continue;
            };
            self.last_words.note_posted(now, &message, posted, &self.link, out);
            let mut way = out.draft();
            self.link.tokens.write_errand(call_id, Errand::Post(posted.way), &mut way);
            let mut edit = Edit::new(&message, out.arena());
            edit.push_lines(way.into_bump_slice());
            out.send(self.link.to_switch(call_id), edit.finish());
        }
        while let Some(call_id) = self.lookups.next_to_send(now) {
            let mut request = out.draft();
            self.lookups.write(&call_id, &self.link.tokens, &mut request);
            self.counters.lookups += 1;
            out.send_draft(self.link.to_switch(call_id.as_bytes()), request);
        }
    }

    fn obey(&mut self, now: Now, out: &mut Outbox<'_>) {
        while let Ok(order) = self.orders.try_recv() {
            let mut world = World { lookups: &mut self.lookups, rules: &self.rules, side: &self.side };
            match order {
                Order::Rules(rules) => {
                    self.app.configure(rules.settings.clone());
                    self.rules = *rules;
                }
                Order::Drain(successor) => {
                    self.app.drain(true);
                    self.successor = successor;
                }
                Order::Adopt(estate) => self.adopt(now, estate, out),
                // Who has asked may have gone.
                Order::CallBack { user, dials: [first, second], done } => {
                    drop(done.send(self.app.call_back(now, &user, &first, &second, &mut world, out)));
                }
                Order::HangUp(number, done) => drop(done.send(self.app.hang_up(now, number, &mut world, out))),
                Order::Calls(told) => drop(told.send(self.app.calls().collect())),
            }
        }
    }
}

impl AppShard {
    /// Takes up what a process before has left, and keeps its calls here too.
    fn adopt(&mut self, now: Now, estate: Estate, out: &mut Outbox<'_>) {
        let mut last = None;
        for call in &estate.calls {
            if self.app.restore(now, call) {
                last = Some(out.persist(|octets| call.put(octets).expect("it was kept before")));
            } else {
                tracing::error!(call = call.key, "the record of a call cannot be read");
            }
        }
        match last {
            Some(ticket) => self.adopting.push((ticket, estate.kept)),
            // Who has asked may have gone.
            None => drop(estate.kept.send(())),
        }
        self.end_unheard(now, &estate.last_words, out);
        self.counters.bereaved += estate.last_words.len() as u64;
        self.last_words.take_up(now, estate.last_words);
    }

    /// Ends the calls whose callers are about to hear that nothing came of them: the process before died after the journal had
    /// the call, and before the answer was written.
    fn end_unheard(&mut self, now: Now, last_words: &[Box<[u8]>], out: &mut Outbox<'_>) {
        let refused = last_words::refused(last_words, &self.rules.settings.limits);
        let mut world = World { lookups: &mut self.lookups, rules: &self.rules, side: &self.side };
        self.app.end_unheard(now, &refused, &mut world, out);
    }
}

impl io::Core for AppShard {
    fn handle_orders<'t>(&mut self, now: Now, out: &mut Outbox<'t>) {
        self.now = now;
        self.obey(now, out);
        while let Some(Answered { id, answer, .. }) = self.side.next() {
            self.answer(now, id, answer, out);
        }
        self.send_posted(now, out);
    }

    fn handle_backlog(&mut self, now: Now, backlog: Backlog) {
        self.admission.note(now.monotonic, backlog, self.rules.patience);
    }

    fn handle_batch<'t>(&mut self, now: Now, batch: &[Received<'t>], out: &mut Outbox<'t>) {
        for received in batch {
            self.handle(now, received, out);
        }
        self.send_posted(now, out);
    }

    fn handle_undeliverable<'t>(&mut self, now: Now, _flow: Flow, octets: &'t [u8], out: &mut Outbox<'t>) {
        if let Some((_, octets)) = sealed::take_errand(octets, out.arena()) {
            let mut world = World { lookups: &mut self.lookups, rules: &self.rules, side: &self.side };
            self.app.handle_undeliverable(now, octets, &mut world, out);
        }
        self.send_posted(now, out);
    }

    fn handle_settled<'t>(&mut self, now: Now, up_to: Ticket, ok: bool, out: &mut Outbox<'t>) {
        let mut world = World { lookups: &mut self.lookups, rules: &self.rules, side: &self.side };
        self.app.handle_settled(now, up_to, ok, &mut world, out);
        for (_, kept) in self.adopting.extract_if(.., |(ticket, _)| ok && *ticket <= up_to) {
            // Who has asked may have gone.
            let _ = kept.send(());
        }
        self.send_posted(now, out);
    }

    fn next_timeout(&self) -> Option<Duration> {
        if self.app.is_ready() {
            return Some(self.now.monotonic);
        }
        [self.app.next_timeout(), self.lookups.next_timeout(), self.last_words.next_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    fn handle_timeout<'t>(&mut self, now: Now, out: &mut Outbox<'t>) {
        self.now = now;
        while let Some(id) = self.lookups.next_lost(now) {
            self.counters.lookups_lost += 1;
            self.answer(now, id, Answer::Bindings(Vec::new()), out);
        }
        let mut world = World { lookups: &mut self.lookups, rules: &self.rules, side: &self.side };
        run_due(&mut self.app, now, &mut world, out);
        self.last_words.say(now, &self.rules.settings.limits, &self.link, out);
        self.send_posted(now, out);
    }

    fn handle_turn_end(&mut self) {
        let census = self.app.census();
        let setups = census.calls - census.established + census.relays;
        let now = [census.calls - census.ended, setups, census.runs].map(|count| count as u64);
        let app = self.app.counters().values();
        let transactions = self.app.transaction_counters().values();
        let hop = self.counters.values();
        let admission = self.admission.counters().values();
        self.figures.publish(&[
            Counted { agent: "appserver", names: &["calls_now", "setups_now", "runs_now"], values: &now },
            Counted { agent: "appserver", names: appserver::Counters::NAMES, values: &app },
            Counted { agent: "transactions", names: transaction::Counters::NAMES, values: &transactions },
            Counted { agent: "overload", names: admission::Counters::NAMES, values: &admission },
            Counted { agent: "hop", names: Counters::NAMES, values: &hop },
        ]);
        tell_reports(&mut self.app);
    }
}

/// The user whom the switch's prober calls: a real account, whose calls a real plan answers.
pub mod probe {
    use super::{PLACEHOLDER, Probe};
    use std::sync::Arc;
    use store::{Account, Plan, PlanText};

    /// Its address of record.
    pub fn aor() -> String {
        format!("{}@{PLACEHOLDER}", Probe::USER)
    }

    /// Its account. Nobody knows a password of it: `absent` is no digest.
    pub fn account(absent: [u8; 32]) -> Account {
        Account {
            ha1_md5: absent[..16].try_into().expect("half of 32 octets"),
            ha1_sha256: absent,
            ha1_sha512_256: absent,
            enabled: true,
            may_relay: false,
            max_bindings: Some(0),
            max_expires_secs: None,
        }
    }

    /// Its plan.
    pub fn plan() -> Plan {
        let source = format!("sys.respond({}, \"Well\");", Probe::ANSWER.get());
        let text = PlanText { owner: aor().into(), name: "probe".into(), source: source.into(), version: 1 };
        Plan { text: Arc::new(text), is_in: true, is_out: false }
    }
}
