//! What a reload changes, for every shard alike.

use super::admission::Patience;
use crate::proxy;
use std::{net::IpAddr, sync::Arc};

/// The rules of the shards of a switch.
#[derive(Clone)]
pub struct Rules {
    /// The proxy's.
    pub proxy: Arc<proxy::Settings>,
    /// The registrar's.
    pub registrar: registrar::Settings,
    /// Those of application servers on the same shards.
    pub apps: AppRules,
    /// When new requests are refused.
    pub patience: Patience,
    /// How application servers elsewhere are probed.
    pub health: proxy::Health,
}

/// The rules of application servers.
#[derive(Clone)]
pub struct AppRules {
    /// Theirs.
    pub settings: appserver::Settings,
    /// Sources whose requests are let in as they are.
    pub trusted: Arc<[store::Network]>,
    /// When new requests are refused where they have a process of their own.
    pub patience: Patience,
}

impl AppRules {
    /// Whether requests from there are let in as they are.
    pub fn is_trusted(&self, source: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(source))
    }
}
