//! The supervisor's part: `[supervisor]`, how processes are watched, started again and replaced.

use serde::Serialize;

/// `[supervisor]`: of use with `processes = "separate"`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Supervisor {
    /// The pause before a process that has failed is started again; it doubles from one failure to the next.
    pub restart_min_msecs: u32,
    /// The longest pause. Shorter than a phone repeats a BYE (64 · T1, RFC 3261 §17.1.2.2).
    pub restart_max_secs: u32,
    /// A process that has served for so long begins anew with the shortest pause.
    pub steady_secs: u32,
    /// A process that does not serve so long after its start is killed.
    pub start_secs: u32,
    /// A process that gives no sign of life for so long, or one of whose shards takes no turn, is killed.
    pub silence_secs: u32,
    /// How long calls that are being set up may go on in an application server that is replaced.
    pub drain_secs: u32,
    /// How far application servers stand back where proxy and registrar want the processor too (setpriority(2)).
    pub nice: u8,
    /// Messages of each shard that are kept for the case of a sudden death: a final response for each call that is being set
    /// up, and a CANCEL for each of its legs. Each takes 2 KiB of a file.
    pub last_words: u32,
}

impl Default for Supervisor {
    fn default() -> Self {
        Self {
            restart_min_msecs: 50,
            restart_max_secs: 10,
            steady_secs: 5,
            start_secs: 60,
            silence_secs: 10,
            drain_secs: 60,
            nice: 10,
            last_words: 4096,
        }
    }
}
