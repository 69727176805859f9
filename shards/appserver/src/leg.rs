//! A leg: our call to one target, from the moment that it is planned to its final response (RFC 3261 §13.2).

use crate::{
    Target,
    best::Failure,
    call::{Caller, LegNo, RunNo},
    cdr::Facts,
    credentials::{self, Tried},
    headers,
    inside::mangled,
    shared::{Context, User, reparse},
};
use agent::{Flow, Way};
use dialog::{BadText, Body, Field, NewRequest, Party};
use dialplan::{LegOptions, Shape};
use sip::{Address, HeaderName, Message, Method, Uri};
use std::{rc::Rc, sync::Arc, time::Duration};
use store::Provider;
use transaction::ClientId;

/// Hops that a request is taken to have where it does not say (RFC 3261 §16.6 step 3).
const MAX_FORWARDS: u8 = 70;

/// One leg.
pub(crate) struct Leg {
    pub no: LegNo,
    /// Whose dial command it belongs to.
    pub run: RunNo,
    pub state: LegState,
    pub plan: Rc<LegPlan>,
    pub whom: Whom,
    /// What became of it: status and reason; 0 while that is open.
    pub outcome: (u16, Box<str>),
    /// Redirections and bindings lead to legs in the place of others: how many redirections came before.
    pub redirects: u8,
    /// When it has rung long enough by its own option.
    pub ring_until: Option<Duration>,
    /// Known once its INVITE is out.
    pub facts: Option<Facts>,
    /// What goes out; None until it is known where to.
    pub request: Option<Box<LegRequest>>,
}

/// What a plan says about a leg.
#[derive(Debug)]
pub(crate) struct LegPlan {
    pub options: LegOptions,
    pub shape: Rc<Shape>,
    /// How long the call may last by the dial command.
    pub max_call_secs: Option<u32>,
}

/// Whom a leg is to call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Whom {
    /// What a dial string or a Request-URI names.
    Named(dialplan::Target),
    /// The bindings of an account of ours.
    Bindings(Rc<str>),
    /// A contact of a redirection.
    Contact(Box<str>),
    /// One of the bindings.
    Binding(Box<Target>, Rc<str>),
    /// Another application server.
    App(Box<str>),
    /// A dialog of a call of ours, whose place it is to take: the application server that has it, and the shard.
    Dialog(Box<str>, u16),
}

impl std::fmt::Display for Whom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Named(target) => target.fmt(f),
            Self::Bindings(aor) | Self::Binding(_, aor) => f.write_str(aor),
            Self::Contact(uri) => f.write_str(uri),
            Self::App(name) | Self::Dialog(name, _) => f.write_str(name),
        }
    }
}

/// How far a leg is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum LegState {
    /// It starts at that moment, or earlier if everybody else has failed.
    Delayed(Duration),
    /// The bindings of its target are asked for.
    Asking,
    /// A run of another plan has its place.
    Nested(RunNo),
    /// Its INVITE is out.
    Calling(ClientId),
    /// Given up; its final response is yet to come.
    Cancelled(ClientId),
    /// It is the one that was answered.
    Answered,
    /// It has ended, or others have its place.
    Over,
}

/// The INVITE of a leg, and what it is made from.
pub(crate) struct LegRequest {
    pub uri: Box<[u8]>,
    pub route: Box<[u8]>,
    pub way: Way,
    /// The address in To.
    pub to: Box<str>,
    pub provider: Option<Arc<Provider>>,
    pub call_id: [u8; 32],
    /// The From tag.
    pub tag: u64,
    pub cseq: u32,
    /// The highest CSeq number of our requests in early dialogs that have gone: PRACKs. What follows counts on from there
    /// (RFC 3261 §12.2.1.1).
    pub counted: u32,
    /// Whether the INVITE had an offer.
    pub has_offered: bool,
    /// What it offers instead of the caller's, with which it has been refused.
    pub narrowed: Option<Box<[u8]>>,
    pub tried: Tried,
}

impl Leg {
    pub fn next_timeout(&self) -> Option<Duration> {
        match self.state {
            LegState::Delayed(at) => Some(at),
            LegState::Asking | LegState::Nested(_) | LegState::Calling(_) => self.ring_until,
            LegState::Cancelled(_) | LegState::Answered | LegState::Over => None,
        }
    }

    /// Whether nothing more is awaited of it.
    pub fn is_over(&self) -> bool {
        matches!(self.state, LegState::Answered | LegState::Over)
    }

    /// Whether it may still be answered.
    pub fn is_live(&self) -> bool {
        matches!(self.state, LegState::Asking | LegState::Nested(_) | LegState::Calling(_))
    }

    /// Its INVITE.
    pub fn request(&self) -> &LegRequest {
        self.request.as_deref().expect("a leg that has been called has a request")
    }
}

impl LegRequest {
    /// A request to one of an account's bindings.
    pub fn to_binding(ctx: &mut Context<'_, '_>, aor: &str, target: Target) -> Self {
        let way = target.flow.map_or(Way::Uri, Way::Flow);
        Self { route: target.route, way, ..Self::to_uri(ctx, target.uri, format!("sip:{aor}").into()) }
    }

    /// A request out through a provider.
    pub fn to_provider(ctx: &mut Context<'_, '_>, provider: Arc<Provider>, uri: &str) -> Self {
        let route = provider.outbound_proxy.as_deref().map_or(Box::default(), |proxy| {
            let is_loose = matches!(Uri::parse(proxy.as_bytes()), Ok(Uri::Sip(uri)) if uri.is_loose());
            format!("<{proxy}{}>", if is_loose { "" } else { ";lr" }).into_bytes().into()
        });
        Self { route, provider: Some(provider), ..Self::to_uri(ctx, uri.as_bytes().into(), uri.into()) }
    }

    /// A request to where `uri` leads.
    pub fn to_uri(ctx: &mut Context<'_, '_>, uri: Box<[u8]>, to: Box<str>) -> Self {
        let (call_id, tag) = (ctx.core.mint.call_id(), ctx.core.mint.draw());
        let route = Box::default();
        let (cseq, counted, has_offered, narrowed, tried) = (0, 0, false, None, Tried::Nothing);
        let (way, provider) = (Way::Uri, None);
        Self { uri, route, way, to, provider, call_id, tag, cseq, counted, has_offered, narrowed, tried }
    }

    /// Sends the INVITE, for the first time or with credentials behind a challenge.
    pub fn invite(
        &mut self,
        ctx: &mut Context<'_, '_>,
        no: LegNo,
        caller: &Caller,
        plan: &LegPlan,
        credentials: Option<(HeaderName, Vec<u8>)>,
    ) -> Result<ClientId, Failure> {
        let branch = ctx.core.mint.draw();
        let mut draft = ctx.out.draft();
        self.cseq = self.cseq.max(self.counted) + 1;
        self.write(ctx, branch, caller, plan, credentials, &mut draft)
            .map_err(|bad| Failure::told(sip::StatusCode::SERVER_INTERNAL_ERROR, &bad.to_string()))?;
        ctx.core.counters.legs += 1;
        let user = User::Leg(ctx.key, no);
        let sent = ctx.send(user, Method::Invite, self.way, branch, draft);
        sent.ok_or_else(|| Failure::of(sip::StatusCode::SERVICE_UNAVAILABLE))
    }

    fn write(
        &mut self,
        ctx: &Context<'_, '_>,
        branch: u64,
        caller: &Caller,
        plan: &LegPlan,
        credentials: Option<(HeaderName, Vec<u8>)>,
        out: &mut agent::Draft<'_>,
    ) -> Result<(), BadText> {
        let invite = reparse(&caller.invite);
        let received = invite.request().expect("it began a call");
        let tag = ctx.core.tag_text(self.tag);
        let from = From::new(&received.from, self.provider.as_deref(), plan);
        let from = from.party(&tag)?;
        let to = Party::new(b"", self.to.as_bytes(), b"")?;
        let mut request = NewRequest::new(Method::Invite, &self.uri, from, to, &self.call_id)?;
        if !self.route.is_empty() {
            request.route(&self.route)?;
        }
        request.cseq = self.cseq;
        request.max_forwards = received.max_forwards.unwrap_or(MAX_FORWARDS).saturating_sub(1);
        let Shape { headers, removed, .. } = &*plan.shape;
        let is_shaped = |name: &[u8]| {
            let names = removed.iter().chain(headers.iter().map(|(name, _)| name));
            names.into_iter().any(|n| n.as_bytes().eq_ignore_ascii_case(name))
        };
        let passing = headers::passing(&invite, true).filter(|field| !is_shaped(field.name()));
        let mut fields = headers::with_room(passing);
        let provided = self.provider.iter().flat_map(|provider| provider.headers.iter());
        for (name, value) in headers.iter().chain(provided) {
            fields.push(Field::new(name.as_bytes(), value.as_bytes())?);
        }
        if let Some((name, value)) = &credentials {
            fields.push(Field::own(*name, value));
        }
        let settings = &ctx.core.settings;
        if !settings.server.is_empty() {
            fields.push(Field::own(HeaderName::UserAgent, settings.server.as_bytes()));
        }
        let allow = headers::allow(&invite, plan.options.refer);
        fields.push(Field::own(HeaderName::Allow, allow.as_bytes()));
        // RFC 3262 §3: whether to send reliably is the called one's choice. A late offer in a reliable response needs the
        // caller's PRACK for its answer, so that he must know how.
        // And without a caller nobody would take what is said before the answer.
        let offers_reliable =
            caller.server.is_some() && (!caller.is_late_offer || headers::supports(&invite, "100rel"));
        let supported: &[u8] = if offers_reliable { b"100rel, timer, replaces" } else { b"timer, replaces" };
        fields.push(Field::own(HeaderName::Supported, supported));
        let interval = settings.session_expires_secs.to_string();
        if settings.session_expires_secs > 0 {
            fields.push(Field::own(HeaderName::SessionExpires, interval.as_bytes()));
        }
        let mut mended = Vec::new();
        request.body = self.offer(&invite, caller.flow, plan, &mut mended);
        let has_offered = request.body.is_some();
        request.fields = &fields;
        request.write(ctx.ua(), branch, out);
        self.has_offered = has_offered;
        Ok(())
    }

    /// The body of its INVITE.
    pub fn offer<'b>(
        &'b self,
        invite: &Message<'b>,
        flow: Flow,
        plan: &'b LegPlan,
        mended: &'b mut Vec<u8>,
    ) -> Option<Body<'b>> {
        match &self.narrowed {
            Some(octets) => Some(Body { content_type: Body::SDP, octets }),
            None => offer_of(invite, flow, plan, mended),
        }
    }

    /// The credentials that answer a challenge, unless it has been answered before (RFC 3261 §22.2).
    pub fn answer_challenge(
        &mut self,
        ctx: &mut Context<'_, '_>,
        response: &Message<'_>,
    ) -> Option<(HeaderName, Vec<u8>)> {
        let provider = self.provider.as_deref()?;
        let cnonce = ctx.core.mint.draw();
        credentials::answer(response, provider, &mut self.tried, Method::Invite, &self.uri, b"", cnonce)
    }
}

/// The body of a message and its type.
pub(crate) fn body_of<'b>(message: &Message<'b>) -> Option<Body<'b>> {
    let octets = message.body();
    let content_type = message.value(HeaderName::ContentType).unwrap_or(Body::SDP);
    (!octets.is_empty()).then_some(Body { content_type, octets })
}

/// The body of a leg's INVITE: what the plan says, or that of the caller's INVITE, which came on `flow`.
fn offer_of<'b>(invite: &Message<'b>, flow: Flow, plan: &'b LegPlan, mended: &'b mut Vec<u8>) -> Option<Body<'b>> {
    match &plan.shape.body {
        Some((content_type, text)) => Some(Body { content_type: content_type.as_bytes(), octets: text.as_bytes() }),
        None => mangled(invite, plan.options.mangle.unwrap_or(false).then_some(flow), mended),
    }
}

/// What the From of a leg says.
enum From<'a> {
    /// What the caller's says.
    Received(Address<'a>),
    Made {
        display: Vec<u8>,
        uri: String,
    },
}

impl<'a> From<'a> {
    /// The caller's, or his user's address at the provider; then what the plan changes, the leg's own word last.
    fn new(caller: &Address<'a>, provider: Option<&Provider>, plan: &LegPlan) -> Self {
        let (leg, all) = (&plan.options.from, &plan.shape.from);
        let name = leg.name.as_deref().or(all.name.as_deref());
        let user = leg.user.as_deref().or(all.user.as_deref());
        let host = leg.host.as_deref().or(all.host.as_deref());
        if name.is_none() && user.is_none() && host.is_none() && provider.is_none() {
            return Self::Received(*caller);
        }
        let ours = provider.map(address_at);
        let base = match &ours {
            Some(text) => Address::from_value(text.as_bytes()),
            None => Some(*caller),
        };
        let base = base.unwrap_or(*caller);
        let (mut own_user, mut own_host) = (String::new(), String::new());
        if let Ok(Uri::Sip(uri)) = base.parse_uri() {
            own_user = uri.user.map_or(String::new(), |user| String::from_utf8_lossy(user).into_owned());
            let rest = uri.without_headers();
            let at = rest.iter().rposition(|&b| b == b'@').map_or_else(|| rest.iter().position(|&b| b == b':'), Some);
            let hostport = &rest[at.map_or(0, |at| at + 1)..];
            let end = hostport.iter().position(|&b| b == b';').unwrap_or(hostport.len());
            own_host = String::from_utf8_lossy(&hostport[..end]).into_owned();
        }
        let (user, host) = (user.unwrap_or(&own_user), host.unwrap_or(&own_host));
        let uri = if user.is_empty() { format!("sip:{host}") } else { format!("sip:{user}@{host}") };
        let display = match name {
            Some(name) => name.as_bytes().to_vec(),
            None => unquoted(if base.display.is_empty() && ours.is_some() { b"" } else { base.display }),
        };
        Self::Made { display, uri }
    }

    fn party<'p>(&'p self, tag: &'p [u8]) -> Result<Party<'p>, BadText> {
        match self {
            Self::Received(address) => Party::received(address, tag),
            Self::Made { display, uri } => Party::new(display, uri.as_bytes(), tag),
        }
    }
}

/// Our address at a provider: what its account says, or the user at the server's host.
fn address_at(provider: &Provider) -> String {
    if let Some(from) = &provider.from {
        return from.to_string();
    }
    match Uri::parse(provider.server.as_bytes()) {
        Ok(Uri::Sip(uri)) => format!("<sip:{}@{}>", provider.user, crate::route::host_text(&uri.host)),
        _ => format!("<sip:{}@{}>", provider.user, agent::PLACEHOLDER),
    }
}

/// A display name without its quotes and escapes.
fn unquoted(display: &[u8]) -> Vec<u8> {
    let Some(inner) = display.strip_prefix(b"\"").and_then(|d| d.strip_suffix(b"\"")) else {
        return display.to_vec();
    };
    let mut text = Vec::with_capacity(inner.len());
    let mut octets = inner.iter();
    while let Some(&octet) = octets.next() {
        text.push(if octet == b'\\' { octets.next().copied().unwrap_or(b' ') } else { octet });
    }
    text
}
