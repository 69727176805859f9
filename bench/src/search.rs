//! The search for the highest rate that a server serves, in trials.

use anyhow::{Context, Result};
use std::time::Duration;

/// Between two trials the server works off what it has queued; one that refuses because too much came takes on all again.
const REST: Duration = Duration::from_millis(200);
const RECOVERY: Duration = Duration::from_secs(2);

/// Most trials of a search: fifteen find a rate of a hundredth of the ceiling to a fiftieth of itself, and chance takes some more.
const TRIALS: u32 = 24;

/// Finds the highest rate up to `ceiling` that `is_served`, but for a part of it of `precision`, and returns what `trial` said at that rate; or at the lowest
/// that was tried, if none was served.
pub fn highest<T>(
    ceiling: f64,
    precision: f64,
    trial: impl FnMut(f64) -> Result<T>,
    is_served: impl Fn(&T) -> bool,
) -> Result<T> {
    search(ceiling, precision, trial, is_served, |served| std::thread::sleep(if served { REST } else { RECOVERY }))
}

/// The same; `rest` is told, between two trials, whether the first one's rate was served.
fn search<T>(
    ceiling: f64,
    precision: f64,
    mut trial: impl FnMut(f64) -> Result<T>,
    is_served: impl Fn(&T) -> bool,
    rest: impl Fn(bool),
) -> Result<T> {
    let mut bounds = Bounds::new(precision);
    let mut best: Option<T> = None;
    let mut rate = ceiling;
    for _ in 0..TRIALS {
        let told = trial(rate)?;
        let served = is_served(&told);
        if served || best.as_ref().is_none_or(|best| !is_served(best)) {
            best = Some(told);
        }
        let Some(next) = bounds.next_after(rate, served) else { break };
        rate = next;
        rest(served);
    }
    best.context("at least one trial was run")
}

/// What is known of the rate.
struct Bounds {
    precision: f64,
    /// The highest that was served.
    served: f64,
    /// Those that were too much, the lowest last, and whether they were so twice. A machine that pauses for a moment may be all that one
    /// trial shows.
    too_much: Vec<(f64, bool)>,
}

impl Bounds {
    fn new(precision: f64) -> Self {
        Self { precision, served: 0.0, too_much: Vec::new() }
    }

    /// What to try after a trial at `rate`: halfway between what was served and what was too much; at last what was too much but once.
    fn next_after(&mut self, rate: f64, served: bool) -> Option<f64> {
        match self.too_much.last_mut() {
            _ if served => {
                self.served = rate;
                self.too_much.retain(|&(much, _)| much > rate);
            }
            Some((much, twice)) if *much == rate => *twice = true,
            _ => self.too_much.push((rate, false)),
        }
        match *self.too_much.last()? {
            (much, _) if much - self.served > self.precision * much => Some((self.served + much) / 2.0),
            (much, twice) => (!twice).then_some(much),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches up to 1000 where `serves` tells of a rate, in the how-manieth trial, whether it is served; what it found, and whether that was served.
    fn found(serves: impl Fn(f64, u32) -> bool) -> (f64, bool) {
        let mut trials = 0..;
        let trial = |rate| Ok((rate, serves(rate, trials.next().expect("they have no end"))));
        search(1000.0, 0.02, trial, |told| told.1, |_| {}).unwrap()
    }

    #[test]
    fn it_ends_within_its_precision_below_what_is_served() {
        for limit in [10.0, 33.0, 100.0, 640.0, 980.0, 999.0] {
            let (rate, served) = found(|rate, _| rate <= limit);
            assert!(served && rate <= limit && rate > 0.975 * limit, "{rate} of {limit}");
        }
        assert_eq!(found(|_, _| true), (1000.0, true));
    }

    #[test]
    fn one_trial_that_fails_by_chance_costs_trials_and_no_accuracy() {
        for limit in [33.0, 100.0, 200.0, 640.0, 980.0] {
            for bad in 0..TRIALS {
                let (rate, served) = found(|rate, trial| rate <= limit && trial != bad);
                assert!(served && rate > 0.95 * limit, "{rate} of {limit}, the bad one being {bad}");
            }
        }
    }

    #[test]
    fn where_nothing_is_served_the_lowest_rate_is_told() {
        let (rate, served) = found(|_, _| false);
        assert!(!served && rate < 1.0);
    }
}
