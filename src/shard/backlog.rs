//! Whether more comes than is done: the load is refused that a shard cannot carry, not the burst that it works off.
//!
//! After a pause (a processor that was taken away, a train of datagrams) a turn has much to do, and no more than that. What
//! tells overload from it is that turn after turn has too much (the idea of CoDel, RFC 8289 §3.2, which looks at the least
//! that a queue had for a while, not at the most).

use std::time::Duration;

/// The turns of a shard that had too much to do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backlog {
    /// When the first of those without one of another kind between them began.
    since: Option<Duration>,
}

impl Backlog {
    /// Notes a turn. True where it has too much to do, and so has every turn for at least `patience`.
    pub(super) fn stands(&mut self, now: Duration, has_too_much: bool, patience: Duration) -> bool {
        if !has_too_much {
            self.since = None;
            return false;
        }
        now.saturating_sub(*self.since.get_or_insert(now)) >= patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(100);

    fn at(millis: u64) -> Duration {
        Duration::from_millis(5000 + millis)
    }

    #[test]
    fn a_burst_is_worked_off_and_what_lasts_is_overload() {
        let mut backlog = Backlog::default();
        assert!(!backlog.stands(at(0), true, PATIENCE));
        assert!(!backlog.stands(at(99), true, PATIENCE));
        assert!(backlog.stands(at(100), true, PATIENCE));
        assert!(backlog.stands(at(300), true, PATIENCE));
        assert!(!backlog.stands(at(301), false, PATIENCE), "a turn had less");
        assert!(!backlog.stands(at(302), true, PATIENCE), "so it begins anew");
        assert!(!backlog.stands(at(401), true, PATIENCE));
        assert!(backlog.stands(at(402), true, PATIENCE));
    }

    #[test]
    fn without_patience_the_first_turn_counts() {
        assert!(Backlog::default().stands(at(0), true, Duration::ZERO));
        assert!(!Backlog::default().stands(at(0), false, Duration::ZERO));
    }
}
