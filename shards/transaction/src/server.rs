//! The server's two machines (RFC 3261 §17.2, figures 7 and 8; figure 7 as RFC 6026 §7.1 has it).

use crate::{
    matching::Key,
    step::{Next, Step},
};
use agent::Flow;
use sip::StatusCode;

/// One server transaction.
#[derive(Debug)]
pub(crate) struct Server<U> {
    pub(crate) key: Key,
    /// The request's own key, if the transaction is found by it too.
    pub(crate) request: Option<Key>,
    pub(crate) user: Option<U>,
    /// The flow that the request came on.
    pub(crate) flow: Flow,
    pub(crate) machine: Machine,
}

#[derive(Debug)]
pub(crate) enum Machine {
    Invite(InviteServer),
    NonInvite(NonInviteServer),
}

/// Figure 7.
#[derive(Debug)]
pub(crate) enum InviteServer {
    /// No final response yet.
    Proceeding {
        /// The last provisional response; empty before the first.
        last: Box<[u8]>,
    },
    /// A 2xx has been sent.
    Accepted {
        /// The 2xx and the interval at which it goes out again, until its ACK comes (§13.3.1.4).
        unacknowledged: Option<(Box<[u8]>, u64)>,
        /// Timer L.
        ends: u64,
    },
    /// Another final response has been sent.
    Completed {
        response: Box<[u8]>,
        /// Timer G's interval.
        interval: u64,
        /// Timer H.
        ends: u64,
    },
    /// Its ACK has come. Timer I runs.
    Confirmed,
}

/// Figure 8.
#[derive(Debug)]
pub(crate) enum NonInviteServer {
    /// No response yet.
    Trying {
        /// A 100 to send when its time has come (RFC 4320 §4.1).
        trying: Option<Box<[u8]>>,
        /// When the client has given up.
        ends: u64,
    },
    /// A provisional response has been sent.
    Proceeding {
        last: Box<[u8]>,
        /// When the client has given up.
        ends: u64,
    },
    /// A final response has been sent. Timer J runs.
    Completed { response: Box<[u8]> },
}

impl Machine {
    /// The request comes again: the last response answers it (§17.2.1, §17.2.2).
    pub(crate) fn repeat(&self, step: &mut Step<'_, '_>) {
        let last = match self {
            Self::Invite(InviteServer::Proceeding { last }) => last,
            Self::Invite(InviteServer::Completed { response, .. }) => response,
            // RFC 6026 §7.1: absorbed. The 2xx has its own retransmissions.
            Self::Invite(InviteServer::Accepted { .. } | InviteServer::Confirmed) => return,
            Self::NonInvite(NonInviteServer::Trying { .. }) => return,
            Self::NonInvite(NonInviteServer::Proceeding { last, .. }) => last,
            Self::NonInvite(NonInviteServer::Completed { response }) => response,
        };
        step.retransmit(last);
    }

    /// A response of the TU's, to be sent; None where the state discards it (§17.2.1, §17.2.2).
    pub(crate) fn respond(&mut self, step: &Step<'_, '_>, status: StatusCode, octets: &[u8]) -> Option<Next> {
        match self {
            Self::Invite(machine) => machine.respond(step, status, octets),
            Self::NonInvite(machine) => machine.respond(step, status, octets),
        }
    }

    /// Its timer fires. True if the TU must hear that a 2xx never got its ACK.
    pub(crate) fn fire(&mut self, step: &mut Step<'_, '_>) -> (Next, bool) {
        match self {
            Self::Invite(machine) => machine.fire(step),
            Self::NonInvite(machine) => (machine.fire(step), false),
        }
    }
}

impl InviteServer {
    fn respond(&mut self, step: &Step<'_, '_>, status: StatusCode, octets: &[u8]) -> Option<Next> {
        let first = step.now + step.intervals.t1;
        let ends = step.now + step.intervals.lifetime;
        match self {
            Self::Proceeding { last } if status.is_provisional() => {
                *last = octets.into();
                Some(Next::Wait)
            }
            Self::Proceeding { .. } if status.get() < 300 => {
                *self = Self::Accepted { unacknowledged: Some((octets.into(), step.intervals.t1)), ends };
                // §13.3.1.4: over reliable transports too, for not every hop need be one.
                Some(Next::At(first))
            }
            Self::Proceeding { .. } => {
                *self = Self::Completed { response: octets.into(), interval: step.intervals.t1, ends };
                Some(Next::At(if step.reliable { ends } else { first }))
            }
            // RFC 6026 §7.1: every 2xx that the TU passes down goes out.
            Self::Accepted { .. } if (200..300).contains(&status.get()) => Some(Next::Keep),
            _ => None,
        }
    }

    /// An ACK comes. True if it is one for a 2xx, which belongs to the TU.
    pub(crate) fn acknowledge(&mut self, step: &Step<'_, '_>) -> (Next, bool) {
        match self {
            // Nothing has been sent that it could acknowledge, or it has been acknowledged.
            Self::Proceeding { .. } | Self::Confirmed => (Next::Keep, false),
            Self::Accepted { unacknowledged, ends } => {
                *unacknowledged = None;
                (Next::At(*ends), true)
            }
            Self::Completed { .. } => {
                *self = Self::Confirmed;
                // Timer I.
                (if step.reliable { Next::Terminated } else { Next::At(step.now + step.intervals.t4) }, false)
            }
        }
    }

    fn fire(&mut self, step: &mut Step<'_, '_>) -> (Next, bool) {
        let (response, interval, ends) = match self {
            Self::Proceeding { .. } => return (Next::Wait, false),
            // Timer L. It is also when a 2xx without ACK is given up (§13.3.1.4).
            Self::Accepted { unacknowledged, ends } if step.now >= *ends => {
                return (Next::Terminated, unacknowledged.is_some());
            }
            Self::Accepted { unacknowledged: None, ends } => return (Next::At(*ends), false),
            // Timer H, which the TU hears nothing of (RFC 6026 §7.1).
            Self::Completed { ends, .. } if step.now >= *ends => return (Next::Terminated, false),
            // Timer I.
            Self::Confirmed => return (Next::Terminated, false),
            Self::Accepted { unacknowledged: Some((response, interval)), ends } => (response, interval, ends),
            // Timer G.
            Self::Completed { response, interval, ends } => (response, interval, ends),
        };
        step.retransmit(response);
        *interval = (2 * *interval).min(step.intervals.t2);
        (Next::At((step.now + *interval).min(*ends)), false)
    }
}

impl NonInviteServer {
    fn respond(&mut self, step: &Step<'_, '_>, status: StatusCode, octets: &[u8]) -> Option<Next> {
        match self {
            Self::Completed { .. } => None,
            Self::Trying { ends, .. } | Self::Proceeding { ends, .. } if status.is_provisional() => {
                let ends = *ends;
                *self = Self::Proceeding { last: octets.into(), ends };
                Some(Next::At(ends))
            }
            // Timer J has no length over a reliable transport.
            _ if step.reliable => Some(Next::Terminated),
            _ => {
                *self = Self::Completed { response: octets.into() };
                Some(Next::At(step.now + step.intervals.lifetime))
            }
        }
    }

    /// Keeps a 100 until it may be sent: not before the client's timer E is at T2 (RFC 4320 §4.1).
    pub(crate) fn keep_trying(&mut self, step: &Step<'_, '_>, octets: &[u8]) -> Next {
        match self {
            Self::Trying { trying, ends } => {
                *trying = Some(octets.into());
                Next::At((step.now + step.intervals.until_t2).min(*ends))
            }
            Self::Proceeding { .. } | Self::Completed { .. } => Next::Keep,
        }
    }

    fn fire(&mut self, step: &mut Step<'_, '_>) -> Next {
        match self {
            // RFC 4320 §4.2: the client has given up, and a 408 would only come late.
            Self::Trying { ends, .. } | Self::Proceeding { ends, .. } if step.now >= *ends => Next::Terminated,
            Self::Trying { trying, ends } => {
                let ends = *ends;
                if let Some(last) = trying.take() {
                    step.send(&last);
                    *self = Self::Proceeding { last, ends };
                }
                Next::At(ends)
            }
            Self::Proceeding { ends, .. } => Next::At(*ends),
            // Timer J.
            Self::Completed { .. } => Next::Terminated,
        }
    }
}
