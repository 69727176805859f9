//! A stand-in for the proxy: it writes addresses where an agent leaves them open, and finds where a way leads.

use agent::{PLACEHOLDER, Way};
use sip::{HeaderName, Host, Message, StartLine, Uri};
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

/// The message with `address` in the place of [`PLACEHOLDER`], in Via and Contact and nowhere else.
pub fn write_addresses(message: &Message<'_>, address: SocketAddr) -> Vec<u8> {
    let (octets, mut out, mut at) = (message.bytes(), Vec::new(), 0);
    for header in message.headers().filter(|h| matches!(h.name, HeaderName::Via | HeaderName::Contact)) {
        let start = header.line.as_ptr() as usize - octets.as_ptr() as usize;
        out.extend_from_slice(&octets[at..start]);
        let line = std::str::from_utf8(header.line).expect("agents write text");
        out.extend_from_slice(line.replace(PLACEHOLDER, &address.to_string()).as_bytes());
        at = start + header.line.len();
    }
    out.extend_from_slice(&octets[at..]);
    out
}

/// Who is reached under which name.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    hosts: BTreeMap<String, SocketAddr>,
}

impl Directory {
    pub fn put(&mut self, host: &str, address: SocketAddr) {
        self.hosts.insert(host.to_owned(), address);
    }

    /// Where the message goes that takes `way`; None where that leads nowhere.
    pub fn destination(&self, way: Way, message: &Message<'_>) -> Option<SocketAddr> {
        match way {
            Way::Response(flow) => Some(flow.for_response(&message.vias().next()?.ok()?).peer),
            Way::Flow(flow) => Some(flow.peer),
            Way::Uri => {
                let StartLine::Request { uri, .. } = message.start_line() else { return None };
                let route = message.addresses(HeaderName::Route).next().and_then(Result::ok);
                let Uri::Sip(uri) = Uri::parse(route.map_or(uri, |route| route.uri)).ok()? else { return None };
                self.resolve(&uri.host, uri.port)
            }
        }
    }

    fn resolve(&self, host: &Host<'_>, port: Option<u16>) -> Option<SocketAddr> {
        let by_address = |ip: IpAddr| SocketAddr::new(ip, port.unwrap_or(5060));
        let by_name = || self.hosts.iter().find(|(name, _)| host.is_name(name)).map(|(_, &address)| address);
        host.ip().map(by_address).or_else(by_name)
    }
}
