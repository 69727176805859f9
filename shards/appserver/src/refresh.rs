//! Session timers of a call (RFC 4028): each side has its own, and so its own refreshes.
//!
//! A peer who allows UPDATE is refreshed by that, for it needs no description of the session. Any other gets a re-INVITE with the
//! description that he has last agreed on (§7.4), unchanged, so that the other side of the call hears nothing of it; that one is kept
//! for such peers alone. What a peer refreshes by a re-INVITE passes to the other side like any offer.

use crate::{
    bridge::{Bridge, End, Side, Then},
    inside::{accepted_fields, refuse_interval, timer_settings},
    shared::{Asked, Context, Heard, User},
};
use dialog::{Body, Due, Field, NewResponse, SessionTimer, min_se_of};
use sip::{HeaderName, Method, StatusCode};
use std::time::Duration;

/// Octets of the longest description that is kept to be sent again.
const MAX_TOLD_OCTETS: usize = 16 * 1024;

/// From a refresh that the peer could not take for a reason of his own to the next one.
const PAUSE: Duration = Duration::from_secs(10);

impl End {
    /// Whether refreshes of this side repeat our description of the session.
    pub fn repeats_session(&self) -> bool {
        !self.allows_update && self.timer.is_some_and(|timer| timer.is_refresher())
    }

    /// The peer has agreed on a session in which `body` describes our part; None leaves it as it was. True if what is kept of
    /// it is another now.
    pub fn tell(&mut self, body: Option<Body<'_>>) -> bool {
        // While the call is set up nobody knows yet who will refresh.
        let is_needed = self.repeats_session() || self.dialog.state() == dialog::DialogState::Early;
        let told = match body {
            _ if !is_needed => None,
            None => return false,
            Some(body) if can_be_repeated(&body) => Some(body.octets.into()),
            Some(_) => None,
        };
        let has_changed = told != self.told;
        self.told = told;
        has_changed
    }

    /// The call is answered: `first` is our description in the INVITE or its 2xx, unless another one has followed it.
    pub fn settle(&mut self, first: Option<Body<'_>>) {
        if self.told.is_none() || !self.repeats_session() {
            self.tell(first);
        }
    }
}

fn can_be_repeated(body: &Body<'_>) -> bool {
    let kind = body.content_type.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
    kind.eq_ignore_ascii_case(Body::SDP) && body.octets.len() <= MAX_TOLD_OCTETS
}

impl Bridge {
    /// An UPDATE without an offer only refreshes the session of its own dialog (RFC 4028 §7.4).
    pub fn refresh_session(&mut self, ctx: &mut Context<'_, '_>, side: Side, asked: Asked<'_>) {
        let end = self.end_mut(side);
        match timer_settings(ctx).accept(asked.message) {
            Err(too_small) => refuse_interval(ctx, asked, too_small),
            Ok(accepted) => {
                let has_moved = end.follow_target(asked.message, asked.flow);
                let mut value = Vec::new();
                let fields = accepted_fields(accepted, &mut value);
                ctx.respond(asked, &NewResponse { fields: &fields, ..NewResponse::new(StatusCode::OK, b"") });
                end.timer = accepted.map(|accepted| SessionTimer::accepted(ctx.now, accepted));
                self.has_moved |= has_moved;
            }
        }
    }

    /// Does what is due. True if the call is to end: nobody refreshed a session.
    pub fn handle_timeout(&mut self, ctx: &mut Context<'_, '_>) -> bool {
        self.forget_acknowledged(ctx.now);
        for side in [Side::Near, Side::Far] {
            let Some(timer) = &mut self.end_mut(side).timer else { continue };
            match timer.handle_timeout(ctx.now) {
                None => {}
                Some(Due::Refresh) => self.refresh(ctx, side),
                Some(Due::Expired) => return true,
            }
        }
        false
    }

    /// Refreshes the session with `side` (§7.4): by an UPDATE, which needs no offer, or by a re-INVITE with the offer that changes
    /// nothing. Where neither will do, for what he was told is too long to be kept, an UPDATE is tried all the same.
    fn refresh(&mut self, ctx: &mut Context<'_, '_>, side: Side) {
        let by_invite = self.end(side).told.is_some() && !self.end(side).allows_update;
        let is_busy = self.is_inviting();
        let (no, pause) = (self.number(), after_glare(ctx, true));
        let end = self.end_mut(side);
        let Some(timer) = &mut end.timer else { return };
        if by_invite && is_busy {
            return timer.postpone(ctx.now, pause);
        }
        let (branch, mut draft) = (ctx.core.mint.draw(), ctx.out.draft());
        let mut value = Vec::new();
        timer.expires().write(&mut value);
        let fields =
            [Field::own(HeaderName::SessionExpires, &value), Field::own(HeaderName::Supported, b"timer, replaces")];
        let told = end.told.take().filter(|_| by_invite);
        let body = told.as_ref().map(|octets| Body { content_type: Body::SDP, octets });
        let method = if by_invite { Method::Invite } else { Method::Update };
        let written = end.dialog.write_request(ctx.ua(), branch, method, &fields, body, &mut draft);
        written.expect("both are tokens");
        end.told = told;
        if ctx.send_inside(User::Own(ctx.key, no), method, end.way, end.provider.as_ref(), branch, draft).is_none() {
            return timer.postpone(ctx.now, PAUSE);
        }
        end.inviting = by_invite.then_some(no);
    }

    /// Takes the response to a refresh of ours.
    pub fn handle_refreshed(&mut self, ctx: &mut Context<'_, '_>, no: u16, heard: Heard<'_>) -> Then {
        let Heard { message, response, flow } = heard;
        let status = response.status;
        let call_id = response.call_id;
        let side = [Side::Near, Side::Far].into_iter().find(|&side| self.end(side).dialog.call_id() == call_id);
        let Some(side) = side.filter(|_| !status.is_provisional()) else { return Then::Nothing };
        let is_invite = response.cseq.method == Method::Invite;
        if is_invite && status.is_success() {
            // §13.2.2.4: every copy of the 2xx. The answer to what has not changed is no news for the other side.
            self.acknowledge(ctx, side, response.cseq.number, None);
        }
        let pause = after_glare(ctx, self.end(side).dialog.owns_call_id());
        let end = self.end_mut(side);
        let is_first = end.inviting.take_if(|inviting| *inviting == no).is_some() || !is_invite;
        if !is_first {
            return Then::Nothing;
        }
        if status.is_success() {
            end.timer = SessionTimer::agreed(ctx.now, message);
            let has_moved = is_invite && end.follow_target(message, flow);
            let has_changed = end.tell(None);
            self.has_moved |= has_moved || has_changed;
            return Then::Nothing;
        }
        match (status, &mut end.timer) {
            (StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST | StatusCode::REQUEST_TIMEOUT, _) => return Then::Gone,
            (StatusCode::REQUEST_PENDING, Some(timer)) => timer.postpone(ctx.now, pause),
            (StatusCode::SESSION_INTERVAL_TOO_SMALL, Some(timer)) => {
                timer.lengthen(min_se_of(message).unwrap_or_default());
                timer.postpone(ctx.now, pause);
            }
            (_, Some(timer)) if (500..600).contains(&status.get()) => timer.postpone(ctx.now, PAUSE),
            // §10: the session goes on until it expires.
            _ => {}
        }
        Then::Nothing
    }
}

/// How long to wait after a glare (RFC 3261 §14.1): who has made the Call-ID, longer than the other.
pub(crate) fn after_glare(ctx: &mut Context<'_, '_>, owns_call_id: bool) -> Duration {
    let drawn = ctx.core.mint.draw();
    let millis = if owns_call_id { 2_100 + drawn % 1_900 } else { drawn % 2_000 };
    // Units of 10 ms.
    Duration::from_millis(millis / 10 * 10)
}
