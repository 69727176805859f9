//! The next hop: from a URI or a Via to a flow (RFC 3261 §16.6 step 7, §18.1.1, §18.2.2; RFC 3263 without its queries).

use super::settings::Settings;
use agent::Flow;
use sip::{Host, Rport, SipUri, Transport, Via};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Why there is no next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoHop {
    /// No listener speaks the transport over that family of addresses.
    Transport,
    /// The name has no address that is known here.
    Name,
    /// Nothing is ever sent to that address.
    Address,
}

/// The flow to send a request to `uri` on. `came_on` is preferred as the socket to send from.
pub fn of_uri(settings: &Settings, uri: &SipUri<'_>, came_on: &Flow) -> Result<Flow, NoHop> {
    let asked = uri.transport().map_err(|_| NoHop::Transport)?;
    let transport = match (uri.secure, asked) {
        // RFC 3263 §4.1: without a parameter UDP for sip, TLS for sips.
        (false, None) => Transport::Udp,
        (false, Some(transport)) => transport,
        // RFC 5630 §3.1.4: the parameter names what TLS runs on.
        (true, None | Some(Transport::Tcp | Transport::Tls)) => Transport::Tls,
        (true, Some(Transport::Ws | Transport::Wss)) => Transport::Wss,
        (true, Some(Transport::Udp)) => return Err(NoHop::Transport),
    };
    let host = match uri.param("maddr") {
        Some(maddr) => Host::new(maddr).ok_or(NoHop::Address)?,
        None => uri.host,
    };
    let port = uri.port.unwrap_or(transport.default_port());
    flow(settings, transport, &host, port, came_on)
}

/// The flow to send a response on by `via`, the topmost one beneath ours (§18.2.2). `came_on` is the flow that the
/// request came on as far as our own branch tells: its socket, and its connection.
pub fn of_via(settings: &Settings, via: &Via<'_>, came_on: &Flow) -> Result<Flow, NoHop> {
    let transport = Transport::from_token(via.transport).ok_or(NoHop::Transport)?;
    let maddr = via.maddr.filter(|_| !transport.is_reliable());
    let host = match (maddr, via.received) {
        (Some(maddr), _) => Host::new(maddr).ok_or(NoHop::Address)?,
        (None, Some(IpAddr::V4(v4))) => Host::V4(v4),
        (None, Some(IpAddr::V6(v6))) => Host::V6(v6),
        (None, None) => via.host,
    };
    // RFC 3581 §4: the port beside `received`. It is no use to a stream that must be opened anew: that goes to sent-by.
    let port = match via.rport {
        Rport::Filled(port) if maddr.is_none() && !transport.is_reliable() => port,
        _ => via.port_or_default(),
    };
    let mut flow = flow(settings, transport, &host, port, came_on)?;
    if transport.is_reliable() {
        flow.connection = came_on.connection;
    }
    Ok(flow)
}

/// The flow that a binding or a token of ours has `kept`, from a socket that leads there now: both outlive a restart, and
/// the listeners of the next run may be others.
pub fn of_kept(settings: &Settings, kept: Flow) -> Result<Flow, NoHop> {
    let listener = settings.listeners.towards(kept.transport, kept.peer.ip(), kept.listener);
    Ok(Flow { listener: listener.ok_or(NoHop::Transport)?, ..kept })
}

fn flow(settings: &Settings, transport: Transport, host: &Host<'_>, port: u16, came_on: &Flow) -> Result<Flow, NoHop> {
    let towards = |ip| settings.listeners.towards(transport, ip, came_on.listener);
    let (ip, listener) = match host {
        Host::Name(name) => {
            let known = settings.names.addresses(name);
            let reachable = known.iter().find_map(|&ip| towards(ip).map(|listener| (ip, listener)));
            reachable.ok_or(if known.is_empty() { NoHop::Name } else { NoHop::Transport })?
        }
        Host::V4(v4) => (IpAddr::V4(*v4), towards(IpAddr::V4(*v4)).ok_or(NoHop::Transport)?),
        Host::V6(v6) => (IpAddr::V6(*v6), towards(IpAddr::V6(*v6)).ok_or(NoHop::Transport)?),
    };
    if !is_unicast(ip) || port == 0 {
        return Err(NoHop::Address);
    }
    Ok(Flow { listener, transport, peer: SocketAddr::new(ip, port), connection: None })
}

/// RFC 4475 §3.3.10: nothing goes to a broadcast address; nor to a multicast or an unspecified one.
fn is_unicast(ip: IpAddr) -> bool {
    !(ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST))
}
