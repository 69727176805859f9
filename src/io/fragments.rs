//! Datagrams longer than their path takes.
//!
//! A socket of ours lets the kernel fragment nothing, and sends nothing that may be fragmented on its way (IP_PMTUDISC_DO). So an IPv4 datagram needs no
//! identification (RFC 6864 §4), which the kernel otherwise draws for each: a keyed hash of the addresses, and a counter that all cores share for one
//! peer. What is too long for its path is refused with EMSGSIZE, and goes once more while the socket lets it be fragmented, as it is usual
//! (IP_PMTUDISC_WANT); a moment later then than what else its turn sends to that peer. IPv6 draws one for fragments only.
//!
//! What this forgoes: a route whose MTU is locked (`ip route … mtu lock N`) would have shorter datagrams fragmented on their way. Who needs that sets `net.ipv4.ip_no_pmtu_disc`.
//! The option is the socket's, whoever holds it: while a process hands over to another, one of both may find it as the other has set it, and lose a long
//! datagram, which its sender sends again.

use rustix::net::sockopt::{Ipv4PathMtuDiscovery, ip_mtu_discover, set_ip_mtu_discover};
use sip::Transport;
use socket2::Socket;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// The sockets of a shard's datagram listeners, by what they may do with long datagrams.
pub(super) struct Fragments {
    sockets: Arc<[Option<Socket>]>,
    /// By listener, whether its socket fragments nothing but when it is told to.
    forbids: Box<[bool]>,
}

impl Fragments {
    /// Forbids fragments to those of `sockets` whose listener carries datagrams of IPv4, but not where the administrator has all datagrams sent so that they may be fragmented
    /// (`net.ipv4.ip_no_pmtu_disc`).
    pub(super) fn forbid(sockets: Arc<[Option<Socket>]>, listeners: &[Option<(Transport, SocketAddr)>]) -> Self {
        let forbids = |(socket, listener): (&Option<Socket>, &Option<(Transport, SocketAddr)>)| {
            let Some(socket) =
                socket.as_ref().filter(|_| matches!(listener, Some((Transport::Udp, SocketAddr::V4(_)))))
            else {
                return false;
            };
            // A process before this one may have forbidden them already.
            let is_usual = matches!(ip_mtu_discover(socket), Ok(Ipv4PathMtuDiscovery::WANT | Ipv4PathMtuDiscovery::DO));
            is_usual && set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::DO).is_ok()
        };
        let forbids = sockets.iter().zip(listeners).map(forbids).collect();
        Self { sockets, forbids }
    }

    /// Whether what the kernel has refused on that listener was too long, and may go in fragments.
    pub(super) fn may_carry(&self, listener: u16, refusal: &io::Error) -> bool {
        refusal.raw_os_error() == Some(libc::EMSGSIZE) && self.forbids.get(usize::from(listener)) == Some(&true)
    }

    /// Lets long datagrams of that listener be fragmented, or no longer.
    pub(super) fn allow(&self, listener: u16, yes: bool) {
        let way = if yes { Ipv4PathMtuDiscovery::WANT } else { Ipv4PathMtuDiscovery::DO };
        let socket = self.sockets.get(usize::from(listener)).and_then(Option::as_ref);
        // A socket that has once taken the option takes it again.
        let _ = socket.map(|socket| set_ip_mtu_discover(socket, way));
    }
}
