//! From a message, a timer or a script's step to the call that it is about.

use crate::{
    Surroundings,
    call::{self, Call, Setup},
    call_back,
    caller::{self, Who},
    established::{Established, belongs_to_call},
    mint::{parse_tag, place_of_tag},
    relay::{self, Relay},
    setup::{self, is_probe, refuse_overloaded},
    shared::{Asked, CallKey, Context, Core, Heard, RelayKey, User},
    slab::Key,
    unwanted::acknowledge_late,
};
use agent::{Agent, Flow, Now, Outbox, PLACEHOLDER, Received, Way};
use dialog::{NewResponse, Replaces};
use dialplan::{RunId, Step};
use sip::{HeaderName, Message, Method, Request, Response, StartLine, StatusCode, Uri, write};
use transaction::{Arrived, ClientId, ServerId};

/// 503 without a transaction: there is no room for one, or no time.
pub(crate) fn refuse_statelessly(core: &mut Core, message: &Message<'_>, flow: Flow, out: &mut Outbox<'_>) {
    if matches!(message.start_line(), StartLine::Request { method: Method::Ack, .. }) {
        return;
    }
    core.counters.refused += 1;
    let mut draft = out.draft();
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let tag = core.tags.of(message);
    write::begin_response(&mut draft, message, status, status.reason(), &tag, flow.peer);
    write::header(&mut draft, HeaderName::RetryAfter, core.settings.retry_after_secs.to_string().as_bytes());
    write::finish(&mut draft, b"");
    out.post(Way::Response(flow), draft.into_bump_slice());
}

/// One turn's work with the application server.
pub(crate) struct Turn<'c, 't> {
    pub now: Now,
    pub core: &'c mut Core,
    pub world: &'c mut dyn Surroundings,
    pub out: &'c mut Outbox<'t>,
}

impl<'t> Turn<'_, 't> {
    fn context(&mut self, key: CallKey) -> Context<'_, 't> {
        Context { now: self.now, key, core: self.core, world: self.world, out: self.out }
    }

    /// Works on a call, which is out of its slot meanwhile. False if it is not there.
    pub fn with_call(&mut self, key: CallKey, work: impl FnOnce(&mut Call, &mut Context<'_, 't>)) -> bool {
        let Some(mut call) = self.core.calls.take(key) else { return false };
        work(&mut call, &mut self.context(key));
        self.put_back(key, call);
        true
    }

    fn put_back(&mut self, key: CallKey, call: Call) {
        call::put_back(&mut self.context(key), call);
    }

    /// Works on a call that is being set up.
    pub fn with_setup(&mut self, key: CallKey, work: impl FnOnce(&mut Setup, &mut Context<'_, 't>)) {
        self.with_call(key, |call, ctx| {
            if let Call::Setup(setup) = call {
                work(setup, ctx);
            }
        });
    }

    /// Works on an answered call. False if no call is there.
    pub fn with_established(
        &mut self,
        key: CallKey,
        work: impl FnOnce(&mut Established, &mut Context<'_, 't>),
    ) -> bool {
        self.with_call(key, |call, ctx| {
            if let Call::Established(established) = call {
                work(established, ctx);
            }
        })
    }

    /// Works on a relayed request.
    pub fn with_relay(&mut self, key: RelayKey, work: impl FnOnce(&mut Relay, &mut Context<'_, 't>)) {
        let Some(mut relay) = self.core.relays.take(key) else { return };
        work(&mut relay, &mut self.context(Key::NONE));
        if relay.is_over() {
            return self.core.relays.release(key);
        }
        self.core.relays.put(key, relay);
    }

    /// Takes a request.
    pub fn handle_request(&mut self, received: &Received<'t>, message: &Message<'t>, is_draining: bool) {
        let Ok(request) = message.request() else { return };
        let flow = received.flow;
        let asked = |server| Asked { server, flow, message };
        match self.core.transactions.handle_request(self.now, flow, &request, self.out) {
            Arrived::Absorbed => {}
            Arrived::Full => refuse_statelessly(self.core, message, flow, self.out),
            Arrived::Merged(server) => self.answer(asked(server), StatusCode::LOOP_DETECTED),
            Arrived::Cancel { id, invite } => self.handle_cancel(asked(id), invite),
            Arrived::Ack(Some(server)) => self.handle_ack(asked(server)),
            Arrived::Ack(None) => self.core.counters.strays += 1,
            Arrived::New(server) => self.handle_new(asked(server), &request, is_draining),
        }
    }

    fn answer(&mut self, asked: Asked<'_>, status: StatusCode) {
        self.context(Key::NONE).respond(asked, &NewResponse::new(status, b""));
    }

    fn handle_new(&mut self, asked: Asked<'_>, request: &Request<'_>, is_draining: bool) {
        if let Some(tag) = request.to.tag {
            if let Some(&key) = parse_tag(tag).and_then(|tag| self.core.dialogs.get(&tag)) {
                self.with_call(key, |call, ctx| match call {
                    Call::Setup(setup) => setup.handle_request(ctx, asked, request),
                    Call::Established(established) => established.handle_request(ctx, asked, request),
                });
                return;
            }
            if belongs_to_call(request.method) {
                self.core.counters.strays += 1;
                return self.answer(asked, StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST);
            }
        }
        if request.method != Method::Invite && asked.message.value(HeaderName::Replaces).is_some() {
            // RFC 3891 §3.
            return self.answer(asked, StatusCode::BAD_REQUEST);
        }
        match request.method {
            // The proxy asks whether scripts run here.
            Method::Invite if is_probe(request) => setup::probe(&mut self.context(Key::NONE), asked),
            Method::Invite => self.begin_call(asked, request, is_draining),
            Method::Options if self.is_for_us(request) => {
                relay::answer_options(&mut self.context(Key::NONE), asked);
            }
            method if belongs_to_call(method) => {
                self.core.counters.strays += 1;
                self.answer(asked, StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST);
            }
            _ => self.begin_relay(asked, request),
        }
    }

    /// Whether a request asks the server itself: it has a domain of ours, or our own name, and no user.
    fn is_for_us(&self, request: &Request<'_>) -> bool {
        let Ok(uri) = Uri::parse(request.uri).and_then(Uri::sip) else { return false };
        uri.host.is_name(PLACEHOLDER)
            || uri.user.is_none() && self.core.settings.domains.local(&uri.host, uri.port).is_some()
    }

    fn begin_call(&mut self, asked: Asked<'_>, request: &Request<'_>, is_draining: bool) {
        let replaced = match Replaces::of(asked.message) {
            Err(fault) => return self.answer(asked, fault.response()),
            Ok(None) => None,
            Ok(Some(replaces)) => {
                let Some(place) = self.begin_replacement(asked, request, &replaces) else { return };
                Some(place)
            }
        };
        if is_draining || self.core.calls.len() >= self.core.settings.max_calls as usize {
            return refuse_overloaded(&mut self.context(Key::NONE), asked);
        }
        let key = self.core.calls.reserve();
        match Setup::begin(&mut self.context(key), asked, request, replaced) {
            Some(setup) => self.put_back(key, Call::Setup(setup)),
            None => self.core.calls.release(key),
        }
    }

    /// An INVITE that is to take a place in a call (RFC 3891): of this shard, or of the one that is returned, whose shard has
    /// the dialog.
    fn begin_replacement<'m>(
        &mut self,
        asked: Asked<'_>,
        request: &Request<'_>,
        replaces: &Replaces<'m>,
    ) -> Option<Agent<'m>> {
        let tag = parse_tag(replaces.to_tag);
        let Some(key) = tag.and_then(|tag| self.core.dialogs.get(&tag).copied()) else {
            // What one of ours has handed on to us goes no further.
            let is_handed = caller::is_handed(&self.context(Key::NONE), request);
            let elsewhere = place_of_tag(replaces.to_tag).filter(|place| !is_handed && *place != self.core.agent());
            if elsewhere.is_none() {
                // §3: no match is a 481.
                let status = self.core.status_of_missing(tag.unwrap_or_default());
                self.answer(asked, status);
            }
            return elsewhere;
        };
        // §3, §8: who replaces must prove himself as who calls; the tags, which nobody can guess, name his place.
        let who = caller::identify(&mut self.context(Key::NONE), asked, request)?;
        if who == Who::Stranger {
            self.answer(asked, StatusCode::FORBIDDEN);
            return None;
        }
        self.with_call(key, |call, ctx| match call {
            Call::Established(established) => {
                established.handle_replacement(ctx, asked, replaces);
            }
            // §3: the caller has begun the one early dialog, and a 481 is what he who would replace it gets. The others, of legs that
            // ring, we have begun: there a 200 and a CANCEL are asked for. That is how a call is picked up, which users do
            // by their plans here; until it can be done so too, nobody is put through and the phone goes on ringing.
            Call::Setup(_) => {
                let status = StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST;
                ctx.respond(asked, &NewResponse::new(status, b""));
            }
        });
        None
    }

    fn begin_relay(&mut self, asked: Asked<'_>, request: &Request<'_>) {
        if self.core.relays.len() >= self.core.settings.max_relays as usize {
            return refuse_overloaded(&mut self.context(Key::NONE), asked);
        }
        let key = self.core.relays.reserve();
        let relay = Relay::begin(&mut self.context(Key::NONE), key, asked, request);
        match relay.filter(|relay| !relay.is_over()) {
            Some(relay) => self.core.relays.put(key, relay),
            None => self.core.relays.release(key),
        }
    }

    /// §9.2: the CANCEL is answered 200 where there is something to cancel, whatever comes of it.
    fn handle_cancel(&mut self, asked: Asked<'_>, invite: Option<ServerId>) {
        let Some(invite) = invite else {
            return self.answer(asked, StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST);
        };
        let user = self.core.transactions.server_user(invite);
        // §9.2: the To tag of the 200 is that of the INVITE's responses.
        let tag = match user {
            Some(User::Caller(key)) => self.core.calls.peek(key).and_then(|call| match call {
                Call::Setup(setup) => Some(setup.caller.tag),
                Call::Established(_) => None,
            }),
            _ => None,
        };
        let tag = tag.map_or(b"0".to_vec(), |tag| self.core.tag_text(tag));
        let mut ctx = self.context(Key::NONE);
        ctx.respond(asked, &NewResponse::new(StatusCode::OK, &tag));
        match user {
            Some(User::Caller(key)) => self.with_setup(key, |setup, ctx| setup.cancelled(ctx)),
            Some(User::Passing(key, no)) => {
                self.with_established(key, |established, ctx| established.bridge.cancel(ctx, no));
            }
            _ => {}
        }
    }

    fn handle_ack(&mut self, asked: Asked<'_>) {
        if let Some(User::Caller(key) | User::Passing(key, _)) = self.core.transactions.server_user(asked.server) {
            self.with_established(key, |established, ctx| established.handle_ack(ctx, asked));
        }
    }

    /// Takes a response.
    pub fn handle_response(&mut self, received: &Received<'_>, message: &Message<'_>, response: &Response<'_>) {
        let flow = received.flow;
        let heard = self.core.transactions.handle_response(self.now, message, response, self.out);
        let Some((client, user)) = heard else { return };
        let user = match user {
            User::Challenged(key) => match self.handle_challenge(key, client, message, response) {
                Some(user) => user,
                None => return,
            },
            user => user,
        };
        let status = response.status;
        let heard = Heard { message, response, flow };
        match user {
            User::Leg(key, no) => {
                self.with_call(key, |call, ctx| match call {
                    Call::Setup(setup) => {
                        setup.handle_leg_response(ctx, no, client, heard);
                        call_back::hold(call, ctx);
                    }
                    Call::Established(established) => established.handle_leg_response(ctx, no, client, heard),
                });
            }
            User::Passing(key, no) => {
                let is_there = self.with_call(key, |call, ctx| match call {
                    Call::Setup(setup) => setup.handle_passing_response(ctx, no, heard),
                    Call::Established(established) => established.handle_passing_response(ctx, no, heard),
                });
                if !is_there {
                    acknowledge_late(&mut self.context(key), heard);
                }
            }
            User::Own(key, no) => {
                let owner = self.owner_of(message).unwrap_or(key);
                let is_there = self.with_established(owner, |established, ctx| match owner == key {
                    true => established.handle_own_response(ctx, no, heard),
                    // The dialog is another call's by now, and the ACK to a re-INVITE was lost before.
                    false => established.bridge.acknowledge_copy(ctx, message, status),
                });
                if !is_there {
                    acknowledge_late(&mut self.context(key), heard);
                }
            }
            User::Script(key, no) => self.with_setup(key, |setup, ctx| {
                setup.handle_script_response(ctx, no, status, Some(message));
            }),
            User::Branch(key, _) => {
                self.with_relay(key, |relay, ctx| relay.handle_response(ctx, key, message, status, flow));
            }
            User::Challenged(_) | User::Caller(_) | User::Relayed(_) | User::Nobody => {}
        }
    }

    /// The call that has the dialog which a response of its peer belongs to.
    fn owner_of(&self, message: &Message<'_>) -> Option<CallKey> {
        let tag = message.value(HeaderName::From).and_then(sip::Address::from_value)?.tag?;
        self.core.dialogs.get(&parse_tag(tag)?).copied()
    }

    /// A request of ours had no final response, or could not be sent: as if one with `status` had come (§8.1.3.1).
    pub fn handle_failure(&mut self, client: ClientId, user: User, status: StatusCode) {
        match user {
            User::Challenged(key) => {
                if let Some(user) = self.give_up_challenged(key) {
                    self.handle_failure(client, user, status);
                }
            }
            User::Leg(key, no) => {
                self.with_call(key, |call, ctx| match call {
                    Call::Setup(setup) => setup.handle_leg_timeout(ctx, no, client, status),
                    Call::Established(established) => established.handle_leg_timeout(ctx, no),
                });
            }
            User::Passing(key, no) => {
                self.with_call(key, |call, ctx| match call {
                    Call::Setup(setup) => setup.handle_passing_failure(ctx, no, status),
                    Call::Established(established) => {
                        let then = established.bridge.handle_failure(ctx, no, status);
                        established.follow(ctx, then);
                    }
                });
            }
            User::Own(key, no) => {
                self.with_established(key, |established, ctx| established.handle_own_failure(ctx, no));
            }
            User::Script(key, no) => {
                self.with_setup(key, |setup, ctx| setup.handle_script_response(ctx, no, status, None));
            }
            User::Branch(key, _) => self.with_relay(key, |relay, ctx| relay.handle_failure(ctx, key)),
            User::Caller(_) | User::Relayed(_) | User::Nobody => {}
        }
    }

    /// Takes what scripts do next, each in its call.
    pub fn handle_steps(&mut self, steps: Vec<(RunId, Step)>) {
        for (id, step) in steps {
            let Some(&(key, no)) = self.core.runs.get(&id) else { continue };
            self.with_setup(key, |setup, ctx| {
                setup.handle_step(ctx, no, step);
                setup.work(ctx);
            });
        }
    }
}
