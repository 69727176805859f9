//! The token in our Record-Route (RFC 3261 §16.6 step 4): it says, sealed, that a dialog was set up through us, and
//! where its ends are reached when their Contact does not tell (a connection, a NAT; RFC 5626 §5.3 keeps flows this way).
//!
//! The user part of the Record-Route's URI: a seal over the Call-ID, the caller's tag and the rest, then for the caller and
//! for the callee `-` or a flow in base64url. A request inside the dialog brings it back in Route. Since nobody else can
//! make one, it is also the proof that we may relay the request, whosever domain its Request-URI names. The sealed tag
//! tells which side sent it, whatever address a NAT gives him now: the caller has it in From, the callee in To. A request
//! without a tag in To is in no dialog, so the token gives it no right.

use super::flow_text;
use agent::{Flow, Seal, Secret};
use arrayvec::ArrayVec;
use sip::{Octets, Request};

/// Characters of two flows with the dot between.
const MAX_TEXT: usize = 2 * flow_text::MAX_LEN + 1;

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
        flow_text::put(flows.caller.as_ref(), &mut text);
        text.push(b'.');
        flow_text::put(flows.callee.as_ref(), &mut text);
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
        Some(Dialog { towards: flow_text::take(towards)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent::{ConnectionId, ListenerId};
    use sip::{Limits, Message, Transport};

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
