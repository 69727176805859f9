//! How often a machine takes a core away, and for how long: what no server on it can be better than. One thread works and
//! sleeps in turn, as a server under load does; where it comes late to its next look at the clock, nobody else has worked on
//! that core but the machine's host, or another task.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde::Serialize;

use crate::mmsg;

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// The core that is watched.
    pub core: usize,
    /// A core that is kept busy meanwhile, as the load generator's is.
    pub beside: Option<usize>,
    /// How long the core works at a time, and then sleeps.
    pub spell: Duration,
    /// How long it is watched.
    pub span: Duration,
    /// The shortest pause that counts.
    pub shortest: Duration,
}

/// What was found.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Pauses {
    /// How many there were.
    pub count: u32,
    /// The longest, in microseconds.
    pub longest_us: u64,
    /// All of them together, in microseconds.
    pub all_us: u64,
    /// How long the core was watched, in microseconds.
    pub span_us: u64,
}

impl Watch {
    /// Watches the core.
    pub fn run(&self) -> Result<Pauses> {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let busy = self.beside.map(|core| {
                let done = &done;
                scope.spawn(move || -> Result<()> {
                    mmsg::pin(core)?;
                    while !done.load(Relaxed) {
                        std::hint::spin_loop();
                    }
                    Ok(())
                })
            });
            let watched = scope.spawn(|| {
                mmsg::pin(self.core)?;
                Ok(self.look())
            });
            let pauses = watched.join().expect("it does not panic");
            done.store(true, Relaxed);
            busy.map_or(Ok(()), |busy| busy.join().expect("it does not panic"))?;
            pauses
        })
    }

    fn look(&self) -> Pauses {
        let begun = Instant::now();
        let mut pauses = Pauses::default();
        while begun.elapsed() < self.span {
            let (mut last, works_until) = (Instant::now(), Instant::now() + self.spell);
            while last < works_until {
                let now = Instant::now();
                pauses.note(now - last, self.shortest);
                last = now;
            }
            thread::sleep(self.spell);
            pauses.note(last.elapsed().saturating_sub(self.spell), self.shortest);
        }
        pauses.span_us = begun.elapsed().as_micros() as u64;
        pauses
    }
}

impl Pauses {
    fn note(&mut self, pause: Duration, shortest: Duration) {
        if pause >= shortest {
            let us = pause.as_micros() as u64;
            self.count += 1;
            self.longest_us = self.longest_us.max(us);
            self.all_us += us;
        }
    }
}

impl fmt::Display for Pauses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, longest_us, all_us, span_us } = *self;
        let share = 100.0 * all_us as f64 / span_us.max(1) as f64;
        writeln!(
            f,
            "{count} pauses in {:.1} s, the longest {:.2} ms; {share:.2} % of the time in all",
            span_us as f64 / 1e6,
            longest_us as f64 / 1e3
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_what_is_long_enough() {
        let mut pauses = Pauses { span_us: 1_000_000, ..Pauses::default() };
        for us in [999, 1_000, 4_000, 20] {
            pauses.note(Duration::from_micros(us), Duration::from_millis(1));
        }
        assert_eq!(pauses.to_string(), "2 pauses in 1.0 s, the longest 4.00 ms; 0.50 % of the time in all\n");
    }

    #[test]
    fn a_core_is_watched_as_long_as_is_asked_for() {
        let watch = Watch {
            core: 0,
            beside: None,
            spell: Duration::from_micros(50),
            span: Duration::from_millis(20),
            shortest: Duration::ZERO,
        };
        let pauses = watch.run().unwrap();
        // Each look counts, so the core was watched all the time but for what it slept as asked for.
        assert!(pauses.span_us >= 20_000 && pauses.all_us >= pauses.span_us / 4, "{pauses:?}");
    }
}
