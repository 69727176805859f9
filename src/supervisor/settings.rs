//! The bounds of what the supervisor does.

use super::Pauses;
use crate::config;
use std::time::Duration;

/// How long a process may take for what, and what it may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Before a process that has failed is started again.
    pub pauses: Pauses,
    /// From a process's start until it serves.
    pub start: Duration,
    /// A process that gives no sign of life for so long, or one of whose shards takes no turn, is killed.
    pub silence: Duration,
    /// How often a sign of life is asked for, and memory is looked at.
    pub beat: Duration,
    /// How long calls that are being set up may go on in an application server that is replaced.
    pub drain: Duration,
    /// How long a process may take to let go, once it has nothing more to do.
    pub leave: Duration,
    /// How long an answer to a question of ours may take.
    pub answer: Duration,
    /// How long a stop may take until what still runs is killed.
    pub stop: Duration,
    /// How long requests for an application server that has ended wait for the next one before they are answered 503:
    /// until they would be sent again (T1, RFC 3261 §17.1.1.1), silence costs nothing.
    pub grace: Duration,
    /// The oom_score_adj of application servers (proc(5)).
    pub app_oom_score: i32,
}

impl Settings {
    /// What the operator chose, and what follows from the protocols.
    pub fn new(chosen: &config::Supervisor) -> Self {
        let secs = |secs: u32| Duration::from_secs(secs.into());
        Self {
            pauses: Pauses {
                shortest: Duration::from_millis(chosen.restart_min_msecs.into()),
                longest: secs(chosen.restart_max_secs),
                steady: secs(chosen.steady_secs),
            },
            start: secs(chosen.start_secs),
            silence: secs(chosen.silence_secs),
            beat: Duration::from_secs(1),
            drain: secs(chosen.drain_secs),
            leave: Duration::from_secs(3),
            answer: Duration::from_secs(8),
            // With what the children need to end, a stop takes 5 s at most.
            stop: Duration::from_millis(4_600),
            grace: Duration::from_millis(500),
            app_oom_score: 500,
        }
    }
}
