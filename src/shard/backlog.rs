//! Whether more comes than is done: the load is refused that a shard cannot carry, not the burst that it works off.
//!
//! After a pause (a processor that was taken away, a train of datagrams) a turn has much to do, and no more than that. What
//! tells overload from it is that turn after turn has too much (the idea of CoDel, RFC 8289 §3.2, which looks at the least
//! that a queue had for a while, not at the most).

use std::time::Duration;

/// The time from one turn to the next that counts at most: the rest of it may have been a pause.
const MOST_OF_A_TURN: Duration = Duration::from_millis(25);

/// After so long without any message what comes is a burst of its own.
const SILENCE: Duration = Duration::from_secs(1);

/// The turns of a shard that had too much to do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backlog {
    /// When the last of those began between which there is none of another kind, and how long they have lasted.
    last: Option<(Duration, Duration)>,
}

impl Backlog {
    /// Notes a turn with messages. True where it has too much to do, and so has had every turn for at least `patience`.
    pub(super) fn stands(&mut self, now: Duration, has_too_much: bool, patience: Duration) -> bool {
        if !has_too_much {
            self.last = None;
            return false;
        }
        let lasted = match self.last {
            Some((last, lasted)) if now < last + SILENCE => lasted + now.saturating_sub(last).min(MOST_OF_A_TURN),
            _ => Duration::ZERO,
        };
        self.last = Some((now, lasted));
        lasted >= patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(100);

    fn at(millis: u64) -> Duration {
        Duration::from_millis(5000 + millis)
    }

    /// Whether the backlog stands at each of these times, where every turn has too much.
    fn busy(times: impl IntoIterator<Item = u64>) -> Vec<bool> {
        let mut backlog = Backlog::default();
        times.into_iter().map(|millis| backlog.stands(at(millis), true, PATIENCE)).collect()
    }

    #[test]
    fn a_burst_is_worked_off_and_what_lasts_is_overload() {
        assert_eq!(busy([0, 20, 40, 60, 80, 99, 100, 120]), [false, false, false, false, false, false, true, true]);
        let mut backlog = Backlog::default();
        (0..20).for_each(|turn| {
            backlog.stands(at(10 * turn), true, PATIENCE);
        });
        assert!(backlog.stands(at(200), true, PATIENCE));
        assert!(!backlog.stands(at(201), false, PATIENCE), "a turn had less");
        assert!(!backlog.stands(at(202), true, PATIENCE), "so it begins anew");
    }

    #[test]
    fn a_pause_does_not_count_nor_does_a_silence() {
        assert_eq!(busy([0, 150, 155]), [false; 3], "the processor was away");
        assert_eq!(busy((0..20).map(|burst| 60_000 * burst)), [false; 20], "a burst a minute");
        assert!(busy((0..20).map(|turn| 400 * turn))[19], "turns that are that long are overload");
    }

    #[test]
    fn without_patience_the_first_turn_counts() {
        assert!(Backlog::default().stands(at(0), true, Duration::ZERO));
        assert!(!Backlog::default().stands(at(0), false, Duration::ZERO));
    }
}
