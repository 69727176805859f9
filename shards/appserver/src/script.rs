//! The host of a call's scripts: what they ask becomes what the call does.

use crate::{
    Answer, Query, Report,
    best::Failure,
    call::{Call, RunNo, Setup, State},
    call_back,
    ring::{Script, Todo},
    shared::{Context, User, Waiter},
};
use agent::Way;
use dialog::{Body, Field, NewRequest, NewResponse, Party};
use dialplan::{
    Ask, Binding, Cause, DialResult, Dialled, Direction, Ending, Facts, OutOfDialog, Reply, Response, RunId, Step,
};
use sip::{Message, Method, StatusCode, Uri};
use std::rc::Rc;
use store::EndedBy;

impl Setup {
    /// Runs the plan that a run's owner has for its direction. False where he has none.
    pub fn start_plan(&mut self, ctx: &mut Context<'_, '_>, no: RunNo) -> bool {
        let run = &self.runs[usize::from(no)];
        let owner = Rc::clone(&run.owner);
        let Some((user, domain)) = owner.rsplit_once('@').filter(|_| ctx.core.machine.is_some()) else { return false };
        let (core, direction) = (&mut *ctx.core, run.direction);
        let plan = match core.compiled.chosen(&core.tables, &core.settings.plans, &owner, direction) {
            None => return false,
            Some(Ok(plan)) => plan,
            Some(Err(fault)) => {
                core.counters.plan_faults += 1;
                let (user, plan) = (owner.as_ref().into(), fault.plan.clone());
                core.report(Report { user, plan, call: self.number, trace: Vec::new(), fault: Some(fault.into()) });
                self.end_run(ctx, no, Failure::of(StatusCode::SERVER_INTERNAL_ERROR));
                return true;
            }
        };
        let direction = match direction {
            store::Direction::In => Direction::In,
            store::Direction::Out => Direction::Out,
        };
        let providers = core.tables.providers.of_owner(&owner);
        let facts = Facts {
            direction,
            user: user.into(),
            domain: domain.into(),
            source: self.caller.flow.peer.to_string().into(),
            zone: "".into(),
            unix: ctx.now.unix,
            providers: providers.iter().filter(|p| p.enabled).map(|provider| provider.name.clone()).collect(),
            request: self.caller.invite[..].into(),
        };
        self.runs[usize::from(no)].plan = plan.name().into();
        core.counters.plan_runs += 1;
        let machine = core.machine.as_mut().expect("it was there above");
        match machine.start(ctx.now.monotonic, &plan, facts) {
            Err(refusal) => self.end_run(ctx, no, Failure::of_script(refusal.response())),
            Ok((id, step)) => {
                self.runs[usize::from(no)].script = Script::Plan(id);
                core.runs.insert(id, (ctx.key, no));
                self.todo.push_back(Todo::Step(no, step));
            }
        }
        true
    }

    /// Gives a script its reply.
    pub fn resume(&mut self, ctx: &mut Context<'_, '_>, no: RunNo, id: RunId, reply: Reply) {
        let step = ctx.core.machine.as_mut().and_then(|machine| machine.resume(ctx.now.monotonic, id, reply));
        self.todo.extend(step.map(|step| Todo::Step(no, step)));
    }

    /// Ends a run's script: its call has gone on without it.
    pub fn stop_run(&mut self, ctx: &mut Context<'_, '_>, no: RunNo, result: DialResult) {
        let run = &mut self.runs[usize::from(no)];
        run.dialing = None;
        let Script::Plan(id) = std::mem::replace(&mut run.script, Script::Over) else { return };
        let Some(machine) = &mut ctx.core.machine else { return };
        let ending = if result == DialResult::Answered {
            let dialled = Dialled { result, status: 200, reason: String::new(), redirect: None, legs: Vec::new() };
            match machine.resume(ctx.now.monotonic, id, Reply::Dialled(dialled)) {
                Some(Step::Ended(ending)) => Some(*ending),
                // It waited for something else, or goes on in vain.
                _ => machine.cancel(id),
            }
        } else {
            machine.cancel(id)
        };
        ctx.core.runs.remove(&id);
        if let Some(ending) = ending {
            self.report(ctx, no, ending);
        }
    }

    fn report(&mut self, ctx: &mut Context<'_, '_>, no: RunNo, ending: Ending) {
        let run = &self.runs[usize::from(no)];
        ctx.core.counters.plan_faults += u64::from(ending.fault.is_some());
        if ending.trace.is_empty() && ending.fault.is_none() {
            return;
        }
        let (user, plan) = (run.owner.as_ref().into(), run.plan.clone());
        ctx.core.report(Report { user, plan, call: self.number, trace: ending.trace, fault: ending.fault });
    }

    /// Does what a script wants done.
    pub fn handle_step(&mut self, ctx: &mut Context<'_, '_>, no: RunNo, step: Step) {
        let Script::Plan(id) = self.runs[usize::from(no)].script else { return };
        let reply = match step {
            Step::Yielded => return,
            Step::Ended(ending) => return self.end_script(ctx, no, id, *ending),
            Step::Asks(ask) => match self.answer_ask(ctx, no, ask) {
                Some(reply) => reply,
                None => return,
            },
        };
        self.resume(ctx, no, id, reply);
    }

    /// The reply to what a script asks, if it is there at once.
    fn answer_ask(&mut self, ctx: &mut Context<'_, '_>, no: RunNo, ask: Ask) -> Option<Reply> {
        let owner = Rc::clone(&self.runs[usize::from(no)].owner);
        match ask {
            Ask::Dial(dial) => {
                self.dial(ctx, no, *dial);
                None
            }
            Ask::Callback(wanted) => Some(match call_back::begin(ctx, &owner, *wanted) {
                Ok(number) => Reply::Text(Some(format!("{number:032x}"))),
                Err(why) => Reply::Refused(why.into()),
            }),
            Ask::Progress(response) => {
                self.tell_script_progress(ctx, &response);
                Some(Reply::Done)
            }
            // The plan runs on the server that it chose.
            Ask::Forward(name) if *name == *ctx.core.place.name => Some(Reply::Truth(false)),
            Ask::Forward(name) => {
                self.runs[usize::from(no)].forward = Some(name);
                Some(Reply::Done)
            }
            Ask::Bindings { user, domain } => {
                let aor = format!("{user}@{domain}");
                self.ask(ctx, no, &Query::Bindings { aor: &aor })
            }
            Ask::AccountExists { user, domain } => {
                Some(Reply::Truth(ctx.core.tables.accounts.exists(&format!("{user}@{domain}"))))
            }
            Ask::CanonicalDomain(domain) => {
                let host = sip::Host::new(domain.as_bytes());
                let ours = host.and_then(|host| ctx.core.settings.domains.local(&host, None));
                Some(Reply::Text(ours.map(str::to_owned)))
            }
            Ask::Enum(number) => self.ask(ctx, no, &Query::Enum { number: &number }),
            Ask::Web(request) => self.ask(ctx, no, &Query::Web { user: &owner, request: &request }),
            Ask::StoreGet(key) => self.ask(ctx, no, &Query::StoreGet { user: &owner, key: &key }),
            Ask::StorePut(key, value) => self.ask(ctx, no, &Query::StorePut { user: &owner, key: &key, value: &value }),
            Ask::StoreDelete(key) => self.ask(ctx, no, &Query::StoreDelete { user: &owner, key: &key }),
            Ask::StoreList(prefix) => self.ask(ctx, no, &Query::StoreList { user: &owner, prefix: &prefix }),
            Ask::CurrentCalls => Some(Reply::Calls(current_calls(ctx, &owner))),
            Ask::Send(request) => match self.send_for_script(ctx, no, &request) {
                Ok(()) => None,
                Err(reason) => Some(Reply::Refused(reason)),
            },
        }
    }

    fn ask(&mut self, ctx: &mut Context<'_, '_>, no: RunNo, query: &Query<'_>) -> Option<Reply> {
        let id = ctx.query_id(Waiter::Run(ctx.key, no));
        let answer = ctx.world.ask(ctx.now, id, query)?;
        ctx.core.queries.remove(&id.0);
        Some(reply(answer))
    }

    /// Takes the answer to what a script has asked.
    pub fn handle_reply(&mut self, ctx: &mut Context<'_, '_>, no: RunNo, answer: Answer) {
        if let Some(run) = self.runs.get(usize::from(no))
            && let Script::Plan(id) = run.script
        {
            self.resume(ctx, no, id, reply(answer));
        }
    }

    fn tell_script_progress(&mut self, ctx: &mut Context<'_, '_>, response: &Response) {
        let Some(status) = StatusCode::new(response.status).filter(|status| status.is_provisional()) else { return };
        let fields: Vec<_> =
            response.headers.iter().filter_map(|(n, v)| Field::new(n.as_bytes(), v.as_bytes()).ok()).collect();
        let reason = if response.reason.is_empty() { status.reason() } else { &response.reason };
        self.respond_provisional(ctx, &NewResponse { reason, fields: &fields, ..NewResponse::new(status, b"") });
    }

    fn end_script(&mut self, ctx: &mut Context<'_, '_>, no: RunNo, id: RunId, ending: Ending) {
        ctx.core.runs.remove(&id);
        let (cause, response) = (ending.cause, ending.response.clone());
        self.report(ctx, no, ending);
        let run = &mut self.runs[usize::from(no)];
        run.script = Script::Over;
        if let Some(name) = run.forward.take().filter(|_| cause == Cause::Forwarded) {
            return self.dial_app(ctx, no, name);
        }
        if !matches!(self.state, State::Proceeding) {
            return;
        }
        let failure = match (response, run.last.take()) {
            // What the last dial command came to has more to it than its status: contacts, Retry-After. A redirection
            // that was neither followed nor the script's to see is the caller's.
            (Some(response), Some(last))
                if cause == Cause::Finished
                    && (response.status == last.status.get() || (300..400).contains(&last.status.get())) =>
            {
                last
            }
            (Some(response), _) => Failure::of_script(response),
            (None, last) => last.unwrap_or_else(|| Failure::of(StatusCode::TEMPORARILY_UNAVAILABLE)),
        };
        self.end_run(ctx, no, failure);
    }

    /// Sends a request outside a dialog that a script wants sent.
    fn send_for_script(&mut self, ctx: &mut Context<'_, '_>, no: RunNo, wanted: &OutOfDialog) -> Result<(), String> {
        let run = &self.runs[usize::from(no)];
        let uri = match &wanted.target {
            dialplan::Target::Uri(uri) => uri.to_string(),
            dialplan::Target::Address { user, host } => format!("sip:{user}@{host}"),
        };
        let parsed = Uri::parse(uri.as_bytes()).and_then(Uri::sip).map_err(|_| format!("`{uri}` is no SIP URI"))?;
        let is_ours = ctx.core.settings.domains.local(&parsed.host, parsed.port).is_some();
        if !is_ours && !run.may_go_outside {
            return Err(format!("{} may not send requests to other domains", run.owner));
        }
        let text = |bad: dialog::BadText| bad.to_string();
        let from = format!("sip:{}", run.owner);
        let tag = crate::mint::tag_text(ctx.core.mint.draw());
        let (call_id, branch) = (ctx.core.mint.call_id(), ctx.core.mint.draw());
        let from = Party::new(b"", from.as_bytes(), &tag).map_err(text)?;
        let to = Party::new(b"", uri.as_bytes(), b"").map_err(text)?;
        let method = Method::new(wanted.method.as_bytes());
        let mut request = NewRequest::new(method, uri.as_bytes(), from, to, &call_id).map_err(text)?;
        let fields: Result<Vec<_>, _> =
            wanted.headers.iter().map(|(name, value)| Field::new(name.as_bytes(), value.as_bytes())).collect();
        let fields = fields.map_err(text)?;
        request.fields = &fields;
        let (content_type, octets) = (wanted.content_type.as_bytes(), wanted.body.as_bytes());
        request.body = (!octets.is_empty()).then_some(Body { content_type, octets });
        let mut draft = ctx.out.draft();
        request.write(ctx.ua(), branch, &mut draft);
        let sent = ctx.send(User::Script(ctx.key, no), method, Way::Uri, branch, draft);
        sent.map(|_| ()).ok_or_else(|| "the switch has too much to do".to_owned())
    }

    /// Takes the final response to a request of a script's, or that there was none.
    pub fn handle_script_response(
        &mut self,
        ctx: &mut Context<'_, '_>,
        no: RunNo,
        status: StatusCode,
        message: Option<&Message<'_>>,
    ) {
        if status.is_provisional() {
            return;
        }
        let reason = message.map_or(status.reason().into(), crate::inside::reason_of).into_owned();
        let body = message.map_or(String::new(), |message| String::from_utf8_lossy(message.body()).into_owned());
        self.handle_reply(ctx, no, Answer::Reply(Reply::Responded { status: status.get(), reason, body }));
        self.work(ctx);
    }

    /// The time of the set-up is over.
    pub fn run_out_of_time(&mut self, ctx: &mut Context<'_, '_>) {
        self.end_runs(ctx, DialResult::TimedOut);
        let failure = Failure::told(StatusCode::TEMPORARILY_UNAVAILABLE, "The Call Took Too Long To Be Answered");
        self.refuse(ctx, failure, EndedBy::Timeout);
    }
}

fn reply(answer: Answer) -> Reply {
    match answer {
        Answer::Reply(reply) => reply,
        Answer::Bindings(targets) => Reply::Bindings(
            targets
                .into_iter()
                .map(|target| Binding {
                    uri: String::from_utf8_lossy(&target.uri).into_owned(),
                    q: target.q,
                    expires_secs: target.expires_secs,
                    user_agent: target.user_agent.into(),
                })
                .collect(),
        ),
    }
}

/// The calls of a user that go on, without the one that asks, which is out of its slot.
fn current_calls(ctx: &Context<'_, '_>, user: &str) -> Vec<dialplan::Call> {
    let keys = ctx.core.users.get(user).map_or(&[][..], Vec::as_slice);
    let mut calls: Vec<_> = keys.iter().filter_map(|&key| ctx.core.calls.peek(key)).collect();
    // Numbers begin with the time.
    calls.sort_unstable_by_key(|call| call.number());
    calls
        .into_iter()
        .map(|call| {
            let (facts, callee) = match call {
                Call::Setup(setup) => (&setup.caller.facts, setup.caller.facts.texts().callee),
                Call::Established(established) => (&established.near_facts, established.near_facts.texts().callee),
            };
            let texts = facts.texts();
            let answered =
                (facts.answered_at != 0).then(|| crate::cdr::millis(ctx.now).saturating_sub(facts.answered_at));
            let is_in = callee.contains(user);
            dialplan::Call {
                from: texts.caller.to_owned(),
                to: callee.to_owned(),
                direction: if is_in { Direction::In } else { Direction::Out },
                answered_secs: answered.map(|millis| (millis / 1000) as u32),
            }
        })
        .collect()
}
