//! The search for the highest rate that a server serves, in trials.

use anyhow::{Context, Result};
use std::time::Duration;

/// Between two trials the server works off what it has queued; one that refuses because too much came takes on all again.
const REST: Duration = Duration::from_millis(200);
const RECOVERY: Duration = Duration::from_secs(2);

/// Most trials of a search, of which most take ten or fewer: chance, and servers that collapse far below what they serve, take more.
const TRIALS: u32 = 24;

/// What one trial told.
pub trait Trial {
    /// Whether its rate was served.
    fn served(&self) -> bool;
    /// How many a second completed.
    fn completed_rate(&self) -> f64;
}

/// Finds the highest rate up to `ceiling` that is served, but for a part of it of `precision`, and returns what the trial at that rate told; or that at
/// the lowest that was tried, if none was served.
pub fn highest<T: Trial>(ceiling: f64, precision: f64, trial: impl FnMut(f64) -> Result<T>) -> Result<T> {
    search(ceiling, precision, trial, |served| std::thread::sleep(if served { REST } else { RECOVERY }))
}

/// The same; `rest` is told, between two trials, whether the first one's rate was served.
fn search<T: Trial>(
    ceiling: f64,
    precision: f64,
    mut trial: impl FnMut(f64) -> Result<T>,
    rest: impl Fn(bool),
) -> Result<T> {
    let mut bounds = Bounds::new(precision);
    let mut best: Option<T> = None;
    let mut rate = ceiling;
    for _ in 0..TRIALS {
        let told = trial(rate)?;
        let (served, completed_rate) = (told.served(), told.completed_rate());
        if served || best.as_ref().is_none_or(|best| !best.served()) {
            best = Some(told);
        }
        let Some(next) = bounds.next_after(rate, served, completed_rate) else {
            return best.context("it was just told");
        };
        rate = next;
        rest(served);
    }
    eprintln!("the search has ended after {TRIALS} trials: the highest rate may be above what it tells");
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
    /// The part by which the next rate differs from this one at least. It doubles with each trial, as what the search began from was then far off.
    step: f64,
}

impl Bounds {
    fn new(precision: f64) -> Self {
        Self { precision, served: 0.0, too_much: Vec::new(), step: 3.0 * precision }
    }

    /// What to try after a trial at `rate`. Where that was too much, what completed of it is a guess at what would be served, if it is not next to nothing, and from a guess the search
    /// goes on in growing steps; halfway between what was served and what was too much where a step would lead beyond; at last what was too much but once.
    fn next_after(&mut self, rate: f64, served: bool, completed_rate: f64) -> Option<f64> {
        match self.too_much.last_mut() {
            _ if served => {
                self.served = rate;
                self.too_much.retain(|&(much, _)| much > rate);
            }
            Some((much, twice)) if *much == rate => *twice = true,
            _ => self.too_much.push((rate, false)),
        }
        let &(much, twice) = self.too_much.last()?;
        if much - self.served <= self.precision * much {
            return (!twice).then_some(much);
        }
        let middle = (self.served + much) / 2.0;
        let step = rate * self.step;
        self.step *= 2.0;
        Some(match served {
            true => middle.min(rate + step),
            false => {
                let guess = completed_rate.min(rate - step);
                if guess > (self.served * (1.0 + self.precision)).max(middle / 32.0) { guess } else { middle }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    struct Told {
        rate: f64,
        served: bool,
        completed_rate: f64,
    }

    impl Trial for Told {
        fn served(&self) -> bool {
            self.served
        }

        fn completed_rate(&self) -> f64 {
            self.completed_rate
        }
    }

    /// Servers that complete all that they can serve, nine tenths, a third, next to nothing and nothing of it, when more comes.
    const COMPLETES: [f64; 5] = [1.0, 0.9, 0.3, 0.001, 0.0];

    /// Searches up to 1000 at a server that serves `limit`, and completes that part of it when more comes, but serves nothing in trial `bad`; returns the
    /// rate that was found, whether it was served, and the number of trials.
    fn found(limit: f64, completes: f64, bad: Option<u32>) -> (f64, bool, u32) {
        let trials = Cell::new(0);
        let trial = |rate| {
            let served = rate <= limit && Some(trials.get()) != bad;
            trials.set(trials.get() + 1);
            Ok(Told { rate, served, completed_rate: if served { rate } else { completes * limit.min(rate) } })
        };
        let told = search(1000.0, 0.02, trial, |_| {}).unwrap();
        (told.rate, told.served, trials.get())
    }

    #[test]
    fn it_ends_within_its_precision_below_what_is_served() {
        for completes in COMPLETES {
            for limit in [10.0, 33.0, 100.0, 640.0, 980.0, 999.0] {
                let (rate, served, _) = found(limit, completes, None);
                assert!(served && rate <= limit && rate > 0.975 * limit, "{rate} of {limit} at {completes}");
            }
        }
        assert_eq!(found(2000.0, 1.0, None), (1000.0, true, 1));
    }

    #[test]
    fn one_trial_that_fails_by_chance_costs_trials_and_no_accuracy() {
        for completes in COMPLETES {
            for limit in [33.0, 100.0, 200.0, 640.0, 980.0] {
                for bad in 0..TRIALS {
                    let (rate, served, _) = found(limit, completes, Some(bad));
                    assert!(served && rate > 0.95 * limit, "{rate} of {limit} at {completes}, the bad one being {bad}");
                }
            }
        }
    }

    #[test]
    fn what_completes_of_too_much_saves_trials() {
        for (completes, at_most) in COMPLETES.into_iter().zip([9, 9, 14, 15, 15]) {
            for limit in [10.0, 33.0, 100.0, 640.0] {
                let (_, _, trials) = found(limit, completes, None);
                assert!(trials <= at_most, "{trials} for {limit} at {completes}");
            }
        }
    }

    #[test]
    fn where_nothing_is_served_the_lowest_rate_is_told() {
        let (rate, served, _) = found(0.0, 0.0, None);
        assert!(!served && rate < 1.0);
    }
}
