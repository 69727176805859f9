//! Requests that pass from one dialog of a call to the other (RFC 3261 §14; RFC 3311; RFC 3262).
//!
//! A request inside one dialog becomes a request of our own inside the other, and its responses come back the same way.
//! Offers and answers pass unread: the ends themselves know what they have agreed on. What only we can see, requests that
//! cross in the middle, is answered here.

use crate::{
    bridge::{Bridge, End, Side, Then},
    headers,
    inside::{accepted_fields, mangled, reason_of, refuse_interval, timer_settings, write_inside},
    shared::{Asked, Context, User, reparse},
};
use agent::{Flow, Now};
use dialog::{DialogState, Field, NewResponse, SessionTimer, refreshes_target, retry_after_secs};
use sip::{HeaderName, Message, Method, StatusCode};
use std::time::Duration;
use transaction::{ClientId, ServerId};

/// A request on its way from one side to the other.
pub(crate) struct Passing {
    pub no: u16,
    pub from: Side,
    pub kind: Kind,
    pub stage: Stage,
    /// The request as it came.
    request: Box<[u8]>,
    /// The number of ours.
    cseq: u32,
    /// Whom it puts into the place of its side's peer (RFC 3891).
    replacement: Option<Box<End>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Invite,
    /// UPDATE or PRACK with an offer.
    Offer,
    Other,
}

pub(crate) enum Stage {
    /// It has no final response yet.
    Waiting { server: ServerId, flow: Flow, client: ClientId },
    /// An INVITE with a 2xx, whose ACK has not come.
    Succeeded { server: ServerId },
    /// The ACK had a body, and is kept for further copies of the 2xx.
    Acknowledged { ack: Box<[u8]>, until: Duration },
}

impl Bridge {
    /// Writes the request into the other dialog.
    pub fn pass(
        &mut self,
        ctx: &mut Context<'_, '_>,
        side: Side,
        asked: Asked<'_>,
        method: Method<'_>,
        kind: Kind,
        more: &[Field<'_>],
    ) {
        if self.end(side.other()).dialog.state() == DialogState::Terminated {
            // He has left, and somebody else is about to take his place: an offer may be made to him then.
            let pending = kind != Kind::Other;
            let status = if pending { StatusCode::REQUEST_PENDING } else { StatusCode::TEMPORARILY_UNAVAILABLE };
            return ctx.respond(asked, &NewResponse::new(status, b""));
        }
        if self.passing.len() >= usize::from(ctx.core.settings.max_passing) {
            return ctx.respond(asked, &NewResponse::new(StatusCode::SERVICE_UNAVAILABLE, b""));
        }
        if matches!(method, Method::Invite | Method::Update)
            && let Err(too_small) = timer_settings(ctx).accept(asked.message)
        {
            return refuse_interval(ctx, asked, too_small);
        }
        let no = self.number();
        let Asked { server, flow, message } = asked;
        ctx.trying(asked, User::Passing(ctx.key, no));
        let mangle_from = self.mangle.then_some(flow);
        let refer = self.refer;
        let end = self.end_mut(side.other());
        let sent = write_inside(ctx, end, message, method, refer, mangle_from, more, User::Passing(ctx.key, no));
        let Some((client, cseq)) = sent else {
            return ctx.respond(asked, &NewResponse::new(StatusCode::SERVICE_UNAVAILABLE, b""));
        };
        ctx.core.counters.passed += 1;
        let stage = Stage::Waiting { server, flow, client };
        let request = message.bytes().into();
        self.passing.push(Passing { no, from: side, kind, stage, request, cseq, replacement: None });
    }

    /// Who has sent a request that passes: the peer of its side, or who is about to take his place.
    fn requester(&mut self, at: usize) -> &mut End {
        let Passing { from, replacement, .. } = &mut self.passing[at];
        match (replacement, from) {
            (Some(end), _) => end,
            (None, Side::Near) => &mut self.near,
            (None, Side::Far) => &mut self.far,
        }
    }

    fn find(&self, no: u16) -> Option<usize> {
        self.passing.iter().position(|passing| passing.no == no)
    }

    /// Takes a response to a request that passes.
    pub fn handle_response(
        &mut self,
        ctx: &mut Context<'_, '_>,
        no: u16,
        message: &Message<'_>,
        status: StatusCode,
        flow: Flow,
    ) -> Then {
        let Some(at) = self.find(no) else {
            self.acknowledge_copy(ctx, message, status);
            return Then::Nothing;
        };
        let passing = &mut self.passing[at];
        let Stage::Waiting { server, flow: came_on, .. } = passing.stage else {
            // A further copy of the 2xx, whose ACK was lost. Before there is one, the requester is still to send it.
            let way = self.end(self.passing[at].from.other()).way;
            if let Stage::Acknowledged { ack, .. } = &self.passing[at].stage {
                let copy: &[u8] = ctx.out.arena().alloc_slice_copy(ack);
                ctx.out.post(way, copy);
            }
            return Then::Nothing;
        };
        let (from, is_invite) = (passing.from, passing.kind == Kind::Invite);
        let request = std::mem::take(&mut passing.request);
        let replacement = passing.replacement.as_ref();
        let tag = replacement.map_or(Vec::new(), |end| end.dialog.local_tag().to_vec());
        let asked = Asked { server, flow: came_on, message: &reparse(&request) };
        let method = asked.message.request().map_or(Method::Info, |request| request.method);
        if status.is_provisional() {
            if is_invite && status > StatusCode::TRYING {
                let fields: Vec<_> = headers::passing(message, true).collect();
                ctx.respond(asked, &NewResponse { fields: &fields, ..NewResponse::new(status, &tag) });
            }
            self.passing[at].request = request;
            return Then::Nothing;
        }
        let is_success = status.is_success();
        let mut fields: Vec<_> = headers::passing(message, false).collect();
        let mut value = Vec::new();
        let mut body = Vec::new();
        if matches!(method, Method::Invite | Method::Update) && is_success {
            let accepted = timer_settings(ctx).accept(asked.message).ok().flatten();
            fields.extend(accepted_fields(accepted, &mut value));
            // RFC 4028 §7.2, §9: what these 2xx do not speak of is no more.
            let timer = accepted.map(|accepted| SessionTimer::accepted(ctx.now, accepted));
            self.requester(at).timer = timer;
            self.end_mut(from.other()).timer = SessionTimer::agreed(ctx.now, message);
        }
        let allow = headers::allow(message, self.refer);
        if method == Method::Invite && is_success {
            fields.push(Field::own(HeaderName::Allow, allow.as_bytes()));
        }
        if refreshes_target(method) && is_success {
            // RFC 6141 §4.3: both targets move as the request is accepted.
            if tag.is_empty() {
                self.has_moved |= self.end_mut(from).follow_target(asked.message, asked.flow);
            }
            self.has_moved |= self.end_mut(from.other()).follow_target(message, flow);
        }
        let mut described = Vec::new();
        let body = mangled(message, self.mangle.then_some(flow), &mut body);
        let body = self.requester(at).describe(body, &mut described);
        if is_success && self.passing[at].kind != Kind::Other {
            let (mut offer, mut described) = (Vec::new(), Vec::new());
            let offer = mangled(asked.message, self.mangle.then_some(asked.flow), &mut offer);
            let offer = self.end_mut(from.other()).describe(offer, &mut described);
            let has_changed = self.end_mut(from.other()).tell(offer) | self.requester(at).tell(body);
            self.has_moved |= has_changed;
        }
        // A challenge is for whoever has the credentials, which the other side has not.
        let (told, reason) = match status {
            StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                (StatusCode::FORBIDDEN, StatusCode::FORBIDDEN.reason().into())
            }
            _ => (status, reason_of(message)),
        };
        let response = NewResponse { reason: &reason, fields: &fields, body, ..NewResponse::new(told, &tag) };
        ctx.respond(asked, &response);
        if is_invite && is_success {
            self.passing[at].stage = Stage::Succeeded { server };
            if let Some(end) = self.passing[at].replacement.take() {
                return self.replace(ctx, from, *end);
            }
        } else {
            self.passing.remove(at);
        }
        // §12.2.1.2: the far end has lost the dialog, or nobody is there.
        let is_gone = matches!(status, StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST | StatusCode::REQUEST_TIMEOUT);
        if is_gone && matches!(method, Method::Invite | Method::Update) { Then::Gone } else { Then::Nothing }
    }

    /// An INVITE or an offer that has no answer yet, or no ACK.
    pub fn pending(&self) -> Option<&Passing> {
        self.passing.iter().find(|passing| {
            matches!(passing.stage, Stage::Waiting { .. } | Stage::Succeeded { .. } if passing.kind != Kind::Other)
        })
    }

    /// Whether an INVITE or an offer is under way, so that none of our own may begin (§14.1).
    pub fn is_inviting(&self) -> bool {
        self.pending().is_some() || self.near.inviting.or(self.far.inviting).is_some()
    }

    /// Why an INVITE or an offer cannot pass now: one of the other side's, or of our own, is on its way, and neither end has
    /// seen the other's (§14.2, RFC 3311 §5.2); or one of this side's own has no answer yet.
    pub fn conflict(&self, ctx: &mut Context<'_, '_>, side: Side, kind: Kind) -> Option<(StatusCode, u32)> {
        if kind == Kind::Other {
            return None;
        }
        if self.near.inviting.or(self.far.inviting).is_some() {
            return Some((StatusCode::REQUEST_PENDING, 0));
        }
        let pending = self.pending()?;
        if pending.from != side {
            return Some((StatusCode::REQUEST_PENDING, 0));
        }
        let is_done = matches!(pending.stage, Stage::Succeeded { .. });
        (!is_done).then(|| (StatusCode::SERVER_INTERNAL_ERROR, retry_after_secs(ctx.core.mint.draw())))
    }

    /// Passes an INVITE whose sender is to take the place of the peer of `side`, as a re-INVITE to the other one.
    pub fn pass_replacement(&mut self, ctx: &mut Context<'_, '_>, side: Side, asked: Asked<'_>, end: End) {
        if let Some((status, _)) = self.conflict(ctx, side, Kind::Invite) {
            return ctx.respond(asked, &NewResponse::new(status, end.dialog.local_tag()));
        }
        self.pass(ctx, side, asked, Method::Invite, Kind::Invite, &[]);
        let is_it =
            |passing: &&mut Passing| matches!(passing.stage, Stage::Waiting { server, .. } if server == asked.server);
        if let Some(passing) = self.passing.iter_mut().find(is_it) {
            passing.replacement = Some(Box::new(end));
        }
    }

    /// A request that passes got no final response: it is answered as if a 408 or 503 had come (§8.1.3.1).
    pub fn handle_failure(&mut self, ctx: &mut Context<'_, '_>, no: u16, status: StatusCode) -> Then {
        let Some(at) = self.find(no) else { return Then::Nothing };
        let Stage::Waiting { server, flow, .. } = self.passing[at].stage else { return Then::Nothing };
        let passing = self.passing.remove(at);
        let asked = Asked { server, flow, message: &reparse(&passing.request) };
        ctx.respond(asked, &NewResponse::new(status, b""));
        let ends_call =
            matches!(asked.message.request(), Ok(request) if matches!(request.method, Method::Invite | Method::Update));
        if ends_call { Then::Gone } else { Then::Nothing }
    }

    /// A request that passes has been sent again, with credentials.
    pub fn follow_again(&mut self, old: ClientId, new: ClientId, number: u32) {
        for Passing { stage, cseq, .. } in &mut self.passing {
            if let Stage::Waiting { client, .. } = stage
                && *client == old
            {
                (*client, *cseq) = (new, number);
            }
        }
    }

    /// Passes the ACK for a 2xx (§13.2.2.4).
    pub fn handle_ack(&mut self, ctx: &mut Context<'_, '_>, asked: Asked<'_>) {
        let waits = |passing: &Passing| matches!(passing.stage, Stage::Succeeded { server } if server == asked.server);
        let Some(at) = self.passing.iter().position(waits) else { return };
        let (from, cseq) = (self.passing[at].from, self.passing[at].cseq);
        let mut body = Vec::new();
        let mut described = Vec::new();
        let body = mangled(asked.message, self.mangle.then_some(asked.flow), &mut body);
        let body = self.end_mut(from.other()).describe(body, &mut described);
        let ack = self.acknowledge(ctx, from.other(), cseq, body);
        self.has_moved |= self.end_mut(from.other()).tell(body);
        if body.is_some() {
            let until = ctx.now.monotonic + 64 * ctx.core.settings.transactions.t1;
            self.passing[at].stage = Stage::Acknowledged { ack: ack.into(), until };
        } else {
            self.passing.remove(at);
        }
    }

    /// A copy of a 2xx that has been acknowledged: the ACK was lost (§13.2.2.4).
    pub fn acknowledge_copy(&self, ctx: &mut Context<'_, '_>, message: &Message<'_>, status: StatusCode) {
        let Ok(response) = message.response() else { return };
        if !status.is_success() || response.cseq.method != Method::Invite {
            return;
        }
        let side =
            [Side::Near, Side::Far].into_iter().find(|&side| self.end(side).dialog.call_id() == response.call_id);
        if let Some(side) = side {
            self.acknowledge(ctx, side, response.cseq.number, None);
        }
    }

    /// The first INVITE of the call has no offer: the caller's ACK will have the answer, and passes.
    pub fn expect_ack(&mut self, server: ServerId, cseq: u32) {
        let request = Box::default();
        let stage = Stage::Succeeded { server };
        self.passing.push(Passing {
            no: 0,
            from: Side::Near,
            kind: Kind::Invite,
            stage,
            request,
            cseq,
            replacement: None,
        });
    }

    /// The requester gives up an INVITE that passes.
    pub fn cancel(&mut self, ctx: &mut Context<'_, '_>, no: u16) {
        if let Some(at) = self.find(no)
            && let Stage::Waiting { client, .. } = self.passing[at].stage
        {
            ctx.core.transactions.cancel(ctx.now, client, ctx.out);
        }
    }

    /// Forgets the ACKs whose 2xx can be repeated no more.
    pub fn forget_acknowledged(&mut self, now: Now) {
        self.passing.retain(|passing| match passing.stage {
            Stage::Acknowledged { until, .. } => until > now.monotonic,
            _ => true,
        });
    }
}

/// Answers whatever passes: its dialogs have ended (§15.1.2).
pub(crate) fn refuse(ctx: &mut Context<'_, '_>, passing: Vec<Passing>) {
    for passing in passing {
        let Stage::Waiting { server, flow, .. } = passing.stage else { continue };
        let asked = Asked { server, flow, message: &reparse(&passing.request) };
        ctx.respond(asked, &NewResponse::new(StatusCode::REQUEST_TERMINATED, b""));
    }
}
