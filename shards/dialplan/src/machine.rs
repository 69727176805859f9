//! The machine of one shard: runs, whose turn it is, and when their time is over.

use crate::{
    Ask, Dialled, Facts, Fault, Guard, Limits, Plan, Reply,
    ask::Response,
    engine::engine,
    memory,
    ready::{UserId, Users},
    run::{self, Coroutine, Current, Grant, Limit, Over, Paused, Wake, body},
    stacks::Pool,
};
use corosensei::CoroutineResult;
use rhai::Engine;
use std::{collections::BTreeSet, fmt, io, rc::Rc, sync::Arc, time::Duration};

/// What a machine is built from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The bounds of plans and runs.
    pub limits: Limits,
    /// A monotonic clock, read within a slice so that one is no longer than [`Limits::slice_time`]. The edge's; a
    /// simulator gives one that stands still, and slices end by operations alone.
    pub clock: fn() -> Duration,
}

/// Names a run. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(u64);

/// What a run does next.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// It waits for [`Machine::resume`] with the reply.
    Asks(Ask),
    /// It goes on by itself: [`Machine::run_slices`] or [`Machine::handle_timeout`] tells its next step.
    Yielded,
    /// It is over and forgotten.
    Ended(Box<Ending>),
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ending {
    /// Why.
    pub cause: Cause,
    /// What the caller gets, if he has no final response yet and the call has no other way to go on. None where the call
    /// is answered, handed over or given up by the caller.
    pub response: Option<Response>,
    /// What the author reads of what went wrong.
    pub fault: Option<Box<Fault>>,
    /// What the run logged, in order, for its author.
    pub trace: Vec<Box<str>>,
    /// Operations that it took.
    pub operations: u64,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The script came to its end. Its last failed dial command decides about the response.
    Finished,
    /// A leg answered.
    Answered,
    /// The script sends this final response.
    Responded,
    /// The call is handed to another application server.
    Forwarded,
    /// [`Machine::cancel`].
    Cancelled,
    /// The script is wrong, threw something, or came to a limit.
    Failed,
}

/// Why a run does not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `max_runs` are there.
    TooManyRuns,
    /// The user has `max_runs_per_user`.
    TooManyRunsOfUser,
    /// The system gives no stack: `vm.max_map_count` is reached ([`Guard::bound`]).
    NoStack,
}

impl Refusal {
    /// The response to the caller (§21.5.4).
    pub fn response(self) -> Response {
        Response::new(503)
    }
}

/// Why there is no machine.
#[derive(Debug)]
pub enum Unfit {
    /// The program's global allocator is not [`Counted`](crate::Counted), so that no run's memory could be bounded.
    Uncounted,
    /// The system gives no address space for the stacks.
    NoStacks(io::Error),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uncounted => {
                f.write_str("the program's global allocator does not count: dial plans need `dialplan::Counted`")
            }
            Self::NoStacks(error) => write!(f, "no address space for the stacks of dial plans: {error}"),
        }
    }
}

impl std::error::Error for Unfit {}

/// Runs the plans of one shard. Stays on the thread that made it.
pub struct Machine {
    limits: Arc<Limits>,
    clock: fn() -> Duration,
    engine: Rc<Engine>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    users: Users,
    /// When each run is due: its wait or its time is over.
    timers: BTreeSet<(Duration, RunId)>,
    count: u32,
    /// What all runs hold.
    held: isize,
    stacks: Pool,
}

struct Slot {
    generation: u32,
    run: Option<Run>,
}

struct Run {
    coroutine: Coroutine,
    current: Box<Current>,
    user: UserId,
    waits: Waits,
    due: Duration,
    /// Time spent in dial commands that are over.
    dialled: Duration,
    held: isize,
}

#[derive(Clone, Copy)]
enum Waits {
    Reply,
    /// For the reply to a dial command, asked at this time.
    Dialling(Duration),
    Slice,
    Until(Duration),
}

impl Machine {
    /// A machine without runs. Needs [`Counted`](crate::Counted) as the program's global allocator.
    pub fn new(settings: Settings) -> Result<Self, Unfit> {
        if !memory::is_counted() {
            return Err(Unfit::Uncounted);
        }
        let limits = settings.limits;
        let nested = limits.max_memory_bytes / memory::NESTED_BYTES * memory::NESTED_FRAME;
        let stacks = Pool::new(limits.max_runs as usize, limits.max_stack_bytes + nested).map_err(Unfit::NoStacks)?;
        Ok(Self {
            engine: Rc::new(engine(&limits)),
            limits: Arc::new(limits),
            clock: settings.clock,
            slots: Vec::new(),
            free: Vec::new(),
            users: Users::default(),
            timers: BTreeSet::new(),
            count: 0,
            held: 0,
            stacks,
        })
    }

    /// How its stacks are guarded, which the edge logs when it starts: on kernels before 6.13 `vm.max_map_count` bounds the
    /// runs further ([`Guard::bound`]).
    pub fn guard(&self) -> Guard {
        self.stacks.guard()
    }

    /// How many runs there are.
    pub fn runs(&self) -> usize {
        self.count as usize
    }

    /// What all runs hold, in octets as `max_memory_total_bytes` counts them.
    pub fn held_bytes(&self) -> usize {
        self.held.unsigned_abs()
    }

    /// Starts a run and takes it to its first step.
    pub fn start(&mut self, now: Duration, plan: &Plan, facts: Facts) -> Result<(RunId, Step), Refusal> {
        if self.count >= self.limits.max_runs {
            return Err(Refusal::TooManyRuns);
        }
        let key = format!("{}@{}", facts.user, facts.domain);
        let user = self.users.enter(&key, self.limits.max_runs_per_user).ok_or(Refusal::TooManyRunsOfUser)?;
        let Some(stack) = self.stacks.take() else {
            self.users.leave(user);
            return Err(Refusal::NoStack);
        };
        let limits = Arc::clone(&self.limits);
        let base = corosensei::stack::Stack::base(&stack).get();
        let current = Box::new(Current::new(facts, plan.clone(), limits, self.clock, now, base));
        let engine = Rc::clone(&self.engine);
        let coroutine = Coroutine::with_stack(stack, move |yielder, _| body(&engine, yielder));
        let run = Run { coroutine, current, user, waits: Waits::Slice, due: now, dialled: Duration::ZERO, held: 0 };
        let id = self.insert(run);
        self.timers.insert((now, id));
        let step = self.advance(now, id, Wake::Go).expect("the run was inserted");
        Ok((id, step))
    }

    fn insert(&mut self, run: Run) -> RunId {
        self.count += 1;
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, run: None });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        slot.run = Some(run);
        RunId(u64::from(slot.generation) << 32 | u64::from(index))
    }

    fn run(&mut self, id: RunId) -> Option<&mut Run> {
        let slot = self.slots.get_mut(id.0 as u32 as usize)?;
        slot.run.as_mut().filter(|_| slot.generation == (id.0 >> 32) as u32)
    }

    /// Takes a run that asked on to its next step. A run that is not there, or waits for no reply, stays as it is: None.
    pub fn resume(&mut self, now: Duration, run: RunId, reply: Reply) -> Option<Step> {
        match self.run(run)?.waits {
            Waits::Reply | Waits::Dialling(_) => self.advance(now, run, Wake::Reply(reply)),
            Waits::Slice | Waits::Until(_) => None,
        }
    }

    /// Ends a run where it stands; what it holds is dropped. None if it is not there.
    pub fn cancel(&mut self, run: RunId) -> Option<Ending> {
        let now = self.run(run)?.current.now;
        match self.advance(now, run, Wake::End(Over::Done(Cause::Cancelled, None)))? {
            Step::Ended(ending) => Some(*ending),
            Step::Asks(_) | Step::Yielded => unreachable!("a run that is to end does not wait"),
        }
    }

    /// Whether runs wait for [`Machine::run_slices`].
    pub fn is_ready(&self) -> bool {
        !self.users.is_empty()
    }

    /// Gives ready runs a slice each, at most `max_slices` of them, the users in turn, and tells what they do next.
    pub fn run_slices(&mut self, now: Duration, max_slices: usize, steps: &mut Vec<(RunId, Step)>) {
        for _ in 0..max_slices {
            let Some(id) = self.users.pop() else { return };
            // One whose time ran out while it was queued is gone.
            if let Some(Run { waits: Waits::Slice, .. }) = self.run(id)
                && let Some(step) = self.advance(now, id, Wake::Go)
            {
                steps.push((id, step));
            }
        }
    }

    /// When [`Machine::handle_timeout`] is due.
    pub fn next_timeout(&self) -> Option<Duration> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Ends the runs whose time is over and wakes those that waited.
    pub fn handle_timeout(&mut self, now: Duration, steps: &mut Vec<(RunId, Step)>) {
        while let Some((due, id)) = self.timers.first().copied().filter(|(due, _)| *due <= now) {
            let run = self.run(id).expect("a timer belongs to a run");
            let wake = match (run.over(now), run.waits) {
                (Some(limit), _) => Wake::End(Over::Limit(limit)),
                (None, Waits::Until(until)) if until <= now => Wake::Go,
                (None, _) => {
                    // The script has more time than when the timer was set.
                    run.due = run.next_due();
                    let next = run.due;
                    self.timers.remove(&(due, id));
                    self.timers.insert((next, id));
                    continue;
                }
            };
            let step = self.advance(now, id, wake).expect("the run is there");
            steps.push((id, step));
        }
    }

    /// Resumes a run until its next step.
    fn advance(&mut self, now: Duration, id: RunId, wake: Wake) -> Option<Step> {
        let (limits, total) = (Arc::clone(&self.limits), self.held);
        let run = self.run(id)?;
        let due = run.due;
        if let Waits::Dialling(since) = run.waits {
            run.dialled += now.saturating_sub(since);
        }
        run.waits = Waits::Slice;
        let wake = match (wake, run.over(now)) {
            // What a dial command brings counts, however long it took.
            (wake @ (Wake::End(_) | Wake::Reply(Reply::Dialled(_))), _) | (wake, None) => wake,
            (_, Some(limit)) => Wake::End(Over::Limit(limit)),
        };
        let is_last = matches!(wake, Wake::End(_));
        let grant = Grant { held: run.held, room: limits.max_memory_total_bytes as isize - total + run.held, now };
        let (result, held) = run::resume(&mut run.coroutine, &mut run.current, wake, &grant);
        let change = held - run.held;
        run.held = held;
        let step = match result {
            CoroutineResult::Return(outcome) => Err(outcome),
            CoroutineResult::Yield(_) if is_last => {
                run.coroutine.force_unwind();
                Err(None)
            }
            CoroutineResult::Yield(Paused::Asks(ask)) => {
                let dials = matches!(ask, Ask::Dial(_));
                run.waits = if dials { Waits::Dialling(now) } else { Waits::Reply };
                Ok(Step::Asks(ask))
            }
            CoroutineResult::Yield(Paused::Slice) => Ok(Step::Yielded),
            CoroutineResult::Yield(Paused::Sleeps(time)) => {
                run.waits = Waits::Until(now + time);
                Ok(Step::Yielded)
            }
        };
        run.due = run.next_due();
        let (next, user, is_ready) = (run.due, run.user, matches!(run.waits, Waits::Slice));
        self.held += change;
        self.timers.remove(&(due, id));
        Some(match step {
            Ok(step) => {
                self.timers.insert((next, id));
                if is_ready {
                    self.users.push(user, id);
                }
                self.trim(id);
                step
            }
            Err(outcome) => Step::Ended(Box::new(self.end(id, outcome))),
        })
    }

    /// Gives back the memory of a waiting run's stack, if it has used much of it.
    fn trim(&mut self, id: RunId) {
        let slot = &mut self.slots[id.0 as u32 as usize];
        let run = slot.run.as_mut().expect("the run waits");
        if run.current.take_deep() {
            // The switch has pushed a few words below the frame that suspended.
            self.stacks.trim(run.current.stack_base, run.current.suspended_at - 4096);
        }
    }

    fn end(&mut self, id: RunId, outcome: run::Outcome) -> Ending {
        let index = id.0 as u32;
        let mut run = self.slots[index as usize].run.take().expect("the run was there");
        self.free.push(index);
        self.users.leave(run.user);
        self.count -= 1;
        self.held -= run.held;
        let deep = run.current.take_deep();
        self.stacks.put_back(run.coroutine.into_stack(), deep);
        let current = *run.current;
        let operations = current.operations();
        let (cause, response) = match (current.over, &outcome) {
            (Some(over), _) => over.cause(),
            (None, Some(_)) => (Cause::Failed, Some(Response::new(500))),
            (None, None) => (Cause::Finished, Some(after(&current.last))),
        };
        Ending { cause, response, fault: outcome, trace: current.trace, operations }
    }
}

impl Drop for Machine {
    /// Ends all runs, so that nothing uses the stacks any more.
    fn drop(&mut self) {
        for index in 0..self.slots.len() {
            let generation = u64::from(self.slots[index].generation);
            self.cancel(RunId(generation << 32 | index as u64));
        }
    }
}

impl Run {
    /// The limit of time that it is over.
    fn over(&self, now: Duration) -> Option<Limit> {
        let (run_end, script_end) = self.ends();
        let dials = matches!(self.waits, Waits::Dialling(_));
        match now {
            now if now >= run_end => Some(Limit::RunTime),
            now if now >= script_end && !dials => Some(Limit::ScriptTime),
            _ => None,
        }
    }

    fn ends(&self) -> (Duration, Duration) {
        let (current, limits) = (&self.current, &self.current.limits);
        let run_end = current.started + Duration::from_secs(limits.max_run_secs.into());
        let script = Duration::from_secs(limits.max_script_secs.into()) + current.extended + self.dialled;
        (run_end, current.started + script)
    }

    fn next_due(&self) -> Duration {
        let (run_end, script_end) = self.ends();
        match self.waits {
            Waits::Dialling(_) => run_end,
            Waits::Until(until) => run_end.min(script_end).min(until),
            Waits::Reply | Waits::Slice => run_end.min(script_end),
        }
    }
}

/// What the caller gets when a script has no more to try: what the last leg said, unless that was for us alone (a
/// redirection, a challenge).
fn after(last: &Dialled) -> Response {
    match last.status {
        0..=399 | 401 | 407 => Response::new(480),
        status => Response { status, reason: last.reason.as_str().into(), headers: Vec::new() },
    }
}
