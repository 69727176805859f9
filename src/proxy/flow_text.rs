//! A flow as text, for the tokens that we seal: base64url, which needs no escape in a URI or a header.

use agent::{ConnectionId, Flow, ListenerId};
use arrayvec::ArrayVec;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sip::Transport;
use std::net::{IpAddr, SocketAddr};

/// Octets of a packed flow at most: kind, listener, IPv6 address, port, connection.
const MAX_PACKED: usize = 1 + 2 + 16 + 2 + 10;

/// Characters of one at most.
pub(super) const MAX_LEN: usize = MAX_PACKED.div_ceil(3) * 4;

/// Writes a flow, or the dash for none.
pub(super) fn put<const N: usize>(flow: Option<&Flow>, out: &mut ArrayVec<u8, N>) {
    let Some(flow) = flow else { return out.push(b'-') };
    let mut packed = ArrayVec::<u8, MAX_PACKED>::new();
    packed.push(kind(flow));
    packed.extend(flow.listener.0.to_be_bytes());
    match flow.peer.ip() {
        IpAddr::V4(v4) => packed.extend(v4.octets()),
        IpAddr::V6(v6) => packed.extend(v6.octets()),
    }
    packed.extend(flow.peer.port().to_be_bytes());
    if let Some(c) = flow.connection {
        packed.extend(c.shard.to_be_bytes());
        packed.extend(c.slot.to_be_bytes());
        packed.extend(c.generation.to_be_bytes());
    }
    let mut text = [0; MAX_LEN];
    let length = URL_SAFE_NO_PAD.encode_slice(&packed, &mut text).expect("the buffer holds the longest flow");
    out.extend(text[..length].iter().copied());
}

const TRANSPORTS: [Transport; 5] = [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];
const V6: u8 = 0x10;
const CONNECTED: u8 = 0x20;

fn kind(flow: &Flow) -> u8 {
    let transport = TRANSPORTS.iter().position(|&t| t == flow.transport).expect("the list holds every transport");
    transport as u8 | if flow.peer.is_ipv6() { V6 } else { 0 } | if flow.connection.is_some() { CONNECTED } else { 0 }
}

/// Reads one back: `None` is a fault, `Some(None)` the dash.
pub(super) fn take(text: &[u8]) -> Option<Option<Flow>> {
    if text == b"-" {
        return Some(None);
    }
    let mut packed = [0; MAX_LEN];
    let length = URL_SAFE_NO_PAD.decode_slice(text, &mut packed).ok()?;
    let mut rest = &packed[..length];
    let [kind] = part(&mut rest)?;
    let transport = *TRANSPORTS.get(usize::from(kind & 0x0f))?;
    let listener = ListenerId(u16::from_be_bytes(part(&mut rest)?));
    let ip = match kind & V6 {
        0 => IpAddr::from(part::<4>(&mut rest)?),
        _ => IpAddr::from(part::<16>(&mut rest)?),
    };
    let peer = SocketAddr::new(ip, u16::from_be_bytes(part(&mut rest)?));
    let mut connection = None;
    if kind & CONNECTED != 0 {
        connection = Some(ConnectionId {
            shard: u16::from_be_bytes(part(&mut rest)?),
            slot: u32::from_be_bytes(part(&mut rest)?),
            generation: u32::from_be_bytes(part(&mut rest)?),
        });
    }
    rest.is_empty().then_some(Some(Flow { listener, transport, peer, connection }))
}

fn part<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*taken)
}
