//! The stateless proxy (RFC 3261 §16.11): the first to meet every message.
//!
//! A request's life, top to bottom:
//!
//! 1. it is checked (§16.3): grammar, Proxy-Require, loops;
//! 2. our own Route values are taken away, and their token read (§16.4, [`route`]);
//! 3. its target is found (§16.5): the registrar, ourselves, a binding of a local user, or the world outside, for those
//!    who may go there;
//! 4. it is forwarded (§16.6): hops counted, source marked, our Via and Record-Route pushed, the next hop looked up.
//!
//! A response goes back by the Via beneath ours, if our own branch says that it answers what we forwarded ([`branch`]).
//!
//! Every choice is a function of the message, the configuration and the table of bindings; nothing is remembered, so
//! whatever shard or machine meets a retransmission, a CANCEL or an ACK, it makes the same choice.

mod branch;
mod counters;
mod dialog;
mod hop;
mod listeners;
mod names;
mod route;
mod settings;

pub use branch::Branches;
pub use counters::Counters;
pub use dialog::{DialogFlows, DialogTokens};
pub use hop::NoHop;
pub use listeners::{Interface, Listener, Listeners};
pub use names::Names;
pub use settings::{Settings, keys};

use agent::{Draft, Flow, Now, Outbox, Received};
use branch::OwnBranch;
use bumpalo::Bump;
use route::Routed;
use sip::{Edit, Error, HeaderName, Message, Method, Octets, Request, SipUri, StatusCode, Transport, Uri, write};
use std::{net::SocketAddr, sync::Arc};

/// What a request starts with when it brings no Max-Forwards (§16.6 step 3).
const MAX_FORWARDS: u8 = 70;

/// Methods that are answered when they are for us (§20.5).
const ALLOW: &[u8] =
    b"INVITE, ACK, BYE, CANCEL, OPTIONS, REGISTER, MESSAGE, SUBSCRIBE, NOTIFY, PUBLISH, REFER, UPDATE, PRACK, INFO";

/// Extensions that the proxy and the registrar know.
const EXTENSIONS: [&str; 2] = ["path", "outbound"];

/// The neighbours of the proxy on its shard.
pub trait Agents {
    /// Where the user `aor` is reached.
    fn locate<'t>(&self, now: Now, aor: &str, arena: &'t Bump) -> Location<'t>;

    /// Takes a REGISTER for a domain of ours and answers it.
    fn register<'t>(
        &mut self,
        now: Now,
        flow: Flow,
        message: &Message<'t>,
        request: &Request<'t>,
        out: &mut Outbox<'t>,
    );

    /// Whether the sender may go from outside to outside by right of an account. It answers where it needs
    /// to ask; ACK and CANCEL are never asked (§22.1).
    fn authorize_relay<'t>(
        &mut self,
        now: Now,
        flow: Flow,
        message: &Message<'t>,
        request: &Request<'t>,
        out: &mut Outbox<'t>,
    ) -> Relay;
}

/// Where a user of ours is reached.
#[derive(Clone, Copy, Debug)]
pub enum Location<'t> {
    /// There is no such user.
    Unknown,
    /// The user has no binding now.
    Absent,
    /// The best binding.
    Bound(Target<'t>),
}

/// A binding to forward to.
#[derive(Clone, Copy, Debug)]
pub struct Target<'t> {
    /// The contact: the new Request-URI.
    pub uri: &'t [u8],
    /// The flow that it registered on, where its contact alone does not lead to it.
    pub flow: Option<Flow>,
    /// The Path that it registered (RFC 3327), as Route values; empty where it has none.
    pub path: &'t [u8],
}

/// What an account gives the sender of a request from outside to outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relay {
    /// It may go.
    Allowed,
    /// The sender has been challenged.
    Challenged,
    /// No account of ours lets it go.
    Refused,
}

/// Why a request is not forwarded.
enum Refusal {
    /// It breaks the grammar.
    Fault(Error),
    /// It gets this answer.
    Status(StatusCode),
    /// It asks for unknown extensions in this header (§16.3 step 5, §8.2.2.3).
    BadExtension(HeaderName),
    /// It was answered already.
    Answered,
}

impl From<Error> for Refusal {
    fn from(fault: Error) -> Self {
        Self::Fault(fault)
    }
}

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

    /// Handles a request.
    pub fn handle_request<'t>(
        &mut self,
        now: Now,
        received: &Received<'t>,
        message: &Message<'t>,
        agents: &mut impl Agents,
        out: &mut Outbox<'t>,
    ) {
        match self.try_request(now, received, message, agents, out) {
            Ok(()) | Err(Refusal::Answered) => {}
            Err(Refusal::Fault(fault)) => self.refuse(received, message, fault, out),
            Err(Refusal::Status(status)) => self.answer(received, message, status, status.reason(), |_| (), out),
            Err(Refusal::BadExtension(name)) => {
                let status = StatusCode::BAD_EXTENSION;
                let unsupported = |draft: &mut Draft<'t>| {
                    for tag in unknown_extensions(message, name) {
                        write::header(draft, HeaderName::Unsupported, tag);
                    }
                };
                self.answer(received, message, status, status.reason(), unsupported, out);
            }
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
        let settings = Arc::clone(&self.settings);
        let request = message.request()?;
        // §16.3 step 5; §8.2.2.3 and §9.1 except ACK and CANCEL.
        let is_follower = matches!(request.method, Method::Ack | Method::Cancel);
        if !is_follower && unknown_extensions(message, HeaderName::ProxyRequire).next().is_some() {
            return Err(Refusal::BadExtension(HeaderName::ProxyRequire));
        }
        let branch = settings.branches.compute(message, &request, &received.flow);
        if self.is_loop(message, &request, &branch) {
            self.counters.loops += 1;
            return Err(Refusal::Status(StatusCode::LOOP_DETECTED));
        }
        let routed = Routed::of(&settings, message, &request, out.arena())?;
        let incoming = Incoming { received, message, request, routed, branch };
        let hop = if let Some(kept) = incoming.routed.dialog_flow() {
            let flow = hop::of_kept(&settings, kept).map_err(|no_hop| self.unroutable(no_hop))?;
            Hop { flow, uri: None, path: &[], kept: true }
        } else if incoming.routed.routes.is_empty()
            && let Some(user) = LocalUser::of(&settings, &incoming.routed.uri)
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
        let Incoming { received, message, request, .. } = incoming;
        if request.method == Method::Register {
            agents.register(now, received.flow, message, request, out);
            return Err(Refusal::Answered);
        }
        let Some(aor) = user.aor(out.arena()) else { return Err(self.serve_own(incoming, out)) };
        let target = match agents.locate(now, aor, out.arena()) {
            Location::Bound(target) => target,
            Location::Absent => return Err(Refusal::Status(StatusCode::TEMPORARILY_UNAVAILABLE)),
            Location::Unknown => return Err(Refusal::Status(StatusCode::NOT_FOUND)),
        };
        let settings = &*self.settings;
        let contact = Uri::parse(target.uri).and_then(Uri::sip)?;
        let flow = if let Some(kept) = target.flow {
            hop::of_kept(settings, kept)
        } else if target.path.is_empty() {
            hop::of_uri(settings, &contact, &received.flow)
        } else {
            first_of_path(settings, target.path, &received.flow)
        };
        let flow = flow.map_err(|no_hop| self.unroutable(no_hop))?;
        // A contact's headers do not belong into a Request-URI (§19.1.5).
        let uri = Some(contact.without_headers());
        Ok(Hop { flow, uri, path: target.path, kept: target.flow.is_some() })
    }

    /// A request for the proxy itself: it has a domain of ours and no user part.
    fn serve_own<'t>(&mut self, incoming: &Incoming<'_, 't>, out: &mut Outbox<'t>) -> Refusal {
        let Incoming { received, message, request, .. } = incoming;
        // §11.2: an OPTIONS without a user part asks the proxy itself.
        if request.method != Method::Options {
            return Refusal::Status(StatusCode::NOT_FOUND);
        }
        // §8.2.2.3: here we are the UAS.
        if unknown_extensions(message, HeaderName::Require).next().is_some() {
            return Refusal::BadExtension(HeaderName::Require);
        }
        let status = StatusCode::OK;
        let capabilities = |draft: &mut Draft<'t>| {
            draft.put(b"Allow: ");
            draft.put(ALLOW);
            draft.put(b"\r\nAccept: application/sdp\r\n");
            for extension in EXTENSIONS {
                write::header(draft, HeaderName::Supported, extension.as_bytes());
            }
        };
        self.answer(received, message, status, status.reason(), capabilities, out);
        Refusal::Answered
    }

    /// From outside to outside: for members of a dialog through us, trusted sources, and accounts that may.
    fn outside_hop<'t>(
        &mut self,
        now: Now,
        incoming: &Incoming<'_, 't>,
        agents: &mut impl Agents,
        out: &mut Outbox<'t>,
    ) -> Result<Hop<'t>, Refusal> {
        let Incoming { received, message, request, routed, .. } = incoming;
        // §16.3 step 2. By its Route, a request with whatever Request-URI finds its way.
        let uri = routed.next_hop_uri()?.sip()?;
        if routed.dialog.is_none() && !self.settings.may_relay(received.flow.peer.ip()) {
            match agents.authorize_relay(now, received.flow, message, request, out) {
                Relay::Allowed => {}
                Relay::Challenged => return Err(Refusal::Answered),
                Relay::Refused => {
                    self.counters.relays_refused += 1;
                    return Err(Refusal::Status(StatusCode::FORBIDDEN));
                }
            }
        }
        let flow = hop::of_uri(&self.settings, &uri, &received.flow).map_err(|no_hop| self.unroutable(no_hop))?;
        Ok(Hop { flow, uri: None, path: &[], kept: false })
    }

    /// §16.3 step 4: a Via of ours whose branch shows that the request would take the same way again.
    fn is_loop<'t>(&self, message: &Message<'t>, request: &Request<'t>, branch: &OwnBranch) -> bool {
        let below = message.vias_below(&request.via).map_while(Result::ok);
        std::iter::once(request.via).chain(below).any(|via| {
            via.branch.and_then(OwnBranch::parse).is_some_and(|own| own.looped == branch.looped)
                && self.settings.listeners.is_own(&via.host, via.port_or_default())
        })
    }

    /// Forwards a request (§16.6).
    fn forward<'t>(&mut self, incoming: &Incoming<'_, 't>, hop: Hop<'t>, out: &mut Outbox<'t>) -> Result<(), Refusal> {
        let Incoming { received, message, request, routed, branch } = incoming;
        // §16.3 step 3, where it is known that the request would go on.
        let hops = match request.max_forwards {
            Some(0) => {
                self.counters.too_many_hops += 1;
                return Err(Refusal::Status(StatusCode::TOO_MANY_HOPS));
            }
            Some(hops) => hops - 1,
            None => MAX_FORWARDS,
        };
        let settings = &*self.settings;
        let mut edit = Edit::new(message, out.arena());
        let mut lines = out.draft();
        // Step 8.
        let sent_by = settings.listeners.sent_by(hop.flow.listener, hop.flow.peer.ip());
        for part in ["Via: SIP/2.0/", hop.flow.transport.token(), " ", sent_by, ";branch="] {
            lines.put(part.as_bytes());
        }
        branch.write(&mut lines);
        lines.put(b"\r\n");
        // Step 4.
        if settings.record_route && forms_dialog(request) {
            record_route(settings, incoming, &hop, &mut lines);
        }
        // Steps 2, 6; RFC 3327 §5.2: the Path becomes the preloaded route.
        if !hop.path.is_empty() {
            write::header(&mut lines, HeaderName::Route, hop.path);
        }
        routed.apply(message, hop.uri, &mut edit, &mut lines)?;
        edit.push_lines(lines.into_bump_slice());
        // Step 3.
        edit.set_max_forwards(hops);
        edit.mark_received(&request.via, received.flow.peer);
        out.send(hop.flow, edit.finish());
        self.counters.forwarded_requests += 1;
        Ok(())
    }

    /// Handles a response (§16.11, §18.1.2): it is for us if the topmost Via is ours, and it goes back by the next one.
    pub fn handle_response<'t>(&mut self, message: &Message<'t>, out: &mut Outbox<'t>) {
        if self.try_response(message, out).is_none() {
            self.counters.stray_responses += 1;
        }
    }

    fn try_response<'t>(&mut self, message: &Message<'t>, out: &mut Outbox<'t>) -> Option<()> {
        let settings = &*self.settings;
        let response = message.response().ok()?;
        let own = response.via;
        if !settings.listeners.is_own(&own.host, own.port_or_default()) {
            return None;
        }
        let branch = OwnBranch::parse(own.branch?)?;
        let below = message.vias_below(&own).next()?.ok()?;
        if !settings.branches.is_own(&branch, &below, response.call_id, response.cseq.number) {
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
        out.send(flow, edit.finish());
        self.counters.forwarded_responses += 1;
        Some(())
    }

    /// A request that we forwarded and a stream could not deliver: what comes back is 503 (§16.9), by the way that any
    /// response takes.
    pub fn handle_undeliverable<'t>(&mut self, octets: &'t [u8], out: &mut Outbox<'t>) {
        self.counters.undeliverable += 1;
        let Ok(message) = Message::parse(octets, &self.settings.limits) else { return };
        let sip::StartLine::Request { method, .. } = message.start_line() else { return };
        if method == Method::Ack {
            return;
        }
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let mut draft = out.draft();
        let own_address = message.vias().next().and_then(Result::ok).and_then(|via| via.host.ip());
        let source = SocketAddr::new(own_address.unwrap_or([0, 0, 0, 0].into()), 0);
        let tag = self.settings.branches.to_tag(&message);
        write::begin_response(&mut draft, &message, status, status.reason(), &tag, source);
        write::finish(&mut draft, b"");
        if let Ok(response) = Message::parse(draft.into_bump_slice(), &self.settings.limits) {
            self.handle_response(&response, out);
        }
    }

    /// Refuses a new request because there is more to do than time for it (§21.5.4).
    pub fn refuse_overloaded<'t>(&mut self, received: &Received<'t>, message: &Message<'t>, out: &mut Outbox<'t>) {
        self.counters.overloaded += 1;
        let (status, secs) = (StatusCode::SERVICE_UNAVAILABLE, self.settings.retry_after_secs);
        let retry_after = |draft: &mut Draft<'t>| {
            draft.put(b"Retry-After: ");
            draft.put_number(secs.into());
            draft.put(b"\r\n");
        };
        self.answer(received, message, status, status.reason(), retry_after, out);
    }

    /// Answers what could not even be parsed, if enough of it can be read (§16.3 step 1); drops it else.
    pub fn refuse_unparsed<'t>(&mut self, received: &Received<'t>, fault: Error, out: &mut Outbox<'t>) {
        match Message::salvage(received.octets, &self.settings.limits) {
            Some(message) if message.is_request() => self.refuse(received, &message, fault, out),
            _ => self.counters.unreadable += 1,
        }
    }

    fn refuse<'t>(&mut self, received: &Received<'t>, message: &Message<'t>, fault: Error, out: &mut Outbox<'t>) {
        self.counters.malformed += 1;
        let status = fault.response();
        self.answer(received, message, status, &fault.to_string(), |_| (), out);
    }

    fn unroutable(&mut self, no_hop: NoHop) -> Refusal {
        self.counters.unroutable += 1;
        Refusal::Status(match no_hop {
            // RFC 3263 §4.3: no server found is as good as a 503 from it; §16.7 makes that a 500 for those upstream.
            NoHop::Name | NoHop::Address => StatusCode::SERVER_INTERNAL_ERROR,
            NoHop::Transport => StatusCode::UNSUPPORTED_URI_SCHEME,
        })
    }

    /// Answers a request ourselves, statelessly (§8.2.7). Nobody answers an ACK (§17.1.1.3), nor what has no Via.
    fn answer<'t>(
        &mut self,
        received: &Received<'t>,
        message: &Message<'t>,
        status: StatusCode,
        reason: &str,
        more: impl FnOnce(&mut Draft<'t>),
        out: &mut Outbox<'t>,
    ) {
        let is_ack = matches!(message.start_line(), sip::StartLine::Request { method: Method::Ack, .. });
        if is_ack || message.value(HeaderName::Via).is_none() {
            self.counters.unreadable += u64::from(!is_ack);
            return;
        }
        let settings = &*self.settings;
        let mut draft = out.draft();
        let tag = settings.branches.to_tag(message);
        write::begin_response(&mut draft, message, status, reason, &tag, received.flow.peer);
        more(&mut draft);
        if !settings.server.is_empty() {
            draft.put(b"Server: ");
            draft.put(settings.server.as_bytes());
            draft.put(b"\r\n");
        }
        write::finish(&mut draft, b"");
        out.send_draft(answer_flow(received.flow, message), draft);
        self.counters.answered += 1;
    }
}

/// A request that has passed the checks, with what was found out about it.
struct Incoming<'m, 't> {
    received: &'m Received<'t>,
    message: &'m Message<'t>,
    request: Request<'t>,
    routed: Routed<'t>,
    branch: OwnBranch,
}

/// Where a request is sent on to.
struct Hop<'t> {
    flow: Flow,
    /// The new Request-URI.
    uri: Option<&'t [u8]>,
    /// Route values to preload.
    path: &'t [u8],
    /// Whether only the flow leads there, so that the rest of the dialog must keep it.
    kept: bool,
}

/// A Request-URI that names a domain of ours.
struct LocalUser<'b> {
    domain: &'b str,
    /// The number where the URI was `tel:`.
    user: User<'b>,
}

enum User<'b> {
    None,
    Sip(SipUri<'b>),
    Tel(&'b [u8]),
}

impl<'b> LocalUser<'b> {
    fn of(settings: &'b Settings, uri: &Uri<'b>) -> Option<Self> {
        match uri {
            // §16.5: with an maddr the Request-URI is the only target, and one of ours is taken away before this.
            Uri::Sip(uri) if uri.param("maddr").is_some() => None,
            Uri::Sip(uri) => {
                let domain = settings.domains.local(&uri.host, uri.port)?;
                let user = if uri.user.is_some() { User::Sip(*uri) } else { User::None };
                Some(Self { domain, user })
            }
            // A number names nobody outside without a query (RFC 6116); here it may be a user of the default domain.
            Uri::Tel(tel) => Some(Self { domain: settings.domains.default_domain(), user: User::Tel(tel.number) }),
            Uri::Other { .. } => None,
        }
    }

    /// The address of record, if there is a user part.
    fn aor<'t>(&self, arena: &'t Bump) -> Option<&'t str> {
        let mut aor = Draft::with_capacity_in(64, arena);
        match self.user {
            User::None => return None,
            User::Sip(uri) => uri.write_aor(self.domain, &mut aor),
            User::Tel(number) => {
                // RFC 3966 §3: visual separators have no meaning.
                aor.extend(number.iter().filter(|b| !matches!(b, b'-' | b'.' | b'(' | b')')));
                aor.put(b"@");
                aor.put(self.domain.as_bytes());
            }
        }
        Some(std::str::from_utf8(aor.into_bump_slice()).expect("a canonical address of record is ASCII"))
    }
}

/// Writes our Record-Route: one value, or one for each side where they differ in socket (the nearer one to the receiver
/// on top).
fn record_route(settings: &Settings, incoming: &Incoming<'_, '_>, hop: &Hop<'_>, lines: &mut impl Octets) {
    let Incoming { received, message, request, .. } = incoming;
    let came_on = received.flow;
    let flows =
        DialogFlows { caller: needs_flow(message, &came_on).then_some(came_on), callee: hop.kept.then_some(hop.flow) };
    let sent_by = |flow: &Flow| settings.listeners.sent_by(flow.listener, flow.peer.ip());
    let mut value = |flow: &Flow| {
        lines.put(b"Record-Route: <sip:");
        settings.dialogs.write(request, &flows, lines);
        lines.put(b"@");
        lines.put(sent_by(flow).as_bytes());
        if flow.transport != Transport::Udp {
            lines.put(b";transport=");
            lines.put(flow.transport.param().as_bytes());
        }
        lines.put(b";lr>\r\n");
    };
    value(&hop.flow);
    if came_on.transport != hop.flow.transport || sent_by(&came_on) != sent_by(&hop.flow) {
        value(&came_on);
    }
}

/// Whether `request` may begin a dialog (§12.1, RFC 3515): for these a Record-Route has an effect. A NOTIFY may do so
/// inside of another one (RFC 6665 §4.3).
fn forms_dialog(request: &Request<'_>) -> bool {
    match request.method {
        Method::Invite | Method::Subscribe | Method::Refer => request.to.tag.is_none(),
        Method::Notify => true,
        _ => false,
    }
}

/// Whether the sender is not reached at his Contact: it names another address than the one he sent from, or he came on
/// a connection. The port does not count: who listens on another one than he sends from is reached at his Contact.
fn needs_flow(message: &Message<'_>, flow: &Flow) -> bool {
    if flow.connection.is_some() {
        return true;
    }
    let contact = message.addresses(HeaderName::Contact).next().and_then(Result::ok);
    match contact.map(|contact| contact.parse_uri()) {
        Some(Ok(Uri::Sip(uri))) => uri.host.ip().is_some_and(|ip| ip != flow.peer.ip()),
        _ => false,
    }
}

/// The extensions that `message` asks for in header `name` and that we do not know.
fn unknown_extensions<'m, 't>(message: &'m Message<'t>, name: HeaderName) -> impl Iterator<Item = &'t [u8]> + 'm {
    let is_known = move |tag: &[u8]| {
        name == HeaderName::Require && EXTENSIONS.iter().any(|e| tag.eq_ignore_ascii_case(e.as_bytes()))
    };
    message.tokens(name).filter(move |tag| !is_known(tag))
}

/// The flow to the topmost value of a Path.
fn first_of_path(settings: &Settings, path: &[u8], came_on: &Flow) -> Result<Flow, NoHop> {
    let first = sip::Address::list(path).next().and_then(Result::ok).ok_or(NoHop::Address)?;
    match first.parse_uri() {
        Ok(Uri::Sip(uri)) => hop::of_uri(settings, &uri, came_on),
        _ => Err(NoHop::Name),
    }
}

/// Where an answer of ours to `message`, which came on `flow`, goes: by its topmost Via if that can be read, else back.
pub(crate) fn answer_flow(flow: Flow, message: &Message<'_>) -> Flow {
    match message.vias().next() {
        Some(Ok(via)) => flow.for_response(&via),
        _ => flow,
    }
}
