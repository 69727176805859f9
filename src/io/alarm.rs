//! What wakes a shard when nothing comes.
//!
//! One timer of the kernel's stays set from turn to turn. It is set anew only when something is due before it rings; where that
//! is no longer so, it rings in vain. A turn for nothing now and then costs less than a timer that every wait sets and takes back
//! (tuning.md has figures).

use super::ring::{Op, Submissions};
use io_uring::{opcode, squeue, types::Timespec};
use std::io;
use std::time::Duration;

/// The timer of one shard. It must be there as long as its ring, which reads it.
pub(super) struct Alarm {
    /// When it rings, on the shard's monotonic clock, if it is set.
    rings: Option<Duration>,
    /// In how long, for the kernel to read.
    delay: Box<Timespec>,
}

impl Alarm {
    pub(super) fn new() -> Self {
        Self { rings: None, delay: Box::new(Timespec::new()) }
    }

    /// Lets it ring at `due`, it being `now`, or before. The next enter sets it, so it is late by as long as that is off.
    pub(super) fn set(&mut self, ring: &mut Submissions<'_>, now: Duration, due: Duration) -> io::Result<()> {
        if self.rings.is_some_and(|rings| rings <= due) {
            return Ok(());
        }
        *self.delay = Timespec::from(due.saturating_sub(now));
        let alarm = Op::Alarm.user_data();
        let entry = match self.rings.replace(due) {
            None => opcode::Timeout::new(&*self.delay).build().user_data(alarm),
            // If it has just rung, there is nothing to change, and its completion waits for us.
            Some(_) => opcode::TimeoutUpdate::new(alarm, &*self.delay)
                .build()
                .flags(squeue::Flags::SKIP_SUCCESS)
                .user_data(Op::Cancel.user_data()),
        };
        // SAFETY: the kernel reads the delay when the entry is handed in, by this thread. It is boxed, and goes after the ring.
        unsafe { ring.push(entry) }
    }

    /// Takes note that it has rung.
    pub(super) fn rang(&mut self) {
        self.rings = None;
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "these tests wait for a timer")]

    use super::*;
    use crate::io::{
        ring::{Ring, Wait},
        settings::Settings,
    };
    use std::time::Instant;

    const SOON: Duration = Duration::from_millis(100);
    const LATER: Duration = Duration::from_secs(2);

    /// Sets an alarm for each of `dues` in its turn, waits in that way until it has rung, and tells how long that took.
    fn ring_after(dues: &[Duration], wait: Wait) -> Duration {
        let (mut alarm, started) = (Alarm::new(), Instant::now());
        let mut ring = Ring::new(&Settings::default()).unwrap();
        let (mut completions, mut failed) = (Vec::new(), Vec::new());
        let (_, mut submissions) = ring.split();
        for &due in dues {
            alarm.set(&mut submissions, started.elapsed(), due).unwrap();
            submissions.enter(Wait::No, &mut completions, &mut failed).unwrap();
        }
        assert!(completions.is_empty(), "nothing has happened yet: {completions:?}");
        submissions.enter(wait, &mut completions, &mut failed).unwrap();
        let ops: Vec<_> = completions.iter().map(|completion| completion.op).collect();
        assert_eq!((&ops[..], failed.len()), (&[Op::Alarm][..], 0));
        started.elapsed()
    }

    #[test]
    fn it_rings_when_something_is_due() {
        assert!((SOON..LATER).contains(&ring_after(&[SOON], Wait::One)));
    }

    #[test]
    fn an_empty_window_does_not_end_the_wait_and_the_alarm_ends_a_window() {
        let waits = Ring::new(&Settings::default()).unwrap().waits_for_batches();
        assert!(waits, "this test needs Linux 6.12: before it no shard waits for a batch");
        for window in [Duration::from_millis(1), LATER] {
            assert!((SOON..LATER).contains(&ring_after(&[SOON], Wait::Batch { count: 8, window })));
        }
    }

    #[test]
    fn what_is_due_before_moves_it_and_what_is_due_later_does_not() {
        assert!((SOON..LATER).contains(&ring_after(&[LATER, SOON], Wait::One)));
        assert!((SOON..LATER).contains(&ring_after(&[SOON, LATER], Wait::One)));
        assert!(ring_after(&[LATER], Wait::One) >= LATER);
    }

    #[test]
    fn one_that_has_rung_unnoticed_can_be_set() {
        let (mut alarm, started) = (Alarm::new(), Instant::now());
        let mut ring = Ring::new(&Settings::default()).unwrap();
        let (mut completions, mut failed) = (Vec::new(), Vec::new());
        let (_, mut submissions) = ring.split();
        alarm.set(&mut submissions, Duration::ZERO, SOON).unwrap();
        submissions.enter(Wait::No, &mut completions, &mut failed).unwrap();
        std::thread::sleep(2 * SOON);
        alarm.set(&mut submissions, started.elapsed(), SOON / 2).unwrap();
        submissions.enter(Wait::One, &mut completions, &mut failed).unwrap();
        assert!(completions.iter().any(|completion| completion.op == Op::Alarm));
        alarm.rang();
        let due = started.elapsed() + SOON;
        alarm.set(&mut submissions, started.elapsed(), due).unwrap();
        completions.clear();
        while !completions.iter().any(|completion| completion.op == Op::Alarm) {
            submissions.enter(Wait::One, &mut completions, &mut failed).unwrap();
        }
        assert!(started.elapsed() >= due);
    }
}
