//! Reliable provisional responses across a call (RFC 3262).
//!
//! Where both ends know of them, a PRACK of the caller's passes to the far end, so that offers and answers in them do too.
//! Where the caller does not, we acknowledge for him; where only he wants them, we answer his PRACK ourselves.

use crate::{
    bridge::{Bridge, Side},
    passing::Kind,
    shared::{Asked, Context, User},
};
use dialog::{Acknowledging, Body, Field, NewResponse, RAck, Reliable, Resend};
use sip::{CSeq, HeaderName, Message, Method, StatusCode};
use std::{collections::VecDeque, time::Duration};
use transaction::ServerId;

/// Far responses that wait until the caller has acknowledged the one before. Further ones are dropped: their sender repeats
/// them.
const MAX_WAITING: usize = 4;

pub(crate) struct Reliability {
    /// What the caller gets reliably; None if he does not know of it.
    pub near: Option<Reliable>,
    pub far: Acknowledging,
    /// CSeq number of our INVITE.
    invite: u32,
    /// RSeq of the far response that the caller is to acknowledge; None if that was sent reliably to him only.
    pub passes: Option<u32>,
    /// The last session description which the far end sent reliably and the caller did not get so.
    pub untold: Option<KeptBody>,
    /// Far responses that have to wait, as they came.
    pub waiting: VecDeque<Box<[u8]>>,
}

/// A body that is kept.
pub(crate) struct KeptBody {
    pub content_type: Box<[u8]>,
    pub octets: Box<[u8]>,
}

impl KeptBody {
    pub fn of(body: Body<'_>) -> Self {
        Self { content_type: body.content_type.into(), octets: body.octets.into() }
    }

    pub fn body(&self) -> Body<'_> {
        Body { content_type: &self.content_type, octets: &self.octets }
    }
}

impl Reliability {
    pub fn new(near: Option<Reliable>, invite: u32) -> Self {
        Self { near, far: Acknowledging::default(), invite, passes: None, untold: None, waiting: VecDeque::new() }
    }

    pub fn next_timeout(&self) -> Option<Duration> {
        self.near.as_ref().and_then(Reliable::next_timeout)
    }

    /// Whether a response to the caller may be sent now.
    pub fn may_send(&self) -> bool {
        self.near.as_ref().is_none_or(Reliable::may_send)
    }

    /// The caller has his answer: nothing provisional goes to him any more.
    pub fn stop(&mut self) {
        self.waiting = VecDeque::new();
        if let Some(near) = &mut self.near {
            near.stop();
        }
    }

    /// Keeps a response until the one before has been acknowledged.
    pub fn postpone(&mut self, response: &Message<'_>) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(response.bytes().into());
        }
    }
}

/// What became of the responses that the caller is to acknowledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeated {
    Fine,
    /// He never did: the INVITE is refused.
    GiveUp,
}

impl Bridge {
    /// Takes the caller's PRACK.
    pub(crate) fn handle_prack(&mut self, ctx: &mut Context<'_, '_>, asked: Asked<'_>) {
        let rack = asked.message.value(HeaderName::RAck).and_then(|value| RAck::parse(value).ok());
        let near = self.reliability.as_mut().and_then(|reliability| reliability.near.as_mut());
        let acknowledged = rack.zip(near).is_some_and(|(rack, near)| near.acknowledge(&rack).is_ok());
        if !acknowledged {
            let status = StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST;
            return ctx.respond(asked, &NewResponse::new(status, b""));
        }
        let rack = self.reliability.as_mut().and_then(|r| Some(rack_value(r.passes.take()?, r.invite)));
        let has_body = !asked.message.body().is_empty();
        if let Some(rack) = rack {
            let kind = if has_body { Kind::Offer } else { Kind::Other };
            let more = [Field::own(HeaderName::RAck, &rack)];
            return self.pass(ctx, Side::Near, asked, Method::Prack, kind, &more);
        }
        // The far end has not sent this response reliably: to it there is nothing to acknowledge, and no place for an offer.
        let status = if has_body { StatusCode::NOT_ACCEPTABLE_HERE } else { StatusCode::OK };
        ctx.respond(asked, &NewResponse::new(status, b""));
    }

    /// Acknowledges a far response for a caller who cannot.
    pub(crate) fn acknowledge_reliably(&mut self, ctx: &mut Context<'_, '_>, rseq: u32) {
        let (branch, mut draft) = (ctx.core.mint.draw(), ctx.out.draft());
        let invite = self.reliability.as_ref().map_or(self.far.dialog.local_cseq(), |reliability| reliability.invite);
        let rack = rack_value(rseq, invite);
        let fields = [Field::own(HeaderName::RAck, &rack)];
        let written = self.far.dialog.write_request(ctx.ua(), branch, Method::Prack, &fields, None, &mut draft);
        written.expect("PRACK is a token");
        ctx.send_inside(User::Nobody, Method::Prack, self.far.way, self.far.provider.as_ref(), branch, draft);
    }

    /// Repeats to the caller what he has not acknowledged.
    pub(crate) fn repeat_reliable(&mut self, ctx: &mut Context<'_, '_>, server: ServerId) -> Repeated {
        let Some(near) = self.reliability.as_mut().and_then(|reliability| reliability.near.as_mut()) else {
            return Repeated::Fine;
        };
        match near.handle_timeout(ctx.now) {
            Resend::Nothing => Repeated::Fine,
            Resend::Response(octets) => {
                let octets: &[u8] = ctx.out.arena().alloc_slice_copy(octets);
                let status = StatusCode::SESSION_PROGRESS;
                ctx.core.transactions.respond(ctx.now, server, status, octets, ctx.out);
                Repeated::Fine
            }
            Resend::GiveUp => Repeated::GiveUp,
        }
    }
}

/// RAck for a response to our INVITE with that number.
fn rack_value(rseq: u32, cseq: u32) -> Vec<u8> {
    let mut value = Vec::new();
    RAck { rseq, cseq: CSeq { number: cseq, method: Method::Invite } }.write(&mut value);
    value
}
