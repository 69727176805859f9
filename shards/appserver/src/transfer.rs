//! Transfers: a REFER that the server carries out itself (RFC 3515).
//!
//! A dialog of ours is replaced by its owner, another shard or another server perhaps: it gets an INVITE with Replaces from us as
//! it would from a phone, on an inward flow and sealed, and its other end hears of a re-INVITE. So the target need not know of Replaces, and
//! two calls that different shards have become one.
//!
//! Who is referred stays on the line while the new target rings, called by an INVITE without an offer. When that answers, its
//! offer goes to the referred end in a re-INVITE and the answer back in the ACK (RFC 3725 §4.1): no description is made up
//! here. Then the referrer gets his BYE, and the call that is left is one of the referred end and the target.

use crate::{
    answer::own_tag,
    bridge::Side,
    call::{Call, Caller, Setup, State, Why, put_back, with_other},
    call_back::{Parties, is_mismatch},
    caller::Party,
    cdr::{Facts, Texts},
    established::{self, Established},
    inside::{described, mangled},
    leg::Whom,
    mint::place_of_tag,
    passing,
    refresh::after_glare,
    reliable::KeptBody,
    shared::{Asked, CallKey, Context, Heard, User},
    unsent::Unsent,
};
use agent::{Agent, Flow};
use dialog::{Body, NewResponse, Progress, ReferTo, Replaces, Sdp};
use sip::{Message, Method, StatusCode, Uri};
use std::{rc::Rc, time::Duration};
use store::{Direction, EndedBy, LegDirection};

/// Who was to be joined with this one is not there any longer, or does not take the session.
const ABANDONED: Why =
    Why { by: EndedBy::OtherLeg, reason: "the other party is not there", cause: Some(StatusCode::REQUEST_TERMINATED) };

/// A transfer that goes on, in the call that is transferred.
pub(crate) struct Transfer {
    /// Who asked for it.
    referrer: Side,
    /// CSeq number of his REFER (RFC 3515 §2.4.6).
    refer: u32,
    is_referrer_gone: bool,
    /// The set-up that calls the target.
    target: CallKey,
    /// Number of the re-INVITE that joins them.
    join: Option<u16>,
    /// What it offers.
    pub offer: Option<KeptBody>,
    /// What the parties have said, if the call is a call back whose second party is the target.
    pub parties: Option<Box<Parties>>,
    /// When it is tried again: another INVITE was under way.
    join_again_at: Option<Duration>,
    /// Until when it may be.
    join_until: Duration,
}

impl Transfer {
    /// One that `referrer` asks for by the REFER of that number.
    fn new(target: CallKey, referrer: Side, refer: u32) -> Self {
        Self {
            referrer,
            refer,
            is_referrer_gone: false,
            target,
            join: None,
            offer: None,
            parties: None,
            join_again_at: None,
            join_until: Duration::ZERO,
        }
    }

    /// That of a call back, whose caller was never there, to its second party.
    pub fn of_call_back(target: CallKey, parties: Parties) -> Self {
        Self { is_referrer_gone: true, parties: Some(Box::new(parties)), ..Self::new(target, Side::Near, 0) }
    }

    pub fn next_timeout(&self) -> Option<Duration> {
        self.join_again_at
    }
}

impl Established {
    /// A REFER that the server is to carry out.
    pub fn handle_refer(&mut self, ctx: &mut Context<'_, '_>, side: Side, asked: Asked<'_>) {
        let Ok(refer_to) = ReferTo::of(asked.message) else {
            return ctx.respond(asked, &NewResponse::new(StatusCode::BAD_REQUEST, b""));
        };
        if self.transfer.is_some() || refer_to.method() != b"INVITE" {
            return ctx.respond(asked, &NewResponse::new(StatusCode::DECLINE, b""));
        }
        let mut target = Vec::new();
        refer_to.write_target(&mut target);
        let replaces = refer_to.replaces();
        let Ok(parsed) = replaces.as_deref().map(Replaces::parse).transpose() else {
            return ctx.respond(asked, &NewResponse::new(StatusCode::BAD_REQUEST, b""));
        };
        // A dialog of ours is replaced where it is, on this shard or elsewhere; any other one at the target, by who has it.
        let place = parsed.filter(|replaces| is_ours(ctx, &target, replaces));
        let place = place.and_then(|replaces| place_of_tag(replaces.to_tag));
        let whom = match place {
            Some(Agent { name, shard }) => Whom::Dialog(name.into(), shard),
            None => Whom::Named(dialplan::Target::Uri(String::from_utf8_lossy(&target).into())),
        };
        let replaces = replaces.as_ref().map(|value| String::from_utf8_lossy(value).into_owned());
        ctx.respond(asked, &NewResponse::new(StatusCode::ACCEPTED, b""));
        let refer = asked.message.request().map_or(0, |request| request.cseq.number);
        let key = ctx.core.calls.reserve();
        self.transfer = Some(Box::new(Transfer::new(key, side, refer)));
        self.notify(ctx, StatusCode::TRYING, StatusCode::TRYING.reason());
        match self.call_target(ctx, key, side, asked.flow, &target, whom, replaces) {
            Some(mut setup) => {
                let at_once = setup.caller.at_once.take();
                put_back(
                    &mut Context { now: ctx.now, key, core: ctx.core, world: ctx.world, out: ctx.out },
                    Call::Setup(setup),
                );
                if let Some((status, reason)) = at_once {
                    self.end_transfer(ctx, status, &reason);
                }
            }
            None => {
                ctx.core.calls.release(key);
                self.end_transfer(ctx, StatusCode::BAD_REQUEST, StatusCode::BAD_REQUEST.reason());
            }
        }
    }

    /// A set-up that calls the target as if the referred end did.
    #[expect(clippy::too_many_arguments, reason = "a REFER's parts")]
    fn call_target(
        &self,
        ctx: &mut Context<'_, '_>,
        key: CallKey,
        referrer: Side,
        flow: Flow,
        target: &[u8],
        whom: Whom,
        replaces: Option<String>,
    ) -> Option<Box<Setup>> {
        let referred = &self.bridge.end(referrer.other()).dialog;
        let (from, contact) = (referred.remote(), referred.remote_target());
        // Whether it can stand in a request at all.
        Uri::parse(target).ok()?;
        let owner: Rc<str> = self.user.clone().unwrap_or_default();
        let may_go_outside = ctx.core.tables.accounts.find(&owner).is_some_and(|account| account.may_relay);
        let facts = if referrer == Side::Near { &self.far_facts } else { &self.near_facts };
        // Whose provider the referred end is reached through is the new call's to know, too.
        let Texts { user, provider, .. } = facts.texts();
        let caller = sip::Address::from_value(from).map_or(&b""[..], |from| from.uri);
        let texts = Texts {
            caller: str::from_utf8(caller).unwrap_or_default(),
            callee: str::from_utf8(target).unwrap_or_default(),
            user: if provider.is_empty() { &owner } else { user },
            provider,
            ..Texts::default()
        };
        let facts = Facts::new(ctx.now, 0, LegDirection::In, texts);
        let caller = Caller::unsent(ctx, &Unsent { from, target, contact, offer: None }, flow, facts);
        let way = self.bridge.end(referrer.other()).way;
        let caller = Caller { way, transfer: Some(ctx.key), ..caller };
        let mut setup = Setup::new(ctx, caller);
        let mut ctx = Context { now: ctx.now, key, core: ctx.core, world: ctx.world, out: ctx.out };
        // The plan of whoever owns the call has decided about it already; the referrer's word is dialled as it is.
        setup.start_default(&mut ctx, Party { owner, direction: Direction::Out, may_go_outside }, whom, replaces);
        setup.work(&mut ctx);
        Some(setup)
    }

    /// Tells the referrer how it goes (RFC 3515 §2.4.5).
    fn notify(&mut self, ctx: &mut Context<'_, '_>, status: StatusCode, reason: &str) {
        let Some(transfer) = self.transfer.as_deref().filter(|transfer| !transfer.is_referrer_gone) else { return };
        let progress = Progress::new(transfer.refer, status, reason, ctx.core.settings.max_setup_secs);
        let end = self.bridge.end_mut(transfer.referrer);
        let (branch, mut draft) = (ctx.core.mint.draw(), ctx.out.draft());
        let (fields, body) = (progress.fields(), Some(progress.body()));
        let written = end.dialog.write_request(ctx.ua(), branch, Method::Notify, &fields, body, &mut draft);
        written.expect("NOTIFY is a token");
        ctx.send_inside(User::Nobody, Method::Notify, end.way, end.provider.as_ref(), branch, draft);
    }

    /// Whether a BYE of `side`'s leaves the call to the transfer that he asked for: many phones hang up as soon as their
    /// REFER is accepted.
    pub fn outlives_referrer(&mut self, ctx: &mut Context<'_, '_>, side: Side) -> bool {
        let Some(transfer) = self.transfer.as_deref_mut().filter(|transfer| transfer.referrer == side) else {
            return false;
        };
        transfer.is_referrer_gone = true;
        passing::refuse(ctx, std::mem::take(&mut self.bridge.passing));
        let end = self.bridge.end_mut(side);
        end.dialog.terminate();
        (end.timer, end.inviting) = (None, None);
        true
    }

    /// Gives up what calls the target: the call has ended.
    pub fn abandon_transfer(&mut self, ctx: &mut Context<'_, '_>) {
        let Some(transfer) = self.transfer.take() else { return };
        with_other(ctx, transfer.target, |call, ctx| {
            if let Call::Setup(setup) = call {
                setup.caller.transfer = None;
                setup.abandon(ctx);
            }
        });
    }

    /// The target did not answer, or the referred end did not take it: the call is as it was before.
    fn end_transfer(&mut self, ctx: &mut Context<'_, '_>, status: StatusCode, reason: &str) {
        if self.is_called_back() {
            return self.end_call_back(ctx, status, reason);
        }
        self.notify(ctx, status, reason);
        if self.transfer.take().is_some_and(|transfer| transfer.is_referrer_gone) {
            self.hang_up(ctx, established::TRANSFER_FAILED);
        }
    }

    /// Takes the response to the re-INVITE that joins. False if it is another request's.
    pub fn handle_join_response(&mut self, ctx: &mut Context<'_, '_>, no: u16, heard: Heard<'_>) -> bool {
        let Heard { message, response, flow } = heard;
        let Some((transfer, status)) = self.joining(no).map(|transfer| (transfer.target, response.status)) else {
            return false;
        };
        if status.is_provisional() {
            return true;
        }
        self.end_join();
        if status == StatusCode::REQUEST_PENDING && self.join_later(ctx) {
            return true;
        }
        if is_mismatch(status) && self.join_narrowed(ctx) {
            return true;
        }
        if !status.is_success() {
            with_setup(ctx, transfer, |setup, ctx| setup.abandon(ctx));
            self.end_transfer(ctx, status, status.reason());
            return true;
        }
        let referrer = self.transfer.as_ref().map_or(Side::Near, |transfer| transfer.referrer);
        let referred = referrer.other();
        let offer = self.transfer.as_mut().and_then(|transfer| transfer.offer.take());
        self.bridge.take_answer(ctx, referred, message, flow, offer.as_ref().map(KeptBody::body));
        self.bridge.acknowledge(ctx, referred, response.cseq.number, None);
        if self.is_called_back() {
            self.join_parties(ctx, transfer, message, flow, offer);
            return true;
        }
        self.notify(ctx, StatusCode::OK, StatusCode::OK.reason());
        let mut body = Vec::new();
        let body = mangled(message, self.bridge.mangle.then_some(flow), &mut body);
        let joined = with_other(ctx, transfer, |call, ctx| {
            let Call::Setup(setup) = call else { return };
            let State::Joining { bridge, cseq } = setup.state else { return };
            setup.caller.facts.note_status(ctx.now, StatusCode::OK.get());
            let mut established = setup.take_over(ctx, bridge, self, referred);
            established.bridge.acknowledge(ctx, Side::Far, cseq, body);
            established.bridge.far.tell(body);
            established.keep(ctx);
            *call = Call::Established(Box::new(established));
        });
        if joined.is_none() {
            self.end_transfer(ctx, StatusCode::SERVER_INTERNAL_ERROR, "The Target Has Gone");
            return true;
        }
        let is_gone = self.transfer.take().is_some_and(|transfer| transfer.is_referrer_gone);
        if !is_gone {
            self.bridge.bye(ctx, referrer, None);
        }
        // The referred end's dialog is the new call's.
        let knows = [Side::Near, Side::Far].map(|side| side == referred || is_gone);
        self.close(ctx, [EndedBy::OtherLeg; 2], knows, "transferred");
        self.state = established::State::Over;
        true
    }

    /// The re-INVITE that joins had no final response. False if it is another request.
    pub fn handle_join_failure(&mut self, ctx: &mut Context<'_, '_>, no: u16) -> bool {
        if self.joining(no).is_none() {
            return false;
        }
        self.end_join();
        self.give_up_join(ctx);
        true
    }

    fn give_up_join(&mut self, ctx: &mut Context<'_, '_>) {
        if let Some(target) = self.transfer.as_ref().map(|transfer| transfer.target) {
            with_setup(ctx, target, |setup, ctx| setup.abandon(ctx));
        }
        self.end_transfer(ctx, StatusCode::REQUEST_TIMEOUT, StatusCode::REQUEST_TIMEOUT.reason());
    }

    /// The re-INVITE that joins has its final response, or will have none.
    fn end_join(&mut self) {
        if let Some(transfer) = &self.transfer {
            self.bridge.end_mut(transfer.referrer.other()).inviting = None;
        }
    }

    fn joining(&self, no: u16) -> Option<&Transfer> {
        self.transfer.as_deref().filter(|transfer| transfer.join == Some(no))
    }

    /// The target has answered: what it describes goes to the referred end.
    fn join(&mut self, ctx: &mut Context<'_, '_>, message: &Message<'_>, mangle_from: Option<Flow>) -> bool {
        let Some(transfer) = &mut self.transfer else { return false };
        transfer.offer = match &transfer.parties {
            Some(_) => described(message, mangle_from).map(|octets| {
                let mut offer = Vec::new();
                Sdp::new(&octets).write_as_offer(false, &mut offer);
                KeptBody::of(Body { content_type: Body::SDP, octets: &offer })
            }),
            None => mangled(message, mangle_from, &mut Vec::new()).map(KeptBody::of),
        };
        // The target repeats its answer no longer (§13.3.1.4).
        transfer.join_until = ctx.now.monotonic + 64 * ctx.core.settings.transactions.t1;
        if self.bridge.is_inviting() { self.join_later(ctx) } else { self.send_join(ctx) }
    }

    /// Puts it off while another INVITE, or an offer, is under way (§14.1). False where that has taken too long.
    fn join_later(&mut self, ctx: &mut Context<'_, '_>) -> bool {
        let Some(transfer) = &mut self.transfer else { return false };
        let owns_call_id = self.bridge.end(transfer.referrer.other()).dialog.owns_call_id();
        let at = ctx.now.monotonic + after_glare(ctx, owns_call_id);
        transfer.join_again_at = (at < transfer.join_until).then_some(at);
        transfer.join_again_at.is_some()
    }

    /// Tries it again, if it is time.
    pub fn join_again(&mut self, ctx: &mut Context<'_, '_>) {
        let again_at = self.transfer.as_mut().map(|transfer| &mut transfer.join_again_at);
        if again_at.and_then(|at| at.take_if(|at| *at <= ctx.now.monotonic)).is_none() {
            return;
        }
        let goes_on = if self.bridge.is_inviting() { self.join_later(ctx) } else { self.send_join(ctx) };
        if !goes_on {
            self.give_up_join(ctx);
        }
    }

    pub fn send_join(&mut self, ctx: &mut Context<'_, '_>) -> bool {
        let no = self.bridge.number();
        let Some(transfer) = &mut self.transfer else { return false };
        transfer.join = Some(no);
        let side = transfer.referrer.other();
        let offer = transfer.offer.take();
        let is_sent = self.bridge.invite(ctx, side, no, offer.as_ref().map(KeptBody::body));
        if let Some(transfer) = &mut self.transfer {
            transfer.offer = offer;
        }
        is_sent
    }
}

impl Setup {
    /// The answered call of this set-up and a side of `old`, which takes the caller's place. What stood in for it goes with `old`.
    pub fn take_over(
        &mut self,
        ctx: &mut Context<'_, '_>,
        bridge: usize,
        old: &mut Established,
        side: Side,
    ) -> Established {
        let end = old.bridge.end_mut(side);
        let near = &mut self.bridges[bridge].bridge.near;
        let (tag, stood_in) = (own_tag(&end.dialog), own_tag(&near.dialog));
        let owner = tag.and_then(|tag| ctx.core.dialogs.get(&tag).copied());
        std::mem::swap(near, end);
        self.state = State::Refused;
        let mut established = self.establish(ctx, bridge);
        established.user = old.user.clone();
        if let Some(user) = &established.user {
            ctx.core.users.entry(Rc::clone(user)).or_default().push(ctx.key);
        }
        ctx.core.dialogs.extend(tag.map(|tag| (tag, ctx.key)));
        ctx.core.dialogs.extend(stood_in.zip(owner));
        established
    }

    /// Tells the referrer what a leg to the target says.
    pub fn tell_referrer(&mut self, ctx: &mut Context<'_, '_>, status: StatusCode, reason: &str) {
        let Some(call) = self.caller.transfer else { return };
        if !status.is_provisional() {
            self.caller.transfer = None;
        }
        let told = with_other(ctx, call, |call, ctx| {
            let Call::Established(established) = call else { return };
            if status.is_provisional() {
                established.notify(ctx, status, reason);
            } else {
                established.end_transfer(ctx, status, reason);
            }
        });
        if told.is_none() && !status.is_provisional() {
            self.caller.at_once = Some((status, reason.into()));
        }
    }

    /// The target has answered: the end that is referred to it gets its offer.
    pub fn join(&mut self, ctx: &mut Context<'_, '_>, bridge: usize, cseq: u32, message: &Message<'_>, flow: Flow) {
        self.state = State::Joining { bridge, cseq };
        let mangle = self.bridges[bridge].bridge.mangle;
        let joins = self.caller.transfer.and_then(|call| {
            with_other(ctx, call, |call, ctx| match call {
                Call::Established(established) => {
                    let mangle_from = (mangle || established.bridge.mangle).then_some(flow);
                    established.join(ctx, message, mangle_from)
                }
                Call::Setup(_) => false,
            })
        });
        if joins != Some(true) {
            self.abandon(ctx);
        }
    }

    /// The call that was to be transferred is no more, or its other end did not take the target.
    pub fn abandon(&mut self, ctx: &mut Context<'_, '_>) {
        let status = StatusCode::REQUEST_TERMINATED;
        self.tell_referrer(ctx, status, status.reason());
        if let State::Joining { bridge, cseq } = self.state {
            let leg = self.bridges[bridge].leg;
            if self.caller.is_late_offer {
                // §13.2.2.4: the offer has no answer that the core would take; ACK, and BYE.
                self.bridges[bridge].bridge.acknowledge(ctx, Side::Far, cseq, None);
            }
            let reason = ABANDONED.header();
            self.bridges[bridge].bridge.bye(ctx, Side::Far, reason.as_deref());
            self.close_leg(ctx, leg, EndedBy::OtherLeg, StatusCode::OK.get(), ABANDONED.reason);
            self.state = State::Proceeding;
        }
        self.refuse(ctx, crate::best::Failure::of(StatusCode::REQUEST_TERMINATED), EndedBy::OtherLeg);
    }
}

/// Whether who is to be called with Replaces is us: by the Contact of the dialog, or at a domain of ours. A tag that
/// looks like one of ours may be another switch's.
fn is_ours(ctx: &Context<'_, '_>, target: &[u8], replaces: &Replaces<'_>) -> bool {
    let Ok(uri) = Uri::parse(target).and_then(Uri::sip) else { return false };
    let by_contact = uri.user.is_some_and(|user| ctx.core.tokens.open(user, replaces.call_id).is_some());
    by_contact || ctx.core.settings.domains.local(&uri.host, uri.port).is_some()
}

pub(crate) fn with_setup(ctx: &mut Context<'_, '_>, key: CallKey, work: impl FnOnce(&mut Setup, &mut Context<'_, '_>)) {
    with_other(ctx, key, |call, ctx| {
        if let Call::Setup(setup) = call {
            setup.caller.transfer = None;
            work(setup, ctx);
        }
    });
}
