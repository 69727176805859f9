//! The set-up of a call as a whole: how it begins, is given up, is refused, and becomes an answered call.

use crate::{
    answer::{own_tag, way_back},
    best::Failure,
    bridge::{Side, Then},
    call::{Call, Caller, Early, LegNo, Setup, State, Why},
    caller,
    cdr::{self, Ended, Facts, Texts, millis},
    established::{self, Established, FAR_KNOWS, NEAR_KNOWS},
    inside,
    leg::{LegState, Whom},
    reliable::Repeated,
    ring::Todo,
    shared::{Asked, Context, Heard, User, reparse},
};
use agent::{Agent, Ticket, Way};
use dialog::{Contact, Dialog, Field, NewResponse};
use dialplan::{DialResult, Plan, Step};
use sip::{HeaderName, Message, Request, StatusCode};
use std::{rc::Rc, time::Duration};
use store::{CallEnd, EndedBy, LegDirection, put_call_end};
use transaction::ClientId;

/// The extensions that an INVITE may require of us (RFC 3261 §8.2.2.3).
const EXTENSIONS: [&str; 3] = ["100rel", "timer", "replaces"];

impl Setup {
    /// Begins a call with its INVITE, which is to take the place of a dialog that another shard or server has if one is
    /// `replaced`. None where it has been answered already.
    pub fn begin(
        ctx: &mut Context<'_, '_>,
        asked: Asked<'_>,
        request: &Request<'_>,
        replaced: Option<Agent<'_>>,
    ) -> Option<Box<Self>> {
        let Asked { server, flow, message } = asked;
        let unknown = message.tokens(HeaderName::Require).filter(|t| !EXTENSIONS.iter().any(|e| e.as_bytes() == *t));
        let unknown: Vec<_> = unknown.map(|tag| Field::own(HeaderName::Unsupported, tag)).collect();
        if !unknown.is_empty() {
            let response = NewResponse { fields: &unknown, ..NewResponse::new(StatusCode::BAD_EXTENSION, b"") };
            ctx.respond(asked, &response);
            return None;
        }
        let tag = ctx.core.mint.draw();
        let dialog = match Dialog::uas(message, &ctx.core.tag_text(tag), flow.transport) {
            Ok(dialog) => dialog,
            Err(fault) => {
                let (status, reason) = (fault.response(), fault.to_string());
                let response = NewResponse { reason: &reason, ..NewResponse::new(status, b"") };
                ctx.respond(asked, &response);
                return None;
            }
        };
        if let Err(too_small) = inside::timer_settings(ctx).accept(message) {
            inside::refuse_interval(ctx, asked, too_small);
            return None;
        }
        let who = caller::identify(ctx, asked, request)?;
        let routed = match replaced {
            None => caller::route(ctx, &who, message, request),
            Some(Agent { name, shard }) => caller::replacer(&who)
                .map(|party| (party, Whom::Dialog(name.into(), shard)))
                .ok_or_else(|| Failure::of(StatusCode::FORBIDDEN)),
        };
        let (party, whom) = match routed {
            Ok(routed) => routed,
            Err(failure) => {
                ctx.core.counters.failed += 1;
                let response = NewResponse { reason: failure.reason(), ..NewResponse::new(failure.status, b"") };
                ctx.respond(asked, &response);
                return None;
            }
        };
        let user = (!party.owner.is_empty()).then(|| party.owner.clone());
        if let Some(user) = &user
            && !ctx.core.count_in(user, ctx.key)
        {
            ctx.core.counters.refused += 1;
            ctx.respond(asked, &NewResponse::new(StatusCode::BUSY_HERE, b""));
            return None;
        }
        ctx.core.counters.calls += 1;
        ctx.trying(asked, User::Caller(ctx.key));
        let provider = caller::provider(&who, &party.owner, message, request);
        let facts = Facts::new(
            ctx.now,
            0,
            LegDirection::In,
            Texts {
                caller: str::from_utf8(request.from.uri).unwrap_or_default(),
                callee: str::from_utf8(request.uri).unwrap_or_default(),
                user: &party.owner,
                provider: provider.as_ref().map_or("", |provider| &provider.name),
                source: &cdr::source_text(&flow),
                ..Texts::default()
            },
        );
        // §13.3.1: a body that is no session description offers nothing either.
        let is_late_offer = dialog::Sdp::of(message).is_none();
        let way = if is_direct(message) { way_back(flow, &dialog) } else { Way::Uri };
        let server = Some(server);
        let dialog = Some(dialog);
        let caller = Caller {
            dialog,
            invite: message.bytes().into(),
            flow,
            way,
            server,
            tag,
            user,
            facts,
            is_late_offer,
            provider,
            transfer: None,
            at_once: None,
        };
        let mut setup = Self::new(ctx, caller);
        if replaced.is_some() {
            let replaces = message.value(HeaderName::Replaces).map(|value| String::from_utf8_lossy(value).into());
            setup.start_default(ctx, party, whom, replaces);
        } else {
            setup.start_run(ctx, None, party, whom);
        }
        setup.work(ctx);
        Some(setup)
    }

    /// How long the call may last once this leg has answered.
    pub fn longest_secs(&self, ctx: &Context<'_, '_>, leg: LegNo) -> Option<u32> {
        let plan = &self.legs[usize::from(leg)].plan;
        let bounds = [plan.options.max_call_secs, plan.max_call_secs, Some(ctx.core.settings.max_call_secs)];
        bounds.into_iter().flatten().filter(|&secs| secs > 0).min()
    }

    /// Gives the caller his final response, and ends whatever was begun for him.
    pub fn refuse(&mut self, ctx: &mut Context<'_, '_>, failure: Failure, by: EndedBy) {
        if !matches!(self.state, State::Proceeding) {
            return;
        }
        let failure = failure.for_caller();
        ctx.core.counters.failed += 1;
        let status = failure.status;
        let fields: Vec<_> =
            failure.fields.iter().filter_map(|(n, v)| Field::new(n.as_bytes(), v.as_bytes()).ok()).collect();
        let contact = if failure.contacts.is_empty() { Contact::Absent } else { Contact::Elsewhere(&failure.contacts) };
        let invite = reparse(&self.caller.invite);
        let tag = ctx.core.tag_text(self.caller.tag);
        let reason = failure.reason();
        let response = NewResponse { reason, contact, fields: &fields, ..NewResponse::new(status, &tag) };
        match self.caller.server {
            Some(server) => ctx.respond(Asked { server, flow: self.caller.flow, message: &invite }, &response),
            None => {
                self.tell_not_called_back(ctx, status, reason);
                self.tell_referrer(ctx, status, reason);
            }
        }
        self.close_caller(ctx, by, status.get(), reason);
    }

    /// The caller's record, and the end of everything but the legs that wait for their final response.
    fn close_caller(&mut self, ctx: &mut Context<'_, '_>, by: EndedBy, status: u16, reason: &str) {
        self.state = State::Refused;
        let invite = reparse(&self.caller.invite);
        let call_id = invite.call_id().unwrap_or_default();
        // A transfer that comes to nothing is no leg: its caller's leg is another call's.
        if self.caller.server.is_some() {
            ctx.core.counters.cdrs += 1;
            self.caller.facts.close(ctx.now, self.number, call_id, Ended { by, status, reason }, ctx.out);
        }
        self.todo.clear();
        self.end_runs(ctx, DialResult::ClientCancelled);
        self.cancel_legs(ctx, |_| true);
        for no in 0..self.legs.len() as LegNo {
            self.drop_early_dialogs(ctx, no);
        }
    }

    /// The caller gives up (§9.2), or hangs up what rings (§15).
    pub fn cancelled(&mut self, ctx: &mut Context<'_, '_>) {
        let status = StatusCode::REQUEST_TERMINATED;
        let octets = Rc::clone(&self.caller.invite);
        let invite = reparse(&octets);
        let tag = ctx.core.tag_text(self.caller.tag);
        match &self.state {
            State::Refused | State::Joining { .. } | State::Held { .. } => return,
            State::Proceeding => {}
            // The 2xx has not gone out: for the caller there is none (§9.2).
            State::Answering { bridge, .. } => {
                let at = *bridge;
                self.bridges[at].bridge.bye(ctx, Side::Far, None);
                let leg = self.bridges[at].leg;
                self.close_leg(ctx, leg, EndedBy::OtherLeg, StatusCode::OK.get(), "cancelled");
                let (number, end) = (self.number, CallEnd { at: millis(ctx.now), note: NEAR_KNOWS });
                ctx.out.persist(|octets| put_call_end(octets, number, 2, end));
            }
        }
        ctx.core.counters.cancelled += 1;
        if let Some(server) = self.caller.server {
            let asked = Asked { server, flow: self.caller.flow, message: &invite };
            ctx.respond(asked, &NewResponse::new(status, &tag));
        }
        self.close_caller(ctx, EndedBy::Peer, status.get(), status.reason());
    }

    /// Ends the set-up from here.
    pub fn hang_up(&mut self, ctx: &mut Context<'_, '_>, why: Why) {
        match self.state {
            State::Proceeding => {
                self.end_runs(ctx, DialResult::AdminCancelled);
                self.refuse(ctx, Failure::told(StatusCode::TEMPORARILY_UNAVAILABLE, "Call Terminated"), why.by);
            }
            State::Answering { .. } => self.cancelled(ctx),
            State::Joining { .. } => self.abandon(ctx),
            State::Held { .. } | State::Refused => {}
        }
    }

    /// Takes a request inside one of the early dialogs.
    pub fn handle_request(&mut self, ctx: &mut Context<'_, '_>, asked: Asked<'_>, request: &Request<'_>) {
        let found = self.bridges.iter().enumerate().find_map(|(at, early)| Some((at, early.bridge.side_of(request)?)));
        let Some((at, side)) = found else {
            let status = StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST;
            return ctx.respond(asked, &NewResponse::new(status, b""));
        };
        match self.bridges[at].bridge.handle_request(ctx, side, asked, request) {
            Then::Nothing | Then::Gone | Then::Replaced(_) => self.forward_waiting(ctx, at),
            Then::Transfer => ctx.respond(asked, &NewResponse::new(StatusCode::DECLINE, b"")),
            Then::Bye => {
                ctx.respond(asked, &NewResponse::new(StatusCode::OK, b""));
                let is_answering = matches!(self.state, State::Answering { bridge, .. } if bridge == at);
                let is_joining = matches!(self.state, State::Joining { bridge, .. } if bridge == at);
                match side {
                    // §15: the caller may end an early dialog so. Ours all stand for one call.
                    Side::Near => self.cancelled(ctx),
                    Side::Far if is_answering => self.hung_up_early(ctx, at),
                    Side::Far if is_joining => self.hung_up_unjoined(ctx, at),
                    Side::Far => {}
                }
            }
        }
        self.work(ctx);
    }

    /// The far end has hung up before the caller had his answer.
    fn hung_up_early(&mut self, ctx: &mut Context<'_, '_>, at: usize) {
        let leg = self.bridges[at].leg;
        self.close_leg(ctx, leg, EndedBy::Peer, StatusCode::OK.get(), StatusCode::OK.reason());
        // For the caller there was no call, so nobody is to be told.
        let (number, end) = (self.number, CallEnd { at: millis(ctx.now), note: NEAR_KNOWS | FAR_KNOWS });
        ctx.out.persist(|octets| put_call_end(octets, number, 2, end));
        self.state = State::Proceeding;
        self.refuse(ctx, Failure::of(StatusCode::TEMPORARILY_UNAVAILABLE), EndedBy::OtherLeg);
    }

    /// The far end has hung up before it was joined with who waits for it.
    fn hung_up_unjoined(&mut self, ctx: &mut Context<'_, '_>, at: usize) {
        let leg = self.bridges[at].leg;
        self.close_leg(ctx, leg, EndedBy::Peer, StatusCode::OK.get(), StatusCode::OK.reason());
        self.state = State::Proceeding;
        self.refuse(ctx, Failure::of(StatusCode::REQUEST_TERMINATED), EndedBy::Peer);
    }

    /// Takes a response to a request that passes inside an early dialog.
    pub fn handle_passing_response(&mut self, ctx: &mut Context<'_, '_>, no: u16, heard: Heard<'_>) {
        let Heard { message, response, flow } = heard;
        // Numbers are a bridge's own; the Call-ID and the tag tell which one's.
        let tag = message.value(HeaderName::To).and_then(sip::Address::from_value).and_then(|to| to.tag);
        let is_it =
            |dialog: &Dialog| dialog.call_id() == response.call_id && tag.is_none_or(|tag| dialog.remote_tag() == tag);
        let ends = |early: &Early| is_it(&early.bridge.near.dialog) || is_it(&early.bridge.far.dialog);
        let Some(at) = self.bridges.iter().position(ends) else { return };
        self.bridges[at].bridge.handle_response(ctx, no, message, response.status, flow);
    }

    /// A request that passes inside an early dialog had no final response.
    pub fn handle_passing_failure(&mut self, ctx: &mut Context<'_, '_>, no: u16, status: StatusCode) {
        for early in &mut self.bridges {
            early.bridge.handle_failure(ctx, no, status);
        }
    }

    /// A leg's INVITE had no final response in time, or could not be sent (§8.1.3.1).
    pub fn handle_leg_timeout(&mut self, ctx: &mut Context<'_, '_>, no: LegNo, client: ClientId, status: StatusCode) {
        let Some(leg) = self.legs.get_mut(usize::from(no)) else { return };
        match leg.state {
            LegState::Calling(own) if own == client => {
                self.todo.push_back(Todo::Failed(no, Failure::of(status), EndedBy::Timeout));
            }
            LegState::Cancelled(own) if own == client => {
                leg.state = LegState::Over;
                self.close_leg(ctx, no, EndedBy::OtherLeg, 0, "cancelled");
            }
            _ => {}
        }
        self.work(ctx);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, ctx: &mut Context<'_, '_>) {
        if matches!(self.state, State::Proceeding) && self.until <= ctx.now.monotonic {
            return self.run_out_of_time(ctx);
        }
        self.begin_call_back(ctx);
        for at in 0..self.bridges.len() {
            let Some(server) = self.caller.server else { break };
            let repeated = self.bridges[at].bridge.repeat_reliable(ctx, server);
            if repeated == Repeated::GiveUp {
                let failure = Failure::told(StatusCode::SERVER_TIMEOUT, "Provisional Response Never Acknowledged");
                self.refuse(ctx, failure, EndedBy::Timeout);
                break;
            }
        }
        self.ring_timeouts(ctx);
        self.work(ctx);
    }

    /// Gives up what finds it.
    pub fn forget(&self, ctx: &mut Context<'_, '_>) {
        for dialog in self.bridges.iter().flat_map(|early| [&early.bridge.near.dialog, &early.bridge.far.dialog]) {
            if let Some(tag) = own_tag(dialog) {
                ctx.core.dialogs.remove(&tag);
            }
        }
        if let Some(user) = &self.caller.user {
            ctx.core.count_out(user, ctx.key);
        }
    }
}

/// Sends the caller his answer if the journal has the call by now: from here on it is an answered call.
pub(crate) fn handle_settled(call: &mut Call, ctx: &mut Context<'_, '_>, up_to: Ticket) {
    let setup = match call {
        Call::Established(established) => return established.handle_settled(ctx, up_to),
        Call::Setup(setup) => setup,
    };
    let State::Answering { ticket, bridge, .. } = setup.state else { return };
    if ticket > up_to {
        return;
    }
    let State::Answering { response, .. } = std::mem::replace(&mut setup.state, State::Refused) else { return };
    let octets: &[u8] = ctx.out.arena().alloc_slice_copy(&response);
    let server = setup.caller.server.expect("only a caller's call is answered to him");
    ctx.core.transactions.respond(ctx.now, server, StatusCode::OK, octets, ctx.out);
    ctx.core.counters.answered += 1;
    let established = setup.establish(ctx, bridge);
    *call = Call::Established(Box::new(established));
}

impl Setup {
    /// The answered call that is left of its set-up.
    pub fn establish(&mut self, ctx: &mut Context<'_, '_>, bridge: usize) -> Established {
        let setup = self;
        let winner = setup.bridges.swap_remove(bridge);
        let longest = setup.longest_secs(ctx, winner.leg);
        let until = longest.map(|secs| ctx.now.monotonic + Duration::from_secs(secs.into()));
        let leg = &mut setup.legs[usize::from(winner.leg)];
        let far_facts = leg.facts.take().expect("the leg was called, and its record is not written yet");
        // The other early dialogs have ended with this answer, for both ends.
        for early in &setup.bridges {
            for dialog in [&early.bridge.near.dialog, &early.bridge.far.dialog] {
                if let Some(tag) =
                    own_tag(dialog).filter(|_| dialog.local_tag() != winner.bridge.far.dialog.local_tag())
                {
                    ctx.core.dialogs.remove(&tag);
                }
            }
        }
        let mut bridge = winner.bridge;
        // A PRACK may still cross the 2xx (RFC 3262 §3).
        match &mut bridge.reliability {
            Some(reliability) if !reliability.may_send() => reliability.stop(),
            _ => bridge.reliability = None,
        }
        bridge.passing.shrink_to_fit();
        let legs = std::mem::take(&mut setup.legs);
        Established {
            number: setup.number,
            version: 1,
            bridge,
            near_facts: setup.caller.facts.clone(),
            far_facts,
            far_leg: winner.leg,
            user: setup.caller.user.clone(),
            until,
            losers: legs.into_iter().filter(|leg| matches!(leg.state, LegState::Cancelled(_))).collect(),
            state: established::State::Up,
            transfer: None,
            aligning: None,
            is_impersonated: false,
            byes: Vec::new(),
        }
    }
}

/// Whether a request has come from its sender without another proxy between.
fn is_direct(message: &Message<'_>) -> bool {
    message.vias().count() == 1
}

/// What a probe runs: the least that shows that scripts run here.
const PROBE: &str = "sys.respond(420, \"Bad Extension\");";

/// Whether an INVITE is the proxy's probe (not a call).
pub(crate) fn is_probe(request: &Request<'_>) -> bool {
    let uri = sip::Uri::parse(request.uri).and_then(sip::Uri::sip);
    uri.is_ok_and(|uri| uri.user == Some(b"probe") && uri.host.is_name(agent::PLACEHOLDER))
}

/// Answers a probe by what a script says: 420 where all is well.
pub(crate) fn probe(ctx: &mut Context<'_, '_>, asked: Asked<'_>) {
    let status = run_probe(ctx, asked.message).unwrap_or(StatusCode::SERVER_INTERNAL_ERROR);
    ctx.respond(asked, &NewResponse::new(status, b""));
}

fn run_probe(ctx: &mut Context<'_, '_>, message: &Message<'_>) -> Option<StatusCode> {
    let core = &mut *ctx.core;
    let Some(machine) = &mut core.machine else { return Some(StatusCode::BAD_EXTENSION) };
    let plan = Plan::compile("probe", PROBE, &core.settings.plans).ok()?;
    let facts = dialplan::Facts {
        direction: dialplan::Direction::In,
        user: "probe".into(),
        domain: agent::PLACEHOLDER.into(),
        source: "".into(),
        zone: "".into(),
        unix: ctx.now.unix,
        providers: Box::default(),
        request: message.bytes().into(),
    };
    match machine.start(ctx.now.monotonic, &plan, facts).ok()? {
        (_, Step::Ended(ending)) => ending.response.and_then(|response| StatusCode::new(response.status)),
        (run, _) => {
            machine.cancel(run);
            None
        }
    }
}

/// Refuses what has no room, with Retry-After (§21.5.4).
pub(crate) fn refuse_overloaded(ctx: &mut Context<'_, '_>, asked: Asked<'_>) {
    ctx.core.counters.refused += 1;
    let secs = ctx.core.settings.retry_after_secs.to_string();
    let fields = [Field::own(HeaderName::RetryAfter, secs.as_bytes())];
    let response = NewResponse { fields: &fields, ..NewResponse::new(StatusCode::SERVICE_UNAVAILABLE, b"") };
    ctx.respond(asked, &response);
}
