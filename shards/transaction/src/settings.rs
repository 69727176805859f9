//! The timers' base values (RFC 3261 table 4), and the bound.

use std::time::Duration;

/// What an operator may set.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// T1, the estimate of a round trip: first interval of retransmissions.
    pub t1: Duration,
    /// T2, the longest interval between retransmissions, except those of an INVITE.
    pub t2: Duration,
    /// T4, how long the network keeps a message.
    pub t4: Duration,
    /// Transactions of a shard at one time. CANCELs that we send are not counted: each belongs to an INVITE which is.
    pub max: usize,
    /// Whether the way through a reliable transport is reliable all along: only where nothing between here and the peer
    /// loses a message, that is where the proxy runs in this process.
    pub streams_are_reliable: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
            max: 2_000_000,
            streams_are_reliable: false,
        }
    }
}

/// Ticks of the timing wheel a second: fine enough for T1, coarse enough that one wake-up serves many transactions.
const TICKS_PER_SEC: u64 = 100;
const NANOS_PER_TICK: u128 = 1_000_000_000 / TICKS_PER_SEC as u128;

/// The first tick that is not before `time`: a timer that starts then never fires early.
pub(crate) fn tick_after(time: Duration) -> u64 {
    time.as_nanos().div_ceil(NANOS_PER_TICK) as u64
}

/// The tick that `time` is in: what is due at it is due.
pub(crate) fn tick_of(time: Duration) -> u64 {
    (time.as_nanos() / NANOS_PER_TICK) as u64
}

/// When a tick begins.
pub(crate) fn time_of(tick: u64) -> Duration {
    Duration::from_nanos(tick * NANOS_PER_TICK as u64)
}

/// The intervals in ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Intervals {
    pub(crate) t1: u64,
    pub(crate) t2: u64,
    pub(crate) t4: u64,
    /// 64*T1: timers B, F, H, J, L, M.
    pub(crate) lifetime: u64,
    /// Timer D: at least 32 seconds, for the server may count with another T1 (§17.1.1.2).
    pub(crate) d: u64,
    /// From a non-INVITE request until its client's timer E is reset to T2 (RFC 4320 §4.1).
    pub(crate) until_t2: u64,
}

impl Intervals {
    pub(crate) fn new(settings: &Settings) -> Self {
        // An interval of no tick would retransmit for ever at one time.
        let [t1, t2, t4] = [settings.t1, settings.t2, settings.t4].map(|time| tick_after(time).max(1));
        let lifetime = 64 * t1;
        let (mut interval, mut until_t2) = (t1, t1);
        while 2 * interval < t2 {
            interval *= 2;
            until_t2 += interval;
        }
        Self { t1, t2, t4, lifetime, d: lifetime.max(32 * TICKS_PER_SEC), until_t2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_are_those_of_table_4() {
        let intervals = Intervals::new(&Settings::default());
        let Intervals { t1, t2, t4, lifetime, d, until_t2 } = intervals;
        assert_eq!([t1, t2, t4, lifetime, d].map(time_of).map(|t| t.as_millis()), [500, 4000, 5000, 32_000, 32_000]);
        // Timer E fires after 0.5, 1.5 and 3.5 seconds; then it is reset to T2.
        assert_eq!(time_of(until_t2).as_millis(), 3500);
    }

    #[test]
    fn a_timer_never_fires_early() {
        let time = Duration::from_micros(10_001);
        assert_eq!((tick_of(time), tick_after(time)), (1, 2));
        assert!(time_of(tick_after(time)) >= time);
    }
}
