//! A call: while it is set up, and once it is answered.
//!
//! The two are types of their own, for an answered call keeps little of what its set-up needed: no script, no offer, no
//! list of targets.

use crate::{
    bridge::Bridge,
    call_back::CallBack,
    cdr::Facts,
    established::{self, Established},
    leg::Leg,
    ring::{Run, Todo},
    shared::{CallKey, Context},
    slab::Timed,
};
use agent::{Flow, Ticket, Way};
use dialog::{Dialog, Reason};
use sip::StatusCode;
use std::{collections::VecDeque, rc::Rc, sync::Arc, time::Duration};
use store::{EndedBy, Provider};
use transaction::ServerId;

/// Number of a leg within its call.
pub(crate) type LegNo = u8;

/// Number of a run within its call; 0 is the first.
pub(crate) type RunNo = u8;

pub(crate) enum Call {
    Setup(Box<Setup>),
    Established(Box<Established>),
}

impl Timed for Call {
    fn next_timeout(&self) -> Option<Duration> {
        match self {
            Self::Setup(setup) => setup.next_timeout(),
            Self::Established(established) => established.next_timeout(),
        }
    }
}

impl Call {
    pub fn number(&self) -> u128 {
        match self {
            Self::Setup(setup) => setup.number,
            Self::Established(established) => established.number,
        }
    }

    /// Whether nothing is left to wait for.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Setup(setup) => setup.is_over(),
            Self::Established(established) => established.is_over(),
        }
    }

    /// Whether only the repetition of a BYE is waited for.
    pub fn has_ended(&self) -> bool {
        matches!(self, Self::Established(established) if matches!(established.state, established::State::Ended { .. }))
    }

    /// Takes away what finds it: it is over.
    pub fn forget(&self, ctx: &mut Context<'_, '_>) {
        match self {
            Self::Setup(setup) => setup.forget(ctx),
            Self::Established(established) => established.forget(ctx),
        }
    }
}

/// A call from its INVITE to its answer, or until all that was begun for it has ended.
pub(crate) struct Setup {
    /// The call's number: in CDRs and in the journal.
    pub number: u128,
    pub caller: Caller,
    pub state: State,
    pub runs: Vec<Run>,
    pub legs: Vec<Leg>,
    /// Early dialogs.
    pub bridges: Vec<Early>,
    /// What is to be done next. A list and no calls in calls: a plan may dial in vain as often as it likes.
    pub todo: VecDeque<Todo>,
    /// When it must be answered.
    pub until: Duration,
    /// What follows when a leg has answered, if this calls the first party of a call back.
    pub call_back: Option<Box<CallBack>>,
    /// Legs that the call had before this set-up.
    pub legs_before: u16,
}

/// How far the set-up is.
pub(crate) enum State {
    /// The caller has no final response.
    Proceeding,
    /// A leg has answered; the caller's 2xx waits for the journal.
    Answering {
        ticket: Ticket,
        /// Which of [`Setup::bridges`].
        bridge: usize,
        response: Box<[u8]>,
    },
    /// A leg has answered; the end that is transferred to it is yet to take its offer.
    Joining {
        /// Which of [`Setup::bridges`].
        bridge: usize,
        /// CSeq number of the leg's INVITE.
        cseq: u32,
    },
    /// The first party of a call back has answered, and is about to be held while the other one is called.
    Held {
        /// Which of [`Setup::bridges`].
        bridge: usize,
        /// His description, if he has given one.
        answer: Option<Box<[u8]>>,
        /// The flow that it came on.
        flow: Flow,
    },
    /// The caller has a final response other than 2xx. What was begun for him is ending.
    Refused,
}

/// Who calls, and how.
pub(crate) struct Caller {
    /// The INVITE as it came.
    pub invite: Rc<[u8]>,
    /// The flow it came on.
    pub flow: Flow,
    /// The way of our requests to him.
    pub way: Way,
    /// The INVITE's transaction; None where nobody called, for a transfer or a call back asked for the call.
    pub server: Option<ServerId>,
    /// The call that is being transferred, or whose second party this calls: its end takes the caller's place.
    pub transfer: Option<CallKey>,
    /// How it ended before that call could be told: at once.
    pub at_once: Option<(StatusCode, Box<str>)>,
    /// The To tag of responses that belong to no leg's dialog, and of the first early dialog.
    pub tag: u64,
    /// The dialog with that tag, until the first early dialog takes it.
    pub dialog: Option<Dialog>,
    /// Whose call it is, for the bound of calls a user has; None for a stranger's to nobody of ours.
    pub user: Option<Rc<str>>,
    pub facts: Facts,
    /// His INVITE had no offer (RFC 3261 §13.2.1): the leg's response has it, and his ACK the answer.
    pub is_late_offer: bool,
    /// Through whom he calls, if through a provider.
    pub provider: Option<Arc<Provider>>,
}

/// A leg's early dialog and ours with the caller that stands for it.
pub(crate) struct Early {
    pub leg: LegNo,
    pub bridge: Bridge,
}

/// Why a call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Why {
    pub by: EndedBy,
    pub reason: &'static str,
    /// What the BYEs say of it, beside the reason (RFC 3326 §2).
    pub cause: Option<StatusCode>,
}

impl Why {
    /// Somebody here ends it.
    pub const fn ours(by: EndedBy, reason: &'static str) -> Self {
        Self { by, reason, cause: None }
    }

    /// An end of it is not there any longer.
    pub const fn lost(reason: &'static str) -> Self {
        Self { by: EndedBy::Timeout, reason, cause: Some(StatusCode::REQUEST_TIMEOUT) }
    }

    /// The value of Reason.
    pub fn header(&self) -> Option<String> {
        let cause = Some(self.cause?.get().into());
        let mut value = Vec::new();
        Reason { protocol: b"SIP", cause, text: self.reason.as_bytes() }.write(&mut value);
        String::from_utf8(value).ok()
    }
}

impl Setup {
    /// Nothing has been begun for the caller yet.
    pub fn new(ctx: &mut Context<'_, '_>, caller: Caller) -> Box<Self> {
        let number = ctx.core.place.number(ctx.now, ctx.core.mint.draw());
        let until = ctx.now.monotonic + Duration::from_secs(ctx.core.settings.max_setup_secs.into());
        // Most calls have one of each.
        let (runs, legs, bridges) = (Vec::with_capacity(1), Vec::with_capacity(1), Vec::with_capacity(1));
        let (state, todo) = (State::Proceeding, VecDeque::new());
        Box::new(Self { number, caller, state, runs, legs, bridges, todo, until, call_back: None, legs_before: 0 })
    }

    pub fn next_timeout(&self) -> Option<Duration> {
        let legs = self.legs.iter().filter_map(Leg::next_timeout);
        let runs = self.runs.iter().filter_map(Run::next_timeout);
        let early = self.bridges.iter().filter_map(|early| early.bridge.next_timeout());
        let until = matches!(self.state, State::Proceeding).then_some(self.until);
        let call_back = self.call_back.iter().filter_map(|call_back| call_back.next_timeout());
        legs.chain(runs).chain(early).chain(until).chain(call_back).min()
    }

    /// Whether nothing is left to wait for.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Refused) && self.legs.iter().all(Leg::is_over)
    }
}

/// Works on another call than the one that is out of its slot. None where it is not there.
pub(crate) fn with_other<'t, T>(
    ctx: &mut Context<'_, 't>,
    key: CallKey,
    work: impl FnOnce(&mut Call, &mut Context<'_, 't>) -> T,
) -> Option<T> {
    let mut call = ctx.core.calls.take(key)?;
    let mut other = Context { now: ctx.now, key, core: ctx.core, world: ctx.world, out: ctx.out };
    let done = work(&mut call, &mut other);
    put_back(&mut other, call);
    Some(done)
}

/// Puts the call of `ctx` into its slot, or forgets it if it is over.
pub(crate) fn put_back(ctx: &mut Context<'_, '_>, call: Call) {
    if call.is_over() {
        call.forget(ctx);
        ctx.core.calls.release(ctx.key);
    } else {
        ctx.core.calls.put(ctx.key, call);
    }
}
