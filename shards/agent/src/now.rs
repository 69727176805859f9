//! Time as the cores see it: read once a turn by the edge.

use std::time::Duration;

/// The two clocks of one turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic, since the process started. Timers run on it.
    pub monotonic: Duration,
    /// Since the Unix epoch. What outlives the process (an expiry) is told in it.
    pub unix: Duration,
}

impl Now {
    /// Whole seconds since the Unix epoch.
    pub fn unix_secs(&self) -> u64 {
        self.unix.as_secs()
    }
}
