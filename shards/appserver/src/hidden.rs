//! Contacts of dialogs that we only relay (SUBSCRIBE and NOTIFY, RFC 6665), hidden without any state.
//!
//! Each end gets a Contact of ours in the place of the other's. It names this server and shard, so that the proxy brings what is sent to it
//! here, and carries the end that it stands for: its URI, its route and the flow to it, hidden and sealed with the Call-ID
//! ([`agent::Veil`]). So a subscription outlives a restart, costs no memory, and finds through NATs; nobody outside reads or writes
//! such a Contact. Call-ID, tags, From and To are the ends' own: without state they cannot be others.

use crate::{
    Target,
    answer::way_to,
    record::{put_octets, put_way, take_octets, take_way},
    shared::Context,
};
use agent::{Flow, PLACEHOLDER, Way};
use sip::{Address, HeaderName, Message, Method, Octets, Request, StatusCode, Uri};

/// The parameter that carries the other end.
const PEER: &str = "ringswitch-peer";

/// Octets of the longest end that is carried: what is longer would not leave a datagram room for anything else.
const MAX_OCTETS: usize = 1024;

/// The Contact of the other end cannot be carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl TooLong {
    pub fn response(self) -> StatusCode {
        StatusCode::MESSAGE_TOO_LARGE
    }
}

/// The value of the Contact that stands for that of `message`, which came on `flow`; None where it has none that can be read.
pub(crate) fn contact_for(
    ctx: &Context<'_, '_>,
    message: &Message<'_>,
    flow: Flow,
) -> Result<Option<Vec<u8>>, TooLong> {
    let contact = message.addresses(HeaderName::Contact).next().and_then(Result::ok);
    let Some(uri) = contact.and_then(|contact| contact.parse_uri().ok()?.sip().ok()) else { return Ok(None) };
    let mut routes: Vec<_> = message.addresses(HeaderName::RecordRoute).map_while(Result::ok).map(|r| r.raw).collect();
    // RFC 3261 §12.1.2: towards who answers, from the last to the first.
    if !message.is_request() {
        routes.reverse();
    }
    let (target, route) = (uri.without_headers(), routes.join(&b", "[..]));
    if target.len() + route.len() > MAX_OCTETS {
        return Err(TooLong);
    }
    // Behind another proxy the flow leads to that one only.
    let is_direct = !message.is_request() || message.vias().count() == 1;
    let way = if route.is_empty() && is_direct { way_to(flow, target) } else { Way::Uri };
    let mut peer = Vec::with_capacity(target.len() + route.len() + 32);
    put_octets(&mut peer, target);
    put_octets(&mut peer, &route);
    put_way(&mut peer, way);
    let call_id = message.call_id().unwrap_or_default();
    // Who has it writes this end's tag into his To.
    let end = if message.is_request() { HeaderName::From } else { HeaderName::To };
    let end = message.value(end).and_then(Address::from_value).and_then(|end| end.tag);
    let mut value = Vec::with_capacity(2 * peer.len() + 128);
    value.put(if uri.secure { b"<sips:" } else { b"<sip:" });
    ctx.core.tokens.write(ctx.core.agent(), call_id, &mut value);
    value.put_display(format_args!("@{PLACEHOLDER};{PEER}={}>", ctx.core.hidden.hide(&context(call_id, end), &peer)));
    Ok(Some(value))
}

/// What a hidden end is sealed with: its dialog.
fn context(call_id: &[u8], tag: Option<&[u8]>) -> Vec<u8> {
    [call_id, b" ", tag.unwrap_or_default()].concat()
}

/// Whom a request inside such a dialog is for. None where it is none: such a Contact is for subscriptions and their notifications
/// alone, and whoever sends something else there has to prove who he is as anywhere. An error where its Request-URI is of another
/// dialog, or forged.
pub(crate) fn target_of(ctx: &Context<'_, '_>, request: &Request<'_>) -> Option<Result<Target, StatusCode>> {
    let uri = Uri::parse(request.uri).and_then(Uri::sip).ok()?;
    let token = uri.param(PEER)?;
    let is_inside = matches!(request.method, Method::Subscribe | Method::Notify) && request.to.tag.is_some();
    if !is_inside {
        return None;
    }
    let revealed = ctx.core.hidden.reveal(&context(request.call_id, request.to.tag), token).and_then(|peer| {
        let mut rest = &peer[..];
        let (uri, route) = (take_octets(&mut rest)?.into(), take_octets(&mut rest)?.into());
        let flow = match take_way(&mut rest)? {
            Way::Flow(flow) => Some(flow),
            Way::Uri | Way::Response(_) => None,
        };
        Some(Target { uri, route, flow, q: 1000, expires_secs: 0, user_agent: "".into() })
    });
    Some(revealed.ok_or(StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST))
}
