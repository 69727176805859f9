//! What a leg's responses mean to the caller: ringing, early media, the answer (RFC 3261 §13.2.2, §13.3.1).
//!
//! Each early dialog of a leg is one of ours with the caller, with a To tag of its own; so he tells several phones that ring
//! from each other as he would without us.

use crate::{
    best::Failure,
    bridge::{Bridge, End, Side},
    call::{Early, LegNo, Setup, State, Why},
    call_back::is_mismatch,
    headers,
    inside::{accepted_fields, described, mangled, reason_of, timer_settings},
    leg::{LegState, body_of},
    mint::parse_tag,
    origin::Origin,
    reliable::{KeptBody, Reliability},
    ring::Todo,
    shared::{Asked, Context, Heard, reparse},
};
use agent::{Flow, Way};
use dialog::{Dialog, Field, NewResponse, Reliable, SessionTimer, allows};
use sip::{HeaderName, Host, Message, Method, StatusCode, Uri};
use std::{net::SocketAddr, rc::Rc, sync::Arc};
use store::EndedBy;
use transaction::ClientId;

impl Setup {
    /// Takes a response to a leg's INVITE.
    pub fn handle_leg_response(&mut self, ctx: &mut Context<'_, '_>, no: LegNo, client: ClientId, heard: Heard<'_>) {
        let Heard { message, response, flow } = heard;
        let Some(leg) = self.legs.get_mut(usize::from(no)) else { return };
        let status = response.status;
        if let Some(facts) = &mut leg.facts {
            facts.note_status(ctx.now, status.get());
        }
        match leg.state {
            LegState::Calling(own) if own == client && status.is_provisional() => {
                self.handle_provisional(ctx, no, message, status, flow);
            }
            LegState::Calling(own) if own == client && status.is_success() => {
                self.handle_success(ctx, no, message, flow);
            }
            LegState::Calling(own) if own == client => self.handle_refusal(ctx, no, message, status),
            LegState::Cancelled(own) if own == client && !status.is_provisional() => {
                self.handle_end_of_cancelled(ctx, no, message, status);
            }
            // A 2xx of another branch behind a proxy that forked, or a copy whose ACK was lost.
            LegState::Answered | LegState::Over if status.is_success() => self.handle_late_success(ctx, no, message),
            _ => {}
        }
        self.work(ctx);
    }

    /// The early dialog that a response belongs to, which it may begin. None where the response makes no dialog.
    fn early_dialog(
        &mut self,
        ctx: &mut Context<'_, '_>,
        no: LegNo,
        message: &Message<'_>,
        flow: Flow,
    ) -> Option<usize> {
        let leg = &self.legs[usize::from(no)];
        let remote_tag = message.value(HeaderName::To).and_then(sip::Address::from_value)?.tag.unwrap_or_default();
        let is_it = |early: &Early| early.leg == no && early.bridge.far.dialog.remote_tag() == remote_tag;
        if let Some(known) = self.bridges.iter().position(is_it) {
            return Some(known);
        }
        // Each one costs the caller a dialog of his own.
        if self.bridges.len() >= usize::from(ctx.core.settings.max_legs) {
            return None;
        }
        let request = leg.request();
        let far = Dialog::uac(&request.uri, message).ok()?;
        let invite = reparse(&self.caller.invite);
        let (tag, near) = match self.caller.dialog.take() {
            Some(dialog) => (self.caller.tag, dialog),
            None => {
                let tag = ctx.core.mint.draw();
                (tag, Dialog::uas(&invite, &ctx.core.tag_text(tag), self.caller.flow.transport).ok()?)
            }
        };
        let far_way = way_of_peer(request.way, flow, message, &far);
        let mut near = End::new(near, self.caller.way, allows(&invite, Method::Update));
        if self.caller.server.is_none() {
            // It only stands in: what the leg sends on before it is joined has nowhere to go.
            near.dialog.terminate();
        }
        near.provider = self.caller.provider.clone();
        let mut far = End::new(far, far_way, allows(message, Method::Update));
        far.provider = request.provider.clone();
        far.origin = self.call_back.as_ref().map(|call_back| Box::new(Origin::new(call_back.session_id)));
        let options = &leg.plan.options;
        let mut bridge = Bridge::new(near, far, options.refer, options.mangle.unwrap_or(false));
        let cseq = invite.request().map_or(1, |request| request.cseq.number);
        let can_reliable = headers::supports(&invite, "100rel");
        let near = can_reliable.then(|| Reliable::new(cseq, ctx.core.mint.draw()));
        bridge.reliability = Some(Box::new(Reliability::new(near, request.cseq)));
        ctx.core.dialogs.insert(tag, ctx.key);
        ctx.core.dialogs.insert(request.tag, ctx.key);
        self.bridges.push(Early { leg: no, bridge });
        Some(self.bridges.len() - 1)
    }

    fn handle_provisional(
        &mut self,
        ctx: &mut Context<'_, '_>,
        no: LegNo,
        message: &Message<'_>,
        status: StatusCode,
        flow: Flow,
    ) {
        // §16.7 step 5: a 100 goes no further.
        if status == StatusCode::TRYING || !matches!(self.state, State::Proceeding) {
            return;
        }
        let Some(at) = self.early_dialog(ctx, no, message, flow) else {
            // It rings without a tag, in the manner of RFC 2543: the caller hears that it rings.
            return self.tell_progress(ctx, status, message);
        };
        let bridge = &mut self.bridges[at].bridge;
        let reliability = bridge.reliability.as_mut().expect("an early dialog has one");
        let rseq = dialog::rseq(message);
        if let Some(rseq) = rseq
            && !reliability.far.receive(rseq)
        {
            return;
        }
        if !reliability.may_send() {
            return reliability.postpone(message);
        }
        self.forward_provisional(ctx, at, message, status, rseq, flow);
    }

    /// Sends on a provisional response in the early dialog of its own.
    fn forward_provisional(
        &mut self,
        ctx: &mut Context<'_, '_>,
        at: usize,
        message: &Message<'_>,
        status: StatusCode,
        rseq: Option<u32>,
        flow: Flow,
    ) {
        let Some(server) = self.caller.server else {
            return self.tell_referrer(ctx, status, &reason_of(message));
        };
        let (invite, has_body) = (reparse(&self.caller.invite), !message.body().is_empty());
        let must_be_reliable = headers::has_token(&invite, HeaderName::Require, "100rel");
        let bridge = &mut self.bridges[at].bridge;
        let reliability = bridge.reliability.as_mut().expect("an early dialog has one");
        let near_rseq =
            reliability.near.as_ref().filter(|_| rseq.is_some() || must_be_reliable).map(Reliable::next_rseq);
        let number = near_rseq.unwrap_or_default().to_string();
        let mut fields = headers::with_room(headers::passing(message, true));
        let allow = headers::allow(message, bridge.refer);
        fields.push(Field::own(HeaderName::Allow, allow.as_bytes()));
        if near_rseq.is_some() {
            fields.push(Field::own(HeaderName::Require, b"100rel"));
            fields.push(Field::own(HeaderName::RSeq, number.as_bytes()));
        }
        let mut body = Vec::new();
        let body = mangled(message, bridge.mangle.then_some(flow), &mut body);
        let reason = reason_of(message);
        let tag = bridge.near.dialog.local_tag().to_vec();
        let response = NewResponse { reason: &reason, fields: &fields, body, ..NewResponse::new(status, &tag) };
        let mut octets = ctx.out.draft();
        response.write(ctx.ua(), &invite, self.caller.flow.peer, &mut octets);
        let octets: &[u8] = octets.into_bump_slice();
        self.caller.facts.note_status(ctx.now, status.get());
        ctx.core.transactions.respond(ctx.now, server, status, octets, ctx.out);
        let bridge = &mut self.bridges[at].bridge;
        let reliability = bridge.reliability.as_mut().expect("an early dialog has one");
        match (near_rseq, &mut reliability.near) {
            (Some(_), Some(near)) => {
                near.sent(ctx.now, ctx.core.settings.transactions.t1, octets, has_body);
                reliability.passes = rseq;
                bridge.near.tell(body);
            }
            _ => {
                if let Some(rseq) = rseq {
                    // The far end has said it reliably and need not say it again; the caller must hear it in the 2xx.
                    reliability.untold = body.map(KeptBody::of);
                    bridge.acknowledge_reliably(ctx, rseq);
                }
            }
        }
    }

    /// Sends what waited for a PRACK, if that has come.
    pub fn forward_waiting(&mut self, ctx: &mut Context<'_, '_>, at: usize) {
        let caller_flow = self.caller.flow;
        let Some(reliability) = self.bridges[at].bridge.reliability.as_mut().filter(|r| r.may_send()) else { return };
        let Some(octets) = reliability.waiting.pop_front() else { return };
        let message = reparse(&octets);
        let Ok(response) = message.response() else { return };
        self.forward_provisional(ctx, at, &message, response.status, dialog::rseq(&message), caller_flow);
    }

    /// Tells the caller that it rings, in no leg's dialog.
    fn tell_progress(&mut self, ctx: &mut Context<'_, '_>, status: StatusCode, message: &Message<'_>) {
        let fields: Vec<_> = headers::passing(message, true).collect();
        self.respond_provisional(ctx, &NewResponse { fields: &fields, ..NewResponse::new(status, b"") });
    }

    /// Sends a provisional response of our own. To a caller who requires them reliable there is none but 100 (RFC 3262 §3).
    pub fn respond_provisional(&mut self, ctx: &mut Context<'_, '_>, response: &NewResponse<'_>) {
        let invite = reparse(&self.caller.invite);
        let Some(server) = self.caller.server else {
            return self.tell_referrer(ctx, response.status, response.reason);
        };
        if !matches!(self.state, State::Proceeding) || headers::has_token(&invite, HeaderName::Require, "100rel") {
            return;
        }
        let tag = ctx.core.tag_text(self.caller.tag);
        self.caller.facts.note_status(ctx.now, response.status.get());
        let response = NewResponse { to_tag: &tag, contact: dialog::Contact::Absent, ..*response };
        ctx.respond(Asked { server, flow: self.caller.flow, message: &invite }, &response);
    }

    /// A leg has answered. The first one is the call's; its 2xx to the caller waits until the journal has the call.
    fn handle_success(&mut self, ctx: &mut Context<'_, '_>, no: LegNo, message: &Message<'_>, flow: Flow) {
        if !matches!(self.state, State::Proceeding) {
            self.legs[usize::from(no)].state = LegState::Over;
            return self.dismiss(ctx, no, message, "the call was answered elsewhere");
        }
        let Some(at) = self.early_dialog(ctx, no, message, flow) else {
            // Nothing can be said inside such a dialog, a BYE least of all.
            let failure = Failure::told(StatusCode::SERVER_INTERNAL_ERROR, "Answer Without A Dialog");
            return self.leg_failed(ctx, no, failure, EndedBy::Switch);
        };
        self.legs[usize::from(no)].state = LegState::Answered;
        let remote_tag = self.bridges[at].bridge.far.dialog.remote_tag().to_vec();
        let cseq = self.legs[usize::from(no)].request().cseq;
        let bridge = &mut self.bridges[at].bridge;
        // A header that cannot be read leaves the dialog the route and the target that it has.
        let _ = bridge.far.dialog.confirm_by(message);
        bridge.far.allows_update |= allows(message, Method::Update);
        bridge.far.timer = SessionTimer::agreed(ctx.now, message);
        let invite = Rc::clone(&self.caller.invite);
        let (leg, mut offer) = (&self.legs[usize::from(no)], Vec::new());
        bridge.far.settle(leg.request().offer(&reparse(&invite), self.caller.flow, &leg.plan, &mut offer));
        let has_late_offer = self.caller.is_late_offer && body_of(message).is_some();
        match self.caller.server {
            Some(server) if has_late_offer => bridge.expect_ack(server, cseq),
            None if has_late_offer => {}
            _ => {
                bridge.acknowledge(ctx, Side::Far, cseq, None);
            }
        }
        let response = self.caller.server.map(|_| self.write_answer(ctx, at, message, flow));
        self.todo.clear();
        self.end_runs(ctx, dialplan::DialResult::Answered);
        self.cancel_legs(ctx, |leg| leg.no != no);
        // The early dialogs of the others have gone from before it.
        let is_it = |early: &Early| early.leg == no && early.bridge.far.dialog.remote_tag() == remote_tag;
        let at = self.bridges.iter().position(is_it).expect("only those of other legs have gone");
        match response {
            Some(response) => self.keep(ctx, at, response),
            None if self.call_back.is_some() => {
                let mangle = self.bridges[at].bridge.mangle;
                self.state = State::Held { bridge: at, answer: described(message, mangle.then_some(flow)), flow };
            }
            None => self.join(ctx, at, cseq, message, flow),
        }
    }

    /// The 2xx for the caller.
    fn write_answer(&mut self, ctx: &mut Context<'_, '_>, at: usize, message: &Message<'_>, flow: Flow) -> Box<[u8]> {
        let invite = reparse(&self.caller.invite);
        let bridge = &mut self.bridges[at].bridge;
        let accepted = timer_settings(ctx).accept(&invite).ok().flatten();
        let mut expires = Vec::new();
        let mut fields = headers::with_room(headers::passing(message, true));
        fields.extend(accepted_fields(accepted, &mut expires));
        let allow = headers::allow(message, bridge.refer);
        fields.push(Field::own(HeaderName::Allow, allow.as_bytes()));
        fields.push(Field::own(HeaderName::Supported, b"timer, replaces"));
        let settings = Arc::clone(&ctx.core.settings);
        if !settings.server.is_empty() {
            fields.extend(Field::new(b"Server", settings.server.as_bytes()));
        }
        let mut body = Vec::new();
        let untold = bridge.reliability.as_mut().and_then(|reliability| reliability.untold.take());
        let untold = untold.as_ref().map(KeptBody::body);
        // §13.2.1: a caller without 100rel has his answer in the 2xx, for what went before may have been lost.
        let body = mangled(message, bridge.mangle.then_some(flow), &mut body).or(untold);
        let reason = reason_of(message);
        let tag = bridge.near.dialog.local_tag().to_vec();
        let response = NewResponse { reason: &reason, fields: &fields, body, ..NewResponse::new(StatusCode::OK, &tag) };
        let mut octets = ctx.out.draft();
        response.write(ctx.ua(), &invite, self.caller.flow.peer, &mut octets);
        bridge.near.dialog.confirm();
        bridge.near.timer = accepted.map(|accepted| SessionTimer::accepted(ctx.now, accepted));
        bridge.near.settle(body);
        octets.as_slice().into()
    }

    /// A leg that was given up has its final response.
    fn handle_end_of_cancelled(
        &mut self,
        ctx: &mut Context<'_, '_>,
        no: LegNo,
        message: &Message<'_>,
        status: StatusCode,
    ) {
        self.legs[usize::from(no)].state = LegState::Over;
        if status.is_success() {
            // §9.1: the 2xx has crossed the CANCEL.
            return self.dismiss(ctx, no, message, "cancelled");
        }
        self.close_leg(ctx, no, EndedBy::OtherLeg, status.get(), &reason_of(message));
    }

    fn handle_late_success(&mut self, ctx: &mut Context<'_, '_>, no: LegNo, message: &Message<'_>) {
        let answered = self.bridges.iter().position(|early| early.leg == no);
        let tag = message.value(HeaderName::To).and_then(sip::Address::from_value).and_then(|to| to.tag);
        if let (State::Answering { bridge, .. } | State::Joining { bridge, .. }, Some(at)) = (&self.state, answered)
            && *bridge == at
            && tag == Some(self.bridges[at].bridge.far.dialog.remote_tag())
        {
            // A copy. Its ACK goes again, unless it has to wait for the caller's, or for that of who is referred here.
            let cseq = self.legs[usize::from(no)].request().cseq;
            let waits = matches!(self.state, State::Joining { .. }) && self.caller.is_late_offer;
            if self.bridges[at].bridge.passing.is_empty() && !waits {
                self.bridges[at].bridge.acknowledge(ctx, Side::Far, cseq, None);
            }
            return;
        }
        self.dismiss_response(ctx, no, message);
    }

    /// Has the journal keep the call that is being answered.
    fn keep(&mut self, ctx: &mut Context<'_, '_>, bridge: usize, response: Box<[u8]>) {
        self.caller.facts.note_status(ctx.now, StatusCode::OK.get());
        let record = self.record(ctx, bridge);
        let number = self.number;
        let ticket = ctx.out.persist(|octets| {
            // A call whose state is longer than a record is not kept, and goes on.
            let _ = store::put_call(octets, number, 1, &record);
        });
        ctx.wait_for(ticket);
        self.state = State::Answering { ticket, bridge, response };
    }
}

/// The way of requests inside a dialog to a peer whose message with a Contact came on `flow`, after a request that went
/// `sent`. Record-Route leads where it is; else a peer behind a NAT is reached as he came.
pub(crate) fn way_of_peer(sent: Way, flow: Flow, message: &Message<'_>, dialog: &Dialog) -> Way {
    if matches!(sent, Way::Flow(_)) && message.value(HeaderName::RecordRoute).is_none() {
        return sent;
    }
    way_back(flow, dialog)
}

/// The way back to a peer who came on `flow`, by his dialog.
pub(crate) fn way_back(flow: Flow, dialog: &Dialog) -> Way {
    if dialog.route_set().is_empty() { way_to(flow, dialog.remote_target()) } else { Way::Uri }
}

/// The way to `target`, whose owner came on `flow`.
pub(crate) fn way_to(flow: Flow, target: &[u8]) -> Way {
    let Ok(Uri::Sip(target)) = Uri::parse(target) else { return Way::Uri };
    let is_reached = match target.host {
        // A name that nobody has (RFC 7118 §5) leads nowhere.
        Host::Name(name) => !name.to_ascii_lowercase().ends_with(b".invalid"),
        Host::V4(_) | Host::V6(_) => {
            let ip = target.host.ip().expect("it is an address");
            let port = target.port.unwrap_or(flow.transport.default_port());
            !flow.transport.is_reliable() && ip == flow.peer.ip() && SocketAddr::new(ip, port) != flow.peer
        }
    };
    if is_reached { Way::Uri } else { Way::Flow(flow) }
}

/// The tag of ours that a dialog has.
pub(crate) fn own_tag(dialog: &Dialog) -> Option<u64> {
    parse_tag(dialog.local_tag())
}

/// Why nobody is there any longer.
pub(crate) const LOST: Why = Why::lost("the session timed out");

/// What a leg's refusal leads to is the ring's to do.
impl Setup {
    fn handle_refusal(&mut self, ctx: &mut Context<'_, '_>, no: LegNo, message: &Message<'_>, status: StatusCode) {
        let is_challenge = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED);
        self.drop_early_dialogs(ctx, no);
        if is_challenge && self.invite_again(ctx, no, message) {
            return;
        }
        if is_mismatch(status) && self.invite_narrowed(ctx, no, message) {
            return;
        }
        if (300..400).contains(&status.get()) && self.redirect(ctx, no, message) {
            return;
        }
        self.leg_failed(ctx, no, Failure::read(message), EndedBy::Peer);
    }

    /// Sends a leg's INVITE with the credentials that a challenge asks for.
    fn invite_again(&mut self, ctx: &mut Context<'_, '_>, no: LegNo, message: &Message<'_>) -> bool {
        let leg = &mut self.legs[usize::from(no)];
        let Some(request) = &mut leg.request else { return false };
        let Some(credentials) = request.answer_challenge(ctx, message) else { return false };
        match request.invite(ctx, no, &self.caller, &leg.plan, Some(credentials)) {
            Ok(client) => leg.state = LegState::Calling(client),
            Err(failure) => self.todo.push_back(Todo::Failed(no, failure, EndedBy::Switch)),
        }
        true
    }

    /// The early dialogs of a leg end with its final response (§12.3).
    pub fn drop_early_dialogs(&mut self, ctx: &mut Context<'_, '_>, no: LegNo) {
        let dialogs = &mut ctx.core.dialogs;
        let mut gone = Vec::new();
        self.bridges.retain_mut(|early| {
            if early.leg != no {
                return true;
            }
            if let Some(request) = self.legs.get_mut(usize::from(no)).and_then(|leg| leg.request.as_mut()) {
                request.counted = request.counted.max(early.bridge.far.dialog.local_cseq());
            }
            for dialog in [&early.bridge.near.dialog, &early.bridge.far.dialog] {
                dialogs.remove(&own_tag(dialog).unwrap_or_default());
            }
            gone.push(std::mem::take(&mut early.bridge.passing));
            false
        });
        for passing in gone {
            crate::passing::refuse(ctx, passing);
        }
    }
}
