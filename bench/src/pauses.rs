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
    pub count: u64,
    /// The longest.
    pub longest: Duration,
    /// All of them together.
    pub all: Duration,
    /// How long the core was watched.
    pub span: Duration,
}

impl Watch {
    /// Watches the core.
    pub fn run(&self) -> Result<Pauses> {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let busy = self.beside.map(|core| {
                let done = &done;
                scope.spawn(move || {
                    let pinned = mmsg::pin(core);
                    while pinned.is_ok() && !done.load(Relaxed) {
                        std::hint::spin_loop();
                    }
                    done.store(true, Relaxed);
                    pinned
                })
            });
            let watched = scope.spawn(|| mmsg::pin(self.core).map(|()| self.look(&done))).join();
            done.store(true, Relaxed);
            if let Some(busy) = busy {
                busy.join().expect("it does not panic")?;
            }
            watched.expect("it does not panic")
        })
    }

    /// Works and sleeps until the time is up, or there is no use in it.
    fn look(&self, done: &AtomicBool) -> Pauses {
        let begun = Instant::now();
        let mut pauses = Pauses::default();
        while begun.elapsed() < self.span && !done.load(Relaxed) {
            let (mut last, works_until) = (Instant::now(), Instant::now() + self.spell);
            while last < works_until {
                let now = Instant::now();
                pauses.note(now - last, self.shortest);
                last = now;
            }
            thread::sleep(self.spell);
            pauses.note(last.elapsed().saturating_sub(self.spell), self.shortest);
        }
        pauses.span = begun.elapsed();
        pauses
    }
}

impl Pauses {
    fn note(&mut self, pause: Duration, shortest: Duration) {
        if pause >= shortest {
            self.count += 1;
            self.longest = self.longest.max(pause);
            self.all += pause;
        }
    }
}

impl fmt::Display for Pauses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, longest, all, span } = *self;
        let share = 100.0 * all.as_secs_f64() / span.as_secs_f64().max(f64::MIN_POSITIVE);
        let (longest, span) = (1e3 * longest.as_secs_f64(), span.as_secs_f64());
        writeln!(f, "{count} pauses in {span:.1} s, the longest {longest:.2} ms; {share:.2} % of the time in all")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WATCH: Watch = Watch {
        core: 0,
        beside: None,
        spell: Duration::from_millis(1),
        span: Duration::from_millis(20),
        shortest: Duration::ZERO,
    };

    #[test]
    fn a_pause_is_what_is_long_enough() {
        let mut pauses = Pauses { span: Duration::from_secs(1), ..Pauses::default() };
        for us in [999, 1_000, 4_000, 20] {
            pauses.note(Duration::from_micros(us), Duration::from_millis(1));
        }
        assert_eq!(pauses.to_string(), "2 pauses in 1.0 s, the longest 4.00 ms; 0.50 % of the time in all\n");
    }

    #[test]
    fn a_core_is_watched_all_the_time_that_is_asked_for() {
        // With every look a pause, all of the time is one, but for what was slept as asked for: as much as was worked.
        let pauses = WATCH.run().unwrap();
        assert!(pauses.span >= WATCH.span && pauses.count > 20, "{pauses:?}");
        assert!(pauses.all >= pauses.span / 3 && pauses.all < pauses.span, "{pauses:?}");
    }

    #[test]
    fn a_core_that_is_not_there_is_an_error_at_once() {
        let long = Watch { span: Duration::from_secs(3600), ..WATCH };
        for watch in [Watch { core: 100_000, beside: Some(0), ..long }, Watch { beside: Some(100_000), ..long }] {
            assert!(watch.run().unwrap_err().to_string().contains("core 100000"));
        }
    }
}
