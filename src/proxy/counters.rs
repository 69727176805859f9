//! What the proxy has done.

agent::counters! {
    /// Requests forwarded.
    forwarded_requests,
    /// Responses forwarded.
    forwarded_responses,
    /// Requests handed to application servers.
    served_requests,
    /// Responses handed to application servers.
    served_responses,
    /// Messages of application servers that were sent.
    originated,
    /// Messages of application servers that nobody could read.
    unreadable_posts,
    /// Messages on the hop between processes that no process of ours has sealed.
    unsealed,
    /// Users looked up for application servers.
    lookups,
    /// Requests told 503 because no application server for them was well.
    unserved,
    /// BYEs that nobody answered because their application server was being started again: they come once more.
    left_to_repetition,
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
    /// New requests told 503 because more comes than is done, or because another shard's ring is full.
    overloaded,
    /// Responses whose topmost Via is not ours, or which answer nothing of ours.
    stray_responses,
    /// Messages without a next hop.
    unroutable,
    /// Requests that a stream could not deliver.
    undeliverable,
}
