//! Whose domain is it: which hosts in a URI mean us (RFC 3261 §16.4, §16.5, §10.3 step 1).

use sip::Host;
use std::net::{IpAddr, SocketAddr};

/// Our domains, and the addresses that we listen on, which are other names of the first domain.
#[derive(Clone, Debug)]
pub struct Domains {
    names: Vec<Box<str>>,
    listening: Vec<SocketAddr>,
}

impl Domains {
    /// `names` has at least one domain; the first one is the default. `listening` holds every address and port that we
    /// are reached at, none of them unspecified.
    pub fn new(names: Vec<Box<str>>, listening: Vec<SocketAddr>) -> Self {
        assert!(!names.is_empty(), "the configuration gives at least one domain");
        Self { names: names.into_iter().map(|n| n.to_ascii_lowercase().into()).collect(), listening }
    }

    /// The domain that addresses of ours stand for.
    pub fn default_domain(&self) -> &str {
        &self.names[0]
    }

    /// Every domain, the default one first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|n| &**n)
    }

    /// The domain of ours that `host` names, if it does: by name whatever the port, by address at a port that we listen
    /// on (5060 and 5061 where none is given).
    pub fn local(&self, host: &Host<'_>, port: Option<u16>) -> Option<&str> {
        match host.ip() {
            None => self.names().find(|name| host.is_name(name)),
            Some(ip) => self.is_listening(ip, port).then(|| self.default_domain()),
        }
    }

    /// Whether we listen on `ip`, at `port` or, where none is given, at a default one.
    pub fn is_listening(&self, ip: IpAddr, port: Option<u16>) -> bool {
        self.listening
            .iter()
            .any(|own| own.ip() == ip && port.map_or(matches!(own.port(), 5060 | 5061), |p| own.port() == p))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_in_any_case_and_addresses_with_their_port() {
        let domains = Domains::new(
            vec!["Example.com".into(), "b.example".into()],
            vec!["192.0.2.1:5060".parse().unwrap(), "[2001:db8::1]:5070".parse().unwrap()],
        );
        let local = |host: &str, port| domains.local(&Host::new(host.as_bytes()).unwrap(), port).map(str::to_owned);
        assert_eq!(local("EXAMPLE.com.", Some(5099)).as_deref(), Some("example.com"));
        assert_eq!(local("b.example", None).as_deref(), Some("b.example"));
        assert_eq!(local("192.0.2.1", None).as_deref(), Some("example.com"));
        assert_eq!(local("192.0.2.1", Some(5061)), None);
        assert_eq!(local("[2001:db8::1]", Some(5070)).as_deref(), Some("example.com"));
        assert_eq!(local("[2001:db8::1]", None), None);
        assert_eq!(local("c.example", None), None);
    }
}
