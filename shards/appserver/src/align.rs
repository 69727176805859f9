//! The end of a call back's joining: both parties are up, and each is told by re-INVITEs what the other said last, until that is no news to
//! either.

use crate::{
    bridge::Side,
    call::Why,
    established::Established,
    impersonate::Answered,
    inside::described,
    refresh::after_glare,
    shared::{Context, Heard},
};
use dialog::{Body, Sdp};
use sip::StatusCode;
use std::time::Duration;
use store::EndedBy;

/// Rounds after which both are taken to agree: ends that change their media with every offer never do.
const MAX_ROUNDS: u8 = 4;

/// One party has not been told yet what the other said last.
pub(crate) struct Aligning {
    /// What each has said first.
    answered: Answered,
    /// What each has said last: near, far.
    said: [Box<[u8]>; 2],
    /// Who is to be told.
    to: Side,
    /// Number of the re-INVITE that tells him.
    no: Option<u16>,
    /// When it is tried again: another one was under way.
    again_at: Option<Duration>,
    /// Until when it may be.
    until: Duration,
    rounds: u8,
}

impl Aligning {
    pub fn next_timeout(&self) -> Option<Duration> {
        self.again_at
    }

    /// What a side has said last.
    fn by(&self, side: Side) -> Sdp<'_> {
        Sdp::new(&self.said[usize::from(side == Side::Far)])
    }

    /// What the one who is to be told is offered.
    fn offer(&self) -> Vec<u8> {
        let mut offer = Vec::new();
        self.by(self.to.other()).write_as_offer(false, &mut offer);
        offer
    }
}

impl Established {
    /// Both parties are in one call now, and have `said` that, near and far; the far one takes `told` for the near one's description.
    pub fn align(&mut self, ctx: &mut Context<'_, '_>, said: [Box<[u8]>; 2], told: &[u8]) {
        let until = ctx.now.monotonic + 64 * ctx.core.settings.transactions.t1;
        let answered = Answered::of(told, &said[1]);
        let aligning = Aligning { answered, said, to: Side::Far, no: None, again_at: None, until, rounds: 1 };
        if aligning.by(Side::Near).serves_like(&Sdp::new(told), &aligning.by(Side::Far)) {
            return self.joined(ctx, &aligning);
        }
        self.aligning = Some(Box::new(aligning));
        self.align_now(ctx);
    }

    /// Both have taken what the other said last.
    fn joined(&mut self, ctx: &mut Context<'_, '_>, aligned: &Aligning) {
        self.tell(ctx, "both parties are joined".to_owned());
        self.impersonate(ctx, aligned.answered, &aligned.said);
    }

    /// Offers one party what the other said last, unless another offer is under way.
    fn align_now(&mut self, ctx: &mut Context<'_, '_>) {
        if self.bridge.is_inviting() {
            return self.align_later(ctx);
        }
        let no = self.bridge.number();
        let Some(aligning) = &mut self.aligning else { return };
        aligning.no = Some(no);
        let (to, offer) = (aligning.to, aligning.offer());
        if !self.bridge.invite(ctx, to, no, Some(Body { content_type: Body::SDP, octets: &offer })) {
            self.misaligned(ctx, StatusCode::SERVICE_UNAVAILABLE);
        }
    }

    fn align_later(&mut self, ctx: &mut Context<'_, '_>) {
        let Some(aligning) = &mut self.aligning else { return };
        aligning.no = None;
        let owns_call_id = self.bridge.end(aligning.to).dialog.owns_call_id();
        let at = ctx.now.monotonic + after_glare(ctx, owns_call_id);
        aligning.again_at = Some(at);
        if at >= aligning.until {
            self.misaligned(ctx, StatusCode::REQUEST_PENDING);
        }
    }

    /// Tries it again, if it is time.
    pub fn align_again(&mut self, ctx: &mut Context<'_, '_>) {
        let again_at = self.aligning.as_mut().map(|aligning| &mut aligning.again_at);
        if again_at.and_then(|at| at.take_if(|at| *at <= ctx.now.monotonic)).is_some() {
            self.align_now(ctx);
        }
    }

    fn aligns(&self, no: u16) -> bool {
        self.aligning.as_ref().is_some_and(|aligning| aligning.no == Some(no))
    }

    /// Takes the response to a re-INVITE that tells one party what the other said. False if it is another request's.
    pub fn handle_align_response(&mut self, ctx: &mut Context<'_, '_>, no: u16, heard: Heard<'_>) -> bool {
        let aligns = self.aligns(no);
        if aligns && !heard.response.status.is_provisional() {
            self.take_aligned(ctx, heard);
        }
        aligns
    }

    /// Takes the final one.
    fn take_aligned(&mut self, ctx: &mut Context<'_, '_>, heard: Heard<'_>) {
        let Heard { message, response, flow } = heard;
        let (Some(aligning), status) = (&mut self.aligning, response.status) else { return };
        let to = aligning.to;
        self.bridge.end_mut(to).inviting = None;
        if status == StatusCode::REQUEST_PENDING {
            return self.align_later(ctx);
        }
        if !status.is_success() {
            return self.misaligned(ctx, status);
        }
        let offer = aligning.offer();
        self.bridge.acknowledge(ctx, to, response.cseq.number, None);
        self.bridge.take_answer(ctx, to, message, flow, Some(Body { content_type: Body::SDP, octets: &offer }));
        let Some(answer) = described(message, self.bridge.mangle.then_some(flow)) else {
            return self.misaligned(ctx, StatusCode::NOT_ACCEPTABLE_HERE);
        };
        let is_no_news = Sdp::new(&answer).serves_like(&aligning.by(to), &aligning.by(to.other()));
        aligning.said[usize::from(to == Side::Far)] = answer;
        if is_no_news || aligning.rounds >= MAX_ROUNDS {
            let aligned = self.aligning.take();
            return aligned.into_iter().for_each(|aligned| self.joined(ctx, &aligned));
        }
        aligning.rounds += 1;
        aligning.to = to.other();
        self.align_now(ctx);
    }

    /// That re-INVITE had no final response. False if it is another request.
    pub fn handle_align_failure(&mut self, ctx: &mut Context<'_, '_>, no: u16) -> bool {
        let aligns = self.aligns(no);
        if aligns {
            self.misaligned(ctx, StatusCode::REQUEST_TIMEOUT);
        }
        aligns
    }

    /// One party does not take what the other said: they would not hear each other.
    fn misaligned(&mut self, ctx: &mut Context<'_, '_>, status: StatusCode) {
        self.aligning = None;
        self.tell(ctx, format!("the parties have no session in common: {} {}", status.get(), status.reason()));
        let why = Why { by: EndedBy::Switch, reason: "no session in common", cause: Some(status) };
        self.hang_up(ctx, why);
    }
}
