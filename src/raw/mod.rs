//! The process `raw`, which alone, with its keeper, holds CAP_NET_RAW: it sends the few packets with a foreign source that a callback's two
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

use crate::config::{Callback, Config};
use crate::supervisor::Pauses;
use anyhow::anyhow;
use callback::{Bounds, Interface, Policy};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::time::Duration;
use store::Network;

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

    fn policy(&self) -> anyhow::Result<Policy> {
        let own = self.own.iter().map(|&(address, prefix)| Interface { address, prefix }).collect();
        let networks = self.networks.iter().map(|network| network.parse::<Network>());
        let networks = networks.collect::<Result<_, _>>().map_err(|what| anyhow!("its networks: {what}"))?;
        Ok(Policy::new(own, networks))
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            packets: self.packets.min(Callback::MAX_PACKETS),
            per_call: self.max_packets_per_call.min(Callback::MAX_PACKETS_PER_CALL),
            per_destination: self.max_packets_per_destination.min(Callback::MAX_PACKETS_PER_DESTINATION),
            per_sec: self.max_packets_per_sec.min(Callback::MAX_PACKETS_PER_SEC),
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

#[cfg(test)]
mod tests {
    use super::*;
    use callback::{Impersonation, Media, Refusal};

    #[test]
    fn the_process_is_told_what_the_configuration_says() {
        let text = "[callback]\nnetworks = ['10.0.0.0/8']\npackets = 2\nmax_packets_per_call = 4\n\
                    max_packets_per_destination = 5\nmax_packets_per_sec = 6\n\
                    [[listen]]\ntransport = 'udp'\naddress = '127.0.0.1:5060'\nadvertise = '203.0.113.1'";
        let settings = Settings::of(&crate::config::parse("raw", text).unwrap(), Vec::new());
        let settings: Settings = serde_json::from_str(&serde_json::to_string(&settings).unwrap()).unwrap();
        assert_eq!(settings.bounds(), Bounds { packets: 2, per_call: 4, per_destination: 5, per_sec: 6 });
        let policy = settings.policy().unwrap();
        let judge = |source: &str| {
            let media = |ip| Media::of_sdp(format!("v=0\r\nc=IN IP4 {ip}\r\nm=audio 4000 RTP/AVP 0\r\n").as_bytes());
            let (from, to) = (media(source).unwrap(), media("198.51.100.1").unwrap());
            policy.check(&Impersonation::new(1, "", 1, &from, &to).unwrap())
        };
        assert_eq!(judge("10.1.1.1"), Ok(()));
        assert!(matches!(judge("192.168.1.1"), Err(Refusal::Private(_))));
        assert!(matches!(judge("203.0.113.1"), Err(Refusal::Own(_))));
    }

    #[test]
    fn it_holds_itself_to_what_a_configuration_may_say() {
        let settings = Settings::of(&Config::default(), Vec::new());
        let wild = Settings { packets: 255, max_packets_per_sec: u32::MAX, ..settings };
        assert_eq!(wild.bounds().packets, Callback::MAX_PACKETS);
        assert_eq!(wild.bounds().per_sec, Callback::MAX_PACKETS_PER_SEC);
        assert!(Settings { networks: vec!["ten".to_owned()], ..wild }.policy().is_err());
    }
}
