//! What the proxy is told: by the configuration, by the machine.

use super::{
    apps::Apps, branch::Branches, dialog::DialogTokens, listeners::Listeners, names::Names, sealed::HopTokens,
};
use agent::{AppToken, Domains, Flow, ListenerId, Secret, ShardHash};
use sip::{Limits, Transport};
use std::net::{IpAddr, SocketAddr};
use store::Network;

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
    /// The application servers.
    pub apps: Apps,
    /// The socket on which processes of ours meet, behind those of `listeners`.
    pub hop: ListenerId,
    /// What is derived from the secret.
    pub keys: Keys,
}

impl Settings {
    /// Whether requests from `source` may go from outside to outside.
    pub fn may_relay(&self, source: IpAddr) -> bool {
        self.relay_from.iter().any(|network| network.contains(source))
    }

    /// The flow to a process of ours that receives at `peer`.
    pub fn hop_to(&self, peer: SocketAddr) -> Flow {
        Flow { listener: self.hop, transport: Transport::Udp, peer, connection: None }
    }
}

/// What the proxy derives from the cluster's secret.
#[derive(Clone)]
pub struct Keys {
    /// Computes branches.
    pub branches: Branches,
    /// Seals dialogs.
    pub dialogs: DialogTokens,
    /// Seals the Contacts of application servers.
    pub tokens: AppToken,
    /// Seals what processes of ours tell each other.
    pub hops: HopTokens,
    /// Whose Call-ID it is.
    pub hash: ShardHash,
}

impl Keys {
    /// Those of the cluster that shares `secret`.
    pub fn new(secret: &Secret) -> Self {
        Self {
            branches: Branches::new(secret),
            dialogs: DialogTokens::new(secret),
            tokens: AppToken::new(secret),
            hops: HopTokens::new(secret),
            hash: ShardHash::new(secret),
        }
    }
}
