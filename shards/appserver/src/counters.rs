//! What an application server counts.

agent::counters! {
    /// INVITEs that began a call.
    calls,
    /// Calls that were answered.
    answered,
    /// Calls that got a final response other than 2xx, CANCELled ones not counted.
    failed,
    /// Calls that the caller gave up.
    cancelled,
    /// INVITEs of ours, one for each leg and each answer to a challenge.
    legs,
    /// New requests refused because a limit was reached, because more came than is done, or while the server drained.
    refused,
    /// INVITEs and other requests challenged.
    challenged,
    /// Runs of dial plans.
    plan_runs,
    /// Runs that ended with a fault.
    plan_faults,
    /// Requests passed from one side of a call to the other.
    passed,
    /// Requests outside a dialog that were relayed.
    relayed,
    /// Requests for a dialog or transaction that is not there.
    strays,
    /// CDRs written.
    cdrs,
    /// Records that the journal could not keep.
    not_kept,
    /// Calls taken up again after a restart.
    restored,
    /// Calls ended because a session timer ran out or an ACK never came.
    timed_out,
}
