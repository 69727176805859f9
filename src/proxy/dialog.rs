//! The token in our Record-Route (RFC 3261 §16.6 step 4): it says, sealed, that a dialog was set up through us, and
//! where its ends are reached when their Contact does not tell (a connection, a NAT; RFC 5626 §5.3 keeps flows this way).
//!
//! The user part of the Record-Route's URI: a seal over the Call-ID, the caller's tag and the rest, then for the caller and
//! for the callee `-` or a flow in base64url. A request inside the dialog brings it back in Route. Since nobody else can
//! make one, it is also the proof that we may relay the request, whosever domain its Request-URI names. The sealed tag
//! tells which side sent it, whatever address a NAT gives him now: the caller has it in From, the callee in To. A request
//! without a tag in To is in no dialog, so the token gives it no right.

use agent::{ConnectionId, Flow, ListenerId, Seal, Secret};
use arrayvec::ArrayVec;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sip::{Octets, Request, Transport};
use std::net::{IpAddr, SocketAddr};

/// Octets of a packed flow at most: kind, listener, IPv6 address, port, connection.
const MAX_PACKED: usize = 1 + 2 + 16 + 2 + 10;
/// Characters of it in base64.
const MAX_FLOW_TEXT: usize = MAX_PACKED.div_ceil(3) * 4;
/// Characters of two flows with the dot between.
const MAX_TEXT: usize = 2 * MAX_FLOW_TEXT + 1;

/// Where the ends of a dialog are reached; `None` where its Contact tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DialogFlows {
    /// Of the side that sent the first request.
    pub caller: Option<Flow>,
    /// Of the side that it was sent to.
    pub callee: Option<Flow>,
}

/// What a token says to a request that brought it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialog {
    /// The flow to the side that did not send the request, where its Contact does not tell.
    pub towards: Option<Flow>,
}

/// Writes and checks the tokens.
#[derive(Clone)]
pub struct DialogTokens {
    seal: Seal,
}

impl DialogTokens {
    /// Tokens of the cluster that shares `secret`.
    pub fn new(secret: &Secret) -> Self {
        Self { seal: Seal::new(secret, "dialog") }
    }

    /// Writes the token for the dialog that `request` begins.
    pub fn write(&self, request: &Request<'_>, flows: &DialogFlows, out: &mut impl Octets) {
        let mut text = ArrayVec::<u8, MAX_TEXT>::new();
        put_flow(flows.caller.as_ref(), &mut text);
        text.push(b'.');
        put_flow(flows.callee.as_ref(), &mut text);
        out.put(&self.seal.seal(&[request.call_id, request.from.tag.unwrap_or_default(), &text]));
        out.put(&text);
    }

    /// Opens a token that `request` brought, if we wrote it for the dialog that `request` is in.
    pub fn open(&self, request: &Request<'_>, token: &[u8]) -> Option<Dialog> {
        let (seal, text) = token.split_at_checked(Seal::TEXT_LEN)?;
        let to_tag = request.to.tag?;
        let is_callers = |tag: &[u8]| self.seal.is_sealed(&[request.call_id, tag, text], seal);
        let dot = memchr::memchr(b'.', text)?;
        let (caller, callee) = (&text[..dot], &text[dot + 1..]);
        let towards = if is_callers(request.from.tag.unwrap_or_default()) {
            callee
        } else if is_callers(to_tag) {
            caller
        } else {
            return None;
        };
        Some(Dialog { towards: take_flow(towards)? })
    }
}

fn put_flow(flow: Option<&Flow>, out: &mut ArrayVec<u8, MAX_TEXT>) {
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
    let mut text = [0; MAX_FLOW_TEXT];
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

/// `None` is a fault, `Some(None)` the dash.
fn take_flow(text: &[u8]) -> Option<Option<Flow>> {
    if text == b"-" {
        return Some(None);
    }
    let mut packed = [0; MAX_FLOW_TEXT];
    let length = URL_SAFE_NO_PAD.decode_slice(text, &mut packed).ok()?;
    let mut rest = &packed[..length];
    let [kind] = take(&mut rest)?;
    let transport = *TRANSPORTS.get(usize::from(kind & 0x0f))?;
    let listener = ListenerId(u16::from_be_bytes(take(&mut rest)?));
    let ip = match kind & V6 {
        0 => IpAddr::from(take::<4>(&mut rest)?),
        _ => IpAddr::from(take::<16>(&mut rest)?),
    };
    let peer = SocketAddr::new(ip, u16::from_be_bytes(take(&mut rest)?));
    let mut connection = None;
    if kind & CONNECTED != 0 {
        connection = Some(ConnectionId {
            shard: u16::from_be_bytes(take(&mut rest)?),
            slot: u32::from_be_bytes(take(&mut rest)?),
            generation: u32::from_be_bytes(take(&mut rest)?),
        });
    }
    rest.is_empty().then_some(Some(Flow { listener, transport, peer, connection }))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sip::{Limits, Message};

    fn flow(peer: &str, connection: Option<ConnectionId>) -> Flow {
        let transport = if connection.is_some() { Transport::Tcp } else { Transport::Udp };
        Flow { listener: ListenerId(2), transport, peer: peer.parse().unwrap(), connection }
    }

    /// Calls `then` with a request of that Call-ID and those tags.
    fn with_request<T>(call_id: &str, from: &str, to: &str, then: impl FnOnce(&Request<'_>) -> T) -> T {
        let text = format!(
            "BYE sip:b@x SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@x>{from}\r\nTo: <sip:b@x>{to}\r\n\
             Call-ID: {call_id}\r\nCSeq: 1 BYE\r\n\r\n"
        );
        then(&Message::parse(text.as_bytes(), &Limits::default()).unwrap().request().unwrap())
    }

    fn write(tokens: &DialogTokens, flows: &DialogFlows) -> Vec<u8> {
        let mut token = Vec::new();
        with_request("id", ";tag=caller", "", |request| tokens.write(request, flows, &mut token));
        token
    }

    fn open(tokens: &DialogTokens, [call_id, from, to]: [&str; 3], token: &[u8]) -> Option<Dialog> {
        with_request(call_id, from, to, |request| tokens.open(request, token))
    }

    const FROM_CALLER: [&str; 3] = ["id", ";tag=caller", ";tag=callee"];
    const FROM_CALLEE: [&str; 3] = ["id", ";tag=callee", ";tag=caller"];

    #[test]
    fn a_token_opens_for_its_own_dialog_only() {
        let tokens = DialogTokens::new(&Secret::new([3; 32]));
        let connection = Some(ConnectionId { shard: 1, slot: 2, generation: 3 });
        for flows in [
            DialogFlows::default(),
            DialogFlows { caller: Some(flow("192.0.2.1:5062", None)), callee: None },
            DialogFlows {
                caller: Some(flow("192.0.2.1:5062", None)),
                callee: Some(flow("[2001:db8::1]:9", connection)),
            },
        ] {
            let token = write(&tokens, &flows);
            assert_eq!(open(&tokens, FROM_CALLER, &token), Some(Dialog { towards: flows.callee }));
            assert_eq!(open(&tokens, FROM_CALLEE, &token), Some(Dialog { towards: flows.caller }));
            assert_eq!(open(&tokens, ["other", ";tag=caller", ";tag=callee"], &token), None);
            assert_eq!(open(&tokens, ["id", ";tag=stranger", ";tag=callee"], &token), None);
            assert_eq!(open(&DialogTokens::new(&Secret::new([4; 32])), FROM_CALLER, &token), None);
            for i in 0..token.len() {
                let mut forged = token.clone();
                forged[i] ^= 1;
                assert_eq!(open(&tokens, FROM_CALLER, &forged), None);
            }
        }
    }

    #[test]
    fn a_request_outside_of_a_dialog_has_no_use_for_a_token() {
        let tokens = DialogTokens::new(&Secret::new([3; 32]));
        let token = write(&tokens, &DialogFlows::default());
        assert_eq!(open(&tokens, ["id", ";tag=caller", ""], &token), None);
    }
}
