//! The process `raw`, the only one that holds CAP_NET_RAW: it sends the few packets with a foreign source that a callback's two
//! legs are joined by ([`callback`]).
//!
//! There is one when `callback.impersonate` is true, and none otherwise. [`start`] executes this program anew before the switch gives
//! its capabilities up, with one socket of packets (SOCK_SEQPACKET) for each process that may ask. What it becomes is two: the keeper, which
//! holds the capability out of effect and only starts the other one again when that has died, after a pause in which it refuses every order;
//! and the sender, which has no other capability, no file and few system calls ([`confine`](self)). Both end with the switch.
//!
//! The rest of the switch has a [`Raw`], which judges an impersonation, asks for it without waiting, and tells the log of each packet.

mod confine;
mod handle;
mod keeper;
mod own;
mod sender;
mod start;

pub use handle::Raw;
pub use keeper::run;
pub use start::{Started, start};

use crate::config::Config;
use crate::supervisor::Pauses;
use callback::{Bounds, Interface, Policy};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::time::Duration;

/// Legs that are remembered: ten minutes at some 400 a second, in 40 MiB.
const MAX_LEGS: usize = 1 << 18;

/// What the process is told at its start, as JSON on its stdin.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Settings {
    /// Its ends of the sockets.
    clients: Vec<RawFd>,
    packets: u8,
    max_packets_per_call: u32,
    max_packets_per_destination: u32,
    max_packets_per_sec: u32,
    /// The private networks that are allowed.
    networks: Vec<String>,
    /// Our addresses with the lengths of their prefixes.
    own: Vec<(IpAddr, u8)>,
    /// Whether the kernel binds any IPv4 address, and any IPv6 one (the sysctls ip_nonlocal_bind).
    binds_anything: (bool, bool),
    restart_min_msecs: u32,
    restart_max_secs: u32,
    steady_secs: u32,
}

impl Settings {
    fn of(config: &Config, clients: Vec<RawFd>) -> Self {
        let (chosen, pauses) = (&config.callback, &config.supervisor);
        Self {
            clients,
            packets: chosen.packets,
            max_packets_per_call: chosen.max_packets_per_call,
            max_packets_per_destination: chosen.max_packets_per_destination,
            max_packets_per_sec: chosen.max_packets_per_sec,
            networks: chosen.networks.iter().map(ToString::to_string).collect(),
            own: own::interfaces(config).into_iter().map(|own| (own.address, own.prefix)).collect(),
            binds_anything: own::binds_anything(),
            restart_min_msecs: pauses.restart_min_msecs,
            restart_max_secs: pauses.restart_max_secs,
            steady_secs: pauses.steady_secs,
        }
    }

    fn policy(&self) -> Policy {
        let own = self.own.iter().map(|&(address, prefix)| Interface { address, prefix }).collect();
        // They come from a configuration that has been read.
        Policy::new(own, self.networks.iter().filter_map(|network| network.parse().ok()).collect())
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            packets: self.packets,
            per_call: self.max_packets_per_call,
            per_destination: self.max_packets_per_destination,
            per_sec: self.max_packets_per_sec,
            legs: MAX_LEGS,
        }
    }

    fn binds_anything(&self, ip: IpAddr) -> bool {
        if ip.is_ipv4() { self.binds_anything.0 } else { self.binds_anything.1 }
    }

    fn pauses(&self) -> Pauses {
        Pauses {
            shortest: Duration::from_millis(self.restart_min_msecs.into()),
            longest: Duration::from_secs(self.restart_max_secs.into()),
            steady: Duration::from_secs(self.steady_secs.into()),
        }
    }
}

/// The kernel's monotonic clock.
fn clock() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}
