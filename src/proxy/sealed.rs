//! What an agent in another process must know and may say about a message, in sealed headers on the hop between: the flow
//! that it came on from outside, the way that it is to take.
//!
//! `Ringswitch-Source` is on what the switch gives to an application server, `Ringswitch-Way` on what it takes from one. The
//! value is a seal, then the text that it seals, both together with the Call-ID: taken from one call to another it is
//! worth nothing, and nobody without the cluster's secret writes one. Each stands right behind the start-line, so that
//! it is taken away without an edit. From outside neither is ever let in: [`ours`] finds what is to be
//! stripped.

use super::flow_text;
use agent::{Flow, Seal, Secret, Way};
use arrayvec::ArrayVec;
use bumpalo::{Bump, collections::Vec as BumpVec};
use sip::{Header, HeaderName, Message, Octets};

/// What the names of both begin with.
const PREFIX: &[u8] = b"Ringswitch-";
const SOURCE: &[u8] = b"Ringswitch-Source: ";
const WAY: &[u8] = b"Ringswitch-Way: ";

/// Characters behind the seal at most: what it is, then a flow.
const MAX_TEXT: usize = 1 + flow_text::MAX_LEN;

/// What an agent in another process asks of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// To send the message that way.
    Post(Way),
    /// To answer where its Request-URI's user is reached.
    Lookup,
}

/// Writes and checks the headers.
#[derive(Clone)]
pub struct HopTokens {
    sources: Seal,
    ways: Seal,
}

impl HopTokens {
    /// Tokens of the cluster that shares `secret`.
    pub fn new(secret: &Secret) -> Self {
        Self { sources: Seal::new(secret, "hop source"), ways: Seal::new(secret, "hop way") }
    }

    /// Writes the header line that tells where a message came from.
    pub fn write_source(&self, call_id: &[u8], flow: &Flow, out: &mut impl Octets) {
        let mut text = ArrayVec::<u8, MAX_TEXT>::new();
        flow_text::put(Some(flow), &mut text);
        write(SOURCE, &self.sources, call_id, &text, out);
    }

    /// The flow that a message with that Call-ID came on from outside, if the switch says so.
    pub fn open_source(&self, call_id: &[u8], token: &[u8]) -> Option<Flow> {
        flow_text::take(open(&self.sources, call_id, token)?)?
    }

    /// Writes the header line that asks for an errand.
    pub fn write_errand(&self, call_id: &[u8], errand: Errand, out: &mut impl Octets) {
        let mut text = ArrayVec::<u8, MAX_TEXT>::new();
        let (kind, flow) = match errand {
            Errand::Post(Way::Response(flow)) => (b'r', Some(flow)),
            Errand::Post(Way::Flow(flow)) => (b'f', Some(flow)),
            Errand::Post(Way::Uri) => (b'u', None),
            Errand::Lookup => (b'l', None),
        };
        text.push(kind);
        flow_text::put(flow.as_ref(), &mut text);
        write(WAY, &self.ways, call_id, &text, out);
    }

    /// What is asked for with a message of that Call-ID, if an agent of ours asks.
    pub fn open_errand(&self, call_id: &[u8], token: &[u8]) -> Option<Errand> {
        let (kind, flow) = open(&self.ways, call_id, token)?.split_first()?;
        match (kind, flow_text::take(flow)?) {
            (b'r', Some(flow)) => Some(Errand::Post(Way::Response(flow))),
            (b'f', Some(flow)) => Some(Errand::Post(Way::Flow(flow))),
            (b'u', None) => Some(Errand::Post(Way::Uri)),
            (b'l', None) => Some(Errand::Lookup),
            _ => None,
        }
    }
}

fn write(name: &[u8], seal: &Seal, call_id: &[u8], text: &[u8], out: &mut impl Octets) {
    out.put(name);
    out.put(&seal.seal(&[call_id, text]));
    out.put(text);
    out.put(b"\r\n");
}

fn open<'k>(seal: &Seal, call_id: &[u8], token: &'k [u8]) -> Option<&'k [u8]> {
    let (sealed, text) = token.split_at_checked(Seal::TEXT_LEN)?;
    seal.is_sealed(&[call_id, text], sealed).then_some(text)
}

/// Takes the header away that tells the source: its value, and the message without it.
pub fn take_source<'t>(octets: &'t [u8], arena: &'t Bump) -> Option<(&'t [u8], &'t [u8])> {
    take(SOURCE, octets, arena)
}

/// Takes the header away that asks for an errand: its value, and the message without it.
pub fn take_errand<'t>(octets: &'t [u8], arena: &'t Bump) -> Option<(&'t [u8], &'t [u8])> {
    take(WAY, octets, arena)
}

fn take<'t>(name: &[u8], octets: &'t [u8], arena: &'t Bump) -> Option<(&'t [u8], &'t [u8])> {
    let start_line = memchr::memchr(b'\n', octets)? + 1;
    let (value, rest) = {
        let line = octets[start_line..].strip_prefix(name)?;
        line.split_at(memchr::memchr(b'\r', line)?)
    };
    let rest = rest.strip_prefix(b"\r\n")?;
    let mut plain = BumpVec::with_capacity_in(start_line + rest.len(), arena);
    plain.extend_from_slice_copy(&octets[..start_line]);
    plain.extend_from_slice_copy(rest);
    Some((value, plain.into_bump_slice()))
}

/// The header lines of `message` that only we may write, wherever they stand.
pub fn ours<'m, 't>(message: &'m Message<'t>) -> impl Iterator<Item = Header<'t>> + 'm {
    message.all(HeaderName::Other).filter(|header| {
        let name = header.line.get(..PREFIX.len());
        name.is_some_and(|name| name.eq_ignore_ascii_case(PREFIX))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent::ListenerId;
    use sip::{Limits, Transport};

    fn flow() -> Flow {
        let peer = "192.0.2.9:5062".parse().unwrap();
        Flow { listener: ListenerId(1), transport: Transport::Udp, peer, connection: None }
    }

    fn tokens() -> HopTokens {
        HopTokens::new(&Secret::new([4; 32]))
    }

    /// The value of a header line.
    fn value(line: &[u8]) -> &[u8] {
        let colon = line.iter().position(|&b| b == b':').unwrap();
        &line[colon + 2..line.len() - 2]
    }

    fn source(call_id: &[u8]) -> Vec<u8> {
        let mut line = Vec::new();
        tokens().write_source(call_id, &flow(), &mut line);
        line
    }

    fn errand(errand: Errand) -> Vec<u8> {
        let mut line = Vec::new();
        tokens().write_errand(b"call", errand, &mut line);
        line
    }

    #[test]
    fn what_we_write_for_a_call_opens_for_that_call() {
        assert_eq!(tokens().open_source(b"call", value(&source(b"call"))), Some(flow()));
        for asked in [
            Errand::Post(Way::Response(flow())),
            Errand::Post(Way::Flow(flow())),
            Errand::Post(Way::Uri),
            Errand::Lookup,
        ] {
            assert_eq!(tokens().open_errand(b"call", value(&errand(asked))), Some(asked));
        }
    }

    #[test]
    fn a_token_of_another_call_is_worth_nothing() {
        assert_eq!(tokens().open_source(b"other", value(&source(b"call"))), None);
        assert_eq!(tokens().open_errand(b"other", value(&errand(Errand::Lookup))), None);
    }

    #[test]
    fn a_token_of_one_kind_does_not_pass_for_the_other() {
        assert_eq!(tokens().open_errand(b"call", value(&source(b"call"))), None);
        assert_eq!(tokens().open_source(b"call", value(&errand(Errand::Post(Way::Flow(flow()))))), None);
    }

    #[test]
    fn a_forged_token_is_worth_nothing() {
        let line = source(b"call");
        let token = value(&line);
        for i in 0..token.len() {
            let mut forged = token.to_vec();
            forged[i] ^= 1;
            assert_eq!(tokens().open_source(b"call", &forged), None);
        }
        let stranger = HopTokens::new(&Secret::new([5; 32]));
        assert_eq!(stranger.open_source(b"call", token), None);
        assert_eq!(tokens().open_source(b"call", b"short"), None);
    }

    #[test]
    fn a_header_is_taken_from_behind_the_start_line_only() {
        let arena = Bump::new();
        let message = b"BYE sip:a SIP/2.0\r\nRingswitch-Source: token\r\nTo: b\r\n\r\n";
        let (value, plain) = take_source(message, &arena).unwrap();
        assert_eq!((value, plain), (&b"token"[..], &b"BYE sip:a SIP/2.0\r\nTo: b\r\n\r\n"[..]));
        assert_eq!(take_errand(message, &arena), None);
        assert_eq!(take_source(b"BYE sip:a SIP/2.0\r\nTo: b\r\nRingswitch-Source: token\r\n\r\n", &arena), None);
    }

    #[test]
    fn our_lines_are_known_in_any_case_and_place() {
        let text =
            b"BYE sip:a SIP/2.0\r\nTo: b\r\nRINGSWITCH-way : x\r\nSubject: ringswitch-\r\nringswitch-source: y\r\n\r\n";
        let message = Message::parse(text, &Limits::default()).unwrap();
        let lines: Vec<_> = ours(&message).map(|header| header.value).collect();
        assert_eq!(lines, [b"x", b"y"]);
    }
}
