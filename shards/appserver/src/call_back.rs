//! Calls back: two parties who are called one after the other and joined, as a controller does it (RFC 3725).
//!
//! Nobody has called. A set-up without a caller calls the first party with an offer that stands for nobody yet. When he answers, the
//! call is up with one end, as if its caller had left for a transfer ([`transfer`](crate::transfer)): a second set-up calls the other
//! party, offering what the first has answered, and ends with the first one's call. The second one's answer goes to the first in a
//! re-INVITE; where the first answers that with other media than before, the second has a re-INVITE too ([`Aligning`]), until each has
//! been told what the other said last.
//!
//! Both set-ups have the call's number, so that the records of all legs are one call's. From the first answer on the journal has the
//! call: whatever ends it, a restart included, the first party gets a BYE that says why.

use crate::{
    bridge::Side,
    call::{Call, Caller, Setup, State, Why, put_back},
    caller::{Party, Unsent},
    cdr::{Facts, Texts},
    established::Established,
    refresh::after_glare,
    shared::Context,
    transfer::Transfer,
};
use agent::{Flow, ListenerId};
use dialog::{Body, Direction, Sdp, write_placeholder};
use dialplan::{Dial, Hold};
use sip::{Message, Response, StatusCode, Transport};
use std::{
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    time::Duration,
};
use store::{Direction as PlanDirection, EndedBy, put_call};

/// Rounds of re-INVITEs after which both are taken to agree: ends that change their media with every offer never do.
const MAX_ROUNDS: u8 = 4;

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

/// Both parties are up, and one has not been told yet what the other said last.
pub(crate) struct Aligning {
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

    /// What the one who is to be told is offered.
    fn offer(&self) -> Vec<u8> {
        let by = usize::from(self.to == Side::Near);
        let mut offer = Vec::new();
        Sdp::new(&self.said[by]).write_as_offer(&mut offer);
        offer
    }
}

impl CallBack {
    pub fn next_timeout(&self) -> Option<Duration> {
        self.first.is_some().then_some(self.begin_at)
    }
}

/// The flow of a set-up that nobody has asked for by a message.
pub(crate) fn no_flow() -> Flow {
    let peer = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
    Flow { listener: ListenerId(0), transport: Transport::Udp, peer, connection: None }
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
        let from = format!("<sip:{user}>");
        let (target, contact) = (format!("sip:{user}"), format!("sip:{user}"));
        let unsent = Unsent {
            from: from.as_bytes(),
            target: target.as_bytes(),
            contact: contact.as_bytes(),
            offer: Some(&offer),
        };
        let texts = Texts { caller: &target, user, ..Texts::default() };
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
        plan: "callback".into(),
        call: number,
        trace: vec![line.into()],
        fault: None,
    });
}

/// Goes on with a call back whose first party has answered just now: he is on hold while the other one is called.
pub(crate) fn hold(call: &mut Call, ctx: &mut Context<'_, '_>) {
    let Call::Setup(setup) = call else { return };
    if !matches!(setup.state, State::Held { .. }) {
        return;
    }
    let State::Held { bridge, answer, flow } = std::mem::replace(&mut setup.state, State::Refused) else { return };
    let call_back = setup.call_back.take().expect("only the first party of a call back is held");
    let legs = setup.legs.len() as u16;
    let mut established = setup.establish(ctx, bridge);
    // Nobody called.
    established.bridge.near.dialog.terminate();
    let (record, number) = (established.record(ctx.now), established.number);
    ctx.out.persist(|octets| {
        let _ = put_call(octets, number, established.version, &record);
    });
    ctx.core.counters.answered += 1;
    if answer.is_empty() {
        established.end_call_back(ctx, StatusCode::NOT_ACCEPTABLE_HERE, "the first party has described no media");
    } else {
        established.call_second(ctx, call_back.second, answer, flow, legs);
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
        Sdp::new(&answer).write_as_offer(&mut offer);
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
        let user = self.user.clone().unwrap_or_default();
        tell(ctx, &user, self.number, format!("the second party was not joined: {} {reason}", status.get()));
        let why = Why { by: EndedBy::OtherLeg, reason: "the other party was not reached", cause: Some(status) };
        self.hang_up(ctx, why);
    }

    /// Both parties are in one call now; `told` is what the far one took for the near one's description.
    pub fn align(&mut self, ctx: &mut Context<'_, '_>, said: [Box<[u8]>; 2], told: &[u8]) {
        let until = ctx.now.monotonic + 64 * ctx.core.settings.transactions.t1;
        let mut aligning = Aligning { said, to: Side::Far, no: None, again_at: None, until, rounds: 0 };
        self.aligning = None;
        if Sdp::new(&aligning.said[0]).has_same_media(&Sdp::new(told)) {
            return self.joined(ctx, aligning.said);
        }
        aligning.rounds = 1;
        self.aligning = Some(Box::new(aligning));
        self.align_now(ctx);
    }

    /// Each party has been told what the other said last.
    fn joined(&mut self, ctx: &mut Context<'_, '_>, _said: [Box<[u8]>; 2]) {
        let user = self.user.clone().unwrap_or_default();
        tell(ctx, &user, self.number, "both parties are joined".into());
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
        let offer = Body { content_type: Body::SDP, octets: &offer };
        if !self.bridge.invite(ctx, to, no, Some(offer)) {
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
    pub fn handle_align_response(
        &mut self,
        ctx: &mut Context<'_, '_>,
        no: u16,
        message: &Message<'_>,
        response: &Response<'_>,
        flow: Flow,
    ) -> bool {
        if !self.aligns(no) {
            return false;
        }
        let status = response.status;
        if status.is_provisional() {
            return true;
        }
        let Some(mut aligning) = self.aligning.take() else { return true };
        let to = aligning.to;
        self.bridge.end_mut(to).inviting = None;
        if status == StatusCode::REQUEST_PENDING {
            self.aligning = Some(aligning);
            self.align_later(ctx);
            return true;
        }
        if !status.is_success() {
            self.misaligned(ctx, status);
            return true;
        }
        self.bridge.acknowledge(ctx, to, response.cseq.number, None);
        let offer = aligning.offer();
        let offer = Body { content_type: Body::SDP, octets: &offer };
        self.bridge.take_answer(ctx, to, message, flow, Some(offer));
        let Some(answer) = Sdp::of(message) else {
            self.misaligned(ctx, StatusCode::NOT_ACCEPTABLE_HERE);
            return true;
        };
        let said = &mut aligning.said[usize::from(to == Side::Far)];
        let is_same = answer.has_same_media(&Sdp::new(said));
        *said = answer.as_bytes().into();
        if is_same || aligning.rounds >= MAX_ROUNDS {
            self.joined(ctx, aligning.said);
            return true;
        }
        aligning.rounds += 1;
        aligning.to = to.other();
        self.aligning = Some(aligning);
        self.align_now(ctx);
        true
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
        let user = self.user.clone().unwrap_or_default();
        tell(
            ctx,
            &user,
            self.number,
            format!("the parties have no session in common: {} {}", status.get(), status.reason()),
        );
        let why = Why { by: EndedBy::Switch, reason: "no session in common", cause: Some(status) };
        self.hang_up(ctx, why);
    }
}
