//! One shard's agents, and the order in which they meet a turn's messages.
//!
//! A message is parsed once. Its Call-ID says which shard owns it; what is another's is passed on. A response and a
//! request inside a dialog are handled before new requests when there is more of these than a turn takes on: calls that
//! are up matter more than calls to come. The proxy comes first, the registrar is its neighbour.

use crate::{
    figures::Figures,
    io,
    proxy::{self, Agents, Location, Proxy, Relay, Target},
};
use agent::{Domains, Flow, Now, Outbox, Received, ShardHash, Ticket};
use bumpalo::{Bump, collections::Vec as BumpVec};
use registrar::{
    Incoming, Registrar,
    auth::{Role, Verdict},
};
use sip::{Error, HeaderName, Message, Method, Request, StartLine, StatusCode, Uri, framing::FrameError, write};
use std::{
    net::SocketAddr,
    sync::{Arc, mpsc},
    time::Duration,
};

/// What a reload changes, for every shard alike.
#[derive(Clone)]
pub struct Rules {
    /// The proxy's.
    pub proxy: Arc<proxy::Settings>,
    /// The registrar's.
    pub registrar: registrar::Settings,
    /// Whether a connection may be used for requests to the address that its peer names in Via (RFC 5923).
    pub alias: bool,
}

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
    alias: bool,
    reloads: mpsc::Receiver<Rules>,
    figures: Arc<Figures>,
    /// Requests refused because the owner's ring was full.
    ring_full: u64,
    /// The time of the latest turn: what the registrar's timers, which tell Unix time, are reckoned from.
    now: Now,
}

/// Who the proxy works with on its shard.
struct Neighbours {
    registrar: Registrar,
    proxy: Arc<proxy::Settings>,
}

impl Shard {
    /// The core at `place`. It follows `rules` until others come over `reloads`, and publishes what it counts in
    /// `figures`.
    pub fn new(
        now: Now,
        place: Place,
        hash: ShardHash,
        registrar: Registrar,
        rules: &Rules,
        reloads: mpsc::Receiver<Rules>,
        figures: Arc<Figures>,
    ) -> Self {
        Self {
            place,
            hash,
            proxy: Proxy::new(Arc::clone(&rules.proxy)),
            neighbours: Neighbours { registrar, proxy: Arc::clone(&rules.proxy) },
            alias: rules.alias,
            reloads,
            figures,
            ring_full: 0,
            now,
        }
    }

    /// Parses a message and gives it to whom it is for. `is_welcome` tells whether the turn still takes on new requests.
    fn handle<'t>(&mut self, now: Now, received: &Received<'t>, is_welcome: bool, out: &mut Outbox<'t>) {
        let message = match Message::parse(received.octets, &self.proxy.settings().limits) {
            Ok(message) => message,
            Err(fault) => return self.proxy.refuse_unparsed(received, fault, out),
        };
        let is_new = is_new_request(&message);
        if is_new && !is_welcome {
            return self.proxy.refuse_overloaded(received, &message, out);
        }
        if !received.passed
            && let Some(call_id) = message.call_id()
        {
            let owner = self.hash.owner(call_id, self.place.shards);
            if owner != self.place.shard {
                if out.pass_on(owner, *received).is_ok() {
                    return;
                }
                self.ring_full += 1;
                // What the owner keeps nothing about is handled here as well as there.
                if is_new {
                    return self.proxy.refuse_overloaded(received, &message, out);
                }
            }
        }
        if message.is_request() {
            self.note_alias(received, &message, out);
            self.proxy.handle_request(now, received, &message, &mut self.neighbours, out);
        } else {
            self.proxy.handle_response(&message, out);
        }
    }

    fn take_up_reloads(&mut self) {
        while let Ok(rules) = self.reloads.try_recv() {
            self.alias = rules.alias;
            self.neighbours.registrar.configure(rules.registrar, rules.proxy.domains.clone());
            self.neighbours.proxy = Arc::clone(&rules.proxy);
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
    fn handle_batch<'t>(&mut self, now: Now, batch: &[Received<'t>], out: &mut Outbox<'t>) {
        self.now = now;
        // Before the messages: what was received after a reload meets the new rules, however long this shard has slept.
        self.take_up_reloads();
        let budget = self.proxy.settings().new_requests_per_turn;
        if batch.len() <= budget {
            for received in batch {
                self.handle(now, received, true, out);
            }
            return;
        }
        let limits = self.proxy.settings().limits;
        let mut new = BumpVec::with_capacity_in(batch.len(), out.arena());
        for received in batch {
            match Message::parse(received.octets, &limits) {
                Ok(message) if is_new_request(&message) => new.push(received),
                _ => self.handle(now, received, true, out),
            }
        }
        for (i, received) in new.iter().enumerate() {
            self.handle(now, received, i < budget, out);
        }
    }

    fn handle_undeliverable<'t>(&mut self, _now: Now, _flow: Flow, octets: &'t [u8], out: &mut Outbox<'t>) {
        self.proxy.handle_undeliverable(octets, out);
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
        self.proxy.refuse_unparsed(&received, fault, out);
    }

    fn handle_settled<'t>(&mut self, now: Now, up_to: Ticket, ok: bool, out: &mut Outbox<'t>) {
        self.neighbours.registrar.handle_settled(now, up_to, ok, out);
    }

    fn next_timeout(&self) -> Option<Duration> {
        self.neighbours.registrar.next_timeout(self.now)
    }

    fn handle_timeout<'t>(&mut self, now: Now, _out: &mut Outbox<'t>) {
        self.now = now;
        self.neighbours.registrar.handle_timeout(now);
    }

    fn handle_turn_end(&mut self) {
        // Of a shard without messages, too, or its channel fills.
        self.take_up_reloads();
        // Two agents may count what they call by the same name.
        let of = |agent| move |(name, value)| (agent, name, value);
        let own = [("shard", "ring_full_refusals", self.ring_full)];
        let proxy = self.proxy.counters.figures().map(of("proxy"));
        let registrar = self.neighbours.registrar.counters().figures().map(of("registrar"));
        self.figures.publish(own.into_iter().chain(proxy).chain(registrar));
    }
}

impl Agents for Neighbours {
    fn locate<'t>(&self, now: Now, aor: &str, arena: &'t Bump) -> Location<'t> {
        match self.registrar.targets(now, aor, arena).first() {
            Some(best) => Location::Bound(Target { uri: best.contact, flow: best.flow, path: best.route }),
            None if self.registrar.knows(aor) => Location::Absent,
            None => Location::Unknown,
        }
    }

    fn register<'t>(
        &mut self,
        now: Now,
        flow: Flow,
        message: &Message<'t>,
        request: &Request<'t>,
        out: &mut Outbox<'t>,
    ) {
        self.registrar.handle(now, &Incoming { flow, message, request }, out);
    }

    fn authorize_relay<'t>(
        &mut self,
        now: Now,
        flow: Flow,
        message: &Message<'t>,
        request: &Request<'t>,
        out: &mut Outbox<'t>,
    ) -> Relay {
        let Some((realm, sender)) = sender(&self.proxy.domains, request, out.arena()) else { return Relay::Refused };
        // §22.1: neither an ACK nor a CANCEL is challenged; they repeat what the INVITE was granted.
        if matches!(request.method, Method::Ack | Method::Cancel) {
            return if self.registrar.account(sender).is_some_and(|a| a.may_relay) {
                Relay::Allowed
            } else {
                Relay::Refused
            };
        }
        let auth = self.registrar.authenticator();
        let stale = match auth.verify(now, &Incoming { flow, message, request }, realm, Role::Proxy, out.arena()) {
            Verdict::Accepted { aor, account } => {
                return if aor == sender && account.may_relay { Relay::Allowed } else { Relay::Refused };
            }
            Verdict::Malformed(_) => return Relay::Refused,
            Verdict::Stale => true,
            Verdict::Missing | Verdict::Refused => false,
        };
        let status = StatusCode::PROXY_AUTHENTICATION_REQUIRED;
        let mut draft = out.draft();
        let tag = self.proxy.branches.to_tag(message);
        write::begin_response(&mut draft, message, status, status.reason(), &tag, flow.peer);
        auth.challenge(now, request.call_id, realm, Role::Proxy, stale, &mut draft);
        write::finish(&mut draft, b"");
        out.send_draft(proxy::answer_flow(flow, message), draft);
        Relay::Challenged
    }
}

/// The domain of ours and the address of record that From claims.
fn sender<'s, 't>(domains: &'s Domains, request: &Request<'_>, arena: &'t Bump) -> Option<(&'s str, &'t str)> {
    let Ok(Uri::Sip(from)) = request.from.parse_uri() else { return None };
    let domain = domains.local(&from.host, from.port)?;
    Some((domain, registrar::address_of_record(&from, domains, arena)?))
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
