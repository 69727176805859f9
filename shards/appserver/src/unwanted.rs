//! Answers that nobody wants: of a leg that was given up, or of another phone behind a proxy that forked (RFC 3261 §13.2.2.4). Each is
//! acknowledged as often as it comes, and its dialog ended once. So is the answer to a re-INVITE that crosses a BYE, but for the BYE.

use crate::{
    call::{LegNo, Setup},
    leg::LegRequest,
    shared::{Context, Heard, User},
};
use agent::Way;
use dialog::{Body, Dialog, Sdp};
use sip::{Message, Method, StatusCode};
use std::sync::Arc;
use store::{EndedBy, Provider};

/// What is known of an INVITE whose answer nobody wants.
pub(crate) struct Unwanted {
    /// The way that it took.
    pub way: Way,
    /// Through whom it went.
    pub provider: Option<Arc<Provider>>,
    /// The highest CSeq number of what was sent in its early dialogs.
    pub counted: u32,
    /// Whether it had an offer.
    pub has_offered: bool,
}

impl Unwanted {
    pub fn of(request: &LegRequest) -> Self {
        let LegRequest { way, counted, has_offered, .. } = *request;
        Self { way, provider: request.provider.clone(), counted, has_offered }
    }
}

/// ACK and BYE for a 2xx that is not wanted; for a copy of it, ACK alone.
pub(crate) fn dismiss_answer(ctx: &mut Context<'_, '_>, unwanted: &Unwanted, message: &Message<'_>) {
    let Ok(mut dialog) = Dialog::uac(b"sip:unknown.invalid", message) else { return };
    let (way, cseq) = (unwanted.way, dialog.local_cseq());
    dialog.count_from(unwanted.counted);
    // §13.2.2.4: an offer in the 2xx is answered even so. This answer refuses every stream (RFC 3264 §6).
    let mut answer = Vec::new();
    if let Some(offer) = Sdp::of(message).filter(|_| !unwanted.has_offered) {
        offer.write_refusal(&mut answer);
    }
    let body = (!answer.is_empty()).then_some(Body { content_type: Body::SDP, octets: &answer });
    acknowledge(ctx, &dialog, way, cseq, body);
    if !ctx.core.dismiss(dialog.call_id(), dialog.remote_tag()) {
        return;
    }
    let (branch, mut bye) = (ctx.core.mint.draw(), ctx.out.draft());
    let written = dialog.write_request(ctx.ua(), branch, Method::Bye, &[], None, &mut bye);
    written.expect("BYE is a token");
    ctx.send_inside(User::Nobody, Method::Bye, way, unwanted.provider.as_ref(), branch, bye);
}

/// ACK for a 2xx to an INVITE inside a call that has ended meanwhile: it crossed the BYE, and is repeated until it has its ACK.
pub(crate) fn acknowledge_late(ctx: &mut Context<'_, '_>, heard: Heard<'_>) {
    let Heard { message, response, flow } = heard;
    if response.status.is_success()
        && response.cseq.method == Method::Invite
        && let Ok(dialog) = Dialog::uac(b"sip:unknown.invalid", message)
    {
        acknowledge(ctx, &dialog, Way::Flow(flow), response.cseq.number, None);
    }
}

fn acknowledge(ctx: &mut Context<'_, '_>, dialog: &Dialog, way: Way, cseq: u32, body: Option<Body<'_>>) {
    let (branch, mut ack) = (ctx.core.mint.draw(), ctx.out.draft());
    dialog.write_ack(ctx.ua(), branch, cseq, &[], body, &mut ack);
    ctx.out.post(way, ack.into_bump_slice());
}

impl Setup {
    /// ACK and BYE for an answer of a leg that comes too late, and the leg's record.
    pub fn dismiss(&mut self, ctx: &mut Context<'_, '_>, no: LegNo, message: &Message<'_>, reason: &'static str) {
        self.dismiss_response(ctx, no, message);
        self.close_leg(ctx, no, EndedBy::OtherLeg, StatusCode::OK.get(), reason);
    }

    /// ACK and BYE for it alone.
    pub fn dismiss_response(&self, ctx: &mut Context<'_, '_>, no: LegNo, message: &Message<'_>) {
        let own = self.bridges.iter().filter(|early| early.leg == no).map(|early| early.bridge.far.dialog.local_cseq());
        let request = self.legs[usize::from(no)].request();
        let counted = own.fold(request.counted, u32::max);
        dismiss_answer(ctx, &Unwanted { counted, ..Unwanted::of(request) }, message);
    }
}
