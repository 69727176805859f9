//! What the proxy has done.

agent::counters! {
    /// Requests forwarded.
    forwarded_requests,
    /// Responses forwarded.
    forwarded_responses,
    /// Requests answered by us, whatever with.
    answered,
    /// Requests that broke the grammar and were answered.
    malformed,
    /// Messages of which nothing could be read, or which nobody may answer.
    unreadable,
    /// Loops told with 482.
    loops,
    /// Requests told 483.
    too_many_hops,
    /// Requests from outside to outside that were refused.
    relays_refused,
    /// Requests told 503 because the turn was full.
    overloaded,
    /// Responses whose topmost Via is not ours, or which answer nothing of ours.
    stray_responses,
    /// Messages without a next hop.
    unroutable,
    /// Requests that a stream could not deliver.
    undeliverable,
}
