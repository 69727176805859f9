//! What bounds a plan and its runs. Each field is a key of the configuration.

use std::time::Duration;

/// The bounds of plans and of their runs. A run that reaches one ends there; its caller gets the response that
/// [`Ending::response`](crate::Ending::response) holds and its author reads the [`Fault`](crate::Fault).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Octets of a plan's source.
    pub max_source_bytes: usize,
    /// Functions that a plan may define.
    pub max_functions: usize,
    /// How deeply expressions and blocks nest. Found when the plan is compiled.
    pub max_expr_depth: usize,
    /// How deeply functions and closures call each other.
    pub max_call_levels: usize,
    /// Variables that exist at a time.
    pub max_variables: usize,
    /// Operations (roughly: expressions evaluated) of one run.
    pub max_operations: u64,
    /// Operations after which a run must let others go first.
    pub slice_operations: u64,
    /// Time after which a run must let others go first.
    pub slice_time: Duration,
    /// Time that a run may take, waiting included but dialling not. `sys.extend_time` adds to it.
    pub max_script_secs: u32,
    /// Time that a run may take in all.
    pub max_run_secs: u32,
    /// Memory of one run, each block with counted generously.
    pub max_memory_bytes: usize,
    /// Memory of all runs of a machine together. The run that would exceed it ends.
    pub max_memory_total_bytes: usize,
    /// Octets of a string, and of all strings in one array or map.
    pub max_string_bytes: usize,
    /// Items of an array, those of arrays within it included.
    pub max_array_items: usize,
    /// Properties of a map, those of maps within it included.
    pub max_map_items: usize,
    /// Octets of a regular expression.
    pub max_pattern_bytes: usize,
    /// Octets of a text that a regular expression is tried on.
    pub max_match_bytes: usize,
    /// Runs at a time.
    pub max_runs: u32,
    /// Runs at a time of one user.
    pub max_runs_per_user: u32,
    /// Legs that one run may dial.
    pub max_legs: u32,
    /// Longest ringing of one `sys.dial`.
    pub max_ring_secs: u32,
    /// Requests to the web of one run.
    pub max_web_requests: u32,
    /// Calls back of one run.
    pub max_callbacks: u32,
    /// Other questions of one run to its surroundings: lookups, the store, requests, waits.
    pub max_questions: u32,
    /// Lines that a run may log.
    pub max_log_lines: u32,
    /// Octets of such a line; the rest is cut off.
    pub max_log_line_bytes: usize,
    /// Header fields that a plan may set.
    pub max_headers: usize,
    /// Stack that a script's own nesting may use. What is not used takes no memory.
    pub max_stack_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_source_bytes: 256 * 1024,
            max_functions: 256,
            max_expr_depth: 64,
            max_call_levels: 32,
            max_variables: 256,
            max_operations: 1_000_000,
            slice_operations: 4_096,
            slice_time: Duration::from_micros(100),
            max_script_secs: 10,
            max_run_secs: 300,
            max_memory_bytes: 512 * 1024,
            max_memory_total_bytes: 1 << 30,
            max_string_bytes: 64 * 1024,
            max_array_items: 1_000,
            max_map_items: 500,
            max_pattern_bytes: 512,
            max_match_bytes: 4_096,
            max_runs: 100_000,
            max_runs_per_user: 100,
            max_legs: 20,
            max_ring_secs: 180,
            max_web_requests: 5,
            max_callbacks: 3,
            max_questions: 200,
            max_log_lines: 100,
            max_log_line_bytes: 1_024,
            max_headers: 20,
            max_stack_bytes: 384 * 1024,
        }
    }
}
