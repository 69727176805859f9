//! What the transactions of a shard count.

agent::counters! {
    /// Server transactions begun.
    servers,
    /// Client transactions begun, CANCELs among them.
    clients,
    /// Requests that repeated one of a transaction, and ACKs that ended a retransmission of ours.
    absorbed,
    /// Messages of ours sent once more.
    retransmissions,
    /// Responses to no transaction of ours.
    strays,
    /// Requests of ours without a final response in time (timers B and F).
    timeouts,
    /// 2xx of ours to an INVITE whose ACK did not come in time.
    unacknowledged,
    /// Requests turned away, ours or others', because the table was full.
    full,
}
