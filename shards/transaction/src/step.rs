//! What a machine has at hand while it takes one step, and what it says afterwards.

use crate::settings::Intervals;
use agent::{Outbox, Way};

/// What a transaction's machine waits for after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The timer that ran before still runs.
    Keep,
    /// No timer runs.
    Wait,
    /// A timer fires at that tick.
    At(u64),
    /// It ends at once.
    Terminated,
}

/// The time, the way and the outbox of one step.
pub(crate) struct Step<'s, 't> {
    /// The tick at which it happens.
    pub(crate) now: u64,
    pub(crate) intervals: &'s Intervals,
    /// The way that the transaction's messages take.
    pub(crate) way: Way,
    /// Whether that way loses nothing.
    pub(crate) reliable: bool,
    /// Counts what is sent once more.
    pub(crate) retransmissions: &'s mut u64,
    pub(crate) out: &'s mut Outbox<'t>,
}

impl Step<'_, '_> {
    /// Sends what the transaction keeps, if that is anything.
    pub(crate) fn send(&mut self, octets: &[u8]) {
        if octets.is_empty() {
            return;
        }
        self.out.post(self.way, self.out.arena().alloc_slice_copy(octets));
    }

    /// Sends it once more.
    pub(crate) fn retransmit(&mut self, octets: &[u8]) {
        *self.retransmissions += u64::from(!octets.is_empty());
        self.send(octets);
    }
}
