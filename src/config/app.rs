//! The application servers' part: `processes`, `[[app]]`, and what holds for all of them, `[calls]`, `[dialplan]`, `[health]`.

use super::Shards;
use agent::Agent;
use serde::Serialize;
use std::{path::PathBuf, time::Duration};

/// `processes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Processes {
    /// Proxy, registrar and application servers share the shards of one process: the fastest, for those who trust their
    /// dial plans.
    One,
    /// Proxy and registrar are one process, each application server another.
    #[default]
    Separate,
}

/// `[[app]]`: an application server.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct App {
    /// What its process, its branches and its tokens are called.
    pub name: String,
    /// The domains whose users it serves, in lower case. Without any it is of the default release, which serves all others.
    pub domains: Vec<String>,
    /// Where it is, if it is not ours to run: `sip:host:port`.
    pub uri: Option<String>,
    /// The program that its process runs; without one this program.
    pub binary: Option<PathBuf>,
    /// Its shards, where it has a process of its own.
    pub cores: Shards,
    /// Its share of the new calls, beside the weights of the others that serve the same domains.
    pub weight: u16,
    /// Megabytes that its process may occupy; above, it is replaced. 0 lets it grow.
    pub memory_limit_mb: u32,
}

impl App {
    /// Names that mean something else in a log or a branch.
    pub(super) const RESERVED: [&str; 4] = ["switch", "regagent", "monitor", "raw"];

    /// The longest name.
    pub(super) const MAX_NAME: usize = Agent::MAX_NAME;

    /// An application server called `name` with the defaults.
    pub(super) fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            domains: Vec::new(),
            uri: None,
            binary: None,
            cores: Shards::default(),
            weight: 100,
            memory_limit_mb: 4096,
        }
    }

    /// The one that serves where none is written down.
    pub(super) fn stable() -> Self {
        Self::named("stable")
    }
}

/// `[calls]`: what an application server allows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Calls {
    /// Whether a caller who claims an address in a domain of ours must prove it (407).
    pub authenticate: bool,
    /// Calls at a time on each shard; one more is answered 503.
    pub max_calls: u32,
    /// Calls at a time of one user on each shard; one more is answered 486.
    pub max_calls_per_user: u32,
    /// Legs that one call may dial, redirections included.
    pub max_legs: u8,
    /// Redirections that are followed one after another.
    pub max_redirects: u8,
    /// Incoming plans that a call may pass, one from within another.
    pub max_plan_depth: u8,
    /// How long a dial command rings that names no time.
    pub ring_secs: u32,
    /// How long a call may take from its INVITE to its answer.
    pub max_setup_secs: u32,
    /// How long an answered call may last; 0 for as long as it likes.
    pub max_call_secs: u32,
    /// The session interval that we ask for (RFC 4028); 0 asks for none.
    pub session_expires_secs: u32,
    /// The shortest session interval that we accept (RFC 4028 §5).
    pub min_session_expires_secs: u32,
    /// Requests inside one call that wait for their answer.
    pub max_passing: u8,
    /// Requests outside a dialog that are relayed at a time on each shard.
    pub max_relays: u32,
    /// Whether such a request goes to all bindings at once; else to the best first.
    pub relay_to_all: bool,
    /// Transactions at a time on each shard.
    pub max_transactions: usize,
    /// Reports for the authors of plans that wait on each shard to be written down.
    pub max_reports: usize,
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            authenticate: true,
            max_calls: 200_000,
            max_calls_per_user: 100,
            max_legs: 20,
            max_redirects: 5,
            max_plan_depth: 3,
            ring_secs: 180,
            max_setup_secs: 300,
            max_call_secs: 0,
            session_expires_secs: 1_800,
            min_session_expires_secs: 90,
            max_passing: 8,
            max_relays: 50_000,
            relay_to_all: false,
            max_transactions: 2_000_000,
            max_reports: 1_000,
        }
    }
}

macro_rules! dialplan {
    ($($(#[$doc:meta])* $name:ident: $type:ty,)*) => {
        /// `[dialplan]`: the bounds of plans and of their runs.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        pub struct Dialplan {
            /// Microseconds after which a run lets others go first.
            pub slice_usecs: u32,
            $($(#[$doc])* pub $name: $type,)*
        }

        impl Dialplan {
            /// As the machine takes them.
            pub fn limits(&self) -> dialplan::Limits {
                dialplan::Limits { slice_time: Duration::from_micros(self.slice_usecs.into()), $($name: self.$name,)* }
            }
        }

        impl Default for Dialplan {
            fn default() -> Self {
                let limits = dialplan::Limits::default();
                Self { slice_usecs: limits.slice_time.as_micros() as u32, $($name: limits.$name,)* }
            }
        }
    };
}

dialplan! {
    /// Octets of a plan's source.
    max_source_bytes: usize,
    /// Functions that a plan may define.
    max_functions: usize,
    /// How deeply expressions and blocks nest.
    max_expr_depth: usize,
    /// How deeply functions call each other.
    max_call_levels: usize,
    /// Variables that exist at a time.
    max_variables: usize,
    /// Operations of one run.
    max_operations: u64,
    /// Operations after which a run lets others go first.
    slice_operations: u64,
    /// Time of a run, waiting included but dialling not.
    max_script_secs: u32,
    /// Time of a run in all.
    max_run_secs: u32,
    /// Memory of one run.
    max_memory_bytes: usize,
    /// Memory of all runs of a shard.
    max_memory_total_bytes: usize,
    /// Octets of a string.
    max_string_bytes: usize,
    /// Items of an array.
    max_array_items: usize,
    /// Properties of a map.
    max_map_items: usize,
    /// Octets of a regular expression.
    max_pattern_bytes: usize,
    /// Octets of a text that a regular expression is tried on.
    max_match_bytes: usize,
    /// Runs at a time on each shard.
    max_runs: u32,
    /// Runs at a time of one user on each shard.
    max_runs_per_user: u32,
    /// Legs that one run may dial.
    max_legs: u32,
    /// Longest ringing of one dial command.
    max_ring_secs: u32,
    /// Requests to the web of one run.
    max_web_requests: u32,
    /// Calls back of one run.
    max_callbacks: u32,
    /// Other questions of one run to its surroundings.
    max_questions: u32,
    /// Lines that a run may log.
    max_log_lines: u32,
    /// Octets of such a line; the rest is cut off.
    max_log_line_bytes: usize,
    /// Header fields that a plan may set.
    max_headers: usize,
    /// Stack that a script's own nesting may use.
    max_stack_bytes: usize,
}

/// `[health]`: how the proxy finds out which application servers work.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Health {
    /// From one probe to the next.
    pub interval_secs: u32,
    /// How long the answer to a probe may take.
    pub timeout_secs: u32,
    /// Probes that fail one after another until a server is taken out.
    pub failures: u8,
    /// Probes that succeed one after another until it is taken in again.
    pub successes: u8,
}

impl Default for Health {
    fn default() -> Self {
        Self { interval_secs: 2, timeout_secs: 2, failures: 3, successes: 2 }
    }
}
