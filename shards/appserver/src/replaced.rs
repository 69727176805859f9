//! Answered calls whose one end gives its place to another (RFC 3891).

use crate::{
    answer::way_back,
    bridge::{End, Side},
    cdr::{Ended, Facts, Texts},
    established::{Established, State},
    shared::{Asked, Context},
};
use dialog::{Dialog, NewResponse, Replaces, allows};
use sip::{Method, StatusCode};
use store::{EndedBy, LegDirection};

impl Established {
    /// Takes an INVITE that is to take the place of one of the peers (RFC 3891).
    pub fn handle_replacement(&mut self, ctx: &mut Context<'_, '_>, asked: Asked<'_>, replaces: &Replaces<'_>) {
        if !matches!(self.state, State::Up) {
            // §3: it has just ended.
            let response = NewResponse::new(StatusCode::DECLINE, b"");
            return ctx.respond(asked, &response);
        }
        let named = |side: &Side| replaces.names(&self.bridge.end(*side).dialog) == Some(dialog::End::Local);
        let Some(side) = [Side::Near, Side::Far].into_iter().find(named) else {
            let status = StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST;
            return ctx.respond(asked, &NewResponse::new(status, b""));
        };
        let number = ctx.core.mint.draw();
        let tag = ctx.core.tag_text(number);
        let fit = replaces
            .check(&self.bridge.end(side).dialog)
            .and_then(|()| Dialog::uas(asked.message, &tag, asked.flow.transport).map_err(|fault| fault.response()));
        let dialog = match fit {
            Ok(dialog) => dialog,
            Err(status) => {
                return ctx.respond(asked, &NewResponse::new(status, b""));
            }
        };
        let way = way_back(asked.flow, &dialog);
        let end = End::new(dialog, way, allows(asked.message, Method::Update));
        self.bridge.pass_replacement(ctx, side, asked, end);
    }

    /// The peer of a side is another one now: his leg has a record of its own, and so has the call a new one.
    pub fn note_replaced(&mut self, ctx: &mut Context<'_, '_>, side: Side) {
        let end = self.bridge.end(side);
        let facts = if side == Side::Near { &mut self.near_facts } else { &mut self.far_facts };
        let texts = facts.texts();
        let caller = String::from_utf8_lossy(end.dialog.remote()).into_owned();
        // Legs that a call dials have numbers below.
        let leg = facts.leg.max(255) + 1;
        let texts = Texts { caller: &caller, source: "", provider: "", ..texts };
        let mut new = Facts::new(ctx.now, leg, LegDirection::In, texts);
        new.note_status(ctx.now, StatusCode::OK.get());
        let old = std::mem::replace(facts, new);
        let ended = Ended { by: EndedBy::OtherLeg, status: StatusCode::OK.get(), reason: "replaced" };
        ctx.core.counters.cdrs += 1;
        old.close(ctx.now, self.number, end.dialog.call_id(), ended, ctx.out);
        let _ = self.keep(ctx);
    }
}
