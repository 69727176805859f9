//! The application server of one shard: what comes in meets its transaction, its dialog or its query, and so the call that
//! it is about.

use crate::{
    Answer, Counters, Place, QueryId, Settings, Surroundings,
    call::Call,
    call_back,
    dispatch::{self, Turn},
    established::{ADMIN, Established, UNHEARD},
    mint::{Mint, parse_tag},
    plans::Compiled,
    setup,
    shared::{ByNumber, Context, Core, Kept, User, Waiter},
    slab::{Key, Slab},
};
use agent::{AppToken, Now, Outbox, Received, Seal, Secret, ShardHash, StatelessTags, Ticket, Veil};
use dialog::Replaces;
use dialplan::{Callback, Facts, Fault, Machine};
use registrar::auth::Authenticator;
use sip::{Message, StatusCode};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use store::{Accounts, KeptCall, Plans, Providers};
use transaction::{Expired, Transactions, Undelivered};

/// What the shards share: copies of what the operator keeps.
#[derive(Clone)]
pub struct Tables {
    /// Who has an account here.
    pub accounts: Arc<Accounts>,
    /// The users' accounts with providers.
    pub providers: Arc<Providers>,
    /// The users' dial plans.
    pub plans: Arc<Plans>,
}

/// What the author of a plan is to read of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Whose plan it is.
    pub user: Box<str>,
    /// Its name; empty where the report is of a call back.
    pub plan: Box<str>,
    /// The call's number; 0 where no call came of it.
    pub call: u128,
    /// What the run logged.
    pub trace: Vec<Box<str>>,
    /// What went wrong, if anything did.
    pub fault: Option<Box<Fault>>,
}

/// A call as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallLine {
    /// Its number, by which it can be hung up.
    pub number: u128,
    /// The caller's URI.
    pub caller: Box<str>,
    /// The URI that is or was called.
    pub callee: Box<str>,
    /// Whose call it is; may be empty.
    pub user: Box<str>,
    /// When its INVITE came, in milliseconds since the Unix epoch.
    pub attempted_at: u64,
    /// When it was answered, if it was.
    pub answered_at: Option<u64>,
    /// Legs that are ringing, or have answered.
    pub legs: usize,
}

/// How much there is in the tables of a shard; all 0 when every call has ended and its transactions have run out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Calls, those being set up included.
    pub calls: usize,
    /// Answered calls, those that have just ended included.
    pub established: usize,
    /// Calls that had ended when this process began, and are kept for a while to answer a BYE that is repeated.
    pub ended: usize,
    /// Relayed requests.
    pub relays: usize,
    /// Requests to providers that have no final response yet.
    pub challenged: usize,
    /// Transactions.
    pub transactions: usize,
    /// Tags by which dialogs are found.
    pub dialogs: usize,
    /// Runs of plans.
    pub runs: usize,
    /// Questions without an answer yet.
    pub queries: usize,
    /// Records that are not known to be kept yet.
    pub unkept: usize,
    /// Users who have calls.
    pub users: usize,
}

/// The application server of one shard. Stays on the thread that made it.
pub struct AppServer {
    core: Core,
    is_draining: bool,
}

impl AppServer {
    /// An application server without calls at `place`.
    ///
    /// `secret` is the cluster's: its seals open Contacts, nonces and what other application servers hand over. `run` is the
    /// number that this process chose at its start, `seed` is entropy. Without a `machine` the users' plans do not run, and
    /// calls go by the defaults.
    #[expect(clippy::too_many_arguments, reason = "the edge gives each thing once")]
    pub fn new(
        now: Now,
        settings: Settings,
        place: Place,
        secret: &Secret,
        run: u32,
        seed: u64,
        tables: Tables,
        machine: Option<Machine>,
    ) -> Self {
        let accounts = Arc::clone(&tables.accounts);
        let auth = Authenticator::new(secret, run, accounts, settings.domains.clone(), &settings.challenges());
        let mut mint = Mint::new(seed, ShardHash::new(secret), &place);
        let mut key = [0; 16];
        key[..8].copy_from_slice(&mint.draw().to_le_bytes());
        key[8..].copy_from_slice(&mint.draw().to_le_bytes());
        let core = Core {
            transactions: Transactions::new(now, settings.transactions, key),
            settings: Arc::new(settings),
            place,
            tables,
            tokens: AppToken::new(secret),
            forwarded: Seal::new(secret, "forwarded caller"),
            hidden: Veil::new(secret, "relayed contact"),
            tags: StatelessTags::new(secret),
            auth,
            mint,
            calls: Slab::new(),
            relays: Slab::new(),
            challenged: Slab::new(),
            machine,
            compiled: Compiled::default(),
            dialogs: ByNumber::default(),
            ended: VecDeque::new(),
            dismissed: VecDeque::new(),
            runs: HashMap::new(),
            queries: ByNumber::default(),
            asked: 0,
            kept: VecDeque::new(),
            users: HashMap::new(),
            reports: VecDeque::new(),
            counters: Counters::default(),
        };
        Self { core, is_draining: false }
    }

    /// Goes on with other settings. Calls that are there keep the bounds that they began with; transactions keep theirs.
    pub fn configure(&mut self, settings: Settings) {
        self.core.auth.configure(settings.domains.clone(), &settings.challenges());
        self.core.settings = Arc::new(settings);
    }

    /// Takes a message that the proxy gives us.
    pub fn handle_message<'t>(
        &mut self,
        now: Now,
        received: &Received<'t>,
        message: &Message<'t>,
        world: &mut impl Surroundings,
        out: &mut Outbox<'t>,
    ) {
        let mut turn = Turn { now, core: &mut self.core, world, out };
        if message.is_request() {
            turn.handle_request(received, message, self.is_draining);
        } else if let Ok(response) = message.response() {
            turn.handle_response(received, message, &response);
        }
    }

    /// Takes the answer to a question that [`Surroundings::ask`] did not answer at once. One for a call that has ended
    /// meanwhile is dropped.
    pub fn handle_answer(
        &mut self,
        now: Now,
        id: QueryId,
        answer: Answer,
        world: &mut impl Surroundings,
        out: &mut Outbox<'_>,
    ) {
        let Some(asker) = self.core.queries.remove(&id.0) else { return };
        let mut turn = Turn { now, core: &mut self.core, world, out };
        match asker {
            Waiter::Leg(key, no) => turn.with_setup(key, |setup, ctx| {
                setup.handle_bindings(ctx, no, answer);
                setup.work(ctx);
            }),
            Waiter::Run(key, no) => turn.with_setup(key, |setup, ctx| {
                setup.handle_reply(ctx, no, answer);
                setup.work(ctx);
            }),
            Waiter::Relay(key) => turn.with_relay(key, |relay, ctx| relay.handle_bindings(ctx, key, answer)),
        }
    }

    /// Every record up to the ticket `up_to` is kept; or, if not `is_kept`, has been refused by the disk. Calls go on all the
    /// same: a call that a restart would lose is better than none.
    pub fn handle_settled(
        &mut self,
        now: Now,
        up_to: Ticket,
        is_kept: bool,
        world: &mut impl Surroundings,
        out: &mut Outbox<'_>,
    ) {
        while let Some(&Kept { ticket, call }) = self.core.kept.front()
            && ticket <= up_to
        {
            self.core.kept.pop_front();
            self.core.counters.not_kept += u64::from(!is_kept);
            let mut turn = Turn { now, core: &mut self.core, world, out };
            turn.with_call(call, |call, ctx| setup::handle_settled(call, ctx, up_to));
        }
    }

    /// A message that we posted, of these octets, could not be sent.
    pub fn handle_undeliverable(
        &mut self,
        now: Now,
        octets: &[u8],
        world: &mut impl Surroundings,
        out: &mut Outbox<'_>,
    ) {
        let Ok(message) = Message::parse(octets, &self.core.settings.limits) else { return };
        // A lost response is repeated by its transaction, or asked for again by the request.
        if let Some(Undelivered::Request(client, user)) = self.core.transactions.undeliverable(&message) {
            let mut turn = Turn { now, core: &mut self.core, world, out };
            turn.handle_failure(client, user, StatusCode::SERVICE_UNAVAILABLE);
        }
    }

    /// When to call [`AppServer::handle_timeout`], on the monotonic clock.
    pub fn next_timeout(&self) -> Option<Duration> {
        let core = &self.core;
        let machine = core.machine.as_ref().and_then(Machine::next_timeout);
        let all = [core.transactions.next_timeout(), core.calls.next_timeout(), core.relays.next_timeout(), machine];
        all.into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now, world: &mut impl Surroundings, out: &mut Outbox<'_>) {
        let mut expired = Vec::new();
        self.core.transactions.handle_timeout(now, out, &mut |event| expired.push(event));
        let mut turn = Turn { now, core: &mut self.core, world, out };
        for event in expired {
            match event {
                Expired::ClientTimeout(client, user) => turn.handle_failure(client, user, StatusCode::REQUEST_TIMEOUT),
                Expired::NotAcknowledged(_, User::Caller(key) | User::Passing(key, _)) => {
                    turn.with_established(key, |established, ctx| established.handle_unacknowledged(ctx));
                }
                Expired::NotAcknowledged(..) => {}
            }
        }
        while let Some(key) = turn.core.calls.pop_due(now.monotonic) {
            turn.with_call(key, |call, ctx| match call {
                Call::Setup(setup) => setup.handle_timeout(ctx),
                Call::Established(established) => established.handle_timeout(ctx),
            });
        }
        while let Some(key) = turn.core.relays.pop_due(now.monotonic) {
            turn.with_relay(key, |relay, _| relay.handle_timeout());
        }
        let mut steps = Vec::new();
        if let Some(machine) = &mut turn.core.machine {
            machine.handle_timeout(now.monotonic, &mut steps);
        }
        turn.handle_steps(steps);
    }

    /// Whether scripts wait for [`AppServer::run_slices`]: they have more to compute than one slice.
    pub fn is_ready(&self) -> bool {
        self.core.machine.as_ref().is_some_and(Machine::is_ready)
    }

    /// Gives waiting scripts a slice each, at most `max_slices` of them; the messages of a turn come first.
    pub fn run_slices(&mut self, now: Now, max_slices: usize, world: &mut impl Surroundings, out: &mut Outbox<'_>) {
        let mut steps = Vec::new();
        if let Some(machine) = &mut self.core.machine {
            machine.run_slices(now.monotonic, max_slices, &mut steps);
        }
        Turn { now, core: &mut self.core, world, out }.handle_steps(steps);
    }

    /// Takes up a call that the journal has kept: an answered one, or one that has just ended, whose peers may still want an
    /// answer. False where its record cannot be read.
    pub fn restore(&mut self, now: Now, kept: &KeptCall) -> bool {
        let seed = self.core.mint.draw();
        let Some((established, tags)) = Established::restore(now, kept, &self.core.tables.providers, seed) else {
            return false;
        };
        let key = self.core.calls.reserve();
        for tag in tags {
            // A call that has ended may have left its dialog to one that goes on.
            let owner = self.core.dialogs.entry(tag).or_insert(key);
            if kept.end.is_none() {
                *owner = key;
            }
        }
        if let Some(user) = established.user.as_ref().filter(|_| kept.end.is_none()) {
            // It was counted when it began; a bound that is lower by now ends no call.
            self.core.users.entry(Rc::clone(user)).or_default().push(key);
        }
        self.core.calls.put(key, Call::Established(Box::new(established)));
        self.core.counters.restored += u64::from(kept.end.is_none());
        true
    }

    /// Begins a call back in the name of `user`, an account's address-of-record, to two dial strings: the number of its call.
    ///
    /// # Errors
    /// Why there is none, for who asks.
    pub fn call_back(
        &mut self,
        now: Now,
        user: &str,
        first: &str,
        second: &str,
        world: &mut impl Surroundings,
        out: &mut Outbox<'_>,
    ) -> Result<u128, String> {
        if self.is_draining {
            return Err("the application server is being replaced; try again".to_owned());
        }
        let account = user.rsplit_once('@').filter(|_| self.core.tables.accounts.exists(user));
        let (name, domain) = account.ok_or_else(|| format!("there is no account {user}"))?;
        let providers = self.core.tables.providers.of_owner(user);
        let facts = Facts {
            direction: dialplan::Direction::Out,
            user: name.into(),
            domain: domain.into(),
            source: "".into(),
            zone: "".into(),
            unix: now.unix,
            providers: providers.iter().filter(|p| p.enabled).map(|provider| provider.name.clone()).collect(),
            request: Box::default(),
        };
        let call_back = Callback::parse(first, second, &facts)?;
        let mut ctx = Context { now, key: Key::NONE, core: &mut self.core, world, out };
        call_back::begin(&mut ctx, &user.into(), call_back).map_err(str::to_owned)
    }

    /// Whether a message is about something that this server has: a transaction, or a call.
    pub fn knows(&self, message: &Message<'_>) -> bool {
        if let Ok(response) = message.response() {
            return self.core.transactions.knows_response(&response);
        }
        message.request().is_ok_and(|request| {
            let is_known = |tag: &[u8]| parse_tag(tag).is_some_and(|tag| self.core.dialogs.contains_key(&tag));
            let replaces = Replaces::of(message).ok().flatten();
            let dialog = request.to.tag.is_some_and(is_known) || replaces.is_some_and(|r| is_known(r.to_tag));
            dialog || self.core.transactions.knows_request(&request)
        })
    }

    /// Refuses a new request because more comes than is done (503 with Retry-After); nothing is kept of it.
    pub fn refuse_overloaded(&mut self, received: &Received<'_>, message: &Message<'_>, out: &mut Outbox<'_>) {
        dispatch::refuse_statelessly(&mut self.core, message, received.flow, out);
    }

    /// Takes no new calls (503 with Retry-After), or takes them again; the calls that are there go on.
    pub fn drain(&mut self, is_draining: bool) {
        self.is_draining = is_draining;
    }

    /// Ends the call of that number, as an administrator wants. False where there is none.
    pub fn hang_up(&mut self, now: Now, number: u128, world: &mut impl Surroundings, out: &mut Outbox<'_>) -> bool {
        let is_it = |call: &Call| call.number() == number && !call.has_ended();
        let found = self.core.calls.iter().find(|(_, call)| is_it(call)).map(|(key, _)| key);
        let Some(key) = found else { return false };
        Turn { now, core: &mut self.core, world, out }.with_call(key, |call, ctx| match call {
            Call::Setup(setup) => setup.hang_up(ctx, ADMIN),
            Call::Established(established) => established.hang_up(ctx, ADMIN),
        });
        true
    }

    /// Ends the answered calls whose callers are told that nothing came of them: `refused` are the Call-ID and the From tag of
    /// their INVITEs.
    pub fn end_unheard(
        &mut self,
        now: Now,
        refused: &HashSet<(&[u8], &[u8])>,
        world: &mut impl Surroundings,
        out: &mut Outbox<'_>,
    ) {
        if refused.is_empty() {
            return;
        }
        let is_unheard = |call: &Call| match call {
            Call::Established(call) => {
                let near = &call.bridge.near.dialog;
                refused.contains(&(near.call_id(), near.remote_tag()))
            }
            Call::Setup(_) => false,
        };
        let found: Vec<_> = self.core.calls.iter().filter(|(_, call)| is_unheard(call)).map(|(key, _)| key).collect();
        let mut turn = Turn { now, core: &mut self.core, world, out };
        for key in found {
            turn.with_established(key, |established, ctx| established.hang_up(ctx, UNHEARD));
        }
    }

    /// The calls that there are.
    pub fn calls(&self) -> impl Iterator<Item = CallLine> {
        self.core.calls.iter().filter(|(_, call)| !call.has_ended()).map(|(_, call)| CallLine::of(call))
    }

    /// What plans left for their authors since the last time.
    pub fn take_reports(&mut self) -> Vec<Report> {
        self.core.reports.drain(..).collect()
    }

    /// What has been counted since the start.
    pub fn counters(&self) -> &Counters {
        &self.core.counters
    }

    /// What the transactions have counted.
    pub fn transaction_counters(&self) -> &transaction::Counters {
        self.core.transactions.counters()
    }

    /// How much there is.
    pub fn census(&self) -> Census {
        let core = &self.core;
        Census {
            calls: core.calls.len(),
            established: core.calls.iter().filter(|(_, call)| matches!(call, Call::Established(_))).count(),
            ended: core.calls.iter().filter(|(_, call)| call.has_ended()).count(),
            relays: core.relays.len(),
            challenged: core.challenged.len(),
            transactions: core.transactions.len(),
            dialogs: core.dialogs.len(),
            runs: core.runs.len(),
            queries: core.queries.len(),
            unkept: core.kept.len(),
            users: core.users.len(),
        }
    }
}

impl CallLine {
    fn of(call: &Call) -> Self {
        let (facts, legs) = match call {
            Call::Setup(setup) => (&setup.caller.facts, setup.legs.iter().filter(|leg| leg.is_live()).count()),
            Call::Established(established) => (&established.near_facts, 1),
        };
        let texts = facts.texts();
        Self {
            number: call.number(),
            caller: texts.caller.into(),
            callee: texts.callee.into(),
            user: texts.user.into(),
            attempted_at: facts.attempted_at,
            answered_at: Some(facts.answered_at).filter(|&at| at != 0),
            legs,
        }
    }
}
