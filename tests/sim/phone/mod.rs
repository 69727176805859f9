//! A phone: a user agent of `transaction` and `dialog` (RFC 3261 §6) which does what a [`Script`] says.
//!
//! It checks as it goes: what a peer must not send becomes a fault, which fails the run.

mod call;
mod calling;
mod called;
mod inside;

pub use call::{Call, Outcome, Phase};

use crate::{
    network::Rng,
    script::{Act, Script, When},
};
use agent::{Agent, AppToken, Flow, ListenerId, Now, Outbox, Secret, Way};
use dialog::{Body, Contact, Field, NewResponse, UserAgent};
use sip::{HeaderName, Limits, Message, Method, Request, StatusCode, Transport};
use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use transaction::{Arrived, ClientId, Expired, ServerId, Settings, Transactions, Written};

/// What a transaction of a phone is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tag {
    call: usize,
    leg: usize,
    asked: Asked,
}

/// The kinds of requests that are told apart afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Invite,
    Reinvite,
    Bye,
    Prack,
    Update,
    Other,
}

/// What a phone challenges with that plays a provider.
const CHALLENGE: &[u8] =
    b"Digest realm=\"provider\", nonce=\"f84f1cec41e6cbe5aea9c8e88d359\", algorithm=MD5, qop=\"auth\"";

/// Decides what the user does with a call that comes.
pub type Incoming = Box<dyn FnMut(&mut Rng) -> Script>;

pub struct Phone {
    pub name: String,
    pub address: SocketAddr,
    /// Where it wants media.
    pub media: IpAddr,
    /// Where all requests outside a dialog go; None where their URI says.
    server: Option<SocketAddr>,
    tokens: AppToken,
    transactions: Transactions<Tag>,
    pub calls: Vec<Call>,
    rng: Rng,
    incoming: Incoming,
    /// What is to be done, and when: for the simulation to bring back.
    pub agenda: Vec<(Duration, usize, Act)>,
    /// The final response of each request.
    finals: HashMap<ClientId, u16>,
    /// What peers have done wrong.
    pub faults: Vec<String>,
}

impl Phone {
    pub fn new(now: Now, name: &str, address: SocketAddr, server: Option<SocketAddr>, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let key = u128::from(rng.next()) << 64 | u128::from(rng.next());
        Self {
            name: name.to_owned(),
            address,
            media: address.ip(),
            server,
            tokens: AppToken::new(&Secret::new([1; 32])),
            transactions: Transactions::new(now, Settings::default(), key.to_be_bytes()),
            calls: Vec::new(),
            rng,
            incoming: Box::new(|_| Script::answers(1000)),
            agenda: Vec::new(),
            finals: HashMap::new(),
            faults: Vec::new(),
        }
    }

    /// What the user does with calls that come.
    pub fn on_call(&mut self, incoming: impl FnMut(&mut Rng) -> Script + 'static) {
        self.incoming = Box::new(incoming);
    }

    /// Its address of record.
    pub fn aor(&self) -> String {
        format!("sip:{}@example.com", self.name)
    }

    fn ua(&self) -> UserAgent<'_> {
        user_agent(&self.name, &self.tokens)
    }

    /// Takes a datagram.
    pub fn handle_datagram<'t>(&mut self, now: Now, from: SocketAddr, octets: &'t [u8], out: &mut Outbox<'t>) {
        let message = match Message::parse(octets, &Limits::default()) {
            Ok(message) => message,
            Err(error) => return self.fault(format!("{error:?} in {}", String::from_utf8_lossy(octets))),
        };
        if !message.is_request() {
            return self.hear(now, &message, out);
        }
        match message.request() {
            Ok(request) => self.receive(now, flow(from), &message, &request, out),
            Err(error) => self.fault(format!("{error:?} in {message:?}")),
        }
    }

    fn receive<'t>(
        &mut self,
        now: Now,
        flow: Flow,
        message: &Message<'t>,
        request: &Request<'t>,
        out: &mut Outbox<'t>,
    ) {
        match self.transactions.handle_request(now, flow, request, out) {
            Arrived::Absorbed => {}
            Arrived::Full => self.fault("a phone has room".to_owned()),
            Arrived::Merged(id) => {
                self.fault(format!("merged: {message:?}"));
                self.respond(now, id, message, flow, &NewResponse::new(StatusCode::LOOP_DETECTED, b"merged"), out);
            }
            Arrived::Cancel { id, invite } => self.cancelled(now, id, invite, message, flow, out),
            Arrived::Ack(None) => {}
            Arrived::Ack(Some(id)) => {
                if let Some(tag) = self.transactions.server_user(id) {
                    self.acknowledged(tag, message);
                }
            }
            Arrived::New(id) => match (request.to.tag, request.method) {
                (Some(_), _) => self.receive_inside(now, id, message, request, flow, out),
                (None, Method::Invite) => self.invited(now, id, message, flow, out),
                (None, Method::Bye | Method::Update | Method::Prack) => {
                    self.fault(format!("outside a dialog: {message:?}"));
                    let response = NewResponse::new(StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST, b"none");
                    self.respond(now, id, message, flow, &response, out);
                }
                (None, _) => {
                    let tag = self.new_tag();
                    self.respond(now, id, message, flow, &NewResponse::new(StatusCode::OK, tag.as_bytes()), out);
                }
            },
        }
    }

    fn hear<'t>(&mut self, now: Now, message: &Message<'t>, out: &mut Outbox<'t>) {
        let response = match message.response() {
            Ok(response) => response,
            Err(error) => return self.fault(format!("{error:?} in {message:?}")),
        };
        let Some((client, tag)) = self.transactions.handle_response(now, message, &response, out) else { return };
        let status = response.status;
        if !status.is_provisional() {
            let first = *self.finals.entry(client).or_insert(status.get());
            let is_repeated_2xx = matches!(tag.asked, Asked::Invite | Asked::Reinvite) && status.is_success();
            if first != status.get() && !is_repeated_2xx {
                self.fault(format!("{first} and then {message:?}"));
            }
        }
        match tag.asked {
            Asked::Invite => self.hear_invite(now, tag, message, status, out),
            Asked::Reinvite => self.hear_reinvite(now, tag, message, response.cseq.number, status, out),
            Asked::Bye | Asked::Prack | Asked::Update | Asked::Other => self.hear_inside(tag, message, status),
        }
    }

    /// When something is due.
    pub fn next_timeout(&self) -> Option<Duration> {
        let calls = self.calls.iter().rev().take(50).filter_map(|call| call.reliable.as_ref()?.next_timeout());
        calls.chain(self.transactions.next_timeout()).min()
    }

    pub fn handle_timeout(&mut self, now: Now, out: &mut Outbox<'_>) {
        let mut told = Vec::new();
        self.transactions.handle_timeout(now, out, &mut |event| told.push(event));
        for event in told {
            match event {
                Expired::ClientTimeout(client, tag) => {
                    self.finals.insert(client, StatusCode::REQUEST_TIMEOUT.get());
                    self.timed_out(now, tag, out);
                }
                Expired::NotAcknowledged(_, tag) => self.hang_up(now, tag.call, tag.leg, out),
            }
        }
        self.resend_reliables(now, out);
    }

    /// Does what the user wants, if the call is still as he thinks.
    pub fn act(&mut self, now: Now, number: usize, act: Act, out: &mut Outbox<'_>) {
        let call = &self.calls[number];
        match (act, call.phase) {
            (_, Phase::Over) => {}
            (Act::Cancel, Phase::Start | Phase::Ringing) if call.is_caller => {
                let client = call.client.expect("it is calling");
                self.calls[number].is_cancelled = true;
                self.transactions.cancel(now, client, out);
            }
            (Act::Progress(status), Phase::Start | Phase::Ringing) => self.progress(now, number, status, out),
            (Act::Answer, Phase::Start | Phase::Ringing) => self.answer(now, number, out),
            (Act::Refuse(status), Phase::Start | Phase::Ringing) => {
                self.refuse(now, number, status, Contact::Absent, &[], out);
            }
            (Act::Redirect(contact), Phase::Start | Phase::Ringing) => {
                self.refuse(now, number, 302, Contact::Elsewhere(contact.as_bytes()), &[], out);
            }
            (Act::Challenge, Phase::Start | Phase::Ringing) => {
                let fields = [Field::own(HeaderName::ProxyAuthenticate, CHALLENGE)];
                self.refuse(now, number, 407, Contact::Absent, &fields, out);
            }
            // §15: a callee ends the call once the caller knows that he has answered.
            (Act::HangUp, Phase::Answered) => self.agenda.push((Duration::from_millis(500), number, Act::HangUp)),
            (Act::HangUp, Phase::Talking) => {
                let leg = self.calls[number].talking.expect("it is talking");
                self.hang_up(now, number, leg, out);
            }
            (act, Phase::Talking) => self.act_inside(now, number, act, out),
            _ => {}
        }
    }

    /// Enters a phase of a call, and puts what the script wants in it on the agenda.
    fn enter(&mut self, number: usize, phase: Phase, when: When) {
        let call = &mut self.calls[number];
        call.phase = phase;
        let steps = call.script.steps.iter().filter(|step| step.when == when);
        self.agenda.extend(steps.map(|step| (step.after, number, step.act.clone())));
    }

    /// Ends a call.
    fn over(&mut self, number: usize, outcome: Outcome) {
        let call = &mut self.calls[number];
        call.phase = Phase::Over;
        call.outcome.get_or_insert(outcome);
    }

    fn respond<'t>(
        &mut self,
        now: Now,
        id: ServerId,
        request: &Message<'_>,
        flow: Flow,
        response: &NewResponse<'_>,
        out: &mut Outbox<'t>,
    ) -> &'t [u8] {
        let mut octets = out.draft();
        response.write(self.ua(), request, flow.peer, &mut octets);
        let octets: &'t [u8] = octets.into_bump_slice();
        self.transactions.respond(now, id, response.status, octets, out);
        octets
    }

    fn send<'t>(
        &mut self,
        now: Now,
        tag: Tag,
        method: Method<'t>,
        branch: u64,
        octets: &'t [u8],
        out: &mut Outbox<'t>,
    ) -> ClientId {
        let way = match self.server {
            Some(server) if tag.asked == Asked::Invite => Way::Flow(flow(server)),
            _ => Way::Uri,
        };
        let request = Written { method, way, branch, octets };
        self.transactions.request(now, tag, request, out).expect("a phone has room")
    }

    fn new_tag(&mut self) -> String {
        format!("{:x}", self.rng.next())
    }

    fn fault(&mut self, fault: String) {
        self.faults.push(format!("{}: {fault}", self.name));
    }

    /// What is left in its tables.
    pub fn left(&self) -> usize {
        self.transactions.len()
    }

    /// Each of its requests that has no final response.
    pub fn requests_without_final(&self) -> usize {
        self.calls.iter().filter(|call| call.client.is_some_and(|client| !self.finals.contains_key(&client))).count()
    }
}

fn user_agent<'a>(name: &'a str, tokens: &'a AppToken) -> UserAgent<'a> {
    UserAgent { agent: Agent { name, shard: 0 }, tokens }
}

/// The flow between a phone and `peer`.
pub fn flow(peer: SocketAddr) -> Flow {
    Flow { listener: ListenerId(0), transport: Transport::Udp, peer, connection: None }
}

/// A response with a body, if there is one.
fn with_body<'a>(status: u16, tag: &'a str, fields: &'a [Field<'a>], body: Option<&'a str>) -> NewResponse<'a> {
    let status = StatusCode::new(status).expect("scripts name statuses");
    NewResponse { fields, body: body.map(sdp_body), contact: Contact::Ours, ..NewResponse::new(status, tag.as_bytes()) }
}

fn sdp_body(text: &str) -> Body<'_> {
    Body { content_type: Body::SDP, octets: text.as_bytes() }
}
