//! What all calls of a shard share, and the hands by which one call uses it.

use crate::{
    Counters, Place, QueryId, Report, Settings, Surroundings, Tables,
    call::{Call, LegNo, RunNo},
    challenged::Challenged,
    mint::{Mint, dialog_tag, parse_tag},
    plans::Compiled,
    relay::Relay,
    slab::{Key, Slab},
};
use agent::{Agent, AppToken, Draft, Flow, Now, Outbox, Seal, StatelessTags, Ticket, Veil, Way};
use dialog::{Dialog, NewResponse, UserAgent};
use dialplan::{Machine, RunId};
use registrar::auth::Authenticator;
use sip::{Limits, Message, Method, Response, StatusCode};
use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher},
    rc::Rc,
    sync::Arc,
};
use transaction::{ClientId, ServerId, Transactions, Written};

/// Dialogs that are known to have ended, or not to be wanted. Who would replace one of them is told so for as long as it is among these.
const MAX_ENDED: usize = 4096;

/// Names a call.
pub(crate) type CallKey = Key<Call>;

/// Names a relayed request.
pub(crate) type RelayKey = Key<Relay>;

/// Names a request that a provider may challenge.
pub(crate) type ChallengedKey = Key<Challenged>;

/// Whose transaction it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum User {
    /// The INVITE that began a call.
    Caller(CallKey),
    /// The INVITE of a leg.
    Leg(CallKey, LegNo),
    /// A request that passes inside a call: its server's and its client's.
    Passing(CallKey, u16),
    /// A request of ours inside a call, by its number there.
    Own(CallKey, u16),
    /// A request inside a call to a provider, who may challenge it.
    Challenged(ChallengedKey),
    /// A request that a plan sends.
    Script(CallKey, RunNo),
    /// A relayed request: its server's.
    Relayed(RelayKey),
    /// One of its branches.
    Branch(RelayKey, u8),
    /// Nobody waits for what comes of it.
    Nobody,
}

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiter {
    /// A leg, for bindings.
    Leg(CallKey, LegNo),
    /// A plan.
    Run(CallKey, RunNo),
    /// A relayed request, for bindings.
    Relay(RelayKey),
}

/// What waits for the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub ticket: Ticket,
    pub call: CallKey,
}

/// Tags and queries are random or counted by us: no hashing is needed to spread them.
#[derive(Default)]
pub(crate) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, octets: &[u8]) {
        for &octet in octets {
            self.0 = self.0.rotate_left(8) ^ u64::from(octet);
        }
    }

    fn write_u64(&mut self, number: u64) {
        // The tables look at the highest and the lowest bits.
        self.0 = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

pub(crate) type ByNumber<T> = HashMap<u64, T, BuildHasherDefault<AsItIs>>;

/// What all calls of a shard share.
pub(crate) struct Core {
    pub settings: Arc<Settings>,
    pub place: Place,
    pub tables: Tables,
    pub tokens: AppToken,
    /// Seals whom a call handed over to another application server comes from.
    pub forwarded: Seal,
    /// Hides the ends of relayed dialogs.
    pub hidden: Veil,
    pub tags: StatelessTags,
    pub auth: Authenticator,
    pub mint: Mint,
    pub transactions: Transactions<User>,
    /// A call that is being worked on is out of its slot.
    pub calls: Slab<Call>,
    pub relays: Slab<Relay>,
    pub challenged: Slab<Challenged>,
    /// None where this place runs no scripts.
    pub machine: Option<Machine>,
    pub compiled: Compiled,
    /// Dialogs by our tag in them.
    pub dialogs: ByNumber<CallKey>,
    /// Tags of dialogs that have ended lately, the newest last.
    pub ended: VecDeque<u64>,
    /// Dialogs that a 2xx has made and nobody wanted, hashed, the newest last.
    pub dismissed: VecDeque<u64>,
    pub runs: HashMap<RunId, (CallKey, RunNo)>,
    pub queries: ByNumber<Waiter>,
    pub asked: u64,
    /// In the order of their tickets.
    pub kept: VecDeque<Kept>,
    /// The calls of each user.
    pub users: HashMap<Rc<str>, Vec<CallKey>>,
    pub reports: VecDeque<Report>,
    pub counters: Counters,
}

impl Core {
    /// Who we are to the proxy.
    pub fn agent(&self) -> Agent<'_> {
        Agent { name: &self.place.name, shard: self.place.shard }
    }

    /// The text of a dialog's tag.
    pub fn tag_text(&self, tag: u64) -> Vec<u8> {
        dialog_tag(self.agent(), tag)
    }

    /// A dialog of an answered call has ended; it may be another call's by now.
    pub fn forget_dialog(&mut self, call: CallKey, dialog: &Dialog) {
        let Some(tag) = parse_tag(dialog.local_tag()) else { return };
        if self.dialogs.get(&tag) != Some(&call) {
            return;
        }
        self.dialogs.remove(&tag);
        if self.ended.len() >= MAX_ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back(tag);
    }

    /// Takes note of a dialog that nobody wants. False where that was known: it gets no second BYE, for copies of its 2xx go on until
    /// the ACK is there.
    pub fn dismiss(&mut self, call_id: &[u8], remote_tag: &[u8]) -> bool {
        let mut hasher = DefaultHasher::new();
        (call_id, remote_tag).hash(&mut hasher);
        let dialog = hasher.finish();
        if self.dismissed.contains(&dialog) {
            return false;
        }
        if self.dismissed.len() >= MAX_ENDED {
            self.dismissed.pop_front();
        }
        self.dismissed.push_back(dialog);
        true
    }

    /// What answers an INVITE that is to replace the dialog with this tag, which is not here (RFC 3891 §3).
    pub fn status_of_missing(&self, tag: u64) -> StatusCode {
        let has_ended = self.ended.contains(&tag);
        if has_ended { StatusCode::DECLINE } else { StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST }
    }

    /// Counts a call as `user`'s, if he may have one more.
    pub fn count_in(&mut self, user: &Rc<str>, call: CallKey) -> bool {
        let calls = self.users.entry(Rc::clone(user)).or_default();
        let has_room = calls.len() < self.settings.max_calls_per_user as usize;
        if has_room {
            calls.push(call);
        } else if calls.is_empty() {
            self.users.remove(user);
        }
        has_room
    }

    /// Counts a call as `user`'s no longer.
    pub fn count_out(&mut self, user: &Rc<str>, call: CallKey) {
        let Some(calls) = self.users.get_mut(user) else { return };
        if let Some(at) = calls.iter().position(|&other| other == call) {
            calls.swap_remove(at);
        }
        if calls.is_empty() {
            self.users.remove(user);
        }
    }

    /// Keeps what the author of a plan is to read, the newest up to a bound.
    pub fn report(&mut self, report: Report) {
        if self.reports.len() >= self.settings.max_reports {
            self.reports.pop_front();
        }
        self.reports.push_back(report);
    }
}

/// A request that has come, and its transaction: of an ACK for a 2xx, that of its INVITE.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'m> {
    pub server: ServerId,
    /// The flow it came on.
    pub flow: Flow,
    pub message: &'m Message<'m>,
}

/// A response that has come.
#[derive(Clone, Copy)]
pub(crate) struct Heard<'m> {
    pub message: &'m Message<'m>,
    /// What the message says.
    pub response: &'m Response<'m>,
    /// The flow it came on.
    pub flow: Flow,
}

/// The hands of one call in one turn.
pub(crate) struct Context<'c, 't> {
    pub now: Now,
    pub key: CallKey,
    pub core: &'c mut Core,
    pub world: &'c mut dyn Surroundings,
    pub out: &'c mut Outbox<'t>,
}

impl<'t> Context<'_, 't> {
    /// Who we write as.
    pub fn ua(&self) -> UserAgent<'_> {
        user_agent(self.core)
    }

    /// Sends a response in a server transaction. One that names no tag of ours gets a new one where it needs one (§8.2.6.2).
    pub fn respond(&mut self, asked: Asked<'_>, response: &NewResponse<'_>) {
        let is_tagged = || asked.message.request().is_ok_and(|request| request.to.tag.is_some());
        let needs_tag = response.to_tag.is_empty() && response.status > StatusCode::TRYING && !is_tagged();
        let tag = if needs_tag { crate::mint::tag_text(self.core.mint.draw()) } else { [0; 16] };
        let to_tag = if needs_tag { &tag } else { response.to_tag };
        let response = NewResponse { to_tag, ..*response };
        let mut octets = self.out.draft();
        response.write(self.ua(), asked.message, asked.flow.peer, &mut octets);
        self.core.transactions.respond(self.now, asked.server, response.status, octets.into_bump_slice(), self.out);
    }

    /// A request is `user`'s from here on, who will not respond at once.
    pub fn trying(&mut self, asked: Asked<'_>, user: User) {
        self.core.transactions.set_user(asked.server, user);
        self.core.transactions.trying(self.now, asked.server, asked.message, self.out);
    }

    /// Sends a request as a client transaction. None where there is no room for it.
    pub fn send(
        &mut self,
        user: User,
        method: Method<'_>,
        way: Way,
        branch: u64,
        request: Draft<'t>,
    ) -> Option<ClientId> {
        let method = Method::new(self.out.arena().alloc_slice_copy(method.as_bytes()));
        let written = Written { method, way, branch, octets: request.into_bump_slice() };
        self.core.transactions.request(self.now, user, written, self.out).ok()
    }

    /// Has `key` woken when the ticket is settled.
    pub fn wait_for(&mut self, ticket: Ticket) {
        self.core.kept.push_back(Kept { ticket, call: self.key });
    }

    /// A new number for a question.
    pub fn query_id(&mut self, asker: Waiter) -> QueryId {
        self.core.asked += 1;
        self.core.queries.insert(self.core.asked, asker);
        QueryId(self.core.asked)
    }
}

/// Who a shard's messages are written by.
pub(crate) fn user_agent(core: &Core) -> UserAgent<'_> {
    UserAgent { agent: core.agent(), tokens: &core.tokens }
}

/// Parses a message that was parsed before it was kept, or that we wrote.
pub(crate) fn reparse(octets: &[u8]) -> Message<'_> {
    Message::parse(octets, &Limits::default()).expect("it was parsed or written here before it was kept")
}
