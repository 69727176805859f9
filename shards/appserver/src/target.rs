//! From a target that is dialled to the INVITE of a leg, or to several: a user of ours has bindings, or a plan of his own.

use crate::{
    best::Failure,
    call::{LegNo, RunNo, Setup},
    caller::Party,
    cdr::{self, Facts, Texts},
    leg::{LegRequest, LegState, Whom},
    ring::{Run, Todo},
    route::{Destination, Dialler},
    shared::{Context, Waiter},
    surroundings::{Answer, Query, Target},
};
use agent::{Agent, Way};
use sip::StatusCode;
use std::{collections::VecDeque, rc::Rc, time::Duration};
use store::{Direction, EndedBy, LegDirection};

impl Setup {
    /// Finds out where a leg leads, and calls.
    pub fn start_leg(&mut self, ctx: &mut Context<'_, '_>, no: LegNo) {
        let leg = &mut self.legs[usize::from(no)];
        leg.state = LegState::Asking;
        if let Some(secs) = leg.plan.options.ring_secs {
            leg.ring_until = Some(ctx.now.monotonic + Duration::from_secs(secs.into()));
        }
        let (whom, run) = (leg.whom.clone(), leg.run);
        match whom {
            Whom::Named(target) => self.start_named(ctx, no, run, &target),
            Whom::Contact(uri) => self.start_named(ctx, no, run, &dialplan::Target::Uri(uri)),
            Whom::Bindings(aor) => self.ask_bindings(ctx, no, &aor),
            Whom::Binding(target, aor) => {
                let request = LegRequest::to_binding(ctx, &aor, *target);
                self.call(ctx, no, request);
            }
            Whom::App(name) => {
                let request = self.request_to_app(ctx, run, &name);
                self.call(ctx, no, request);
            }
            Whom::Dialog(name, shard) => {
                let request = self.request_to_dialog(ctx, run, Agent { name: &name, shard });
                self.call(ctx, no, request);
            }
        }
    }

    fn start_named(&mut self, ctx: &mut Context<'_, '_>, no: LegNo, run: RunNo, target: &dialplan::Target) {
        let Run { owner, may_go_outside, .. } = &self.runs[usize::from(run)];
        let dialler = Dialler { user: owner, may_go_outside: *may_go_outside };
        match dialler.resolve(&ctx.core.settings, &ctx.core.tables, target) {
            Err(failure) => self.todo.push_back(Todo::Failed(no, failure, EndedBy::Switch)),
            Ok(Destination::Local(aor)) => self.start_local(ctx, no, run, aor.into()),
            Ok(Destination::Provider { provider, uri }) => {
                let request = LegRequest::to_provider(ctx, provider, &uri);
                self.call(ctx, no, request);
            }
            Ok(Destination::Outside(uri)) => {
                let request = LegRequest::to_uri(ctx, uri.as_bytes().into(), uri);
                self.call(ctx, no, request);
            }
        }
    }

    /// A leg to an account of ours: its plan for incoming calls runs in the leg's place, unless this is that plan.
    fn start_local(&mut self, ctx: &mut Context<'_, '_>, no: LegNo, run: RunNo, aor: Rc<str>) {
        let (mut depth, mut at, mut is_own) = (0, Some(run), false);
        while let Some(run) = at {
            let run = &self.runs[usize::from(run)];
            is_own |= run.direction == Direction::In && run.owner == aor;
            depth += u8::from(run.parent.is_some());
            at = run.parent.map(|leg| self.legs[usize::from(leg)].run);
        }
        let has_plan = ctx.core.machine.is_some() && ctx.core.tables.plans.chosen(&aor, Direction::In).is_some();
        if !has_plan || is_own {
            return self.ask_bindings(ctx, no, &aor);
        }
        if depth >= ctx.core.settings.max_plan_depth || self.runs.len() >= usize::from(RunNo::MAX) {
            let failure = Failure::told(StatusCode::LOOP_DETECTED, "Too Many Plans");
            return self.todo.push_back(Todo::Failed(no, failure, EndedBy::Switch));
        }
        // Its runs are numbered in order.
        self.legs[usize::from(no)].state = LegState::Nested(self.runs.len() as RunNo);
        let may_go_outside = ctx.core.tables.accounts.find(&aor).is_some_and(|account| account.may_relay);
        let party = Party { owner: Rc::clone(&aor), direction: Direction::In, may_go_outside };
        self.start_run(ctx, Some(no), party, Whom::Bindings(aor));
    }

    fn ask_bindings(&mut self, ctx: &mut Context<'_, '_>, no: LegNo, aor: &Rc<str>) {
        self.legs[usize::from(no)].whom = Whom::Bindings(Rc::clone(aor));
        let id = ctx.query_id(Waiter::Leg(ctx.key, no));
        if let Some(answer) = ctx.world.ask(ctx.now, id, &Query::Bindings { aor }) {
            ctx.core.queries.remove(&id.0);
            self.handle_bindings(ctx, no, answer);
        }
    }

    /// Takes the bindings that a leg has asked for: one leg for each, in its place.
    pub fn handle_bindings(&mut self, ctx: &mut Context<'_, '_>, no: LegNo, answer: Answer) {
        let leg = &mut self.legs[usize::from(no)];
        let (LegState::Asking, Whom::Bindings(aor)) = (leg.state, leg.whom.clone()) else { return };
        let targets = match answer {
            Answer::Bindings(targets) => targets,
            Answer::Reply(_) => Vec::new(),
        };
        if targets.is_empty() {
            let failure = Failure::of(StatusCode::TEMPORARILY_UNAVAILABLE);
            return self.todo.push_back(Todo::Failed(no, failure, EndedBy::Switch));
        }
        let (run, plan, redirects) = (leg.run, Rc::clone(&leg.plan), leg.redirects);
        let mut targets: VecDeque<Target> = targets.into();
        // The first one takes the leg itself: most accounts have one binding.
        let first = targets.pop_front().expect("it is not empty");
        let request = LegRequest::to_binding(ctx, &aor, first);
        self.call(ctx, no, request);
        for target in targets {
            let whom = Whom::Binding(Box::new(target), Rc::clone(&aor));
            let Some(no) = self.add_leg(ctx, run, Rc::clone(&plan), whom, redirects) else { break };
            self.start_leg(ctx, no);
        }
    }

    /// Sends the INVITE of a leg, unless another leg has the same target.
    fn call(&mut self, ctx: &mut Context<'_, '_>, no: LegNo, mut request: LegRequest) {
        let run = self.legs[usize::from(no)].run;
        let from = self.runs[usize::from(run)].dialing.as_ref().map_or(0, |dialing| dialing.from);
        let is_same =
            |other: &LegRequest| (&other.uri, &other.route, other.way) == (&request.uri, &request.route, request.way);
        let others = self.legs[usize::from(from)..].iter().filter(|leg| leg.run == run);
        let redirects = self.legs[usize::from(no)].redirects;
        // A step that follows may try the same target again; the legs of one step, and a redirection, may not.
        let mut rivals = others.filter(|leg| leg.is_live() || redirects > 0);
        if rivals.any(|leg| leg.request.as_deref().is_some_and(is_same)) {
            self.legs[usize::from(no)].state = LegState::Over;
            return self.todo.push_back(Todo::Check(run));
        }
        let Run { owner, plan, .. } = &self.runs[usize::from(run)];
        let caller = self.caller.facts.texts().caller;
        let leg = &mut self.legs[usize::from(no)];
        let texts = Texts {
            caller,
            callee: match &leg.whom {
                Whom::Dialog(..) => &request.to,
                _ => str::from_utf8(&request.uri).unwrap_or_default(),
            },
            user: owner,
            plan,
            provider: request.provider.as_ref().map_or("", |provider| &provider.name),
            account_code: leg.plan.options.account_code.as_deref().unwrap_or_default(),
            source: &match request.way {
                Way::Flow(flow) => cdr::source_text(&flow),
                _ => String::new(),
            },
        };
        leg.facts = Some(Facts::new(ctx.now, self.legs_before + u16::from(no) + 1, LegDirection::Out, texts));
        let sent = request.invite(ctx, no, &self.caller, &leg.plan, None);
        leg.request = Some(Box::new(request));
        match sent {
            Ok(client) => leg.state = LegState::Calling(client),
            Err(failure) => self.todo.push_back(Todo::Failed(no, failure, EndedBy::Switch)),
        }
    }
}
