//! The stateless proxy (RFC 3261 §16.11): the first to meet every message.
//!
//! A request's life, top to bottom:
//!
//! 1. it is checked (§16.3): grammar, Proxy-Require, loops;
//! 2. our own Route values are taken away, and their token read (§16.4, [`route`]);
//! 3. its target is found (§16.5): the registrar, ourselves, an application server ([`apps`]), a binding of a local user, or
//!    the world outside, for those who may go there;
//! 4. it is forwarded (§16.6, [`forward`]): hops counted, source marked, our Via and Record-Route pushed, the next hop looked
//!    up; or it is handed to its application server as it came ([`serve`]).
//!
//! A response goes back by the Via beneath ours, if our own branch says that it answers what we forwarded ([`branch`]); or to
//! the application server that the branch names. What these write themselves is sent on by [`originate`].
//!
//! Every choice is a function of the message, the configuration, the table of bindings and the health of application servers;
//! nothing is remembered, so whatever shard or machine meets a retransmission, a CANCEL or an ACK, it makes the same choice.

mod agents;
mod answer;
mod apps;
mod branch;
mod counters;
mod dialog;
mod flow_text;
mod forward;
mod health;
mod hop;
mod listeners;
mod names;
mod originate;
mod redirect;
mod route;
pub mod sealed;
mod serve;
mod settings;
mod user;

pub use agents::{Agents, Location, Relay};
pub(crate) use answer::answer_flow;
pub use apps::{App, Apps, Choice, HealthTable, Reach, State};
pub use branch::Branches;
pub use counters::Counters;
pub use dialog::{DialogFlows, DialogTokens};
pub use health::{Health, Probe, Prober};
pub use hop::NoHop;
pub use listeners::{Interface, Listener, Listeners};
pub use names::Names;
pub use redirect::read_targets;
pub use sealed::{Errand, HopTokens};
pub use serve::{inward, is_inward};
pub use settings::{Keys, Settings};

use agent::{AppBranch, Flow, Now, Outbox, Received};
use answer::{Refusal, unknown_extensions};
use branch::OwnBranch;
use forward::{Hop, first_of_path, strip};
use route::Routed;
use sip::{Edit, HeaderName, Message, Method, Request, StatusCode, Uri, Via, hex, write};
use std::{net::SocketAddr, sync::Arc};
use user::{LocalUser, sender_domain};

/// One shard's proxy.
pub struct Proxy {
    settings: Arc<Settings>,
    /// What it has done.
    pub counters: Counters,
}

impl Proxy {
    /// A proxy that follows `settings`.
    pub fn new(settings: Arc<Settings>) -> Self {
        Self { settings, counters: Counters::default() }
    }

    /// What it follows.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// Follows other settings from now on.
    pub fn reload(&mut self, settings: Arc<Settings>) {
        self.settings = settings;
    }

    /// Borrows what it takes to handle a message.
    pub fn at_work(&mut self) -> AtWork<'_> {
        AtWork { settings: &self.settings, counters: &mut self.counters }
    }
}

/// A proxy's settings and counters, lent for one message. All shards share the settings, so to count who holds them would have their
/// processors take one line of memory from each other for every message.
pub struct AtWork<'p> {
    settings: &'p Settings,
    counters: &'p mut Counters,
}

impl AtWork<'_> {
    /// Handles a request.
    pub fn handle_request<'t>(
        &mut self,
        now: Now,
        received: &Received<'t>,
        message: &Message<'t>,
        agents: &mut impl Agents,
        out: &mut Outbox<'t>,
    ) {
        if let Err(refusal) = self.try_request(now, received, message, agents, out) {
            self.answer_refusal(received, message, refusal, out);
        }
    }

    fn try_request<'t>(
        &mut self,
        now: Now,
        received: &Received<'t>,
        message: &Message<'t>,
        agents: &mut impl Agents,
        out: &mut Outbox<'t>,
    ) -> Result<(), Refusal> {
        let settings = self.settings;
        let request = message.request()?;
        // §16.3 step 5; §8.2.2.3 and §9.1 except ACK and CANCEL.
        let is_follower = matches!(request.method, Method::Ack | Method::Cancel);
        if !is_follower && unknown_extensions(message, HeaderName::ProxyRequire).next().is_some() {
            return Err(Refusal::BadExtension(HeaderName::ProxyRequire));
        }
        let loop_hash = self.check_loop(message, &request)?;
        let routed = Routed::of(settings, message, &request, out.arena())?;
        let mut incoming = Incoming { received, message, request, routed, loop_hash };
        if let Some(place) = serve::addressee(settings, &mut incoming)? {
            return self.serve(now, &incoming, place, agents, out);
        }
        let hop = if let Some(kept) = incoming.routed.dialog_flow() {
            let flow = hop::of_kept(settings, kept).map_err(|no_hop| self.unroutable(no_hop))?;
            Hop { flow, uri: None, path: &[], kept: true, is_server: false }
        } else if incoming.routed.routes.is_empty()
            && let Some(user) = LocalUser::of(settings, &incoming.routed.uri, out.arena())
        {
            self.local_hop(now, &incoming, user, agents, out)?
        } else {
            self.outside_hop(now, &incoming, agents, out)?
        };
        self.forward(&incoming, hop, out)
    }

    /// A request for a domain of ours (§16.5): its hop, unless it is answered here.
    fn local_hop<'t>(
        &mut self,
        now: Now,
        incoming: &Incoming<'_, 't>,
        user: LocalUser<'_>,
        agents: &mut impl Agents,
        out: &mut Outbox<'t>,
    ) -> Result<Hop<'t>, Refusal> {
        let Incoming { received, request, .. } = incoming;
        let settings = self.settings;
        if request.method == Method::Register {
            agents.register(now, &incoming.plain(), out);
            return Err(Refusal::Answered);
        }
        let Some(aor) = user.aor else { return Err(self.serve_own(incoming, out)) };
        // A number is of no domain: the caller's own says who serves the call.
        let domain = match incoming.routed.uri {
            Uri::Tel(_) => sender_domain(settings, request).unwrap_or(user.domain),
            _ => user.domain,
        };
        self.serve_domain(now, incoming, domain, agents, out)?;
        let target = match agents.locate(now, aor, out.arena()) {
            Location::Bound(targets) => targets[0],
            Location::Absent => return Err(Refusal::Status(StatusCode::TEMPORARILY_UNAVAILABLE)),
            Location::Unknown => return Err(Refusal::Status(StatusCode::NOT_FOUND)),
        };
        let contact = Uri::parse(target.contact).and_then(Uri::sip)?;
        let flow = if let Some(kept) = target.flow {
            hop::of_kept(settings, kept)
        } else if target.route.is_empty() {
            hop::of_uri(settings, &contact, &received.flow)
        } else {
            first_of_path(settings, target.route, &received.flow)
        };
        let flow = flow.map_err(|no_hop| self.unroutable(no_hop))?;
        // A contact's headers do not belong into a Request-URI (§19.1.5).
        let uri = Some(contact.without_headers());
        Ok(Hop { flow, uri, path: target.route, kept: target.flow.is_some(), is_server: false })
    }

    /// From outside to outside: for members of a dialog through us, trusted sources, and accounts that may.
    fn outside_hop<'t>(
        &mut self,
        now: Now,
        incoming: &Incoming<'_, 't>,
        agents: &mut impl Agents,
        out: &mut Outbox<'t>,
    ) -> Result<Hop<'t>, Refusal> {
        let Incoming { received, request, routed, .. } = incoming;
        let settings = self.settings;
        // §16.3 step 2. By its Route, a request with whatever Request-URI finds its way.
        let uri = routed.next_hop_uri()?.sip()?;
        if routed.dialog.is_none() && !settings.may_relay(received.flow.peer.ip()) {
            // A call of one of ours goes by his dial plan and his providers, and so do its CANCEL and its ACK.
            if matches!(request.method, Method::Invite | Method::Ack | Method::Cancel)
                && routed.routes.is_empty()
                && let Some(domain) = sender_domain(settings, request)
            {
                self.serve_domain(now, incoming, domain, agents, out)?;
            }
            match agents.authorize_relay(now, &incoming.plain(), out) {
                Relay::Allowed => {}
                Relay::Challenged => return Err(Refusal::Answered),
                Relay::Refused => {
                    self.counters.relays_refused += 1;
                    return Err(Refusal::Status(StatusCode::FORBIDDEN));
                }
            }
        }
        let flow = hop::of_uri(settings, &uri, &received.flow).map_err(|no_hop| self.unroutable(no_hop))?;
        Ok(Hop { flow, uri: None, path: &[], kept: false, is_server: false })
    }

    /// §16.3 step 4: whether the request has been here before and would take the same way again ([`branch`]). If it has been
    /// here, and would not, its loop hash.
    fn check_loop<'t>(&mut self, message: &Message<'t>, request: &Request<'t>) -> Result<Option<u64>, Refusal> {
        let Settings { listeners, keys, .. } = self.settings;
        let mut loop_hash = None;
        let mut is_loop = |via: &Via<'_>| {
            let is_own =
                via.branch.and_then(OwnBranch::parse).is_some() && listeners.is_own(&via.host, via.port_or_default());
            is_own && {
                let hash = *loop_hash.get_or_insert_with(|| keys.branches.loop_hash(message, request));
                via.params.value(branch::LOOP) == Some(&hex(hash))
            }
        };
        if is_loop(&request.via) || message.vias_below(&request.via).map_while(Result::ok).any(|via| is_loop(&via)) {
            self.counters.loops += 1;
            return Err(Refusal::Status(StatusCode::LOOP_DETECTED));
        }
        Ok(loop_hash)
    }

    /// Handles a response (§16.11, §18.1.2): it is for us if the topmost Via is ours, and it goes to the application server
    /// that wrote this Via, or back by the next one.
    pub fn handle_response<'t>(
        &mut self,
        now: Now,
        received: &Received<'t>,
        message: &Message<'t>,
        agents: &mut impl Agents,
        out: &mut Outbox<'t>,
    ) {
        if self.try_response(now, received, message, agents, out).is_none() {
            self.counters.stray_responses += 1;
        }
    }

    fn try_response<'t>(
        &mut self,
        now: Now,
        received: &Received<'t>,
        message: &Message<'t>,
        agents: &mut impl Agents,
        out: &mut Outbox<'t>,
    ) -> Option<()> {
        let settings = self.settings;
        let response = message.response().ok()?;
        let own = response.via;
        // What has never left us has no address of ours in it.
        let is_inward = is_inward(&received.flow) && own.host.is_name(agent::PLACEHOLDER);
        if !is_inward && !settings.listeners.is_own(&own.host, own.port_or_default()) {
            return None;
        }
        if let Some(branch) = AppBranch::parse(own.branch?) {
            return self.serve_response(now, received, message, branch.agent, agents, out);
        }
        let branch = OwnBranch::parse(own.branch?)?;
        let below = message.vias_below(&own).next()?.ok()?;
        if !settings.keys.branches.is_own(&branch, &below, response.call_id, response.cseq.number) {
            return None;
        }
        let came_on = Flow {
            listener: branch.listener,
            transport: settings.listeners.transport(branch.listener)?,
            peer: SocketAddr::new([0, 0, 0, 0].into(), 0),
            connection: branch.connection,
        };
        let Ok(flow) = hop::of_via(settings, &below, &came_on) else {
            self.counters.unroutable += 1;
            return Some(());
        };
        let mut edit = Edit::new(message, out.arena());
        edit.pop(HeaderName::Via, own.raw);
        strip(settings, message, &mut edit);
        out.send(flow, edit.finish());
        self.counters.forwarded_responses += 1;
        Some(())
    }

    /// A request that we sent and a stream could not deliver: what comes back is 503 (§16.9), to be handled as any response
    /// that is received.
    pub fn handle_undeliverable<'t>(
        &mut self,
        flow: Flow,
        octets: &'t [u8],
        out: &mut Outbox<'t>,
    ) -> Option<Received<'t>> {
        self.counters.undeliverable += 1;
        let message = Message::parse(octets, &self.settings.limits).ok()?;
        Some(Received { flow, octets: self.unavailable(&message, out)?, passed: false })
    }

    /// The 503 that stands for an answer to `message`, which went out by us; none to what nobody answers.
    fn unavailable<'t>(&self, message: &Message<'_>, out: &Outbox<'t>) -> Option<&'t [u8]> {
        let sip::StartLine::Request { method, .. } = message.start_line() else { return None };
        if method == Method::Ack {
            return None;
        }
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let mut draft = out.draft();
        let own_address = message.vias().next().and_then(Result::ok).and_then(|via| via.host.ip());
        let source = SocketAddr::new(own_address.unwrap_or([0, 0, 0, 0].into()), 0);
        let tag = self.settings.keys.branches.to_tag(message);
        write::begin_response(&mut draft, message, status, status.reason(), &tag, source);
        write::finish(&mut draft, b"");
        Some(draft.into_bump_slice())
    }
}

/// A request that has passed the checks, with what was found out about it.
struct Incoming<'m, 't> {
    received: &'m Received<'t>,
    message: &'m Message<'t>,
    request: Request<'t>,
    routed: Routed<'t>,
    /// Its loop hash, if it has been here before.
    loop_hash: Option<u64>,
}

impl<'t> Incoming<'_, 't> {
    /// As an agent takes it.
    fn plain(&self) -> registrar::Incoming<'_, 't> {
        registrar::Incoming { flow: self.received.flow, message: self.message, request: &self.request }
    }
}
