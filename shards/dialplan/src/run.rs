//! One run: the script on its stack, what it has used up, and how it asks.
//!
//! The functions that a script calls find their run in [`CURRENT`], which the machine sets around each resume. Nothing
//! keeps a reference to it across a suspension.

use crate::{
    Ask, Cause, Dialled, Facts, Fault, Limits, Plan, Reply,
    ask::Response,
    dial::{Dial, Shape},
    memory,
};
use corosensei::Yielder;
use rhai::{Dynamic, Engine, EvalAltResult, Position, Scope};
use std::{
    cell::Cell,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr,
    sync::Arc,
    time::Duration,
};

/// Operations between two looks at the clock.
const GLANCE: u64 = 16;

/// A frame deeper than this has used more than nearly every run does.
pub(crate) const DEEP: usize = 48 * 1024;

/// What raises an error in a script.
pub(crate) type Raised = Box<EvalAltResult>;

/// Why a run is suspended.
pub(crate) enum Paused {
    /// It waits for a reply.
    Asks(Ask),
    /// Its slice is used up.
    Slice,
    /// It waits for so long.
    Sleeps(Duration),
}

/// Why it goes on.
pub(crate) enum Wake {
    Reply(Reply),
    Go,
    /// It must end.
    End(Over),
}

/// Why a run is being ended from outside of its script's own course.
#[derive(Clone, Debug)]
pub(crate) enum Over {
    /// It has brought about what it was for.
    Done(Cause, Option<Response>),
    Limit(Limit),
}

/// A bound that a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Operations,
    ScriptTime,
    RunTime,
    Memory,
    MemoryTotal,
    Stack,
    Legs,
    WebRequests,
    Callbacks,
    Questions,
    Headers,
}

impl Limit {
    fn response(self) -> Response {
        match self {
            Self::RunTime => Response::new(480),
            Self::MemoryTotal => Response::new(503),
            _ => Response::new(500),
        }
    }

    fn describe(self, limits: &Limits, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, what, key) = match self {
            Self::Operations => (limits.max_operations, "operations", "max_operations"),
            Self::ScriptTime => (limits.max_script_secs.into(), "seconds besides dialling", "max_script_secs"),
            Self::RunTime => (limits.max_run_secs.into(), "seconds in all", "max_run_secs"),
            Self::Memory => (limits.max_memory_bytes as u64, "octets of memory", "max_memory_bytes"),
            Self::MemoryTotal => {
                return write!(f, "all runs together hold too much memory (`max_memory_total_bytes`)");
            }
            Self::Stack => return write!(f, "functions and expressions nest too deeply (`max_stack_bytes`)"),
            Self::Legs => (limits.max_legs.into(), "legs", "max_legs"),
            Self::WebRequests => (limits.max_web_requests.into(), "requests to the web", "max_web_requests"),
            Self::Callbacks => (limits.max_callbacks.into(), "calls back", "max_callbacks"),
            Self::Questions => (limits.max_questions.into(), "lookups, waits and requests", "max_questions"),
            Self::Headers => (limits.max_headers as u64, "header fields", "max_headers"),
        };
        write!(f, "the run took more than {count} {what} (`{key}`)")
    }

    pub fn told<'a>(self, limits: &'a Limits) -> impl fmt::Display + use<'a> {
        fmt::from_fn(move |f| self.describe(limits, f))
    }
}

/// What a run knows and has used up.
pub(crate) struct Current {
    pub facts: Facts,
    pub plan: Plan,
    pub limits: Arc<Limits>,
    /// Monotonic, at the start.
    pub started: Duration,
    /// Monotonic, at the last resume.
    pub now: Duration,
    /// What the script has changed in the requests that it sends.
    pub shape: Shape,
    /// The last dial command's end.
    pub last: Dialled,
    pub trace: Vec<Box<str>>,
    pub used: Used,
    /// Time that `sys.extend_time` has added.
    pub extended: Duration,
    pub over: Option<Over>,
    clock: fn() -> Duration,
    yielder: *const Yielder<Wake, Paused>,
    operations: u64,
    slice_operations: u64,
    slice_end: Duration,
    glance: u64,
    /// Where the stack begins.
    pub stack_base: usize,
    /// A frame as deep as any that is in use while it is suspended, but for the switch itself.
    pub suspended_at: usize,
    /// The deepest frame seen.
    deepest: usize,
    /// What the thread's balance was when the run held nothing.
    ground: isize,
    /// What it may hold: its own bound, or what all runs leave it.
    room: isize,
    room_limit: Limit,
    /// The most that it held.
    peak: isize,
}

/// How often a run did what is counted.
#[derive(Default)]
pub(crate) struct Used {
    pub legs: u32,
    pub web_requests: u32,
    pub callbacks: u32,
    pub questions: u32,
}

thread_local! {
    static CURRENT: Cell<*mut Current> = const { Cell::new(ptr::null_mut()) };
}

impl Current {
    pub fn new(
        facts: Facts,
        plan: Plan,
        limits: Arc<Limits>,
        clock: fn() -> Duration,
        now: Duration,
        stack_base: usize,
    ) -> Self {
        let last = Dialled {
            result: crate::DialResult::Error,
            status: 0,
            reason: String::new(),
            redirect: None,
            legs: vec![],
        };
        Self {
            facts,
            plan,
            limits,
            started: now,
            now,
            shape: Shape::default(),
            last,
            trace: Vec::new(),
            used: Used::default(),
            extended: Duration::ZERO,
            over: None,
            clock,
            yielder: ptr::null(),
            operations: 0,
            slice_operations: 0,
            slice_end: Duration::ZERO,
            glance: 0,
            stack_base,
            suspended_at: 0,
            deepest: usize::MAX,
            ground: 0,
            room: 0,
            room_limit: Limit::Memory,
            peak: 0,
        }
    }

    /// What it holds, while it runs.
    fn held(&self) -> isize {
        memory::balance().wrapping_sub(self.ground)
    }

    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// Whether it used its stack, or memory that may nest, beyond what nearly every run does; and forgets it.
    pub fn take_deep(&mut self) -> bool {
        let deep = self.stack_base - self.deepest.min(self.stack_base) > DEEP || self.peak > DEEP as isize;
        self.deepest = usize::MAX;
        self.peak = 0;
        deep
    }

    /// Since the Unix epoch, now.
    pub fn unix(&self) -> Duration {
        self.facts.unix + self.now.saturating_sub(self.started)
    }

    /// Does what is not of the script's making, and so not on its account.
    pub fn uncounted<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let before = memory::balance();
        let result = work(self);
        self.ground = self.ground.wrapping_add(memory::balance().wrapping_sub(before));
        result
    }

    /// As [`Current::uncounted`] for what may fail: the message becomes the script's own.
    pub fn apart<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, Raised> {
        self.uncounted(work).map_err(|wrong| {
            let raised = wrong.as_str().into();
            self.uncounted(|_| drop(wrong));
            raised
        })
    }

    /// Counts the legs of a dial command.
    pub fn count_legs(&mut self, dial: &Dial) -> Result<(), Raised> {
        self.used.legs += dial.steps.iter().map(|step| step.len() as u32).sum::<u32>();
        if self.used.legs > self.limits.max_legs { Err(self.limit(Limit::Legs)) } else { Ok(()) }
    }

    /// Ends the run at a bound.
    pub fn limit(&mut self, limit: Limit) -> Raised {
        self.end(Over::Limit(limit))
    }

    /// Ends the run. What is returned passes every `catch`.
    pub fn end(&mut self, over: Over) -> Raised {
        self.over.get_or_insert(over);
        EvalAltResult::ErrorTerminated(Dynamic::UNIT, Position::NONE).into()
    }

    /// A line for the author.
    pub fn log(&mut self, line: &str) {
        let count = self.limits.max_log_lines as usize;
        let line = match self.trace.len() {
            n if n + 1 < count => line,
            n if n < count => "further lines are left out (`max_log_lines`)",
            _ => return,
        };
        let end = line.floor_char_boundary(self.limits.max_log_line_bytes);
        let line: String = line[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.trace.push(line.into());
    }

    /// Counts an operation and looks whether the run may go on, ends, or has used its slice.
    #[inline]
    fn tick(&mut self) -> Verdict {
        if self.over.is_some() {
            return Verdict::Stop;
        }
        let mark = 0_u8;
        let here = std::hint::black_box(&raw const mark).addr();
        let held = self.held();
        self.operations += 1;
        self.deepest = self.deepest.min(here);
        self.peak = self.peak.max(held);
        if self.stack_base - here > self.limits.max_stack_bytes {
            self.over = Some(Over::Limit(Limit::Stack));
        } else if held > self.room {
            self.over = Some(Over::Limit(self.room_limit));
        } else if self.operations > self.limits.max_operations {
            self.over = Some(Over::Limit(Limit::Operations));
        } else if self.operations < self.glance {
            return Verdict::Go;
        } else {
            self.glance = self.operations + GLANCE;
            let used_up = self.operations >= self.slice_operations || (self.clock)() >= self.slice_end;
            return if used_up { Verdict::Pause } else { Verdict::Go };
        }
        Verdict::Stop
    }
}

/// What [`Current::tick`] says.
enum Verdict {
    Go,
    Pause,
    Stop,
}

/// What the engine calls for each operation.
pub(crate) fn progress(_: u64) -> Option<Dynamic> {
    match with(Current::tick) {
        Verdict::Go => None,
        Verdict::Stop => Some(Dynamic::UNIT),
        Verdict::Pause => match suspend(Paused::Slice) {
            Wake::Go | Wake::Reply(_) => None,
            Wake::End(over) => {
                with(|current| current.over = Some(over));
                Some(Dynamic::UNIT)
            }
        },
    }
}

/// Hands the current run to a script's function.
pub(crate) fn with<T>(work: impl FnOnce(&mut Current) -> T) -> T {
    // SAFETY: `resume` has set it to the run whose coroutine runs here, and holds that run exclusively until the coroutine
    // suspends. `work` neither suspends nor calls a script, so that no second reference comes to be.
    let current = unsafe { CURRENT.get().as_mut() }.expect("scripts run in a machine only");
    work(current)
}

/// Hands over to the machine until it resumes the run.
fn suspend(paused: Paused) -> Wake {
    let mark = 0_u8;
    let here = std::hint::black_box(&raw const mark).addr();
    let yielder = with(|current| {
        current.suspended_at = here;
        current.yielder
    });
    // SAFETY: the yielder lives at the root of the coroutine that runs here.
    unsafe { &*yielder }.suspend(paused)
}

/// Asks and waits for the reply, out of which `read` takes what the script gets.
pub(crate) fn ask<T>(
    make: impl FnOnce(&mut Current) -> Ask,
    read: impl FnOnce(&mut Current, &Reply) -> Option<T>,
) -> Result<T, Raised> {
    let ask = with(|current| current.uncounted(make));
    let reply = match suspend(Paused::Asks(ask)) {
        Wake::Reply(reply) => reply,
        Wake::Go => Reply::Refused("there is no answer".to_owned()),
        Wake::End(over) => return Err(with(|current| current.end(over))),
    };
    with(|current| {
        let read = match &reply {
            Reply::Refused(why) => Err(why.as_str().into()),
            reply => read(current, reply).ok_or_else(|| "the application server has answered something else".into()),
        };
        current.uncounted(|_| drop(reply));
        read
    })
}

/// A lookup or another question that `max_questions` counts.
pub(crate) fn question<T>(
    make: impl FnOnce(&mut Current) -> Ask,
    read: impl FnOnce(&mut Current, &Reply) -> Option<T>,
) -> Result<T, Raised> {
    with(count_question)?;
    ask(make, read)
}

fn count_question(current: &mut Current) -> Result<(), Raised> {
    current.used.questions += 1;
    if current.used.questions > current.limits.max_questions {
        return Err(current.limit(Limit::Questions));
    }
    Ok(())
}

/// Waits.
pub(crate) fn sleep(time: Duration) -> Result<(), Raised> {
    with(count_question)?;
    match suspend(Paused::Sleeps(time)) {
        Wake::End(over) => Err(with(|current| current.end(over))),
        Wake::Go | Wake::Reply(_) => Ok(()),
    }
}

/// What a run's coroutine gives back: what was wrong.
pub(crate) type Outcome = Option<Box<Fault>>;

pub(crate) type Coroutine = corosensei::Coroutine<Wake, Paused, Outcome, crate::stacks::Stack>;

/// The body of a run's coroutine. Nothing of the script's making leaves it, so that all of it is dropped on this stack.
pub(crate) fn body(engine: &Engine, yielder: &Yielder<Wake, Paused>) -> Outcome {
    let plan = with(|current| {
        current.yielder = yielder;
        current.plan.clone()
    });
    let run = || {
        let result = engine.eval_ast_with_scope::<Dynamic>(&mut Scope::new(), plan.ast());
        let error = result.err()?;
        with(|current| current.uncounted(|current| plan.fault(&error, current)))
    };
    // A run that the machine could end in no other way is unwound through here, too; nobody looks at its outcome.
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|_| Some(Box::new(Fault::of_plan(plan.name(), "the interpreter failed"))))
}

/// What the machine gives a run for one resume.
pub(crate) struct Grant {
    /// What the run holds already.
    pub held: isize,
    /// What all runs together may still take, this one's share included.
    pub room: isize,
    pub now: Duration,
}

/// Resumes a run for one slice. Gives what it holds now.
pub(crate) fn resume(
    coroutine: &mut Coroutine,
    current: &mut Current,
    wake: Wake,
    grant: &Grant,
) -> (corosensei::CoroutineResult<Paused, Outcome>, isize) {
    let own = current.limits.max_memory_bytes as isize;
    current.now = grant.now;
    current.slice_operations = current.operations + current.limits.slice_operations;
    current.glance = current.operations + GLANCE;
    current.slice_end = (current.clock)() + current.limits.slice_time;
    current.room = own.min(grant.room);
    current.room_limit = if own <= grant.room { Limit::Memory } else { Limit::MemoryTotal };
    current.ground = memory::balance().wrapping_sub(grant.held);
    let before = CURRENT.replace(current);
    let result = coroutine.resume(wake);
    CURRENT.set(before);
    let held = current.held();
    (result, held)
}

impl Over {
    /// Why the run ended, and what the caller gets.
    pub fn cause(self) -> (Cause, Option<Response>) {
        match self {
            Self::Done(cause, response) => (cause, response),
            Self::Limit(limit) => (Cause::Failed, Some(limit.response())),
        }
    }
}
