//! How long a process that has failed waits for its next start.

use std::time::Duration;

/// The bounds of a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pauses {
    /// After the first failure.
    pub shortest: Duration,
    /// However often it has failed.
    pub longest: Duration,
    /// A process that has served for so long begins anew with the shortest.
    pub steady: Duration,
}

/// Counts the failures of one process that have followed one another.
#[derive(Debug)]
pub struct Backoff {
    pauses: Pauses,
    failures: u32,
}

impl Backoff {
    /// None yet.
    pub fn new(pauses: Pauses) -> Self {
        Self { pauses, failures: 0 }
    }

    /// The process has failed after it served for `served`. Gives the pause: twice the one before, a quarter more or less
    /// as `chance` tells, so that processes which fail together do not start together.
    pub fn failed(&mut self, served: Duration, chance: u8) -> Duration {
        if served >= self.pauses.steady {
            self.failures = 0;
        }
        let doubled = self.pauses.shortest.saturating_mul(1 << self.failures.min(20));
        self.failures += 1;
        let pause = doubled.min(self.pauses.longest);
        pause * 3 / 4 + pause * u32::from(chance) / 512
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSES: Pauses = Pauses {
        shortest: Duration::from_millis(100),
        longest: Duration::from_secs(30),
        steady: Duration::from_secs(5),
    };

    fn pauses(served: Duration, chance: u8) -> Vec<u128> {
        let mut backoff = Backoff::new(PAUSES);
        (0..40).map(|_| backoff.failed(served, chance).as_millis()).collect()
    }

    #[test]
    fn each_pause_is_twice_the_one_before_up_to_the_longest() {
        let all = pauses(Duration::from_secs(1), 128);
        assert_eq!(all[..4], [100, 200, 400, 800]);
        assert!(all[12..].iter().all(|&pause| pause == 30_000), "{all:?}");
    }

    #[test]
    fn a_process_that_has_served_long_enough_begins_anew() {
        assert!(pauses(Duration::from_secs(5), 128).iter().all(|&pause| pause == 100));
    }

    #[test]
    fn chance_takes_or_adds_a_quarter() {
        assert_eq!(pauses(Duration::ZERO, 0)[0], 75);
        assert_eq!(pauses(Duration::ZERO, 255)[0], 124);
    }
}
