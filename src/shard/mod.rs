//! One shard's agents, and the order in which they meet a turn's messages.
//!
//! A message is parsed once. Its token, its branch or its Call-ID says which shard owns it; what is another's is passed on. A
//! response and a request inside a dialog are always handled; of new requests so many as can be done ([`admission`]): calls that are up
//! matter more than calls to come. The proxy comes first; the registrar and, where they are in this
//! process, the application servers are its neighbours. What these write goes through the proxy in the same turn, and what
//! of that is for ourselves comes in again. Scripts compute when the messages of a turn are done, a slice a turn.
//!
//! [`app`] is the other core, that of an application server with a process of its own.

mod admission;
pub mod app;
mod neighbours;
mod orders;
mod seat;
mod side;

pub use admission::Patience;
pub use orders::{AppRules, Rules};
pub use seat::{AppSeat, Seat};
pub use side::{Side, SideLink};

use crate::{
    figures::{Counted, Figures},
    io::{self, Backlog},
    proxy::{self, Errand, Proxy, Reach, sealed},
};
use admission::{Admission, Fate};
use agent::{AppBranch, Flow, Now, Outbox, Posted, Received, ShardHash, Ticket};
use neighbours::Neighbours;
use sip::{Error, HeaderName, Message, Method, StartLine, framing::FrameError};
use std::{
    net::SocketAddr,
    sync::{Arc, mpsc},
    time::Duration,
};

/// How often in one turn agents get to answer what agents of ours have sent; the rest waits for the next turn.
const MAX_ROUNDS: usize = 16;

/// Slices of scripts in one turn. Messages come between any two.
const SLICES: usize = 1;

/// Which shard of how many.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its number.
    pub shard: u16,
    /// How many there are.
    pub shards: u16,
}

/// The core that a shard's turn runs.
pub struct Shard {
    place: Place,
    hash: ShardHash,
    proxy: Proxy,
    neighbours: Neighbours,
    /// Whether a connection may be used for requests to the address that its peer names in Via (RFC 5923).
    alias: bool,
    reloads: mpsc::Receiver<Rules>,
    figures: Arc<Figures>,
    admission: Admission,
    patience: Patience,
    /// Messages refused or dropped because the owner's ring was full.
    ring_full: u64,
    /// What is for ourselves and has found no room in its turn.
    later: Vec<Box<[u8]>>,
    /// The time of the latest turn: what the registrar's timers, which tell Unix time, are reckoned from.
    now: Now,
}

impl Shard {
    /// Parses a message and gives it to whom it is for.
    fn handle<'t>(&mut self, now: Now, received: &Received<'t>, out: &mut Outbox<'t>) {
        if received.flow.listener == self.proxy.settings().hop {
            return self.handle_errand(now, received, out);
        }
        let mut message = Message::empty();
        if let Err(fault) = message.read(received.octets, &self.proxy.settings().limits) {
            if self.admission.is_limited()
                && !proxy::is_inward(&received.flow)
                && self.admission.drops_malformed(now, &self.hash, received.octets, &received.flow)
            {
                return;
            }
            return self.proxy.at_work().refuse_unparsed(received, fault, out);
        }
        let message = &message;
        // What has never left us is of a call that was taken on.
        if self.admission.is_limited()
            && is_new_request(message)
            && !proxy::is_inward(&received.flow)
            && !self.neighbours.knows(message)
        {
            match self.admission.decide(now, &self.hash, message.call_id(), &received.flow) {
                Fate::TakenOn => {}
                Fate::Refused => return self.proxy.at_work().refuse_overloaded(received, message, out),
                Fate::Dropped => return,
            }
        }
        if !received.passed
            && let Some(owner) = self.owner(message)
            && owner.shard != self.place.shard
        {
            if out.pass_on(owner.shard, *received).is_ok() {
                return;
            }
            self.ring_full += 1;
            // What the owner keeps nothing about is handled here as well as there.
            if is_new_request(message) || (owner.keeps_calls && message.is_request()) {
                return self.proxy.at_work().refuse_overloaded(received, message, out);
            }
            if owner.keeps_calls {
                return;
            }
        }
        if message.is_request() {
            self.note_alias(received, message, out);
            self.proxy.at_work().handle_request(now, received, message, &mut self.neighbours, out);
        } else {
            self.proxy.at_work().handle_response(now, received, message, &mut self.neighbours, out);
        }
    }

    /// What another process of ours wants: a message that it has written sent, a user looked up.
    fn handle_errand<'t>(&mut self, now: Now, received: &Received<'t>, out: &mut Outbox<'t>) {
        let settings = self.proxy.settings();
        let mut message = Message::empty();
        let errand = sealed::take_errand(received.octets, out.arena()).and_then(|(token, octets)| {
            message.read(octets, &settings.limits).ok()?;
            let errand = settings.keys.hops.open_errand(message.call_id()?, token)?;
            Some((errand, octets))
        });
        match errand {
            Some((Errand::Post(way), octets)) => self.send(now, &Posted { way, octets }, out),
            Some((Errand::Lookup, _)) => {
                self.proxy.at_work().redirect(now, received.flow, &message, &self.neighbours, out);
            }
            None => self.proxy.counters.unsealed += 1,
        }
    }

    /// Sends what an agent has written; what is for ourselves is handled as if it had been received.
    fn send<'t>(&mut self, now: Now, posted: &Posted<'t>, out: &mut Outbox<'t>) {
        if let Some(inward) = self.proxy.at_work().originate(posted, out) {
            self.handle(now, &inward, out);
        }
    }

    /// Sends what agents have written in this turn, and what they answer to it.
    fn send_posted<'t>(&mut self, now: Now, out: &mut Outbox<'t>) {
        for _ in 0..MAX_ROUNDS {
            let posted = out.take_posted();
            if posted.is_empty() {
                return;
            }
            for posted in &posted {
                self.send(now, posted, out);
            }
        }
        for posted in &out.take_posted() {
            if let Some(inward) = self.proxy.at_work().originate(posted, out) {
                self.later.push(inward.octets.into());
            }
        }
    }

    /// Whose message it is: that of the shard which the token of a Contact or the branch of a Via names, else that of the
    /// Call-ID's owner.
    fn owner(&self, message: &Message<'_>) -> Option<Owner> {
        if self.place.shards <= 1 {
            return None;
        }
        let settings = self.proxy.settings();
        let call_id = message.call_id()?;
        let is_here = |name: &str| {
            let app = settings.apps.named(name).map(|number| &settings.apps.all()[number]);
            app.is_some_and(|app| matches!(app.reach, Reach::Here))
        };
        let named = match message.start_line() {
            StartLine::Request { uri, .. } => {
                let user = sip::Uri::parse(uri).and_then(sip::Uri::sip).ok().and_then(|uri| uri.user);
                user.and_then(|user| settings.keys.tokens.open(user, call_id))
            }
            StartLine::Response { .. } => {
                let via = message.vias().next().and_then(Result::ok);
                via.and_then(|via| AppBranch::parse(via.branch?)).map(|branch| branch.agent)
            }
        };
        let named = named.filter(|agent| agent.shard < self.place.shards);
        Some(match named {
            Some(agent) if is_here(agent.name) => Owner { shard: agent.shard, keeps_calls: true },
            // The first shard probes.
            Some(agent) if settings.apps.named(agent.name).is_none() => {
                Owner { shard: agent.shard, keeps_calls: false }
            }
            _ => Owner {
                shard: self.hash.owner(call_id, self.place.shards),
                keeps_calls: settings.apps.all().iter().any(|app| matches!(app.reach, Reach::Here)),
            },
        })
    }

    fn take_up_reloads(&mut self) {
        while let Ok(rules) = self.reloads.try_recv() {
            self.patience = rules.patience;
            self.neighbours.configure(&rules);
            self.proxy.reload(rules.proxy);
        }
    }

    /// RFC 5923 §5: the peer offers his connection for requests to his sent-by port at the address he is really at.
    fn note_alias(&self, received: &Received<'_>, message: &Message<'_>, out: &mut Outbox<'_>) {
        if let (true, Some(connection)) = (self.alias, received.flow.connection)
            && let Some(Ok(via)) = message.vias().next()
            && via.alias
        {
            out.alias(connection, SocketAddr::new(received.flow.peer.ip(), via.port_or_default()));
        }
    }
}

/// The shard whose message it is.
struct Owner {
    shard: u16,
    /// Whether it keeps what nobody else knows about the call.
    keeps_calls: bool,
}

/// Whether the message asks for something that is not under way yet: it is no response, it is in no dialog, and it does
/// not follow another request.
fn is_new_request(message: &Message<'_>) -> bool {
    let StartLine::Request { method, .. } = message.start_line() else { return false };
    let in_dialog = || {
        let to = message.value(HeaderName::To).and_then(sip::Address::from_value);
        to.is_some_and(|to| to.tag.is_some())
    };
    match method {
        Method::Ack | Method::Cancel | Method::Bye | Method::Prack => false,
        // §10.2: it is in no dialog, whatever tag its To has. Only its owner knows which nonces have been used.
        Method::Register => true,
        _ => !in_dialog(),
    }
}

impl io::Core for Shard {
    fn handle_orders<'t>(&mut self, now: Now, out: &mut Outbox<'t>) {
        self.now = now;
        // Before the messages: what was received after a reload meets the new rules, however long this shard has slept.
        self.take_up_reloads();
        self.neighbours.take_answers(now, out);
        self.send_posted(now, out);
    }

    fn handle_backlog(&mut self, now: Now, backlog: Backlog) {
        self.admission.note(now.monotonic, backlog, self.patience);
    }

    fn handle_batch<'t>(&mut self, now: Now, batch: &[Received<'t>], out: &mut Outbox<'t>) {
        for received in batch {
            self.handle(now, received, out);
        }
        self.send_posted(now, out);
    }

    fn handle_undeliverable<'t>(&mut self, now: Now, flow: Flow, octets: &'t [u8], out: &mut Outbox<'t>) {
        if let Some(response) = self.proxy.at_work().handle_undeliverable(flow, octets, out) {
            self.handle(now, &response, out);
        }
        self.send_posted(now, out);
    }

    fn handle_unframed<'t>(&mut self, _now: Now, received: Received<'t>, error: FrameError, out: &mut Outbox<'t>) {
        let fault = match error {
            FrameError::NotSip | FrameError::BareLineFeed => return,
            FrameError::HeaderTooLarge | FrameError::MessageTooLarge => Error::MessageTooLarge,
            // §18.3: on a stream only Content-Length tells where a body ends.
            FrameError::MissingContentLength => Error::Missing(HeaderName::ContentLength),
            FrameError::BadContentLength => Error::Malformed(HeaderName::ContentLength),
            FrameError::ConflictingContentLengths => Error::Duplicate(HeaderName::ContentLength),
        };
        self.proxy.at_work().refuse_unparsed(&received, fault, out);
    }

    fn handle_settled<'t>(&mut self, now: Now, up_to: Ticket, ok: bool, out: &mut Outbox<'t>) {
        // The shard has one journal: each agent knows its own tickets.
        self.neighbours.registrar.handle_settled(now, up_to, ok, out);
        self.neighbours.each_app(|app, world| app.handle_settled(now, up_to, ok, world, out));
        self.send_posted(now, out);
    }

    fn next_timeout(&self) -> Option<Duration> {
        if !self.later.is_empty() || self.neighbours.has_ready_scripts() {
            return Some(self.now.monotonic);
        }
        self.neighbours.next_timeout(self.now)
    }

    fn handle_timeout<'t>(&mut self, now: Now, out: &mut Outbox<'t>) {
        self.now = now;
        for octets in std::mem::take(&mut self.later) {
            let octets = out.arena().alloc_slice_copy(&octets);
            self.handle(now, &proxy::inward(octets), out);
        }
        self.neighbours.handle_timeout(now, out);
        self.send_posted(now, out);
    }

    fn handle_turn_end(&mut self) {
        let admission = self.admission.counters().values();
        let proxy = self.proxy.counters.values();
        let registrar = self.neighbours.registrar.counters().values();
        let apps = self.neighbours.counted();
        let apps = apps.as_ref().map_or(&[][..], |values| values);
        // Two agents may count what they call by the same name.
        self.figures.publish(&[
            Counted { agent: "shard", names: &["ring_full_refusals"], values: &[self.ring_full] },
            Counted { agent: "overload", names: admission::Counters::NAMES, values: &admission },
            Counted { agent: "proxy", names: proxy::Counters::NAMES, values: &proxy },
            Counted { agent: "registrar", names: registrar::Counters::NAMES, values: &registrar },
            Counted { agent: "appserver", names: &appserver::Counters::NAMES[..apps.len()], values: apps },
        ]);
        self.neighbours.tell_reports();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sip::Limits;

    #[test]
    fn what_is_new_is_told_by_method_and_to_tag() {
        let is_new = |method: &str, to_tag: &str| {
            let text = format!("{method} sip:example.com SIP/2.0\r\nTo: <sip:bob@example.com>{to_tag}\r\n\r\n");
            is_new_request(&Message::parse(text.as_bytes(), &Limits::default()).unwrap())
        };
        for (method, outside, inside) in [
            ("INVITE", true, false),
            ("OPTIONS", true, false),
            ("REGISTER", true, true),
            ("ACK", false, false),
            ("CANCEL", false, false),
            ("BYE", false, false),
        ] {
            assert_eq!((is_new(method, ""), is_new(method, ";tag=1")), (outside, inside), "{method}");
        }
    }
}
