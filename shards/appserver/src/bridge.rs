//! Two dialogs of one call (RFC 3261 §12.2), and what a request inside one of them means: that it ends, that it is refreshed, or
//! that the request passes to the other one (`passing`).

use crate::{
    answer::way_back,
    mint::parse_tag,
    origin::Origin,
    passing::{Kind, Passing, Stage},
    reliable::Reliability,
    shared::{Asked, Context, User},
};
use agent::{Flow, Way};
use dialog::{Body, Dialog, Field, NewResponse, SessionTimer};
use dialplan::Refer;
use sip::{HeaderName, Message, Method, Request, StatusCode};
use std::{sync::Arc, time::Duration};
use store::Provider;

/// One side of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Who called.
    Near,
    /// Who was called.
    Far,
}

impl Side {
    pub fn other(self) -> Self {
        match self {
            Self::Near => Self::Far,
            Self::Far => Self::Near,
        }
    }
}

/// A dialog of ours, and what else we know of its peer.
pub(crate) struct End {
    pub dialog: Dialog,
    /// The way of our requests to him.
    pub way: Way,
    pub timer: Option<SessionTimer>,
    /// Whether he said that he takes UPDATE.
    pub allows_update: bool,
    /// Our description of the session as he last agreed on it, where refreshes need it.
    pub told: Option<Box<[u8]>>,
    /// Number of a re-INVITE of our own, until its final response.
    pub inviting: Option<u16>,
    /// Through whom he is reached, if through a provider.
    pub provider: Option<Arc<Provider>>,
    /// Where the first description in this dialog was ours, the name in which he is told what follows.
    pub origin: Option<Box<Origin>>,
}

impl End {
    pub fn new(dialog: Dialog, way: Way, allows_update: bool) -> Self {
        let (timer, told, inviting, provider, origin) = (None, None, None, None, None);
        Self { dialog, way, timer, allows_update, told, inviting, provider, origin }
    }

    /// The peer's message, which came on `flow`, may say that he is elsewhere now: true if he is. A Contact that cannot be read
    /// leaves him where he was.
    pub fn follow_target(&mut self, message: &Message<'_>, flow: Flow) -> bool {
        let has_moved = self.dialog.refresh_target(message) == Ok(true);
        // The flow that led to him leads to where he was.
        if has_moved && matches!(self.way, Way::Flow(_)) {
            self.way = way_back(flow, &self.dialog);
        }
        has_moved
    }
}

pub(crate) struct Bridge {
    pub near: End,
    pub far: End,
    /// What becomes of a REFER.
    pub refer: Refer,
    /// Whether media addresses are put right.
    pub mangle: bool,
    pub passing: Vec<Passing>,
    /// Reliable provisional responses, while the call is set up.
    pub reliability: Option<Box<Reliability>>,
    next_no: u16,
    /// A peer has another target, or has agreed on another session, than the journal knows.
    pub has_moved: bool,
}

/// How a request inside a call concerns the call itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// It does not.
    Nothing,
    /// A BYE: the call ends, and its server waits for the answer.
    Bye,
    /// A REFER that the server is to carry out.
    Transfer,
    /// The other end knows the dialog no longer.
    Gone,
    /// Somebody else has taken the place of this side's peer.
    Replaced(Side),
}

impl Bridge {
    pub fn new(near: End, far: End, refer: Refer, mangle: bool) -> Self {
        Self { near, far, refer, mangle, passing: Vec::new(), reliability: None, next_no: 1, has_moved: false }
    }

    pub fn end(&self, side: Side) -> &End {
        match side {
            Side::Near => &self.near,
            Side::Far => &self.far,
        }
    }

    pub fn end_mut(&mut self, side: Side) -> &mut End {
        match side {
            Side::Near => &mut self.near,
            Side::Far => &mut self.far,
        }
    }

    /// Whose dialog a request belongs to.
    pub fn side_of(&self, request: &Request<'_>) -> Option<Side> {
        let (local, remote) = (request.to.tag.unwrap_or_default(), request.from.tag.unwrap_or_default());
        [Side::Near, Side::Far].into_iter().find(|&side| self.end(side).dialog.matches(request.call_id, local, remote))
    }

    pub fn next_timeout(&self) -> Option<Duration> {
        let timers = [&self.near, &self.far].into_iter().filter_map(|end| Some(end.timer.as_ref()?.next_timeout()));
        let acks = self.passing.iter().filter_map(|passing| match passing.stage {
            Stage::Acknowledged { until, .. } => Some(until),
            _ => None,
        });
        let resend = self.reliability.iter().filter_map(|reliability| reliability.next_timeout());
        timers.chain(acks).chain(resend).min()
    }

    /// A number for a request of this call.
    pub fn number(&mut self) -> u16 {
        self.next_no = self.next_no.wrapping_add(1).max(1);
        self.next_no
    }

    /// Takes a request inside the dialog of `side`.
    pub fn handle_request(
        &mut self,
        ctx: &mut Context<'_, '_>,
        side: Side,
        asked: Asked<'_>,
        request: &Request<'_>,
    ) -> Then {
        if request.method == Method::Bye {
            return Then::Bye;
        }
        if let Err(fault) = self.end_mut(side).dialog.receive(request) {
            ctx.respond(asked, &NewResponse::new(fault.response(), b""));
            return Then::Nothing;
        }
        let has_body = !asked.message.body().is_empty();
        // Whoever sends one takes one.
        self.end_mut(side).allows_update |= request.method == Method::Update;
        let kind = match request.method {
            Method::Invite => Kind::Invite,
            Method::Update if !has_body => {
                self.refresh_session(ctx, side, asked);
                return Then::Nothing;
            }
            Method::Update | Method::Prack if has_body => Kind::Offer,
            Method::Refer if self.refer == Refer::Refuse => {
                ctx.respond(asked, &NewResponse::new(StatusCode::DECLINE, b""));
                return Then::Nothing;
            }
            Method::Refer if self.refer == Refer::Place => return Then::Transfer,
            _ => Kind::Other,
        };
        if let Some((status, retry_after_secs)) = self.conflict(ctx, side, kind) {
            let secs = retry_after_secs.to_string();
            let fields = [Field::own(HeaderName::RetryAfter, secs.as_bytes())];
            let fields = if status == StatusCode::SERVER_INTERNAL_ERROR { &fields[..] } else { &[] };
            ctx.respond(asked, &NewResponse { fields, ..NewResponse::new(status, b"") });
            return Then::Nothing;
        }
        if request.method == Method::Prack && side == Side::Near {
            self.handle_prack(ctx, asked);
            return Then::Nothing;
        }
        self.pass(ctx, side, asked, request.method, kind, &[]);
        Then::Nothing
    }

    /// Puts a new peer into the place of a side's (RFC 3891 §3).
    pub fn replace(&mut self, ctx: &mut Context<'_, '_>, side: Side, mut end: End) -> Then {
        self.bye(ctx, side, None);
        ctx.core.forget_dialog(ctx.key, &self.end(side).dialog);
        if let Some(tag) = parse_tag(end.dialog.local_tag()) {
            ctx.core.dialogs.insert(tag, ctx.key);
        }
        end.dialog.confirm();
        end.settle(None);
        *self.end_mut(side) = end;
        Then::Replaced(side)
    }

    /// Sends an ACK for a 2xx of `side`'s.
    pub fn acknowledge<'t>(
        &self,
        ctx: &mut Context<'_, 't>,
        side: Side,
        cseq: u32,
        body: Option<Body<'_>>,
    ) -> &'t [u8] {
        let end = self.end(side);
        let (branch, mut ack) = (ctx.core.mint.draw(), ctx.out.draft());
        end.dialog.write_ack(ctx.ua(), branch, cseq, &[], body, &mut ack);
        let ack = ack.into_bump_slice();
        ctx.out.post(end.way, ack);
        ack
    }

    /// Sends a re-INVITE of our own to `side`, by that number. False where there is no room for it.
    pub fn invite(&mut self, ctx: &mut Context<'_, '_>, side: Side, no: u16, offer: Option<Body<'_>>) -> bool {
        let end = self.end_mut(side);
        let (branch, mut draft) = (ctx.core.mint.draw(), ctx.out.draft());
        let (mut fields, mut expires) = (vec![Field::own(HeaderName::Supported, b"timer, replaces")], Vec::new());
        if let Some(timer) = &end.timer {
            timer.expires().write(&mut expires);
            fields.push(Field::own(HeaderName::SessionExpires, &expires));
        }
        let mut described = Vec::new();
        let offer = end.describe(offer, &mut described);
        let written = end.dialog.write_request(ctx.ua(), branch, Method::Invite, &fields, offer, &mut draft);
        written.expect("INVITE is a token");
        let (user, provider) = (User::Own(ctx.key, no), end.provider.as_ref());
        let is_sent = ctx.send_inside(user, Method::Invite, end.way, provider, branch, draft).is_some();
        end.inviting = is_sent.then_some(no);
        is_sent
    }

    /// Takes the 2xx to such a re-INVITE, which offered `offer`.
    pub fn take_answer(
        &mut self,
        ctx: &Context<'_, '_>,
        side: Side,
        message: &Message<'_>,
        flow: Flow,
        offer: Option<Body<'_>>,
    ) {
        let end = self.end_mut(side);
        end.follow_target(message, flow);
        end.timer = SessionTimer::agreed(ctx.now, message);
        let mut described = Vec::new();
        let offer = end.describe(offer, &mut described);
        end.tell(offer);
    }

    /// Sends BYE into the dialog of `side`.
    pub fn bye(&mut self, ctx: &mut Context<'_, '_>, side: Side, reason: Option<&str>) {
        let end = self.end_mut(side);
        let (branch, mut draft) = (ctx.core.mint.draw(), ctx.out.draft());
        let fields = reason.map(|reason| Field::own(HeaderName::Reason, reason.as_bytes()));
        let fields = fields.as_slice();
        let written = end.dialog.write_request(ctx.ua(), branch, Method::Bye, fields, None, &mut draft);
        written.expect("BYE is a token");
        end.dialog.terminate();
        // Nobody waits for what comes of it: the dialog is over whatever the peer says (§15.1.1).
        ctx.send_inside(User::Nobody, Method::Bye, end.way, end.provider.as_ref(), branch, draft);
    }
}
