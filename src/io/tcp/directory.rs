//! The connections of all shards: which leads where, and how many there may be.

use super::super::settings::StreamSettings;
use agent::ConnectionId;
use dashmap::{DashMap, Entry};
use sip::Transport;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};

/// What all shards know of all connections.
pub(crate) struct Directory {
    pub(super) by_peer: DashMap<(Transport, SocketAddr), ConnectionId>,
    by_address: DashMap<IpAddr, u32>,
    open: AtomicU32,
    /// Of each slot's first connection. Drawn anew at each start: identities in branches and tokens outlive a restart, and
    /// must not name another peer's connection then.
    pub(super) first_generation: u32,
    pub(super) limits: StreamSettings,
}

impl Directory {
    pub(crate) fn new(limits: StreamSettings, first_generation: u32) -> Self {
        let open = AtomicU32::new(0);
        Self { by_peer: DashMap::new(), by_address: DashMap::new(), open, first_generation, limits }
    }

    /// Counts one more connection with `address`, unless a limit forbids it.
    pub(super) fn admit(&self, address: IpAddr) -> bool {
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.limits.connections {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        let mut of_address = self.by_address.entry(address).or_insert(0);
        if *of_address >= self.limits.connections_per_address {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        *of_address += 1;
        true
    }

    pub(super) fn leave(&self, address: IpAddr) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        if let Entry::Occupied(mut of_address) = self.by_address.entry(address) {
            *of_address.get_mut() -= 1;
            if *of_address.get() == 0 {
                of_address.remove();
            }
        }
    }
}
