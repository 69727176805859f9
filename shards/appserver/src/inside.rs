//! How what passes inside a call is written: bodies, session timers, requests in the other dialog.

use crate::{
    bridge::End,
    headers,
    leg::body_of,
    shared::{Asked, Context, User},
};
use agent::Flow;
use dialog::{Body, Field, NewResponse, Sdp, TimerSettings};
use dialplan::Refer;
use sip::{HeaderName, Message, Method, StartLine};
use std::borrow::Cow;
use transaction::ClientId;

/// Writes a request like `message` into the dialog of `end` and sends it.
#[expect(clippy::too_many_arguments, reason = "a request as it came, and what is made of it")]
pub(crate) fn write_inside(
    ctx: &mut Context<'_, '_>,
    end: &mut End,
    message: &Message<'_>,
    method: Method<'_>,
    refer: Refer,
    mangle_from: Option<Flow>,
    more: &[Field<'_>],
    user: User,
) -> Option<(ClientId, u32)> {
    let mut fields: Vec<_> = headers::passing(message, false).collect();
    let (allow, mut expires) = (headers::allow(message, refer), Vec::new());
    if matches!(method, Method::Invite | Method::Update) {
        fields.push(Field::own(HeaderName::Allow, allow.as_bytes()));
        fields.push(Field::own(HeaderName::Supported, b"timer, replaces"));
        if let Some(timer) = &end.timer {
            timer.expires().write(&mut expires);
            fields.push(Field::own(HeaderName::SessionExpires, &expires));
        }
    }
    fields.extend_from_slice(more);
    let (mut body, mut described) = (Vec::new(), Vec::new());
    let (branch, mut draft) = (ctx.core.mint.draw(), ctx.out.draft());
    let body = end.describe(mangled(message, mangle_from, &mut body), &mut described);
    let cseq = end.dialog.write_request(ctx.ua(), branch, method, &fields, body, &mut draft).ok()?;
    let method = message.request().map_or(Method::Info, |request| request.method);
    Some((ctx.send_inside(user, method, end.way, end.provider.as_ref(), branch, draft)?, cseq))
}

/// The body of a message, with its media addresses put right where they are to be: those of a peer who says private
/// addresses and comes from `flow`.
pub(crate) fn mangled<'b>(message: &Message<'b>, flow: Option<Flow>, buffer: &'b mut Vec<u8>) -> Option<Body<'b>> {
    let body = body_of(message)?;
    let Some(flow) = flow else { return Some(body) };
    dialog::mangle(message, flow.peer.ip(), buffer);
    Some(Body { octets: buffer, ..body })
}

/// The session that a message describes, by itself, with its media addresses put right where they are to be.
pub(crate) fn described(message: &Message<'_>, flow: Option<Flow>) -> Option<Box<[u8]>> {
    let sdp = Sdp::of(message)?;
    let Some(flow) = flow else { return Some(sdp.as_bytes().into()) };
    let mut mended = Vec::new();
    sdp.write_mangled(flow.peer.ip(), &mut mended);
    Some(mended.into())
}

/// The reason phrase of a response, to be passed on.
pub(crate) fn reason_of<'b>(message: &Message<'b>) -> Cow<'b, str> {
    match message.start_line() {
        StartLine::Response { reason, .. } => String::from_utf8_lossy(reason),
        StartLine::Request { .. } => Cow::Borrowed(""),
    }
}

pub(crate) fn timer_settings(ctx: &Context<'_, '_>) -> TimerSettings {
    let settings = &ctx.core.settings;
    TimerSettings {
        session_expires_secs: settings.session_expires_secs.max(TimerSettings::LEAST_SECS),
        min_se_secs: settings.min_session_expires_secs.max(TimerSettings::LEAST_SECS),
    }
}

/// Session-Expires of a 2xx, and Require where the peer is to refresh (RFC 4028 §9).
pub(crate) fn accepted_fields(accepted: Option<dialog::Accepted>, value: &mut Vec<u8>) -> Vec<Field<'_>> {
    let Some(accepted) = accepted else { return Vec::new() };
    accepted.expires.write(value);
    let mut fields = vec![Field::own(HeaderName::SessionExpires, value)];
    if accepted.requires_timer {
        fields.push(Field::own(HeaderName::Require, b"timer"));
    }
    fields
}

/// 422 with Min-SE (RFC 4028 §6).
pub(crate) fn refuse_interval(ctx: &mut Context<'_, '_>, asked: Asked<'_>, too_small: dialog::TooSmall) {
    let least = too_small.0.to_string();
    let fields = [Field::own(HeaderName::MinSe, least.as_bytes())];
    ctx.respond(asked, &NewResponse { fields: &fields, ..NewResponse::new(too_small.response(), b"") });
}
