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
    /// Packets of a leg.
    pub(super) const MAX_PACKETS: u8 = 10;

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
            max_packets_per_destination: 6_000,
            max_packets_per_sec: 1_000,
        }
    }
}
