//! The sockets of ours, as messages name them: sent-by in Via, the host of Record-Route, the addresses that mean us.

use agent::ListenerId;
use sip::{Host, Transport};
use std::net::{IpAddr, SocketAddr};

/// One `[[listen]]`.
#[derive(Clone, Debug)]
pub struct Listener {
    /// What it speaks.
    pub transport: Transport,
    /// What it is bound to; may be unspecified (0.0.0.0, ::).
    pub address: SocketAddr,
    /// `host[:port]` that the world knows it by, where that differs.
    pub advertise: Option<(Box<str>, Option<u16>)>,
}

/// An address of this machine, with the width of its network.
#[derive(Clone, Copy, Debug)]
pub struct Interface {
    /// The address.
    pub address: IpAddr,
    /// Bits of the network's prefix.
    pub prefix: u8,
}

/// Every listener with the names that it goes by.
#[derive(Clone, Debug)]
pub struct Listeners {
    all: Vec<Named>,
}

#[derive(Clone, Debug)]
struct Named {
    listener: Listener,
    /// What sent-by says to peers of each interface's network; the first one to everybody else.
    names: Vec<Name>,
}

/// A name of a listener.
#[derive(Clone, Debug)]
struct Name {
    /// To whom it is told.
    interface: Interface,
    /// `host[:port]`.
    sent_by: Box<str>,
    /// Our Via with it, see [`Listeners::via`].
    via: Box<str>,
}

impl Listeners {
    /// Names the listeners. `interfaces` are this machine's, the one with the default route first; listeners bound to an
    /// unspecified address are reached at all of them.
    pub fn new(listeners: Vec<Listener>, interfaces: &[Interface]) -> Self {
        let name = |listener: Listener| {
            let bound = listener.address;
            let name_at = |interface: Interface| {
                let sent_by: Box<str> = match &listener.advertise {
                    Some((host, Some(port))) => format!("{host}:{port}").into(),
                    Some((host, None)) => host.clone(),
                    None => SocketAddr::new(interface.address, bound.port()).to_string().into(),
                };
                let via = format!("Via: SIP/2.0/{} {sent_by};branch=", listener.transport.token()).into();
                Name { interface, sent_by, via }
            };
            let mut names: Vec<_> = match bound.ip().is_unspecified() {
                true => {
                    let of_family = interfaces.iter().filter(|i| i.address.is_ipv4() == bound.is_ipv4());
                    of_family.copied().map(name_at).collect()
                }
                false => Vec::new(),
            };
            if names.is_empty() {
                names.push(name_at(Interface { address: bound.ip(), prefix: 0 }));
            }
            Named { listener, names }
        };
        Self { all: listeners.into_iter().map(name).collect() }
    }

    /// Every address and port at which a message may reach us, those included that a NAT has in our place.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.all.iter().flat_map(|n| {
            let bound = n.listener.address.port();
            let advertised = n.listener.advertise.as_ref().and_then(|(host, port)| {
                let ip = Host::new(host.as_bytes())?.ip()?;
                Some(SocketAddr::new(ip, port.unwrap_or(n.listener.transport.default_port())))
            });
            n.names.iter().map(move |name| SocketAddr::new(name.interface.address, bound)).chain(advertised)
        })
    }

    /// What it speaks.
    pub fn transport(&self, id: ListenerId) -> Option<Transport> {
        self.all.get(usize::from(id.0)).map(|n| n.listener.transport)
    }

    /// `host:port` of a listener as `peer` knows it: that of the interface in the peer's own network, else the first.
    pub fn sent_by(&self, id: ListenerId, peer: IpAddr) -> &str {
        &self.name(id, peer).sent_by
    }

    /// The line of our Via towards `peer`, up to its branch.
    pub fn via(&self, id: ListenerId, peer: IpAddr) -> &str {
        &self.name(id, peer).via
    }

    fn name(&self, id: ListenerId, peer: IpAddr) -> &Name {
        let names = &self.all[usize::from(id.0)].names;
        if let [only] = &names[..] {
            return only;
        }
        let near = names.iter().filter(|name| in_network(peer, &name.interface));
        near.max_by_key(|name| name.interface.prefix).unwrap_or(&names[0])
    }

    /// Whether a Via's sent-by or a route's host names us.
    pub fn is_own(&self, host: &Host<'_>, port: u16) -> bool {
        self.all.iter().any(|n| {
            let bound = n.listener.address.port();
            let advertised = n.listener.advertise.as_ref().is_some_and(|(name, p)| {
                p.unwrap_or(n.listener.transport.default_port()) == port && is_same_host(host, name)
            });
            let reached =
                bound == port && host.ip().is_some_and(|ip| n.names.iter().any(|name| name.interface.address == ip));
            advertised || reached
        })
    }

    /// The listener to send to `peer` from: `preferred` where it fits, else the first that does.
    pub fn towards(&self, transport: Transport, peer: IpAddr, preferred: ListenerId) -> Option<ListenerId> {
        let fits = |n: &Named| n.listener.transport == transport && n.listener.address.is_ipv4() == peer.is_ipv4();
        if self.all.get(usize::from(preferred.0)).is_some_and(fits) {
            return Some(preferred);
        }
        self.all.iter().position(fits).map(|i| ListenerId(i as u16))
    }
}

fn is_same_host(host: &Host<'_>, name: &str) -> bool {
    Host::new(name.as_bytes()).is_some_and(|h| h == *host)
}

fn in_network(peer: IpAddr, interface: &Interface) -> bool {
    let differing_bits = match (peer, interface.address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u32::from(a) ^ u32::from(b)).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a) ^ u128::from(b)).leading_zeros(),
        _ => return false,
    };
    differing_bits >= u32::from(interface.prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listeners() -> Listeners {
        let listen =
            |transport, address: &str, advertise| Listener { transport, address: address.parse().unwrap(), advertise };
        let interface = |address: &str, prefix| Interface { address: address.parse().unwrap(), prefix };
        Listeners::new(
            vec![
                listen(Transport::Udp, "0.0.0.0:5060", None),
                listen(Transport::Tcp, "192.0.2.1:5070", Some(("sip.example.com".into(), None))),
                listen(Transport::Udp, "[2001:db8::1]:5060", None),
            ],
            &[interface("192.0.2.1", 24), interface("10.0.0.1", 8), interface("127.0.0.1", 8)],
        )
    }

    #[test]
    fn a_peer_sees_the_address_of_his_own_network() {
        let l = listeners();
        let sent_by = |id, peer: &str| l.sent_by(ListenerId(id), peer.parse().unwrap()).to_owned();
        assert_eq!(sent_by(0, "10.5.5.5"), "10.0.0.1:5060");
        let via = |id, peer: &str| l.via(ListenerId(id), peer.parse().unwrap()).to_owned();
        assert_eq!(via(0, "10.5.5.5"), "Via: SIP/2.0/UDP 10.0.0.1:5060;branch=");
        assert_eq!(via(1, "10.5.5.5"), "Via: SIP/2.0/TCP sip.example.com;branch=");
        assert_eq!(sent_by(0, "127.0.0.9"), "127.0.0.1:5060");
        assert_eq!(sent_by(0, "203.0.113.9"), "192.0.2.1:5060");
        assert_eq!(sent_by(1, "10.5.5.5"), "sip.example.com");
        assert_eq!(sent_by(2, "2001:db8::9"), "[2001:db8::1]:5060");
    }

    #[test]
    fn we_are_known_by_address_and_by_advertised_name() {
        let l = listeners();
        let own = |host: &str, port| l.is_own(&Host::new(host.as_bytes()).unwrap(), port);
        assert!(own("10.0.0.1", 5060) && own("SIP.example.com", 5060) && own("[2001:db8::1]", 5060));
        assert!(!own("10.0.0.1", 5061) && !own("10.0.0.2", 5060) && !own("example.com", 5060));
    }

    #[test]
    fn an_advertised_address_is_ours_too() {
        let address = "10.0.0.1:5060".parse().unwrap();
        let advertise = Some(("203.0.113.7".into(), Some(5070)));
        let l = Listeners::new(vec![Listener { transport: Transport::Udp, address, advertise }], &[]);
        assert_eq!(l.addresses().collect::<Vec<_>>(), [address, "203.0.113.7:5070".parse().unwrap()]);
    }

    #[test]
    fn the_socket_that_a_message_came_on_is_preferred() {
        let l = listeners();
        let towards = |t, peer: &str, p| l.towards(t, peer.parse().unwrap(), ListenerId(p));
        assert_eq!(towards(Transport::Udp, "10.1.1.1", 0), Some(ListenerId(0)));
        assert_eq!(towards(Transport::Udp, "::1", 0), Some(ListenerId(2)));
        assert_eq!(towards(Transport::Tls, "10.1.1.1", 0), None);
    }
}
