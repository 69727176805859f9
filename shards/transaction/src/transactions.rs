//! All transactions of a shard: finding them, running their machines, telling the TU.

use crate::{
    Counters, Settings,
    client::{self, Client},
    matching::{Key, Keys},
    pool::{Pool, Slot},
    server::{self, InviteServer, NonInviteServer, Server},
    settings::{Intervals, tick_after, tick_of, time_of},
    step::{Next, Step},
    table::Table,
};
use agent::{AppBranch, Flow, Now, Outbox, Way};
use sip::{Message, Method, Octets, Request, Response, StartLine, StatusCode, write};
use std::time::Duration;

/// A server transaction: where it is, and which of those that were there. Worth nothing once it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServerId(Slot);

/// A client transaction, likewise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientId(Slot);

/// What a request turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// A new one. The TU responds to it, or says that it is [`Transactions::trying`], in this turn.
    New(ServerId),
    /// A new one which repeats an earlier request that took another way: the TU answers 482 (§8.2.2.2).
    Merged(ServerId),
    /// A CANCEL, to be responded to as `id` (§9.2).
    Cancel {
        /// The CANCEL's own transaction.
        id: ServerId,
        /// The INVITE that it would cancel; None calls for 481.
        invite: Option<ServerId>,
    },
    /// An ACK for a 2xx, with the INVITE's transaction if it lives. The 2xx is sent no more.
    Ack(Option<ServerId>),
    /// It repeats an earlier one, which has been answered if there is an answer; or it is an ACK for a final response
    /// other than 2xx. The TU does nothing.
    Absorbed,
    /// There is no room for its transaction. The caller answers 503, unless it is an ACK.
    Full,
}

/// A request that the TU has written. An ACK for a 2xx is none of them: it has no transaction, and the TU posts it by
/// itself (§13.2.2.4).
#[derive(Clone, Copy, Debug)]
pub struct Written<'t> {
    /// Its method.
    pub method: Method<'t>,
    /// The way that it takes.
    pub way: Way,
    /// The id in its branch ([`AppBranch`]): 64 random bits.
    pub branch: u64,
    /// All its octets.
    pub octets: &'t [u8],
}

/// What a timer tells the TU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired<U> {
    /// No final response came (timers B and F, or 64*T1 after a CANCEL): the TU acts as if a 408 had come (§8.1.3.1).
    ClientTimeout(ClientId, U),
    /// No ACK came for a 2xx: the TU ends the dialog with a BYE (§13.3.1.4).
    NotAcknowledged(ServerId, U),
}

/// Whose message could not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undelivered<U> {
    /// A request; its transaction has ended. The TU acts as if a 503 had come (§8.1.3.1).
    Request(ClientId, U),
    /// A response. An INVITE's transaction goes on (RFC 6026 §7.1), any other has ended.
    Response(ServerId, Option<U>),
}

/// The table has no room for another transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The transactions of one shard. `U` is what the TU knows its own part by, such as a call and one of its legs.
pub struct Transactions<U> {
    settings: Settings,
    intervals: Intervals,
    keys: Keys,
    servers: Pool<Server<U>>,
    clients: Pool<Client<U>>,
    /// Servers by their own key.
    by_key: Table,
    /// Servers by the request's key: INVITEs, and what is outside a dialog.
    by_request: Table,
    /// Clients by the branch.
    by_branch: Table,
    counters: Counters,
}

/// Begins a step of the machine that `way` belongs to. A macro, for the borrows are of single fields.
macro_rules! step {
    ($self:ident, $now:expr, $way:expr, $out:expr) => {
        Step {
            now: $now,
            intervals: &$self.intervals,
            way: $way,
            reliable: is_reliable(&$self.settings, $way),
            retransmissions: &mut $self.counters.retransmissions,
            out: $out,
        }
    };
}

impl<U: Copy> Transactions<U> {
    /// None yet. `key` is secret and random: it keeps outsiders from choosing what falls together in a table.
    pub fn new(now: Now, settings: Settings, key: [u8; 16]) -> Self {
        Self {
            settings,
            intervals: Intervals::new(&settings),
            keys: Keys::new(key),
            servers: Pool::new(now.monotonic),
            clients: Pool::new(now.monotonic),
            by_key: Table::new(),
            by_request: Table::new(),
            by_branch: Table::new(),
            counters: Counters::default(),
        }
    }

    /// Takes a request that came on `flow`. What a Via says of where to send the response is the proxy's to read.
    pub fn handle_request(&mut self, now: Now, flow: Flow, request: &Request<'_>, out: &mut Outbox<'_>) -> Arrived {
        let tick = tick_after(now.monotonic);
        if request.method == Method::Ack {
            return self.handle_ack(tick, flow, request, out);
        }
        let key = self.keys.transaction(request, request.method);
        if let Some(slot) = self.find_server(key) {
            if let Some(server) = self.servers.get(slot) {
                server.machine.repeat(&mut step!(self, tick, Way::Response(flow), out));
            }
            self.counters.absorbed += 1;
            return Arrived::Absorbed;
        }
        if self.len() >= self.settings.max {
            self.counters.full += 1;
            return Arrived::Full;
        }
        if request.method == Method::Cancel {
            let invite = self.find_server(self.keys.transaction(request, Method::Invite));
            let id = self.begin(tick, flow, request.method, key, None);
            return Arrived::Cancel { id, invite: invite.map(ServerId) };
        }
        // §8.2.2.2: what has a To tag is inside a dialog, and is not merged. An INVITE is found by its ACK in any case.
        let repeated = self.keys.request(request, request.method);
        let merged = request.to.tag.is_none() && self.find_request(repeated).is_some();
        let found_by_request = !merged && (request.to.tag.is_none() || request.method == Method::Invite);
        let id = self.begin(tick, flow, request.method, key, found_by_request.then_some(repeated));
        if merged { Arrived::Merged(id) } else { Arrived::New(id) }
    }

    /// Whether a request is of a transaction that lives: it repeats its request, acknowledges it or cancels it.
    pub fn knows_request(&self, request: &Request<'_>) -> bool {
        let lives = |method| self.find_server(self.keys.transaction(request, method)).is_some();
        match request.method {
            Method::Ack => {
                lives(Method::Invite) || self.find_request(self.keys.request(request, Method::Invite)).is_some()
            }
            Method::Cancel => lives(Method::Cancel) || lives(Method::Invite),
            method => lives(method),
        }
    }

    /// Whether a response is of a transaction that lives.
    pub fn knows_response(&self, response: &Response<'_>) -> bool {
        self.find_client(response).is_some()
    }

    fn begin(&mut self, tick: u64, flow: Flow, method: Method<'_>, key: Key, request: Option<Key>) -> ServerId {
        let ends = tick + self.intervals.lifetime;
        let (machine, next) = match method {
            Method::Invite => (server::Machine::Invite(InviteServer::Proceeding { last: Box::default() }), Next::Wait),
            _ => (server::Machine::NonInvite(NonInviteServer::Trying { trying: None, ends }), Next::At(ends)),
        };
        let slot = self.servers.insert(Server { key, request, user: None, flow, machine });
        self.by_key.insert(key.hash(), slot.index, |index| self.servers.at(index).1.key.hash());
        if let Some(request) = request {
            self.by_request
                .insert(request.hash(), slot.index, |index| self.servers.at(index).1.request.map_or(0, Key::hash));
        }
        self.counters.servers += 1;
        self.settle_server(slot, next);
        ServerId(slot)
    }

    /// An ACK by its branch (§17.2.3), or by the request that it acknowledges: for a 2xx it has a branch of its own.
    fn handle_ack(&mut self, tick: u64, flow: Flow, request: &Request<'_>, out: &mut Outbox<'_>) -> Arrived {
        let own = self.find_server(self.keys.transaction(request, Method::Invite));
        let slot = own.or_else(|| {
            let slot = self.find_request(self.keys.request(request, Method::Invite))?;
            let server = self.servers.get(slot)?;
            matches!(server.machine, server::Machine::Invite(InviteServer::Accepted { .. })).then_some(slot)
        });
        let Some(slot) = slot else { return Arrived::Ack(None) };
        let Some(Server { machine: server::Machine::Invite(machine), .. }) = self.servers.get_mut(slot) else {
            return Arrived::Ack(None);
        };
        let (next, belongs_to_user) = machine.acknowledge(&step!(self, tick, Way::Response(flow), out));
        self.settle_server(slot, next);
        if belongs_to_user {
            return Arrived::Ack(Some(ServerId(slot)));
        }
        self.counters.absorbed += 1;
        Arrived::Absorbed
    }

    /// Marks a server transaction as the user's: what happens to it later is told with `user`.
    pub fn set_user(&mut self, id: ServerId, user: U) {
        if let Some(server) = self.servers.get_mut(id.0) {
            server.user = Some(user);
        }
    }

    /// The user of a server transaction, if it lives and has one.
    pub fn server_user(&self, id: ServerId) -> Option<U> {
        self.servers.get(id.0)?.user
    }

    /// The TU will not respond to `message` at once. An INVITE gets its 100 (Trying) now (§17.2.1); any other request when the
    /// client's retransmissions have slowed down, and only if nothing else has been sent by then (RFC 4320 §4.1).
    pub fn trying(&mut self, now: Now, id: ServerId, message: &Message<'_>, out: &mut Outbox<'_>) {
        let Some(server) = self.servers.get_mut(id.0) else { return };
        let mut trying = out.draft();
        let source = server.flow.peer;
        write::begin_response(&mut trying, message, StatusCode::TRYING, StatusCode::TRYING.reason(), b"", source);
        // §8.2.6.1: a Timestamp comes back.
        for header in message.headers().filter(|header| header.raw_name().eq_ignore_ascii_case(b"Timestamp")) {
            trying.put(header.line);
        }
        write::finish(&mut trying, b"");
        let trying: &[u8] = trying.into_bump_slice();
        match &mut server.machine {
            server::Machine::Invite(_) => self.respond(now, id, StatusCode::TRYING, trying, out),
            server::Machine::NonInvite(machine) => {
                let tick = tick_after(now.monotonic);
                let next = machine.keep_trying(&step!(self, tick, Way::Response(server.flow), out), trying);
                self.settle_server(id.0, next);
            }
        }
    }

    /// Sends a response of the TU's: `octets` is all of it, and `status` its status. What the transaction has no use for is
    /// discarded: anything behind a final response, or for a transaction that has ended.
    pub fn respond<'t>(&mut self, now: Now, id: ServerId, status: StatusCode, octets: &'t [u8], out: &mut Outbox<'t>) {
        let Some(server) = self.servers.get_mut(id.0) else { return };
        let way = Way::Response(server.flow);
        let step = step!(self, tick_after(now.monotonic), way, out);
        let Some(next) = server.machine.respond(&step, status, octets) else { return };
        out.post(way, octets);
        self.settle_server(id.0, next);
    }

    /// Sends a request of the TU's.
    ///
    /// # Errors
    /// There is no room; nothing is sent.
    pub fn request<'t>(
        &mut self,
        now: Now,
        user: U,
        request: Written<'t>,
        out: &mut Outbox<'t>,
    ) -> Result<ClientId, Full> {
        let Written { method, way, branch: id, octets } = request;
        debug_assert!(
            method != Method::Ack && method != Method::Cancel,
            "no request that the TU makes a transaction of"
        );
        if self.len() >= self.settings.max {
            self.counters.full += 1;
            return Err(Full);
        }
        let step = step!(self, tick_after(now.monotonic), way, out);
        let (machine, next) = client::Machine::new(&step, method == Method::Invite, octets);
        out.post(way, octets);
        Ok(self.begin_client(Client { id, is_cancel: false, user: Some(user), way, machine }, next))
    }

    /// Marks a client transaction as another user's: what happens to it later is told with `user`.
    pub fn set_client_user(&mut self, id: ClientId, user: U) {
        if let Some(client) = self.clients.get_mut(id.0) {
            client.user = Some(user);
        }
    }

    /// Cancels an INVITE of the TU's: its CANCEL goes out now, or as soon as a provisional response has come (§9.1). What
    /// becomes of the INVITE is told as ever, a 2xx that crossed the CANCEL included.
    pub fn cancel(&mut self, now: Now, id: ClientId, out: &mut Outbox<'_>) {
        let Some(Client { id: branch, way, machine: client::Machine::Invite(machine), .. }) =
            self.clients.get_mut(id.0)
        else {
            return;
        };
        let (branch, way, tick) = (*branch, *way, tick_after(now.monotonic));
        let (next, cancel) = machine.cancel(&step!(self, tick, way, out));
        self.settle_client(id.0, next);
        if let Some(cancel) = cancel {
            self.send_cancel(tick, branch, way, &cancel, out);
        }
    }

    fn send_cancel(&mut self, tick: u64, branch: u64, way: Way, cancel: &[u8], out: &mut Outbox<'_>) {
        let mut step = step!(self, tick, way, out);
        let (machine, next) = client::Machine::new(&step, false, cancel);
        step.send(cancel);
        self.begin_client(Client { id: branch, is_cancel: true, user: None, way, machine }, next);
    }

    fn begin_client(&mut self, client: Client<U>, next: Next) -> ClientId {
        let branch = client.id;
        let slot = self.clients.insert(client);
        self.by_branch.insert(branch, slot.index, |index| self.clients.at(index).1.id);
        self.counters.clients += 1;
        self.settle_client(slot, next);
        ClientId(slot)
    }

    /// Takes a response, `response` as parsed from `message`: the transaction and the user whose request it answers, if it is for the TU. That is every
    /// provisional response, the first final one, and each further 2xx to an INVITE (RFC 6026 §7.2).
    pub fn handle_response(
        &mut self,
        now: Now,
        message: &Message<'_>,
        response: &Response<'_>,
        out: &mut Outbox<'_>,
    ) -> Option<(ClientId, U)> {
        let Some(slot) = self.find_client(response) else {
            // RFC 6026 §7.2: what matches no transaction is dropped.
            self.counters.strays += 1;
            return None;
        };
        let client = self.clients.get_mut(slot)?;
        let (branch, user, way, tick) = (client.id, client.user, client.way, tick_after(now.monotonic));
        let heard = client.machine.hear(&mut step!(self, tick, way, out), response.status, message);
        if let Some(cancel) = heard.cancel {
            self.send_cancel(tick, branch, way, &cancel, out);
        }
        self.settle_client(slot, heard.next);
        user.filter(|_| heard.tell).map(|user| (ClientId(slot), user))
    }

    /// When [`Self::handle_timeout`] is next of use, on the monotonic clock.
    pub fn next_timeout(&self) -> Option<Duration> {
        self.servers.next_due().into_iter().chain(self.clients.next_due()).min().map(time_of)
    }

    /// Fires every timer that is due. What the TU must hear goes to `expired`.
    pub fn handle_timeout(&mut self, now: Now, out: &mut Outbox<'_>, expired: &mut impl FnMut(Expired<U>)) {
        let tick = tick_of(now.monotonic);
        self.servers.advance(
            tick,
            |slot, server| {
                let mut step = step!(self, tick, Way::Response(server.flow), out);
                let (next, unacknowledged) = server.machine.fire(&mut step);
                self.counters.unacknowledged += u64::from(unacknowledged);
                if let Some(user) = server.user.filter(|_| unacknowledged) {
                    expired(Expired::NotAcknowledged(ServerId(slot), user));
                }
                next
            },
            |slot, server| forget_server(&mut self.by_key, &mut self.by_request, slot, &server),
        );
        self.clients.advance(
            tick,
            |slot, client| {
                let mut step = step!(self, tick, client.way, out);
                let (next, timed_out) = client.machine.fire(&mut step);
                if let Some(user) = client.user.filter(|_| timed_out) {
                    self.counters.timeouts += 1;
                    expired(Expired::ClientTimeout(ClientId(slot), user));
                }
                next
            },
            |slot, client| self.by_branch.remove(client.id, slot.index),
        );
    }

    /// A message that was posted could not be sent (§17.1.4, §17.2.4). A CANCEL or an ACK that is lost is told to nobody.
    pub fn undeliverable(&mut self, message: &Message<'_>) -> Option<Undelivered<U>> {
        match message.start_line() {
            StartLine::Request { .. } => {
                let request = message.request().ok()?;
                let branch = AppBranch::parse(request.via.branch?)?;
                let slot = self.find_branch(branch.id, request.method == Method::Cancel)?;
                let user = self.clients.get(slot)?.user;
                self.settle_client(slot, Next::Terminated);
                let user = user.filter(|_| request.method != Method::Ack)?;
                Some(Undelivered::Request(ClientId(slot), user))
            }
            StartLine::Response { .. } => {
                let response = message.response().ok()?;
                let slot = self.find_server(self.keys.of_response(&response.via, response.cseq.method)?)?;
                let user = self.servers.get(slot)?.user;
                if response.cseq.method != Method::Invite {
                    self.settle_server(slot, Next::Terminated);
                }
                Some(Undelivered::Response(ServerId(slot), user))
            }
        }
    }

    /// How many transactions live, CANCELs of ours included.
    pub fn len(&self) -> usize {
        self.servers.len() + self.clients.len()
    }

    /// Whether none lives.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What has been counted since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn find_server(&self, key: Key) -> Option<Slot> {
        let index = self.by_key.find(key.hash(), |index| self.servers.at(index).1.key == key)?;
        Some(self.servers.at(index).0)
    }

    fn find_request(&self, key: Key) -> Option<Slot> {
        let index = self.by_request.find(key.hash(), |index| self.servers.at(index).1.request == Some(key))?;
        Some(self.servers.at(index).0)
    }

    /// §17.1.3: by the branch, and by the CSeq method, for a CANCEL has the branch of its INVITE.
    fn find_client(&self, response: &Response<'_>) -> Option<Slot> {
        let branch = AppBranch::parse(response.via.branch?)?;
        let slot = self.find_branch(branch.id, response.cseq.method == Method::Cancel)?;
        let is_invite = matches!(self.clients.get(slot)?.machine, client::Machine::Invite(_));
        (is_invite == (response.cseq.method == Method::Invite)).then_some(slot)
    }

    fn find_branch(&self, id: u64, is_cancel: bool) -> Option<Slot> {
        let is_it = |client: &Client<U>| client.id == id && client.is_cancel == is_cancel;
        let index = self.by_branch.find(id, |index| is_it(self.clients.at(index).1))?;
        Some(self.clients.at(index).0)
    }

    fn settle_server(&mut self, slot: Slot, next: Next) {
        if self.servers.settle(slot, next) {
            let server = self.servers.remove(slot);
            forget_server(&mut self.by_key, &mut self.by_request, slot, &server);
        }
    }

    fn settle_client(&mut self, slot: Slot, next: Next) {
        if self.clients.settle(slot, next) {
            let client = self.clients.remove(slot);
            self.by_branch.remove(client.id, slot.index);
        }
    }
}

/// Whether what goes that way arrives or fails. Where a URI leads only the proxy knows.
fn is_reliable(settings: &Settings, way: Way) -> bool {
    match way {
        Way::Response(flow) | Way::Flow(flow) => settings.streams_are_reliable && flow.transport.is_reliable(),
        Way::Uri => false,
    }
}

fn forget_server<U>(by_key: &mut Table, by_request: &mut Table, slot: Slot, server: &Server<U>) {
    by_key.remove(server.key.hash(), slot.index);
    if let Some(request) = server.request {
        by_request.remove(request.hash(), slot.index);
    }
}
