//! Calls back: two parties who are called one after the other and joined, as a controller does it (RFC 3725).
//!
//! Nobody has called. A set-up without a caller calls the first party with an offer that stands for nobody yet. When he answers, the
//! call is up with one end, as if its caller had left for a transfer ([`transfer`](crate::transfer)): a second set-up calls the other
//! party, offering what the first has answered, and ends with the first one's call. The second one's answer goes to the first in a
//! re-INVITE; where the first answers that with media at another place, or without a codec that the second sends, the second has a
//! re-INVITE too ([`align`](crate::align)), until each has been told what the other said last.
//!
//! Both set-ups have the call's number, so that the records of all legs are one call's. From the first answer on the journal has the
//! call: whatever ends it, a restart included, the first party gets a BYE that says why.

use crate::{
    bridge::Side,
    call::{Call, Caller, LegNo, Setup, State, Why, put_back, with_other},
    caller::Party,
    cdr::{Facts, Texts},
    established::{self, Established},
    inside::described,
    leg::LegState,
    passing,
    reliable::KeptBody,
    ring::Todo,
    shared::{CallKey, Context, reparse},
    transfer::{Transfer, with_setup},
    unsent::{Unsent, no_flow},
};
use agent::Flow;
use dialog::{Codec, Direction, Sdp, write_placeholder};
use dialplan::{Dial, Hold};
use sip::{Message, StatusCode};
use std::{rc::Rc, time::Duration};
use store::{Direction as PlanDirection, EndedBy};

/// The codecs that every gateway has (RFC 3551 §6).
const BASIC_CODECS: [&str; 2] = ["PCMU/8000", "PCMA/8000"];

/// What is left to do of a call back whose first party has not answered.
pub(crate) struct CallBack {
    /// How he is called, until that has begun.
    first: Option<Dial>,
    begin_at: Duration,
    /// How the other one is called.
    second: Dial,
    /// Names the session that he is offered.
    pub session_id: u64,
}

/// What the parties of a call back have said, while the second one is called and joined.
pub(crate) struct Parties {
    /// The first one's answer to the placeholder.
    pub first: Box<[u8]>,
    /// Whether the second one's answer has been offered without codecs that the first one lacks.
    pub is_narrowed: bool,
}

impl CallBack {
    pub fn next_timeout(&self) -> Option<Duration> {
        self.first.is_some().then_some(self.begin_at)
    }
}

/// Begins a call back of `user`'s; its number, or why there is none.
pub(crate) fn begin(
    ctx: &mut Context<'_, '_>,
    user: &Rc<str>,
    call_back: dialplan::Callback,
) -> Result<u128, &'static str> {
    if user.is_empty() {
        return Err("only a user of this switch can have calls back");
    }
    if ctx.core.calls.len() >= ctx.core.settings.max_calls as usize {
        ctx.core.counters.refused += 1;
        return Err("the switch has as many calls as it takes");
    }
    let key = ctx.core.calls.reserve();
    let mut ctx = Context { now: ctx.now, key, core: ctx.core, world: ctx.world, out: ctx.out };
    if !ctx.core.count_in(user, key) {
        ctx.core.calls.release(key);
        ctx.core.counters.refused += 1;
        return Err("the user has as many calls as he may have");
    }
    let setup = Setup::of_call_back(&mut ctx, user, call_back);
    let number = setup.number;
    ctx.core.counters.calls += 1;
    put_back(&mut ctx, Call::Setup(setup));
    Ok(number)
}

impl Setup {
    fn of_call_back(ctx: &mut Context<'_, '_>, user: &Rc<str>, call_back: dialplan::Callback) -> Box<Self> {
        let dialplan::Callback { first, second, delay_secs, hold } = call_back;
        let direction = match hold {
            Hold::Inactive => Direction::Inactive,
            Hold::ReceiveOnly => Direction::RecvOnly,
        };
        let mut offer = Vec::new();
        // Some read the number as a signed one.
        let session_id = ctx.core.mint.draw() >> 2;
        write_placeholder(direction, session_id, &mut offer);
        let (uri, from) = (format!("sip:{user}"), format!("<sip:{user}>"));
        let unsent =
            Unsent { from: from.as_bytes(), target: uri.as_bytes(), contact: uri.as_bytes(), offer: Some(&offer) };
        let texts = Texts { caller: &uri, user, ..Texts::default() };
        let caller = Caller::unsent(ctx, &unsent, no_flow(), Facts::nobody(texts));
        let caller = Caller { user: Some(Rc::clone(user)), ..caller };
        let mut setup = Self::new(ctx, caller);
        let begin_at = ctx.now.monotonic + Duration::from_secs(delay_secs.into());
        setup.until += Duration::from_secs(delay_secs.into());
        setup.call_back = Some(Box::new(CallBack { first: Some(first), begin_at, second, session_id }));
        setup.push_default_run(party(ctx, user));
        setup.begin_call_back(ctx);
        setup
    }

    /// Calls the first party, if it is time.
    pub fn begin_call_back(&mut self, ctx: &mut Context<'_, '_>) {
        let due = self.call_back.as_mut().filter(|call_back| call_back.begin_at <= ctx.now.monotonic);
        if let Some(first) = due.and_then(|call_back| call_back.first.take()) {
            self.dial(ctx, 0, first);
            self.work(ctx);
        }
    }

    /// Says what came of a call back that has come to nothing before its first party answered.
    pub fn tell_not_called_back(&self, ctx: &mut Context<'_, '_>, status: StatusCode, reason: &str) {
        if self.call_back.is_some() {
            let user = self.caller.user.as_deref().unwrap_or_default();
            tell(ctx, user, self.number, format!("the first party was not reached: {} {reason}", status.get()));
        }
    }
}

/// Whom the legs of a call back are dialled for.
fn party(ctx: &Context<'_, '_>, user: &Rc<str>) -> Party {
    let may_go_outside = ctx.core.tables.accounts.find(user).is_some_and(|account| account.may_relay);
    Party { owner: Rc::clone(user), direction: PlanDirection::Out, may_go_outside }
}

/// A line for the author of the plan that has asked for a call back.
fn tell(ctx: &mut Context<'_, '_>, user: &str, number: u128, line: String) {
    ctx.core.report(crate::Report {
        user: user.into(),
        plan: "".into(),
        call: number,
        trace: vec![line.into()],
        fault: None,
    });
}

/// Goes on with a call back whose first party has answered just now: he is on hold while the other one is called.
pub(crate) fn hold(call: &mut Call, ctx: &mut Context<'_, '_>) {
    let Call::Setup(setup) = call else { return };
    let State::Held { bridge, flow, ref mut answer } = setup.state else { return };
    let answer = answer.take();
    let call_back = setup.call_back.take().expect("only the first party of a call back is held");
    let legs = setup.legs.len() as u16;
    let mut established = setup.establish(ctx, bridge);
    established.keep(ctx);
    ctx.core.counters.answered += 1;
    match answer {
        Some(answer) => established.call_second(ctx, call_back.second, answer, flow, legs),
        None => {
            let reason = "the first party has described no media";
            established.end_call_back(ctx, StatusCode::NOT_ACCEPTABLE_HERE, reason);
        }
    }
    *call = Call::Established(Box::new(established));
}

impl Established {
    /// Calls the second party of a call back, offering what the first one has answered.
    fn call_second(
        &mut self,
        ctx: &mut Context<'_, '_>,
        second: Dial,
        answer: Box<[u8]>,
        flow: Flow,
        legs_before: u16,
    ) {
        let key = ctx.core.calls.reserve();
        let user = self.user.clone().unwrap_or_default();
        let mut offer = Vec::new();
        Sdp::new(&answer).write_as_offer(true, &mut offer);
        let dialog = &self.bridge.far.dialog;
        let callee = self.far_facts.texts().callee;
        let target = format!("sip:{user}");
        let unsent = Unsent {
            from: dialog.remote(),
            target: target.as_bytes(),
            contact: dialog.remote_target(),
            offer: Some(&offer),
        };
        let facts = Facts::nobody(Texts { caller: callee, user: &user, ..Texts::default() });
        let caller = Caller { transfer: Some(ctx.key), ..Caller::unsent(ctx, &unsent, flow, facts) };
        let parties = Parties { first: answer, is_narrowed: false };
        self.transfer = Some(Box::new(Transfer::of_call_back(key, parties)));
        let mut ctx_of_second = Context { now: ctx.now, key, core: ctx.core, world: ctx.world, out: ctx.out };
        let mut setup = Setup::new(&mut ctx_of_second, caller);
        (setup.number, setup.legs_before) = (self.number, legs_before);
        setup.push_default_run(party(&ctx_of_second, &user));
        setup.dial(&mut ctx_of_second, 0, second);
        setup.work(&mut ctx_of_second);
        let at_once = setup.caller.at_once.take();
        put_back(&mut ctx_of_second, Call::Setup(setup));
        if let Some((status, reason)) = at_once {
            self.end_call_back(ctx, status, &reason);
        }
    }

    /// Whether this is a call back that is not joined yet.
    pub fn is_called_back(&self) -> bool {
        self.near_facts.is_nobody()
    }

    /// The first party is up and nobody will be joined with him: he hears why.
    pub fn end_call_back(&mut self, ctx: &mut Context<'_, '_>, status: StatusCode, reason: &str) {
        self.transfer = None;
        self.tell(ctx, format!("the second party was not joined: {} {reason}", status.get()));
        let why = Why { by: EndedBy::OtherLeg, reason: "the other party was not reached", cause: Some(status) };
        self.hang_up(ctx, why);
    }

    /// Offers a first party who has refused it what the second one answered once more, without the codecs that he lacks. False where
    /// that would be the same again.
    pub fn join_narrowed(&mut self, ctx: &mut Context<'_, '_>) -> bool {
        let Some(transfer) = &mut self.transfer else { return false };
        let parties = transfer.parties.as_mut().filter(|parties| !parties.is_narrowed);
        let (Some(parties), Some(offer)) = (parties, &mut transfer.offer) else { return false };
        parties.is_narrowed = true;
        let (known, mut narrowed) = (Sdp::new(&parties.first).codecs(), Vec::new());
        if !Sdp::new(&offer.octets).write_narrowed(|codec| known.contains(codec), &mut narrowed) {
            return false;
        }
        offer.octets = narrowed.into();
        self.send_join(ctx)
    }

    /// The first party has taken what the second one answered, `offer`, and answered it by `message`: both are in one call.
    pub fn join_parties(
        &mut self,
        ctx: &mut Context<'_, '_>,
        second: CallKey,
        message: &Message<'_>,
        flow: Flow,
        offer: Option<KeptBody>,
    ) {
        let joined = with_other(ctx, second, |call, ctx| {
            let Call::Setup(setup) = call else { return None };
            let State::Joining { bridge, .. } = setup.state else { return None };
            let mangle = setup.bridges[bridge].bridge.mangle || self.bridge.mangle;
            let said = [described(message, mangle.then_some(flow))?, offer?.octets];
            let told = setup.offered(setup.bridges[bridge].leg)?;
            setup.caller.facts = self.far_facts.clone();
            let mut established = setup.take_over(ctx, bridge, self, Side::Far);
            established.bridge.mangle = mangle;
            // Both say how long it may be.
            established.until = [established.until, self.until].into_iter().flatten().min();
            established.version = self.version;
            established.keep(ctx);
            established.align(ctx, said, &told);
            *call = Call::Established(Box::new(established));
            Some(())
        });
        if joined.flatten().is_none() {
            with_setup(ctx, second, |setup, ctx| setup.abandon(ctx));
            return self.end_call_back(ctx, StatusCode::NOT_ACCEPTABLE_HERE, "the first party has described no media");
        }
        self.transfer = None;
        passing::refuse(ctx, std::mem::take(&mut self.bridge.passing));
        self.state = established::State::Over;
    }

    /// A line for the author of the plan that has asked for the call back.
    pub fn tell(&self, ctx: &mut Context<'_, '_>, line: String) {
        tell(ctx, self.user.as_deref().unwrap_or_default(), self.number, line);
    }
}

/// Whether a refusal is about the session that was offered (RFC 3261 §21.4.13, §21.4.26, §21.6.4).
pub(crate) fn is_mismatch(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::UNSUPPORTED_MEDIA_TYPE | StatusCode::NOT_ACCEPTABLE_HERE | StatusCode::NOT_ACCEPTABLE_ANYWHERE
    )
}

impl Setup {
    /// What a leg has been offered.
    fn offered(&self, leg: LegNo) -> Option<Box<[u8]>> {
        let (invite, leg, mut mended) = (reparse(&self.caller.invite), &self.legs[usize::from(leg)], Vec::new());
        let offer = leg.request().offer(&invite, self.caller.flow, &leg.plan, &mut mended);
        offer.map(|body| body.octets.into())
    }

    /// Sends the INVITE of a second party once more, without the codecs that he seems to lack: those that his refusal does not name
    /// (§21.4.26), or all but the two that every gateway has. False where there is nothing left to leave out.
    pub fn invite_narrowed(&mut self, ctx: &mut Context<'_, '_>, no: LegNo, message: &Message<'_>) -> bool {
        let leg = &mut self.legs[usize::from(no)];
        let Some(request) = leg.request.as_mut().filter(|request| request.narrowed.is_none()) else { return false };
        if self.caller.server.is_some() || self.caller.is_late_offer || self.call_back.is_some() {
            return false;
        }
        let invite = Rc::clone(&self.caller.invite);
        let invite = reparse(&invite);
        let Some(offer) = Sdp::of(&invite) else { return false };
        let named = Sdp::of(message).map_or_else(|| BASIC_CODECS.map(Codec::new).to_vec(), |sdp| sdp.codecs());
        let mut narrowed = Vec::new();
        if !offer.write_narrowed(|codec| named.contains(codec), &mut narrowed) {
            return false;
        }
        request.narrowed = Some(narrowed.into());
        match request.invite(ctx, no, &self.caller, &leg.plan, None) {
            Ok(client) => leg.state = LegState::Calling(client),
            Err(failure) => self.todo.push_back(Todo::Failed(no, failure, EndedBy::Switch)),
        }
        true
    }
}
