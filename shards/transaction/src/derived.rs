//! What a client transaction makes of its INVITE by itself: the ACK for a response other than 2xx (RFC 3261 §17.1.1.3) and
//! the CANCEL (§9.1).

use sip::{HeaderName, Limits, Message, Octets, StartLine, write};

/// Those header lines of an INVITE that an ACK and a CANCEL repeat, as a message: no body, and nothing that only the far end
/// reads.
pub(crate) fn shortened(invite: &[u8]) -> Box<[u8]> {
    derive(invite, b"INVITE", None)
}

/// The ACK for a response whose To is `to`; empty where the INVITE does not parse.
pub(crate) fn ack_for(invite: &[u8], to: &[u8]) -> Box<[u8]> {
    derive(invite, b"ACK", Some(to))
}

/// The CANCEL (§9.1) for an INVITE; empty where that does not parse.
pub fn cancel_for(invite: &[u8]) -> Box<[u8]> {
    derive(invite, b"CANCEL", None)
}

/// A request with the Request-URI, topmost Via, Route, From, To, Call-ID and CSeq number of `invite`. The TU has written the
/// INVITE; where it does not parse the result is empty, and what is empty is not sent.
fn derive(invite: &[u8], method: &[u8], to: Option<&[u8]>) -> Box<[u8]> {
    let Ok(invite) = Message::parse(invite, &Limits::default()) else { return Box::default() };
    let (StartLine::Request { uri, .. }, Ok(request)) = (invite.start_line(), invite.request()) else {
        return Box::default();
    };
    let mut out = Vec::with_capacity(512);
    out.put(method);
    out.put(b" ");
    out.put(uri);
    out.put(b" SIP/2.0\r\n");
    write::header(&mut out, HeaderName::Via, request.via.raw);
    write::header(&mut out, HeaderName::MaxForwards, b"70");
    for route in invite.all(HeaderName::Route) {
        write::header(&mut out, HeaderName::Route, route.value);
    }
    write::header(&mut out, HeaderName::From, request.from.raw);
    write::header(&mut out, HeaderName::To, to.unwrap_or(request.to.raw));
    write::header(&mut out, HeaderName::CallId, request.call_id);
    out.put(b"CSeq: ");
    out.put_number(request.cseq.number.into());
    out.put(b" ");
    out.put(method);
    out.put(b"\r\n");
    // §22.1: an ACK repeats the credentials of its INVITE. A CANCEL is never challenged.
    if method != b"CANCEL" {
        for name in [HeaderName::Authorization, HeaderName::ProxyAuthorization] {
            for credentials in invite.all(name) {
                write::header(&mut out, name, credentials.value);
            }
        }
    }
    write::finish(&mut out, b"");
    out.into()
}
