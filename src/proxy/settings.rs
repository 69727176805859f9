//! What the proxy is told: by the configuration, by the machine.

use super::{branch::Branches, dialog::DialogTokens, listeners::Listeners, names::Names};
use crate::config::Network;
use agent::{Domains, Secret};
use sip::Limits;
use std::net::IpAddr;

/// The proxy's part of the configuration, the same on every shard. Replaced as a whole by a reload.
pub struct Settings {
    /// Whose domain is it.
    pub domains: Domains,
    /// Our sockets.
    pub listeners: Listeners,
    /// Host names that are known without a query.
    pub names: Names,
    /// Whether to stay in the path of dialogs.
    pub record_route: bool,
    /// Sources that may relay from outside to outside.
    pub relay_from: Vec<Network>,
    /// Bounds of what is parsed.
    pub limits: Limits,
    /// Value of the Server header in answers of ours; empty sends none.
    pub server: Box<str>,
    /// Value of Retry-After in a 503.
    pub retry_after_secs: u32,
    /// New requests that one turn takes on; the rest is told to come back.
    pub new_requests_per_turn: usize,
    /// Computes branches.
    pub branches: Branches,
    /// Seals dialogs.
    pub dialogs: DialogTokens,
}

impl Settings {
    /// Whether requests from `source` may go from outside to outside.
    pub fn may_relay(&self, source: IpAddr) -> bool {
        self.relay_from.iter().any(|network| network.contains(source))
    }
}

/// The keys that the proxy derives from the cluster's secret.
pub fn keys(secret: &Secret) -> (Branches, DialogTokens) {
    (Branches::new(secret), DialogTokens::new(secret))
}
