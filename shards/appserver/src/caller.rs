//! Who calls, and whose call it is: the caller by his source, by what another application server of ours says, or by digest
//! (RFC 3261 §22.3); the call by its Request-URI.

use crate::{
    best::Failure,
    call::{RunNo, Setup},
    leg::{LegRequest, Whom},
    shared::{Asked, Context, reparse},
};
use agent::{Agent, PLACEHOLDER};
use registrar::{
    Incoming,
    auth::{Role, Verdict},
};
use sip::{Address, HeaderName, Message, Request, StatusCode, Uri, write};
use std::{rc::Rc, sync::Arc};
use store::{Direction, Provider};

/// Whose run it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Party {
    /// Whose plan and providers; empty for nobody's.
    pub owner: Rc<str>,
    pub direction: Direction,
    pub may_go_outside: bool,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Who {
    /// A user of ours, who has proved it.
    User(Rc<str>),
    /// The owner of a plan that has handed the call over to us.
    Forwarded(Rc<str>, Direction),
    /// One of these accounts' providers.
    Provider(Arc<[Arc<Provider>]>),
    /// Somebody in a network that the operator trusts.
    Trusted,
    Stranger,
}

/// The parameter of a Request-URI that names the owner of a plan which has handed a call over, sealed.
const FORWARDED: &str = "ringswitch-caller";

/// Finds out who sends a request. None where he has been answered: challenged, or refused.
pub(crate) fn identify(ctx: &mut Context<'_, '_>, asked: Asked<'_>, request: &Request<'_>) -> Option<Who> {
    if let Some(forwarded) = forwarded(ctx, request) {
        return Some(forwarded);
    }
    let source = asked.flow.peer.ip();
    let providers = ctx.core.tables.providers.from_address(source);
    if providers.iter().any(|provider| provider.enabled) {
        return Some(Who::Provider(providers));
    }
    let is_trusted = ctx.world.is_trusted(source);
    let settings = Arc::clone(&ctx.core.settings);
    let from = request.from.parse_uri().ok().and_then(|uri| uri.sip().ok());
    let claim = from.and_then(|uri| registrar::address_of_record(&uri, &settings.domains, ctx.out.arena()));
    let Some(claim) = claim else { return Some(if is_trusted { Who::Trusted } else { Who::Stranger }) };
    if is_trusted || !settings.authenticate {
        let is_user = ctx.core.tables.accounts.exists(claim);
        return Some(if is_user { Who::User(claim.into()) } else { Who::Trusted });
    }
    let realm = claim.rsplit_once('@').map_or(settings.domains.default_domain(), |(_, domain)| domain);
    let incoming = Incoming { flow: asked.flow, message: asked.message, request };
    let verdict = ctx.core.auth.verify(ctx.now, &incoming, realm, Role::Proxy, ctx.out.arena());
    let stale = match verdict {
        Verdict::Accepted { aor, .. } if aor == claim => return Some(Who::User(aor.into())),
        // §22.1: the credentials are somebody else's.
        Verdict::Accepted { .. } => {
            answer(ctx, asked, StatusCode::FORBIDDEN, StatusCode::FORBIDDEN.reason(), |_, _| ());
            return None;
        }
        Verdict::Malformed(reason) => {
            answer(ctx, asked, StatusCode::BAD_REQUEST, reason, |_, _| ());
            return None;
        }
        Verdict::Stale => true,
        Verdict::Missing | Verdict::Refused => false,
    };
    ctx.core.counters.challenged += 1;
    let status = StatusCode::PROXY_AUTHENTICATION_REQUIRED;
    answer(ctx, asked, status, status.reason(), |ctx, draft| {
        let call_id = request.call_id;
        ctx.core.auth.challenge(ctx.now, call_id, realm, Role::Proxy, stale, draft);
    });
    None
}

fn answer<'t>(
    ctx: &mut Context<'_, 't>,
    asked: Asked<'_>,
    status: StatusCode,
    reason: &str,
    lines: impl FnOnce(&mut Context<'_, 't>, &mut agent::Draft<'t>),
) {
    let tag = crate::mint::tag_text(ctx.core.mint.draw());
    let mut draft = ctx.out.draft();
    write::begin_response(&mut draft, asked.message, status, reason, &tag, asked.flow.peer);
    lines(ctx, &mut draft);
    write::finish(&mut draft, b"");
    ctx.core.transactions.respond(ctx.now, asked.server, status, draft.into_bump_slice(), ctx.out);
}

/// What the Request-URI says of a call that another application server of ours has handed over.
fn forwarded(ctx: &Context<'_, '_>, request: &Request<'_>) -> Option<Who> {
    let uri = Uri::parse(request.uri).and_then(Uri::sip).ok()?;
    let value = uri.param(FORWARDED)?;
    let (direction, rest) = value.split_first()?;
    let at = rest.iter().position(|&b| b == b'.')?;
    let (owner, seal) = (&rest[..at], &rest[at + 1..]);
    if !ctx.core.forwarded.is_sealed(&[&[*direction], owner, request.call_id], seal) {
        return None;
    }
    let mut aor = Vec::with_capacity(owner.len() / 2);
    for pair in owner.chunks_exact(2) {
        aor.push(u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?);
    }
    let direction = if *direction == b'i' { Direction::In } else { Direction::Out };
    Some(Who::Forwarded(String::from_utf8(aor).ok()?.into(), direction))
}

/// Whether a request comes from another shard or application server of ours.
pub(crate) fn is_handed(ctx: &Context<'_, '_>, request: &Request<'_>) -> bool {
    forwarded(ctx, request).is_some()
}

/// A Request-URI without what another application server of ours has put into it.
fn dialled(request: &Request<'_>) -> Box<str> {
    let text = String::from_utf8_lossy(request.uri);
    match text
        .match_indices(FORWARDED)
        .find(|&(at, name)| text[..at].ends_with(';') && text[at + name.len()..].starts_with('='))
    {
        None => text.into(),
        Some((at, _)) => {
            let end = text[at..].find(';').map_or(text.len(), |end| at + end);
            format!("{}{}", &text[..at - 1], &text[end..]).into()
        }
    }
}

impl Setup {
    /// The request that hands the call over to the application server of that name.
    pub fn request_to_app(&self, ctx: &mut Context<'_, '_>, run: RunNo, name: &str) -> LegRequest {
        let run = &self.runs[usize::from(run)];
        let invite = reparse(&self.caller.invite);
        let received = invite.request().expect("it began a call");
        let uri = dialled(&received);
        let mut request = LegRequest::to_uri(ctx, Box::default(), uri.clone());
        request.uri = sealed(ctx, &uri, run.direction, &run.owner, &request.call_id).into();
        request.route = format!("<sip:{name}@{PLACEHOLDER};lr>").into_bytes().into();
        request
    }

    /// The request that takes the place of a dialog which `agent` has, in the name of the run's owner. The proxy finds `agent` by
    /// the token, which nobody outside can write for a call of his.
    pub fn request_to_dialog(&self, ctx: &mut Context<'_, '_>, run: RunNo, agent: Agent<'_>) -> LegRequest {
        let run = &self.runs[usize::from(run)];
        let invite = reparse(&self.caller.invite);
        let to = dialled(&invite.request().expect("it began a call"));
        let mut request = LegRequest::to_uri(ctx, Box::default(), to);
        let mut uri = b"sip:".to_vec();
        ctx.core.tokens.write(agent, &request.call_id, &mut uri);
        let uri = format!("{}@{}", String::from_utf8_lossy(&uri), ctx.core.settings.domains.default_domain());
        request.uri = sealed(ctx, &uri, run.direction, &run.owner, &request.call_id).into();
        request
    }
}

/// A Request-URI with the owner of the plan that hands a call over.
fn sealed(ctx: &Context<'_, '_>, uri: &str, direction: Direction, owner: &str, call_id: &[u8]) -> Vec<u8> {
    let direction = if direction == Direction::In { "i" } else { "o" };
    let owner: String = owner.bytes().map(|b| format!("{b:02x}")).collect();
    let seal = ctx.core.forwarded.seal(&[direction.as_bytes(), owner.as_bytes(), call_id]);
    format!("{uri};{FORWARDED}={direction}{owner}.{}", String::from_utf8_lossy(&seal)).into_bytes()
}

/// Whose call it is that takes the place of a dialog elsewhere. None for a stranger, of whom nobody knows whether he may (RFC 3891
/// §3, §8).
pub(crate) fn replacer(who: &Who) -> Option<Party> {
    let owner: Rc<str> = match who {
        Who::User(aor) | Who::Forwarded(aor, _) => Rc::clone(aor),
        Who::Provider(_) | Who::Trusted => "".into(),
        Who::Stranger => return None,
    };
    Some(Party { owner, direction: Direction::Out, may_go_outside: false })
}

/// Whose call it is, and whom it is for in the first place.
pub(crate) fn route(
    ctx: &Context<'_, '_>,
    who: &Who,
    message: &Message<'_>,
    request: &Request<'_>,
) -> Result<(Party, Whom), Failure> {
    let uri = Uri::parse(request.uri).map_err(|_| Failure::of(StatusCode::BAD_REQUEST))?;
    let accounts = &ctx.core.tables.accounts;
    let may_go_outside = |aor: &str| accounts.find(aor).is_some_and(|account| account.may_relay);
    let named = || Whom::Named(dialplan::Target::Uri(dialled(request)));
    let incoming = |owner: Rc<str>| {
        let may_go_outside = may_go_outside(&owner);
        (Party { owner: Rc::clone(&owner), direction: Direction::In, may_go_outside }, Whom::Bindings(owner))
    };
    match who {
        Who::User(aor) | Who::Forwarded(aor, Direction::Out) => {
            let may_go_outside = may_go_outside(aor);
            return Ok((Party { owner: Rc::clone(aor), direction: Direction::Out, may_go_outside }, named()));
        }
        Who::Forwarded(aor, Direction::In) => return Ok(incoming(Rc::clone(aor))),
        Who::Provider(_) | Who::Trusted | Who::Stranger => {}
    }
    let callee = match &uri {
        Uri::Sip(sip) => registrar::address_of_record(sip, &ctx.core.settings.domains, ctx.out.arena()),
        _ => None,
    };
    if let Some(aor) = callee.filter(|aor| accounts.exists(aor)) {
        return Ok(incoming(aor.into()));
    }
    if let Who::Provider(providers) = who
        && let Some(provider) = providers.iter().find(|provider| is_called(provider, message, request))
    {
        return Ok(incoming(provider.owner.as_ref().into()));
    }
    let is_ours = matches!(&uri, Uri::Sip(sip) if ctx.core.settings.domains.local(&sip.host, sip.port).is_some());
    match who {
        _ if is_ours => Err(Failure::of(StatusCode::NOT_FOUND)),
        Who::Trusted => Ok((Party { owner: "".into(), direction: Direction::Out, may_go_outside: true }, named())),
        _ => Err(Failure::of(StatusCode::FORBIDDEN)),
    }
}

/// Whether the call is for this account with a provider. Users share providers, and one may have several accounts there: the
/// user part of the Request-URI or of To tells which.
fn is_called(provider: &Provider, message: &Message<'_>, request: &Request<'_>) -> bool {
    let to = message.value(HeaderName::To).and_then(Address::from_value).map(|to| to.uri);
    let is_his = |uri: &[u8]| {
        let uri = Uri::parse(uri).and_then(Uri::sip).ok();
        uri.and_then(|uri| uri.user) == Some(provider.user.as_bytes())
    };
    provider.enabled && [Some(request.uri), to].into_iter().flatten().any(is_his)
}

/// The provider's account that the call came by: the one that was called, or any of the owner's there.
pub(crate) fn provider(who: &Who, owner: &str, message: &Message<'_>, request: &Request<'_>) -> Option<Arc<Provider>> {
    let Who::Provider(providers) = who else { return None };
    let own = || providers.iter().filter(|provider| provider.enabled && *provider.owner == *owner);
    own().find(|provider| is_called(provider, message, request)).or_else(|| own().next()).cloned()
}
