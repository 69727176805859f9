//! What one shard's registrar has done since it started. Bindings are counted where it says so, requests elsewhere.

agent::counters! {
    /// Bindings made.
    registered,
    /// Bindings refreshed.
    refreshed,
    /// Bindings removed by request.
    removed,
    /// Bindings dropped to make room.
    replaced,
    /// Bindings that ran out.
    expired,
    /// Requests that changed nothing: queries, retransmissions.
    unchanged,
    /// Challenges to requests without credentials of ours.
    challenged,
    /// Challenges to right credentials with a nonce that may not be used any more.
    stale,
    /// Requests with wrong credentials, of an unknown account, or for somebody else's address-of-record.
    refused,
    /// Requests that were malformed or asked for what we do not do.
    rejected,
    /// Requests for more bindings than there may be.
    over_limit,
    /// Requests for an interval that is too brief.
    too_brief,
    /// Requests older than what they were to change.
    out_of_order,
    /// Answers that were held until their record was kept.
    held,
    /// Retransmissions of requests whose answer is held.
    absorbed,
    /// Changes that were undone because their record could not be kept.
    failed,
    /// Changes that were not begun: too many answers are held, or the journal fails.
    shed,
}
