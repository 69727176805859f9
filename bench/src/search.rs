//! The search for the highest rate that a server serves, in trials.

use anyhow::{Context, Result};
use std::time::Duration;

/// Between two trials the server works off what it has queued; one that refuses because too much came takes on all again.
const REST: Duration = Duration::from_millis(200);
const RECOVERY: Duration = Duration::from_secs(2);

/// Most trials of a search: ten narrow any ceiling to a thousandth of itself.
const TRIALS: u32 = 14;

/// Finds the highest rate up to `ceiling` that `is_served`, but for a part of it of `precision`, and returns what `trial` said at that rate; or at the lowest
/// that was tried, if none was served.
pub fn highest<T>(
    ceiling: f64,
    precision: f64,
    mut trial: impl FnMut(f64) -> Result<T>,
    is_served: impl Fn(&T) -> bool,
) -> Result<T> {
    let mut bounds = Bounds::new(precision);
    let mut best: Option<T> = None;
    let mut next = Some(ceiling);
    for _ in 0..TRIALS {
        let Some(rate) = next else { break };
        let told = trial(rate)?;
        let served = is_served(&told);
        if served || best.as_ref().is_none_or(|best| !is_served(best)) {
            best = Some(told);
        }
        next = bounds.next_after(rate, served);
        if next.is_some() {
            std::thread::sleep(if served { REST } else { RECOVERY });
        }
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

    /// Searches where `serves` tells of a rate in the how-manieth trial whether it is served; the highest served one, and the trials.
    fn search(mut serves: impl FnMut(f64, u32) -> bool) -> (f64, u32) {
        let mut bounds = Bounds::new(0.02);
        let (mut next, mut trials) = (Some(1000.0), 0);
        while let Some(rate) = next.filter(|_| trials < TRIALS) {
            let served = serves(rate, trials);
            next = bounds.next_after(rate, served);
            trials += 1;
        }
        (bounds.served, trials)
    }

    #[test]
    fn it_ends_within_its_precision_below_what_is_served() {
        for limit in [100.0, 333.0, 640.0, 980.0, 999.0] {
            let (served, _) = search(|rate, _| rate <= limit);
            assert!(served <= limit && served > 0.97 * limit, "{served} of {limit}");
        }
        assert_eq!(search(|_, _| true), (1000.0, 1));
        assert_eq!(search(|_, _| false), (0.0, TRIALS));
    }

    #[test]
    fn one_trial_that_fails_by_chance_costs_trials_and_no_accuracy() {
        for bad in 0..6 {
            let (served, _) = search(|rate, trial| rate <= 640.0 && trial != bad);
            assert!(served <= 640.0 && served > 0.97 * 640.0, "{served}, the bad one being {bad}");
        }
    }

    #[test]
    fn what_was_said_at_the_highest_rate_served_is_returned() {
        let told = highest(10.0, 0.5, |rate| Ok((rate, rate <= 5.0)), |told| told.1).unwrap();
        assert_eq!(told, (5.0, true));
    }
}
