//! Requests outside a dialog to users of ours (MESSAGE, OPTIONS, SUBSCRIBE, PUBLISH, …), relayed statefully to their bindings:
//! the best first or all at once, until the first good answer (RFC 3261 §16.6, §16.7); and what follows inside the dialogs that
//! they make, between the ends that our Contacts hide.

use crate::{
    Answer, Query, Target,
    best::Failure,
    caller::{self, Who},
    hidden,
    shared::{Asked, Context, RelayKey, User, Waiter, reparse, user_agent},
    slab::Timed,
};
use agent::{AppBranch, Flow, PLACEHOLDER, Way};
use dialog::NewResponse;
use sip::{Address, HeaderName, Message, Method, Octets, Request, StatusCode, Uri, write};
use std::{collections::VecDeque, time::Duration};
use transaction::ServerId;

/// How long the sender waits for an answer (timer F, RFC 3261 §17.1.2.2): what comes later is for nobody.
const PATIENCE: Duration = Duration::from_secs(32);

/// A request that is being relayed.
pub(crate) struct Relay {
    server: ServerId,
    flow: Flow,
    request: Box<[u8]>,
    /// The Contact that stands for the sender's; empty for none.
    contact: Box<[u8]>,
    /// Where it is still to go.
    targets: VecDeque<Target>,
    /// Requests of ours that are out.
    out: u8,
    sent: u8,
    best: Option<(Failure, Box<[u8]>)>,
    until: Duration,
    is_over: bool,
}

impl Timed for Relay {
    fn next_timeout(&self) -> Option<Duration> {
        Some(self.until)
    }
}

/// Where a relayed request leads.
enum Whither {
    Bindings(Box<str>),
    Outside,
    /// To the other end of a dialog that we relay.
    Peer(Target),
}

impl Relay {
    /// Begins to relay a request. None where it has been answered already.
    pub fn begin(ctx: &mut Context<'_, '_>, key: RelayKey, asked: Asked<'_>, request: &Request<'_>) -> Option<Self> {
        let Asked { server, flow, message } = asked;
        let refuse = |ctx: &mut Context<'_, '_>, status| {
            ctx.respond(asked, &NewResponse::new(status, b""));
            None
        };
        if request.max_forwards == Some(0) {
            return refuse(ctx, StatusCode::TOO_MANY_HOPS);
        }
        // Who sends to a Contact of ours has it from us: he is in the dialog, and is not asked again who he is.
        let whither = match hidden::target_of(ctx, request) {
            Some(target) => target.map(Whither::Peer),
            None => {
                let who = caller::identify(ctx, asked, request)?;
                whither(ctx, &who, request)
            }
        };
        let whither = match whither {
            Ok(whither) => whither,
            Err(status) => return refuse(ctx, status),
        };
        // A Contact is hidden for a request alone that may go where it asks to. Where that Contact leads is for its sender to say
        // (RFC 3261 §12.1.1), to the outside as any phone's does: who may go outside is asked of who begins a dialog, and
        // its ends reach each other, as they do in calls and by the tokens of the proxy's Record-Route.
        let contact = match hidden::contact_for(ctx, message, flow) {
            Ok(contact) => contact.filter(|_| dialog::refreshes_target(request.method)),
            Err(too_long) => return refuse(ctx, too_long.response()),
        };
        ctx.core.counters.relayed += 1;
        ctx.trying(asked, User::Relayed(key));
        let mut relay = Self {
            server,
            flow,
            request: message.bytes().into(),
            contact: contact.unwrap_or_default().into(),
            targets: VecDeque::new(),
            out: 0,
            sent: 0,
            best: None,
            until: ctx.now.monotonic + PATIENCE,
            is_over: false,
        };
        match whither {
            Whither::Outside => {
                let (uri, route, user_agent) = (request.uri.into(), Box::default(), "".into());
                relay.targets.push_back(Target { uri, route, flow: None, q: 1000, expires_secs: 0, user_agent });
                relay.send(ctx, key);
            }
            Whither::Peer(target) => {
                relay.targets.push_back(target);
                relay.send(ctx, key);
            }
            Whither::Bindings(aor) => {
                let id = ctx.query_id(Waiter::Relay(key));
                if let Some(answer) = ctx.world.ask(ctx.now, id, &Query::Bindings { aor: &aor }) {
                    ctx.core.queries.remove(&id.0);
                    relay.handle_bindings(ctx, key, answer);
                }
            }
        }
        Some(relay)
    }

    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Takes the bindings that were asked for.
    pub fn handle_bindings(&mut self, ctx: &mut Context<'_, '_>, key: RelayKey, answer: Answer) {
        if let Answer::Bindings(targets) = answer {
            self.targets = targets.into();
            self.targets.truncate(ctx.core.settings.max_legs.into());
        }
        self.send(ctx, key);
    }

    /// Sends it to the next target, or to all that are left. Without any it has its answer.
    fn send(&mut self, ctx: &mut Context<'_, '_>, key: RelayKey) {
        while self.out == 0 || ctx.core.settings.relay_to_all {
            let Some(target) = self.targets.pop_front() else { break };
            let way = target.flow.map_or(Way::Uri, Way::Flow);
            let branch = ctx.core.mint.draw();
            let mut draft = ctx.out.draft();
            let message = reparse(&self.request);
            let method = message.request().map_or(Method::Message, |request| request.method);
            write_relayed(ctx, &message, &self.contact, method, &target, branch, &mut draft);
            if ctx.send(User::Branch(key, self.sent), method, way, branch, draft).is_some() {
                self.out += 1;
            }
            self.sent += 1;
        }
        if self.out == 0 && !self.is_over {
            self.finish(ctx);
        }
    }

    /// Takes a response to one of ours.
    pub fn handle_response(
        &mut self,
        ctx: &mut Context<'_, '_>,
        key: RelayKey,
        message: &Message<'_>,
        status: StatusCode,
        flow: Flow,
    ) {
        if status.is_provisional() || self.is_over {
            return;
        }
        self.out = self.out.saturating_sub(1);
        if status.is_success() {
            // One that is too long stays behind: the dialog has the target that it has.
            let contact = hidden::contact_for(ctx, message, flow).ok().flatten().unwrap_or_default();
            return self.respond(ctx, message.bytes(), &contact);
        }
        let failure = Failure::read(message);
        let is_better = self.best.as_ref().is_none_or(|(best, _)| best.clone().or_better(failure.clone()) == failure);
        if is_better {
            self.best = Some((failure, message.bytes().into()));
        }
        if status.get() >= 600 {
            self.targets.clear();
        }
        self.send(ctx, key);
    }

    /// One of ours had no final response.
    pub fn handle_failure(&mut self, ctx: &mut Context<'_, '_>, key: RelayKey) {
        self.out = self.out.saturating_sub(1);
        self.send(ctx, key);
    }

    /// Time is over.
    pub fn handle_timeout(&mut self) {
        // RFC 4320 §4.2: nobody waits for a 408 any longer.
        self.is_over = true;
    }

    fn finish(&mut self, ctx: &mut Context<'_, '_>) {
        if let Some((_, octets)) = self.best.take() {
            return self.respond(ctx, &octets, b"");
        }
        let asked = Asked { server: self.server, flow: self.flow, message: &reparse(&self.request) };
        ctx.respond(asked, &NewResponse::new(StatusCode::TEMPORARILY_UNAVAILABLE, b""));
        self.is_over = true;
    }

    /// Sends on a response: with all that it says but the way that it took, and `contact` for its Contact.
    fn respond(&mut self, ctx: &mut Context<'_, '_>, response: &[u8], contact: &[u8]) {
        let (request, response) = (reparse(&self.request), reparse(response));
        let Ok(parsed) = response.response() else { return };
        let to = response.value(HeaderName::To).and_then(Address::from_value);
        let tag = to.and_then(|to| to.tag).unwrap_or_default();
        let reason = crate::inside::reason_of(&response);
        let mut draft = ctx.out.draft();
        write::begin_response(&mut draft, &request, parsed.status, &reason, tag, self.flow.peer);
        let makes_dialog = request.request().is_ok_and(|request| dialog::refreshes_target(request.method));
        let contact = if makes_dialog { contact } else { b"" };
        put_lines(&response, contact, &mut draft);
        write::finish(&mut draft, response.body());
        ctx.core.transactions.respond(ctx.now, self.server, parsed.status, draft.into_bump_slice(), ctx.out);
        self.is_over = true;
    }
}

fn whither(ctx: &Context<'_, '_>, who: &Who, request: &Request<'_>) -> Result<Whither, StatusCode> {
    let uri = Uri::parse(request.uri).and_then(Uri::sip).map_err(|fault| fault.response())?;
    let accounts = &ctx.core.tables.accounts;
    if let Some(domain) = ctx.core.settings.domains.local(&uri.host, uri.port) {
        let _ = domain;
        let aor = registrar::address_of_record(&uri, &ctx.core.settings.domains, ctx.out.arena());
        let aor = aor.filter(|aor| accounts.exists(aor)).ok_or(StatusCode::NOT_FOUND)?;
        return Ok(Whither::Bindings(aor.into()));
    }
    let may_go_outside = match who {
        Who::User(aor) | Who::Forwarded(aor, _) => accounts.find(aor).is_some_and(|account| account.may_relay),
        Who::Trusted => true,
        Who::Provider(_) | Who::Stranger => false,
    };
    if may_go_outside { Ok(Whither::Outside) } else { Err(StatusCode::FORBIDDEN) }
}

fn write_relayed(
    ctx: &Context<'_, '_>,
    message: &Message<'_>,
    contact: &[u8],
    method: Method<'_>,
    target: &Target,
    branch: u64,
    out: &mut impl Octets,
) {
    out.put(method.as_bytes());
    out.put(b" ");
    // A contact's headers do not belong into a Request-URI (RFC 3261 §19.1.5).
    out.put(target.uri.split(|&b| b == b'?').next().unwrap_or_default());
    out.put(b" SIP/2.0\r\nVia: SIP/2.0/UDP ");
    out.put(PLACEHOLDER.as_bytes());
    out.put(b";branch=");
    AppBranch { agent: user_agent(ctx.core).agent, id: branch }.write(out);
    out.put(b"\r\nMax-Forwards: ");
    let hops = message.request().ok().and_then(|request| request.max_forwards).unwrap_or(dialog::MAX_FORWARDS);
    out.put_number(hops.saturating_sub(1).into());
    out.put(b"\r\n");
    if !target.route.is_empty() {
        write::header(out, HeaderName::Route, &target.route);
    }
    for name in [HeaderName::From, HeaderName::To, HeaderName::CallId, HeaderName::CSeq] {
        if let Some(value) = message.value(name) {
            write::header(out, name, value);
        }
    }
    put_lines(message, contact, out);
    write::finish(out, message.body());
}

/// The header lines of a message that are neither its identity nor its way, and `contact` in the place of what it says of its
/// sender's. The contacts of a redirection are no sender's, and go through.
fn put_lines(message: &Message<'_>, contact: &[u8], out: &mut impl Octets) {
    let is_redirection = message.response().is_ok_and(|response| (300..400).contains(&response.status.get()));
    let is_ours = |name| {
        matches!(
            name,
            HeaderName::Via
                | HeaderName::From
                | HeaderName::To
                | HeaderName::CallId
                | HeaderName::CSeq
                | HeaderName::MaxForwards
                | HeaderName::Route
                | HeaderName::RecordRoute
                | HeaderName::ProxyAuthorization
                | HeaderName::ContentLength
        )
    };
    let goes_through = |name| !is_ours(name) && (name != HeaderName::Contact || is_redirection);
    for header in message.headers().filter(|header| goes_through(header.name)) {
        out.put(header.line);
    }
    if !contact.is_empty() {
        write::header(out, HeaderName::Contact, contact);
    }
}

/// Answers an OPTIONS that asks this server itself (RFC 3261 §11.2).
pub(crate) fn answer_options(ctx: &mut Context<'_, '_>, asked: Asked<'_>) {
    let allow = crate::headers::allow(asked.message, dialplan::Refer::Pass);
    let fields = [
        dialog::Field::own(HeaderName::Allow, allow.as_bytes()),
        dialog::Field::own(HeaderName::Supported, b"100rel, timer, replaces"),
    ];
    let response = NewResponse { fields: &fields, ..NewResponse::new(StatusCode::OK, b"") };
    ctx.respond(asked, &response);
}
