//! An answered call: two dialogs, what passes between them, and how they end (RFC 3261 §15).

use crate::{
    align::Aligning,
    bridge::{Bridge, Side, Then},
    call::{LegNo, Why},
    cdr::{Ended, Facts, millis},
    inside::reason_of,
    leg::{Leg, LegState},
    passing,
    shared::{Asked, Context, Heard, reparse},
    transfer::Transfer,
    unwanted::{Unwanted, dismiss_answer},
};
use agent::{Flow, Now, Ticket};
use dialog::{DialogState, NewResponse};
use sip::{Message, Method, Request, Response, StatusCode};
use std::{rc::Rc, time::Duration};
use store::{CallEnd, ENDED_CALLS_SECS, EndedBy, put_call, put_call_end};
use transaction::{ClientId, ServerId};

pub(crate) struct Established {
    pub number: u128,
    /// Of its record in the journal.
    pub version: u64,
    pub bridge: Bridge,
    pub near_facts: Facts,
    pub far_facts: Facts,
    /// Which leg has answered.
    pub far_leg: LegNo,
    pub user: Option<Rc<str>>,
    /// When it has lasted long enough.
    pub until: Option<Duration>,
    /// Legs that were given up and have no final response yet.
    pub losers: Vec<Leg>,
    pub state: State,
    /// A transfer that goes on.
    pub transfer: Option<Box<Transfer>>,
    /// What is left of the joining of a call back.
    pub aligning: Option<Box<Aligning>>,
    /// Whether the parties hear, or have heard, packets in each other's name.
    pub is_impersonated: bool,
    /// BYEs whose answers wait for the journal.
    pub byes: Vec<Bye>,
}

/// A BYE that is not answered yet.
pub(crate) struct Bye {
    /// Of what must be in the journal before.
    ticket: Ticket,
    server: ServerId,
    flow: Flow,
    octets: Box<[u8]>,
}

impl Bye {
    fn new(ticket: Ticket, asked: Asked<'_>) -> Self {
        let Asked { server, flow, message } = asked;
        Self { ticket, server, flow, octets: message.bytes().into() }
    }
}

pub(crate) enum State {
    Up,
    /// It had ended before this process began. Whose BYE the one before left unanswered repeats it.
    Ended {
        /// When nobody repeats it any longer.
        until: Duration,
        /// The sides that may not have heard so, and when they are told.
        untold: Vec<Side>,
        tell_at: Duration,
    },
    Over,
}

/// The time within which a new process sends the BYEs that the one before may not have sent.
const TELLING_MILLIS: u128 = 1_000;

/// What the journal notes of a call's end: which side needs no BYE, whatever it has heard.
pub(crate) const NEAR_KNOWS: u8 = 1;
pub(crate) const FAR_KNOWS: u8 = 2;

impl State {
    /// That of the call with that number, which ended so.
    pub fn ended(now: Now, number: u128, end: CallEnd) -> Self {
        let linger = Duration::from_secs(ENDED_CALLS_SECS);
        let left = (Duration::from_millis(end.at) + linger).saturating_sub(now.unix).min(linger);
        let sides = [(Side::Near, NEAR_KNOWS), (Side::Far, FAR_KNOWS)];
        let untold = sides.into_iter().filter(|(_, note)| end.note & note == 0).map(|(side, _)| side);
        // Not all of a busy second's calls in one turn.
        let tell_at = now.monotonic + left.min(Duration::from_millis((number % TELLING_MILLIS) as u64));
        Self::Ended { until: now.monotonic + left, untold: untold.collect(), tell_at }
    }
}

/// An administrator's wish.
pub(crate) const ADMIN: Why = Why::ours(EndedBy::Admin, "hung up by an administrator");

/// A referrer has left the call, and nobody comes in his place.
pub(crate) const TRANSFER_FAILED: Why = Why::ours(EndedBy::OtherLeg, "the transfer failed");

/// A process has died while the second party of a call back was called.
pub(crate) const INTERRUPTED: Why = Why {
    by: EndedBy::Switch,
    reason: "the call back was interrupted",
    cause: Some(StatusCode::SERVER_INTERNAL_ERROR),
};

/// A process has died between the answer and the caller's hearing of it.
pub(crate) const UNHEARD: Why = Why::ours(EndedBy::Switch, "the caller never heard the answer");

impl Established {
    pub fn next_timeout(&self) -> Option<Duration> {
        let is_up = match &self.state {
            State::Up => true,
            State::Ended { untold, tell_at, .. } if !untold.is_empty() => return Some(*tell_at),
            State::Ended { until, .. } => return Some(*until),
            State::Over => false,
        };
        if !is_up {
            return None;
        }
        let left_alone = self.is_left_alone().then_some(Duration::ZERO);
        let join = self.transfer.as_ref().and_then(|transfer| transfer.next_timeout());
        let align = self.aligning.as_ref().and_then(|aligning| aligning.next_timeout());
        self.bridge.next_timeout().into_iter().chain(self.until).chain(left_alone).chain(join).chain(align).min()
    }

    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over) && self.losers.is_empty() && self.byes.is_empty()
    }

    /// Whether one end is still in the call that the other has left for a transfer, which this process does not go on with.
    fn is_left_alone(&self) -> bool {
        self.transfer.is_none() && [Side::Near, Side::Far].into_iter().any(|side| self.has_left(side))
    }

    /// Whether a side has hung up, and the call goes on without it.
    fn has_left(&self, side: Side) -> bool {
        self.bridge.end(side).dialog.state() == DialogState::Terminated
    }

    /// Takes a request inside one of the dialogs.
    pub fn handle_request(&mut self, ctx: &mut Context<'_, '_>, asked: Asked<'_>, request: &Request<'_>) {
        let side = self.bridge.side_of(request);
        if side.is_some() && matches!(self.state, State::Ended { .. }) && request.method == Method::Bye {
            return ctx.respond(asked, &NewResponse::new(StatusCode::OK, b""));
        }
        let side = side.filter(|_| matches!(self.state, State::Up));
        let Some(side) = side else {
            let status = StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST;
            return ctx.respond(asked, &NewResponse::new(status, b""));
        };
        if request.method == Method::Invite || request.method == Method::Update && !asked.message.body().is_empty() {
            self.stop_impersonating(ctx);
            if self.aligning.is_some() {
                // One of the two is about to be offered what the other said last, which this would change (§14.2).
                return ctx.respond(asked, &NewResponse::new(StatusCode::REQUEST_PENDING, b""));
            }
        }
        let then = self.bridge.handle_request(ctx, side, asked, request);
        self.keep_moved(ctx);
        match then {
            Then::Bye => self.handle_bye(ctx, side, asked),
            Then::Transfer => self.handle_refer(ctx, side, asked),
            Then::Replaced(_) | Then::Gone | Then::Nothing => {}
        }
    }

    /// §15.1.2: the call is over. The other end gets a BYE at once, this one its answer when the journal has the CDRs.
    fn handle_bye(&mut self, ctx: &mut Context<'_, '_>, side: Side, asked: Asked<'_>) {
        if self.has_left(side) {
            // Nobody else's BYE leaves the call up. Each waits in a transaction, which bounds their number.
            return match self.byes.last() {
                Some(&Bye { ticket, .. }) => self.byes.push(Bye::new(ticket, asked)),
                None => ctx.respond(asked, &NewResponse::new(StatusCode::OK, b"")),
            };
        }
        if self.outlives_referrer(ctx, side) {
            let ticket = self.keep(ctx);
            return self.answer_behind(ctx, ticket, asked);
        }
        self.abandon_transfer(ctx);
        let reason =
            asked.message.value(sip::HeaderName::Reason).map(|reason| String::from_utf8_lossy(reason).into_owned());
        let knows = [Side::Near, Side::Far].map(|each| each == side || self.has_left(each));
        if !self.has_left(side.other()) {
            self.bridge.bye(ctx, side.other(), reason.as_deref());
        }
        let [mut near, mut far] = [EndedBy::OtherLeg; 2];
        *(if side == Side::Near { &mut near } else { &mut far }) = EndedBy::Peer;
        let ticket = self.close(ctx, [near, far], knows, "");
        self.answer_behind(ctx, ticket, asked);
        self.state = State::Over;
    }

    /// Answers a BYE when the journal has what it means.
    fn answer_behind(&mut self, ctx: &mut Context<'_, '_>, ticket: Ticket, asked: Asked<'_>) {
        ctx.wait_for(ticket);
        self.byes.push(Bye::new(ticket, asked));
    }

    /// Ends the call from here.
    pub fn hang_up(&mut self, ctx: &mut Context<'_, '_>, why: Why) {
        if !matches!(self.state, State::Up) {
            return;
        }
        self.abandon_transfer(ctx);
        let reason = why.header();
        let knows = [Side::Near, Side::Far].map(|side| self.has_left(side));
        for side in [Side::Near, Side::Far] {
            if !self.has_left(side) {
                self.bridge.bye(ctx, side, reason.as_deref());
            }
        }
        self.close(ctx, [why.by; 2], knows, why.reason);
        self.state = State::Over;
    }

    /// Both records, the end in the journal, and an answer to whatever passes. `knows` are the sides, near and far, that need no
    /// BYE: who hung up, or whose dialog is another call's now.
    pub fn close(&mut self, ctx: &mut Context<'_, '_>, by: [EndedBy; 2], knows: [bool; 2], reason: &str) -> Ticket {
        self.stop_impersonating(ctx);
        passing::refuse(ctx, std::mem::take(&mut self.bridge.passing));
        let reason = if reason.is_empty() { StatusCode::OK.reason() } else { reason };
        let status = StatusCode::OK.get();
        let legs = [(&self.near_facts, &self.bridge.near), (&self.far_facts, &self.bridge.far)];
        for ((facts, end), by) in legs.into_iter().zip(by).filter(|((facts, _), _)| !facts.is_nobody()) {
            ctx.core.counters.cdrs += 1;
            facts.close(ctx.now, self.number, end.dialog.call_id(), Ended { by, status, reason }, ctx.out);
        }
        let (number, version) = (self.number, self.version + 1);
        let notes = [NEAR_KNOWS, FAR_KNOWS].into_iter().zip(knows).filter(|(_, knows)| *knows);
        let end = CallEnd { at: millis(ctx.now), note: notes.map(|(note, _)| note).sum() };
        ctx.out.persist(|octets| put_call_end(octets, number, version, end))
    }

    /// The journal has what was given to it up to that ticket.
    pub fn handle_settled(&mut self, ctx: &mut Context<'_, '_>, up_to: Ticket) {
        for bye in self.byes.extract_if(.., |bye| bye.ticket <= up_to) {
            let asked = Asked { server: bye.server, flow: bye.flow, message: &reparse(&bye.octets) };
            ctx.respond(asked, &NewResponse::new(StatusCode::OK, b""));
        }
    }

    /// Takes a response to a request that passes.
    pub fn handle_passing_response(&mut self, ctx: &mut Context<'_, '_>, no: u16, heard: Heard<'_>) {
        let Heard { message, response, flow } = heard;
        if !matches!(self.state, State::Up) {
            return self.bridge.acknowledge_copy(ctx, message, response.status);
        }
        let then = self.bridge.handle_response(ctx, no, message, response.status, flow);
        self.keep_moved(ctx);
        self.follow(ctx, then);
    }

    /// Takes the ACK for a 2xx.
    pub fn handle_ack(&mut self, ctx: &mut Context<'_, '_>, asked: Asked<'_>) {
        self.bridge.handle_ack(ctx, asked);
        self.keep_moved(ctx);
    }

    /// Has the journal keep where the peers are now. Nobody waits for it: until it is kept, a restart would look for them where
    /// they were.
    fn keep_moved(&mut self, ctx: &mut Context<'_, '_>) {
        if std::mem::take(&mut self.bridge.has_moved) {
            let _ = self.keep(ctx);
        }
    }

    /// Has the journal keep the call as it is now.
    pub fn keep(&mut self, ctx: &mut Context<'_, '_>) -> Ticket {
        self.version += 1;
        let (record, number, version) = (self.record(ctx.now), self.number, self.version);
        ctx.out.persist(|octets| {
            // A call whose state is longer than a record stays as the journal knows it.
            let _ = put_call(octets, number, version, &record);
        })
    }

    /// Takes a response to a request of our own.
    pub fn handle_own_response(&mut self, ctx: &mut Context<'_, '_>, no: u16, heard: Heard<'_>) {
        if !matches!(self.state, State::Up) {
            return self.bridge.acknowledge_copy(ctx, heard.message, heard.response.status);
        }
        if self.handle_join_response(ctx, no, heard) || self.handle_align_response(ctx, no, heard) {
            return;
        }
        let then = self.bridge.handle_refreshed(ctx, no, heard);
        self.keep_moved(ctx);
        self.follow(ctx, then);
    }

    /// A request of our own had no final response.
    pub fn handle_own_failure(&mut self, ctx: &mut Context<'_, '_>, no: u16) {
        if !self.handle_join_failure(ctx, no) && !self.handle_align_failure(ctx, no) {
            self.follow(ctx, Then::Gone);
        }
    }

    /// What becomes of the call after a request inside it.
    pub fn follow(&mut self, ctx: &mut Context<'_, '_>, then: Then) {
        if let Then::Replaced(side) = then {
            return self.note_replaced(ctx, side);
        }
        if then == Then::Gone {
            ctx.core.counters.timed_out += 1;
            self.hang_up(ctx, Why::lost("the other end has gone"));
        }
    }

    /// Takes a response to the INVITE of a leg: of one that was given up, or a further one of the leg that has answered.
    pub fn handle_leg_response(&mut self, ctx: &mut Context<'_, '_>, no: LegNo, client: ClientId, heard: Heard<'_>) {
        let Heard { message, response, .. } = heard;
        let status = response.status;
        let Some(at) = self.losers.iter().position(|leg| leg.no == no && leg.state == LegState::Cancelled(client))
        else {
            if no == self.far_leg && status.is_success() {
                self.handle_copy(ctx, message, response);
            }
            return;
        };
        if status.is_provisional() {
            return;
        }
        let mut leg = self.losers.remove(at);
        if let Some(facts) = &mut leg.facts {
            facts.note_status(ctx.now, status.get());
        }
        let reason = if status.is_success() {
            // §9.1: the 2xx has crossed the CANCEL.
            dismiss_answer(ctx, &Unwanted::of(leg.request()), message);
            "the call was answered elsewhere".into()
        } else {
            reason_of(message)
        };
        self.close_loser(ctx, leg, status.get(), &reason);
    }

    fn close_loser(&mut self, ctx: &mut Context<'_, '_>, leg: Leg, status: u16, reason: &str) {
        let (Some(facts), Some(request)) = (leg.facts, leg.request) else { return };
        ctx.core.counters.cdrs += 1;
        let ended = Ended { by: EndedBy::OtherLeg, status, reason };
        facts.close(ctx.now, self.number, &request.call_id, ended, ctx.out);
    }

    /// A given-up leg never had its final response.
    pub fn handle_leg_timeout(&mut self, ctx: &mut Context<'_, '_>, no: LegNo) {
        if let Some(at) = self.losers.iter().position(|leg| leg.no == no) {
            let leg = self.losers.remove(at);
            self.close_loser(ctx, leg, 0, "cancelled");
        }
    }

    /// A 2xx of the leg that has answered: a copy whose ACK was lost, or that of another phone behind a proxy that forked.
    fn handle_copy(&mut self, ctx: &mut Context<'_, '_>, message: &Message<'_>, response: &Response<'_>) {
        let tag = message.value(sip::HeaderName::To).and_then(sip::Address::from_value).and_then(|to| to.tag);
        if tag.unwrap_or_default() != self.bridge.far.dialog.remote_tag() {
            // Of its INVITE no more is known than the way; most have an offer.
            let far = &self.bridge.far;
            let unwanted = Unwanted { way: far.way, provider: far.provider.clone(), counted: 0, has_offered: true };
            return dismiss_answer(ctx, &unwanted, message);
        }
        // With a late offer the first ACK is the caller's to send, and is kept.
        match self.bridge.passing.iter().find(|passing| passing.no == 0).map(|passing| &passing.stage) {
            None => {
                self.bridge.acknowledge(ctx, Side::Far, response.cseq.number, None);
            }
            Some(passing::Stage::Acknowledged { ack, .. }) => {
                let copy: &[u8] = ctx.out.arena().alloc_slice_copy(ack);
                ctx.out.post(self.bridge.far.way, copy);
            }
            Some(_) => {}
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, ctx: &mut Context<'_, '_>) {
        match &mut self.state {
            State::Up => {}
            State::Ended { untold, tell_at, .. } if !untold.is_empty() && *tell_at <= ctx.now.monotonic => {
                return std::mem::take(untold).into_iter().for_each(|side| self.bridge.bye(ctx, side, None));
            }
            State::Ended { until, .. } if *until <= ctx.now.monotonic => return self.state = State::Over,
            State::Ended { .. } | State::Over => return,
        }
        if self.is_left_alone() {
            let why = if self.is_called_back() { INTERRUPTED } else { TRANSFER_FAILED };
            return self.hang_up(ctx, why);
        }
        self.join_again(ctx);
        self.align_again(ctx);
        if !matches!(self.state, State::Up) {
            return;
        }
        if self.until.is_some_and(|until| until <= ctx.now.monotonic) {
            return self.hang_up(ctx, Why::ours(EndedBy::Timeout, "the call lasted as long as it may"));
        }
        if self.bridge.handle_timeout(ctx) {
            ctx.core.counters.timed_out += 1;
            self.hang_up(ctx, crate::answer::LOST);
        }
    }

    /// Gives up what finds it.
    pub fn forget(&self, ctx: &mut Context<'_, '_>) {
        for dialog in [&self.bridge.near.dialog, &self.bridge.far.dialog] {
            ctx.core.forget_dialog(ctx.key, dialog);
        }
        if let Some(user) = &self.user {
            ctx.core.count_out(user, ctx.key);
        }
    }

    /// No ACK came for a 2xx (§13.3.1.4).
    pub fn handle_unacknowledged(&mut self, ctx: &mut Context<'_, '_>) {
        ctx.core.counters.timed_out += 1;
        self.hang_up(ctx, Why::lost("the answer was never acknowledged"));
    }
}

/// Whether a method never stands outside a call.
pub(crate) fn belongs_to_call(method: Method<'_>) -> bool {
    matches!(
        method,
        Method::Invite | Method::Ack | Method::Bye | Method::Update | Method::Prack | Method::Info | Method::Refer
    )
}
