//! Which addresses are never taken, whoever has told them.

use crate::{End, Impersonation, Refusal};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use store::Network;

/// An address of this machine and the length of its network's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The address.
    pub address: IpAddr,
    /// The prefix; all bits for a name that we go by without having its address.
    pub prefix: u8,
}

/// The rule for both addresses of an impersonation.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    own: Vec<Interface>,
    private: Vec<Network>,
}

impl Policy {
    /// `own` is where we are; `private`, the private networks that are allowed.
    pub fn new(own: Vec<Interface>, private: Vec<Network>) -> Self {
        Self { own, private }
    }

    /// Judges both addresses.
    ///
    /// # Errors
    /// Why it must not be done.
    pub fn check(&self, wanted: &Impersonation) -> Result<(), Refusal> {
        let Impersonation { source, destination, .. } = *wanted;
        self.check_end(source, End::Source)?;
        self.check_end(destination, End::Destination)?;
        if source.is_ipv4() != destination.is_ipv4() {
            return Err(Refusal::Families);
        }
        if source == destination {
            return Err(Refusal::Same);
        }
        Ok(())
    }

    fn check_end(&self, address: SocketAddr, end: End) -> Result<(), Refusal> {
        self.check_ip(address.ip(), end)?;
        // RFC 3550 §11 wants even ports for RTP only where RTCP's follows from it; gateways that tell both, or multiplex them
        // (RFC 5761), take odd ones, so these are allowed.
        if address.port() < 1024 {
            return Err(Refusal::LowPort(end));
        }
        Ok(())
    }

    fn check_ip(&self, ip: IpAddr, end: End) -> Result<(), Refusal> {
        let general = match ip {
            IpAddr::V4(v4) => general_v4(v4),
            IpAddr::V6(v6) => general_v6(v6),
        };
        if let Some(refusal) = general {
            return Err(refusal(end));
        }
        if self.own.iter().any(|own| own.address.to_canonical() == ip) {
            return Err(Refusal::Own(end));
        }
        if let IpAddr::V4(v4) = ip
            && self.own.iter().any(|own| is_broadcast_of(own, v4))
        {
            return Err(Refusal::Broadcast(end));
        }
        if is_private(ip) && !self.private.iter().any(|network| network.contains(ip)) {
            return Err(Refusal::Private(end));
        }
        match ip {
            // What a translator makes of it is judged, too.
            IpAddr::V6(v6) => embedded(v6).map_or(Ok(()), |v4| self.check_ip(v4.into(), end)),
            IpAddr::V4(_) => Ok(()),
        }
    }
}

/// What no network could allow.
fn general_v4(ip: Ipv4Addr) -> Option<fn(End) -> Refusal> {
    match ip.octets() {
        [0, ..] => Some(Refusal::Unspecified),
        [127, ..] => Some(Refusal::Loopback),
        [169, 254, ..] => Some(Refusal::LinkLocal),
        [224..=239, ..] => Some(Refusal::Multicast),
        [255, 255, 255, 255] => Some(Refusal::Broadcast),
        [240..=255, ..] => Some(Refusal::Reserved),
        _ => None,
    }
}

fn general_v6(ip: Ipv6Addr) -> Option<fn(End) -> Refusal> {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some(Refusal::Unspecified),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some(Refusal::Loopback),
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] => Some(Refusal::Mapped),
        [0xfe80..=0xfebf, ..] => Some(Refusal::LinkLocal),
        [0xff00..=0xffff, ..] => Some(Refusal::Multicast),
        _ => None,
    }
}

/// Whether an address is taken only where the operator lists its network: those of RFC 1918, RFC 6598 and RFC 4193, and what RFC 3879
/// and RFC 8215 say of others that are local.
pub fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_private() || matches!(v4.octets(), [100, 64..=127, ..]),
        IpAddr::V6(v6) => matches!(v6.segments(), [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] | [0x64, 0xff9b, 1, ..]),
    }
}

/// The IPv4 address that a translator (RFC 6052 §2.1) or a tunnel (RFC 3056 §2) makes of it.
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

/// Whether it is the last or the first address of one of our networks (RFC 1812 §5.3.5.2). A network of one or two addresses has
/// none (RFC 3021).
fn is_broadcast_of(own: &Interface, ip: Ipv4Addr) -> bool {
    let (IpAddr::V4(address), 1..=30) = (own.address, own.prefix) else { return false };
    let host = u32::MAX >> own.prefix;
    let is_same_network = address.to_bits() & !host == ip.to_bits() & !host;
    is_same_network && [0, host].contains(&(ip.to_bits() & host))
}
