//! The client's two machines (RFC 3261 §17.1, figures 5 and 6; figure 5 as RFC 6026 §7.2 has it), and CANCEL (§9.1).

use crate::{
    derived::{ack_for, cancel_for, shortened},
    step::{Next, Step},
};
use agent::Way;
use sip::{HeaderName, Message, StatusCode};

/// One client transaction.
#[derive(Debug)]
pub(crate) struct Client<U> {
    /// The random part of its branch.
    pub(crate) id: u64,
    /// Whether it is a CANCEL, which has the branch of its INVITE.
    pub(crate) is_cancel: bool,
    /// None for a CANCEL, whose outcome nobody waits for.
    pub(crate) user: Option<U>,
    pub(crate) way: Way,
    pub(crate) machine: Machine,
}

#[derive(Debug)]
pub(crate) enum Machine {
    Invite(InviteClient),
    NonInvite(NonInviteClient),
}

/// Figure 5.
#[derive(Debug)]
pub(crate) enum InviteClient {
    /// No response yet.
    Calling {
        invite: Box<[u8]>,
        /// Timer A's interval.
        interval: u64,
        /// Timer B.
        ends: u64,
        /// The TU has cancelled it; the CANCEL waits for a provisional response.
        cancelled: bool,
    },
    /// A provisional response has come. Where it rings for longer, the INVITE is shortened to what an ACK and a CANCEL repeat.
    Proceeding { invite: Box<[u8]>, cancelled: bool },
    /// A final response other than 2xx has come. Timer D runs.
    Completed { ack: Box<[u8]> },
    /// A 2xx has come. Timer M runs.
    Accepted,
}

/// Figure 6.
#[derive(Debug)]
pub(crate) enum NonInviteClient {
    /// No response yet.
    Trying {
        request: Box<[u8]>,
        /// Timer E's interval.
        interval: u64,
        /// Timer F.
        ends: u64,
    },
    /// A provisional response has come.
    Proceeding {
        request: Box<[u8]>,
        /// Timer F.
        ends: u64,
    },
    /// A final response has come. Timer K runs.
    Completed,
}

/// What a response does to a client transaction.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) next: Next,
    /// Whether the TU is told.
    pub(crate) tell: bool,
    /// The CANCEL that has waited for this response.
    pub(crate) cancel: Option<Box<[u8]>>,
}

impl Heard {
    fn told(next: Next) -> Self {
        Self { next, tell: true, cancel: None }
    }

    fn absorbed() -> Self {
        Self { next: Next::Keep, tell: false, cancel: None }
    }
}

impl Machine {
    /// The machine of a request which is being sent, and its first timer.
    pub(crate) fn new(step: &Step<'_, '_>, is_invite: bool, octets: &[u8]) -> (Self, Next) {
        let (interval, ends) = (step.intervals.t1, step.now + step.intervals.lifetime);
        let machine = if is_invite {
            Self::Invite(InviteClient::Calling { invite: octets.into(), interval, ends, cancelled: false })
        } else {
            Self::NonInvite(NonInviteClient::Trying { request: octets.into(), interval, ends })
        };
        (machine, Next::At(if step.reliable { ends } else { (step.now + interval).min(ends) }))
    }

    /// A response comes.
    pub(crate) fn hear(&mut self, step: &mut Step<'_, '_>, status: StatusCode, response: &Message<'_>) -> Heard {
        match self {
            Self::Invite(machine) => machine.hear(step, status, response),
            Self::NonInvite(machine) => machine.hear(step, status),
        }
    }

    /// Its timer fires. True if the TU must hear that no final response came.
    pub(crate) fn fire(&mut self, step: &mut Step<'_, '_>) -> (Next, bool) {
        match self {
            Self::Invite(machine) => machine.fire(step),
            Self::NonInvite(machine) => machine.fire(step),
        }
    }
}

impl InviteClient {
    fn hear(&mut self, step: &mut Step<'_, '_>, status: StatusCode, response: &Message<'_>) -> Heard {
        match (&mut *self, status.get()) {
            (Self::Calling { invite, cancelled, .. }, ..200) => {
                let (invite, cancelled) = (std::mem::take(invite), *cancelled);
                let mut heard = Heard::told(Next::At(step.now + step.intervals.t4));
                if cancelled {
                    heard.cancel = Some(cancel_for(&invite));
                    heard.next = Next::At(step.now + step.intervals.lifetime);
                }
                *self = Self::Proceeding { invite, cancelled };
                heard
            }
            (Self::Proceeding { .. }, ..200) => Heard::told(Next::Keep),
            (Self::Calling { .. } | Self::Proceeding { .. }, 200..300) => {
                *self = Self::Accepted;
                Heard::told(Next::At(step.now + step.intervals.lifetime))
            }
            // RFC 6026 §7.2: every 2xx, repeated or of another fork, is the TU's to acknowledge.
            (Self::Accepted, 200..300) => Heard::told(Next::Keep),
            (Self::Calling { invite, .. } | Self::Proceeding { invite, .. }, _) => {
                let invite = std::mem::take(invite);
                self.complete(step, &invite, response)
            }
            (Self::Completed { ack }, 300..) => {
                step.retransmit(ack);
                Heard::absorbed()
            }
            (Self::Completed { .. } | Self::Accepted, _) => Heard::absorbed(),
        }
    }

    /// A final response other than 2xx: acknowledged here (§17.1.1.3).
    fn complete(&mut self, step: &mut Step<'_, '_>, invite: &[u8], response: &Message<'_>) -> Heard {
        let ack = ack_for(invite, response.value(HeaderName::To).unwrap_or_default());
        step.send(&ack);
        *self = Self::Completed { ack };
        // Timer D.
        Heard::told(if step.reliable { Next::Terminated } else { Next::At(step.now + step.intervals.d) })
    }

    /// The TU cancels. What comes with it is the CANCEL that goes out now.
    pub(crate) fn cancel(&mut self, step: &Step<'_, '_>) -> (Next, Option<Box<[u8]>>) {
        match self {
            // §9.1: not before a provisional response, or the CANCEL might overtake its INVITE.
            Self::Calling { cancelled, .. } => {
                *cancelled = true;
                (Next::Keep, None)
            }
            Self::Proceeding { invite, cancelled: cancelled @ false } => {
                *cancelled = true;
                // §9.1: without a final response 64*T1 after the CANCEL the INVITE is considered cancelled.
                (Next::At(step.now + step.intervals.lifetime), Some(cancel_for(invite)))
            }
            // §9.1: a CANCEL has no effect on what has a final response.
            Self::Proceeding { .. } | Self::Completed { .. } | Self::Accepted => (Next::Keep, None),
        }
    }

    fn fire(&mut self, step: &mut Step<'_, '_>) -> (Next, bool) {
        match self {
            // Timer B.
            Self::Calling { ends, .. } if step.now >= *ends => (Next::Terminated, true),
            // Timer A, which T2 does not bound.
            Self::Calling { invite, interval, ends, .. } => {
                step.retransmit(invite);
                *interval *= 2;
                (Next::At((step.now + *interval).min(*ends)), false)
            }
            Self::Proceeding { cancelled: true, .. } => (Next::Terminated, true),
            Self::Proceeding { invite, .. } => {
                *invite = shortened(invite);
                (Next::Wait, false)
            }
            // Timers D and M.
            Self::Completed { .. } | Self::Accepted => (Next::Terminated, false),
        }
    }
}

impl NonInviteClient {
    fn hear(&mut self, step: &mut Step<'_, '_>, status: StatusCode) -> Heard {
        match self {
            Self::Completed => Heard::absorbed(),
            Self::Trying { request, ends, .. } if status.is_provisional() => {
                // Timer E runs on, and is set to T2 when it fires (§17.1.2.2).
                *self = Self::Proceeding { request: std::mem::take(request), ends: *ends };
                Heard::told(Next::Keep)
            }
            Self::Proceeding { .. } if status.is_provisional() => Heard::told(Next::Keep),
            Self::Trying { .. } | Self::Proceeding { .. } => {
                *self = Self::Completed;
                // Timer K.
                Heard::told(if step.reliable { Next::Terminated } else { Next::At(step.now + step.intervals.t4) })
            }
        }
    }

    fn fire(&mut self, step: &mut Step<'_, '_>) -> (Next, bool) {
        let (request, interval, ends) = match self {
            // Timer F.
            Self::Trying { ends, .. } | Self::Proceeding { ends, .. } if step.now >= *ends => {
                return (Next::Terminated, true);
            }
            // Timer E.
            Self::Trying { request, interval, ends } => {
                *interval = (2 * *interval).min(step.intervals.t2);
                (request, *interval, *ends)
            }
            Self::Proceeding { request, ends } => (request, step.intervals.t2, *ends),
            // Timer K.
            Self::Completed => return (Next::Terminated, false),
        };
        step.retransmit(request);
        (Next::At((step.now + interval).min(ends)), false)
    }
}
