//! Ringing: a dial command's steps one after another, the legs of a step together (RFC 3261 §16.7 for what wins).
//!
//! A call begins with one run, of a user's plan or of the default. Dialling an account that has a plan for its incoming calls
//! runs that plan in the leg's place; so the runs of a call are a tree, and the end of one is the failure of a leg of another.

use crate::{
    best::Failure,
    call::{LegNo, RunNo, Setup, State},
    caller::Party,
    cdr::Ended,
    leg::{Leg, LegPlan, LegState, Whom},
    shared::Context,
};
use dialplan::{Dial, DialResult, Dialled, LegOptions, LegOutcome, Redirect, Reply, RunId, Shape};
use sip::{HeaderName, Message, StatusCode};
use std::{collections::VecDeque, rc::Rc, time::Duration};
use store::{Direction, EndedBy};

/// A run of a plan, or of the default.
pub(crate) struct Run {
    /// The leg in whose place it is; None for the call's first.
    pub parent: Option<LegNo>,
    pub direction: Direction,
    /// Whose plan and whose providers; empty for nobody's.
    pub owner: Rc<str>,
    /// The plan's name; empty for the default.
    pub plan: Box<str>,
    /// Whether it may call other domains directly.
    pub may_go_outside: bool,
    pub script: Script,
    pub dialing: Option<Dialing>,
    /// What its last dial command came to.
    pub last: Option<Failure>,
    /// The application server that its script hands the call to.
    pub forward: Option<Box<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    /// It dials once, and ends with that.
    Default,
    Plan(RunId),
    Over,
}

/// A dial command that goes on.
pub(crate) struct Dialing {
    steps: VecDeque<Vec<(Whom, LegOptions)>>,
    shape: Rc<Shape>,
    ring: Duration,
    max_call_secs: Option<u32>,
    /// When the step has rung long enough.
    until: Duration,
    best: Option<Failure>,
    has_rung_out: bool,
    redirect: Option<String>,
    /// Its first leg.
    pub from: LegNo,
}

/// What is to be done next in a call.
#[derive(Debug)]
pub(crate) enum Todo {
    /// A leg that has ended in vain, and who ended it.
    Failed(LegNo, Failure, EndedBy),
    /// See whether a run's dial command goes on.
    Check(RunNo),
    /// What a run's script does next.
    Step(RunNo, dialplan::Step),
}

/// Slots for legs, those that other legs have taken the place of included.
const MAX_SLOTS: usize = LegNo::MAX as usize;

impl Run {
    pub fn next_timeout(&self) -> Option<Duration> {
        self.dialing.as_ref().map(|dialing| dialing.until)
    }
}

impl Setup {
    /// Does everything that is to be done.
    pub fn work(&mut self, ctx: &mut Context<'_, '_>) {
        while let Some(todo) = self.todo.pop_front() {
            match todo {
                Todo::Failed(no, failure, by) => self.leg_failed(ctx, no, failure, by),
                Todo::Check(run) => self.check(ctx, run),
                Todo::Step(run, step) => self.handle_step(ctx, run, step),
            }
        }
    }

    /// Starts a run: of the plan that its owner has for this direction, or of the default, which dials `whom`.
    pub fn start_run(&mut self, ctx: &mut Context<'_, '_>, parent: Option<LegNo>, party: Party, whom: Whom) -> RunNo {
        let no = self.runs.len() as RunNo;
        let Party { owner, direction, may_go_outside } = party;
        let (plan, script) = (Box::default(), Script::Default);
        self.runs.push(Run {
            parent,
            direction,
            owner,
            plan,
            may_go_outside,
            script,
            dialing: None,
            last: None,
            forward: None,
        });
        if !self.start_plan(ctx, no) {
            let steps =
                VecDeque::from([vec![(whom, LegOptions { refer: dialplan::Refer::Pass, ..Default::default() })]]);
            self.dial_steps(ctx, no, steps, Rc::default(), None, None);
        }
        no
    }

    /// Dials `whom` without any plan of the first run's, to replace a dialog that `replaces` names.
    pub fn start_default(&mut self, ctx: &mut Context<'_, '_>, party: Party, whom: Whom, replaces: Option<String>) {
        self.push_default_run(party);
        let headers = replaces.map(|value| ("Replaces".into(), value.into())).into_iter().collect();
        let shape = Rc::new(Shape { headers, ..Shape::default() });
        let steps = VecDeque::from([vec![(whom, LegOptions { refer: dialplan::Refer::Pass, ..Default::default() })]]);
        self.dial_steps(ctx, 0, steps, shape, None, None);
    }

    /// A run without any plan, whose dial command is yet to come.
    pub fn push_default_run(&mut self, party: Party) {
        let Party { owner, direction, may_go_outside } = party;
        let (plan, script) = (Box::default(), Script::Default);
        let (parent, dialing, last, forward) = Default::default();
        self.runs.push(Run { parent, direction, owner, plan, may_go_outside, script, dialing, last, forward });
    }

    /// Begins a dial command.
    pub fn dial(&mut self, ctx: &mut Context<'_, '_>, run: RunNo, dial: Dial) {
        let whom = |leg: dialplan::Leg| (Whom::Named(leg.target), leg.options);
        let steps = dial.steps.into_iter().map(|step| step.into_iter().map(whom).collect()).collect();
        self.dial_steps(ctx, run, steps, Rc::new(dial.shape), dial.ring_secs, dial.max_call_secs);
    }

    /// Hands the call to another application server.
    pub fn dial_app(&mut self, ctx: &mut Context<'_, '_>, run: RunNo, name: Box<str>) {
        self.runs[usize::from(run)].script = Script::Default;
        let options = LegOptions { refer: dialplan::Refer::Pass, ..Default::default() };
        let steps = VecDeque::from([vec![(Whom::App(name), options)]]);
        self.dial_steps(ctx, run, steps, Rc::default(), None, None);
    }

    fn dial_steps(
        &mut self,
        ctx: &mut Context<'_, '_>,
        run: RunNo,
        steps: VecDeque<Vec<(Whom, LegOptions)>>,
        shape: Rc<Shape>,
        ring_secs: Option<u32>,
        max_call_secs: Option<u32>,
    ) {
        let ring_secs = ring_secs.unwrap_or(ctx.core.settings.ring_secs);
        self.runs[usize::from(run)].dialing = Some(Dialing {
            steps,
            shape,
            ring: Duration::from_secs(ring_secs.into()),
            max_call_secs,
            until: ctx.now.monotonic,
            best: None,
            has_rung_out: false,
            redirect: None,
            from: self.legs.len() as LegNo,
        });
        self.todo.push_back(Todo::Check(run));
    }

    /// Goes on with a dial command where nothing of its step is alive: with the shortest-delayed leg, with the next step,
    /// with its end.
    fn check(&mut self, ctx: &mut Context<'_, '_>, run: RunNo) {
        if !matches!(self.state, State::Proceeding) || self.runs[usize::from(run)].dialing.is_none() {
            return;
        }
        if self.legs.iter().any(|leg| leg.run == run && leg.is_live()) {
            return;
        }
        let delayed = self.legs.iter().filter_map(|leg| match leg.state {
            LegState::Delayed(at) if leg.run == run => Some((at, leg.no)),
            _ => None,
        });
        if let Some((_, shortest)) = delayed.min() {
            return self.start_leg(ctx, shortest);
        }
        let dialing = self.runs[usize::from(run)].dialing.as_mut().expect("it was there above");
        let Some(step) = dialing.steps.pop_front().filter(|_| dialing.redirect.is_none()) else {
            return self.finish_dial(ctx, run);
        };
        dialing.until = ctx.now.monotonic + dialing.ring;
        let (shape, max_call_secs) = (Rc::clone(&dialing.shape), dialing.max_call_secs);
        let mut started = Vec::new();
        for (whom, options) in step {
            let at = ctx.now.monotonic + Duration::from_secs(options.delay_secs.into());
            let plan = Rc::new(LegPlan { options, shape: Rc::clone(&shape), max_call_secs });
            let Some(no) = self.add_leg(ctx, run, plan, whom, 0) else { break };
            if at > ctx.now.monotonic {
                self.legs[usize::from(no)].state = LegState::Delayed(at);
            } else {
                started.push(no);
            }
        }
        // All of the step are there before the first one starts: who fails at once must not end the step.
        started.into_iter().for_each(|no| self.start_leg(ctx, no));
        self.todo.push_back(Todo::Check(run));
    }

    /// A leg that asks to be started. None where the call has as many as it may have.
    pub fn add_leg(
        &mut self,
        ctx: &mut Context<'_, '_>,
        run: RunNo,
        plan: Rc<LegPlan>,
        whom: Whom,
        redirects: u8,
    ) -> Option<LegNo> {
        let called = self.legs.iter().filter(|leg| leg.request.is_some() || leg.state == LegState::Asking).count();
        if called >= usize::from(ctx.core.settings.max_legs) || self.legs.len() >= MAX_SLOTS {
            self.note_failure(run, Failure::told(StatusCode::TEMPORARILY_UNAVAILABLE, "Too Many Legs"));
            return None;
        }
        let no = self.legs.len() as LegNo;
        let ring = plan.options.ring_secs.map(|secs| ctx.now.monotonic + Duration::from_secs(secs.into()));
        self.legs.push(Leg {
            no,
            run,
            // It does not count as alive before it has been started.
            state: LegState::Over,
            plan,
            whom,
            outcome: (0, "".into()),
            redirects,
            ring_until: ring,
            facts: None,
            request: None,
        });
        Some(no)
    }

    /// A leg ends in vain.
    pub fn leg_failed(&mut self, ctx: &mut Context<'_, '_>, no: LegNo, failure: Failure, by: EndedBy) {
        let leg = &mut self.legs[usize::from(no)];
        if !leg.is_live() {
            return;
        }
        let run = leg.run;
        leg.state = LegState::Over;
        leg.outcome = (failure.status.get(), failure.reason().into());
        self.drop_early_dialogs(ctx, no);
        self.close_leg(ctx, no, by, failure.status.get(), failure.reason());
        let ends_step = failure.status.get() >= 600;
        self.note_failure(run, failure);
        if ends_step {
            // §16.7 step 5: a 6xx ends what rings together with it. What follows in the dial string follows on.
            self.cancel_legs(ctx, |leg| leg.run == run);
        }
        self.todo.push_back(Todo::Check(run));
    }

    fn note_failure(&mut self, run: RunNo, failure: Failure) {
        let Some(dialing) = &mut self.runs[usize::from(run)].dialing else { return };
        dialing.best = Some(match dialing.best.take() {
            Some(best) => best.or_better(failure),
            None => failure,
        });
    }

    /// Writes a leg's record, if it was called.
    pub fn close_leg(&mut self, ctx: &mut Context<'_, '_>, no: LegNo, by: EndedBy, status: u16, reason: &str) {
        let leg = &mut self.legs[usize::from(no)];
        if let (Some(facts), Some(request)) = (leg.facts.take(), &leg.request) {
            ctx.core.counters.cdrs += 1;
            facts.close(ctx.now, self.number, &request.call_id, Ended { by, status, reason }, ctx.out);
        }
    }

    /// A leg redirects (§8.1.3.4). True if that is seen to; else it has failed.
    pub fn redirect(&mut self, ctx: &mut Context<'_, '_>, no: LegNo, message: &Message<'_>) -> bool {
        let leg = &self.legs[usize::from(no)];
        let (run, plan, redirects) = (leg.run, Rc::clone(&leg.plan), leg.redirects);
        let contacts = message.addresses(HeaderName::Contact).filter_map(Result::ok);
        let mut uris = contacts.filter_map(|contact| str::from_utf8(contact.uri).ok());
        let has_script = matches!(self.runs[usize::from(run)].script, Script::Plan(_));
        match plan.options.redirect {
            Redirect::Script if has_script => {
                let uri = uris.next().map(str::to_owned);
                self.leg_failed(ctx, no, Failure::read(message), EndedBy::Peer);
                self.cancel_legs(ctx, |leg| leg.run == run);
                if let Some(dialing) = &mut self.runs[usize::from(run)].dialing {
                    dialing.redirect = Some(uri.unwrap_or_default());
                }
                true
            }
            Redirect::Follow if redirects < ctx.core.settings.max_redirects => {
                let mut followed = Vec::new();
                for uri in uris {
                    let whom = Whom::Contact(uri.into());
                    let Some(next) = self.add_leg(ctx, run, Rc::clone(&plan), whom, redirects + 1) else { break };
                    followed.push(next);
                }
                if followed.is_empty() {
                    return false;
                }
                let status = message.response().map_or(0, |response| response.status.get());
                self.legs[usize::from(no)].state = LegState::Over;
                self.close_leg(ctx, no, EndedBy::Peer, status, &crate::inside::reason_of(message));
                followed.into_iter().for_each(|next| self.start_leg(ctx, next));
                self.todo.push_back(Todo::Check(run));
                true
            }
            _ => false,
        }
    }

    /// Gives up the legs that may still be answered, or have not begun, and are `meant`.
    pub fn cancel_legs(&mut self, ctx: &mut Context<'_, '_>, meant: impl Fn(&Leg) -> bool) {
        for at in 0..self.legs.len() {
            if meant(&self.legs[at]) {
                self.cancel_leg(ctx, at as LegNo);
            }
        }
    }

    fn cancel_leg(&mut self, ctx: &mut Context<'_, '_>, no: LegNo) {
        let leg = &mut self.legs[usize::from(no)];
        match leg.state {
            LegState::Calling(client) => {
                leg.state = LegState::Cancelled(client);
                leg.outcome = (StatusCode::REQUEST_TERMINATED.get(), StatusCode::REQUEST_TERMINATED.reason().into());
                ctx.core.transactions.cancel(ctx.now, client, ctx.out);
                self.drop_early_dialogs(ctx, no);
            }
            LegState::Nested(run) => {
                leg.state = LegState::Over;
                self.stop_run(ctx, run, DialResult::ClientCancelled);
                self.cancel_legs(ctx, |leg| leg.run == run);
            }
            LegState::Delayed(_) | LegState::Asking => leg.state = LegState::Over,
            LegState::Cancelled(_) | LegState::Answered | LegState::Over => {}
        }
    }

    /// Ends the scripts of all runs: the call is answered, or over.
    pub fn end_runs(&mut self, ctx: &mut Context<'_, '_>, result: DialResult) {
        for run in 0..self.runs.len() {
            self.stop_run(ctx, run as RunNo, result);
        }
    }

    /// A dial command has come to nothing.
    fn finish_dial(&mut self, ctx: &mut Context<'_, '_>, run: RunNo) {
        let Some(dialing) = self.runs[usize::from(run)].dialing.take() else { return };
        let failure = dialing.best.unwrap_or_else(|| Failure::of(StatusCode::TEMPORARILY_UNAVAILABLE));
        let Script::Plan(id) = self.runs[usize::from(run)].script else {
            return self.end_run(ctx, run, failure);
        };
        let result = match &dialing.redirect {
            Some(_) => DialResult::Redirect,
            None if dialing.has_rung_out => DialResult::NoAnswer,
            None => DialResult::Failed,
        };
        let legs = self.legs[usize::from(dialing.from)..].iter().filter(|leg| leg.run == run && leg.outcome.0 != 0);
        let legs = legs.map(|leg| LegOutcome {
            target: leg.whom.to_string(),
            status: leg.outcome.0,
            reason: leg.outcome.1.to_string(),
        });
        let dialled = Dialled {
            result,
            status: failure.status.get(),
            reason: failure.reason().to_owned(),
            redirect: dialing.redirect.filter(|uri| !uri.is_empty()),
            legs: legs.collect(),
        };
        self.runs[usize::from(run)].last = Some(failure);
        self.resume(ctx, run, id, Reply::Dialled(dialled));
    }

    /// A run is over: the leg in whose place it was has failed, or the caller gets his final response.
    pub fn end_run(&mut self, ctx: &mut Context<'_, '_>, run: RunNo, failure: Failure) {
        self.runs[usize::from(run)].script = Script::Over;
        self.cancel_legs(ctx, |leg| leg.run == run);
        match self.runs[usize::from(run)].parent {
            Some(leg) => self.todo.push_back(Todo::Failed(leg, failure, EndedBy::Plan)),
            None => self.refuse(ctx, failure, EndedBy::Plan),
        }
    }

    /// Does what is due while the call is set up.
    pub fn ring_timeouts(&mut self, ctx: &mut Context<'_, '_>) {
        let now = ctx.now.monotonic;
        for at in 0..self.legs.len() {
            let leg = &self.legs[at];
            match leg.state {
                LegState::Delayed(due) if due <= now => self.start_leg(ctx, at as LegNo),
                _ if leg.is_live() && leg.ring_until.is_some_and(|until| until <= now) => {
                    let run = leg.run;
                    self.cancel_leg(ctx, at as LegNo);
                    self.rung_out(run);
                }
                _ => {}
            }
        }
        for run in 0..self.runs.len() as RunNo {
            if self.runs[usize::from(run)].dialing.as_ref().is_some_and(|dialing| dialing.until <= now) {
                self.cancel_legs(ctx, |leg| leg.run == run);
                self.rung_out(run);
            }
        }
    }

    fn rung_out(&mut self, run: RunNo) {
        self.note_failure(run, Failure::of(StatusCode::TEMPORARILY_UNAVAILABLE));
        if let Some(dialing) = &mut self.runs[usize::from(run)].dialing {
            dialing.has_rung_out = true;
        }
        self.todo.push_back(Todo::Check(run));
    }
}
