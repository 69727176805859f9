//! `[callback]`: whether and how a callback's legs hear packets with each other's source.

use serde::Serialize;
use store::Network;

/// `[callback]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Callback {
    /// Whether a callback's legs hear a few packets of silence that seem to come from each other.
    pub impersonate: bool,
    /// Private networks whose addresses may be source and destination.
    #[serde(serialize_with = "super::as_texts")]
    pub networks: Vec<Network>,
    /// Packets that a leg hears, 20 ms apart.
    pub packets: u8,
    /// Packets of a call.
    pub max_packets_per_call: u32,
    /// Packets to one IPv4 address, or one IPv6 network of 64 bits, in a minute.
    pub max_packets_per_destination: u32,
    /// Packets in a second, of the whole switch.
    pub max_packets_per_sec: u32,
}

impl Callback {
    /// The most that `packets` may be. The process that sends holds itself to this and the next three, whatever it is told.
    pub const MAX_PACKETS: u8 = 10;

    /// The most that `max_packets_per_call` may be.
    pub const MAX_PACKETS_PER_CALL: u32 = 1_000;

    /// The most that `max_packets_per_destination` may be.
    pub const MAX_PACKETS_PER_DESTINATION: u32 = 1_000_000;

    /// The most that `max_packets_per_sec` may be.
    pub const MAX_PACKETS_PER_SEC: u32 = 10_000;

    /// Private networks that may be listed.
    pub(super) const MAX_NETWORKS: usize = 64;
}

impl Default for Callback {
    fn default() -> Self {
        Self {
            impersonate: false,
            networks: Vec::new(),
            packets: 3,
            max_packets_per_call: 12,
            max_packets_per_destination: 600,
            max_packets_per_sec: 1_000,
        }
    }
}
