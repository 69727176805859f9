//! Calls without a caller, for a transfer or a call back: the legs of a call are made from the INVITE that began it, and there is none.

use crate::{call::Caller, cdr::Facts, shared::Context};
use agent::{Flow, ListenerId, Way};
use dialog::Body;
use sip::{HeaderName, Octets, Transport, write};
use std::net::{Ipv4Addr, SocketAddr};

/// An INVITE that nobody has sent: what the legs of a call without a caller are made from.
pub(crate) struct Unsent<'a> {
    /// Who calls, as an address without a tag.
    pub from: &'a [u8],
    /// Whom, in the first place.
    pub target: &'a [u8],
    /// Where the caller would be reached.
    pub contact: &'a [u8],
    /// The session that is offered; None leaves that to the legs.
    pub offer: Option<&'a [u8]>,
}

impl Unsent<'_> {
    fn write(&self, tag: &[u8], call_id: &[u8]) -> Vec<u8> {
        let mut invite = Vec::with_capacity(1024);
        for part in [
            &b"INVITE "[..],
            self.target,
            b" SIP/2.0\r\nVia: SIP/2.0/UDP unknown.invalid;branch=z9hG4bK0\r\nFrom: ",
            self.from,
            b";tag=",
            tag,
            b"\r\nTo: <",
            self.target,
            b">\r\nCall-ID: ",
            call_id,
            b"\r\nCSeq: 1 INVITE\r\nContact: <",
            self.contact,
            b">\r\n",
        ] {
            invite.put(part);
        }
        if self.offer.is_some() {
            write::header(&mut invite, HeaderName::ContentType, Body::SDP);
        }
        write::finish(&mut invite, self.offer.unwrap_or_default());
        invite
    }
}

/// The flow of a set-up that no message has asked for.
pub(crate) fn no_flow() -> Flow {
    let peer = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
    Flow { listener: ListenerId(0), transport: Transport::Udp, peer, connection: None }
}

impl Caller {
    /// The caller of an INVITE that nobody has sent; as if it had come on `flow`.
    pub fn unsent(ctx: &mut Context<'_, '_>, unsent: &Unsent<'_>, flow: Flow, facts: Facts) -> Self {
        let (tag, call_id) = (ctx.core.mint.draw(), ctx.core.mint.call_id());
        Self {
            invite: unsent.write(&ctx.core.tag_text(tag), &call_id).as_slice().into(),
            flow,
            way: Way::Uri,
            server: None,
            transfer: None,
            at_once: None,
            tag,
            dialog: None,
            user: None,
            facts,
            is_late_offer: unsent.offer.is_none(),
            provider: None,
        }
    }
}
