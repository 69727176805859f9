//! Messages of our own: responses to a request (RFC 3261 §8.2.6), header by header.

use crate::{HeaderName, Message, Octets, Request, StatusCode, Via};
use memchr::memmem;
use std::net::SocketAddr;

/// Writes one header line.
pub fn header(out: &mut impl Octets, name: HeaderName, value: &[u8]) {
    out.put(name.canonical().as_bytes());
    out.put(b": ");
    out.put(value);
    out.put(b"\r\n");
}

/// Writes a response's status line and the headers that it takes over from `request` (§8.2.6.2): every Via, the topmost
/// marked with `source`; From; To, with `to_tag` where it has none; Call-ID; CSeq. More headers may follow, then
/// [`finish`]. It copies what is there, so it also serves a request which [`Message::salvage`] gave.
pub fn begin_response(
    out: &mut impl Octets,
    request: &Message<'_>,
    status: StatusCode,
    reason: &str,
    to_tag: &[u8],
    source: SocketAddr,
) {
    let top = request.vias().next().and_then(Result::ok);
    let is_tagged = to_tag.is_empty() || request.value(HeaderName::To).is_some_and(has_tag);
    put_status_line(out, status, reason);
    take_over(out, request, top.as_ref(), (!is_tagged).then_some(to_tag), source);
}

/// The same for a request that has been `parsed` from `message`.
pub fn begin_response_to(
    out: &mut impl Octets,
    message: &Message<'_>,
    parsed: &Request<'_>,
    status: StatusCode,
    reason: &str,
    to_tag: &[u8],
    source: SocketAddr,
) {
    let is_tagged = to_tag.is_empty() || parsed.to.tag.is_some();
    put_status_line(out, status, reason);
    take_over(out, message, Some(&parsed.via), (!is_tagged).then_some(to_tag), source);
}

fn put_status_line(out: &mut impl Octets, status: StatusCode, reason: &str) {
    out.put(b"SIP/2.0 ");
    out.put_number(status.get().into());
    out.put(b" ");
    out.put(reason.as_bytes());
    out.put(b"\r\n");
}

/// The headers that a response takes over. `top` is the topmost Via where that can be read; To gets `to_tag`.
fn take_over(
    out: &mut impl Octets,
    request: &Message<'_>,
    top: Option<&Via<'_>>,
    to_tag: Option<&[u8]>,
    source: SocketAddr,
) {
    for (i, line) in request.all(HeaderName::Via).enumerate() {
        match top.filter(|_| i == 0) {
            Some(via) => {
                out.put(b"Via: ");
                via.write_marked(out, source);
                let behind = via.raw.as_ptr() as usize + via.raw.len() - line.value.as_ptr() as usize;
                out.put(&line.value[behind..]);
                out.put(b"\r\n");
            }
            None => header(out, HeaderName::Via, line.value),
        }
    }
    for name in [HeaderName::From, HeaderName::To, HeaderName::CallId, HeaderName::CSeq] {
        let Some(value) = request.value(name) else { continue };
        match to_tag.filter(|_| name == HeaderName::To) {
            None => header(out, name, value),
            Some(tag) => {
                out.put(b"To: ");
                out.put(value);
                out.put(b";tag=");
                out.put(tag);
                out.put(b"\r\n");
            }
        }
    }
}

/// Ends a message with its body and the length of it.
pub fn finish(out: &mut impl Octets, body: &[u8]) {
    out.put(b"Content-Length: ");
    out.put_number(body.len() as u64);
    out.put(b"\r\n\r\n");
    out.put(body);
}

/// Whether a To has a tag; where it cannot be parsed, whether it looks as if.
fn has_tag(to: &[u8]) -> bool {
    match crate::Address::from_value(to) {
        Some(address) => address.tag.is_some(),
        None => memmem::find(to, b"tag=").is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;

    #[test]
    fn a_response_takes_over_what_identifies_the_transaction() {
        let request = "OPTIONS sip:x SIP/2.0\r\nv: SIP/2.0/UDP 10.0.0.1:5062;branch=z9hG4bK1 , SIP/2.0/UDP b\r\nVia: SIP/2.0/UDP c\r\n\
            f: <sip:a@x>;tag=1\r\nt: <sip:b@x>\r\ni: id\r\nCSeq: 7 OPTIONS\r\nSubject: s\r\n\r\n";
        let request = Message::parse(request.as_bytes(), &Limits::default()).unwrap();
        let mut out = Vec::new();
        begin_response(&mut out, &request, StatusCode::OK, "OK", b"tt", "10.9.9.9:5062".parse().unwrap());
        finish(&mut out, b"");
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 10.0.0.1:5062;branch=z9hG4bK1;received=10.9.9.9 , SIP/2.0/UDP b\r\n\
             Via: SIP/2.0/UDP c\r\nFrom: <sip:a@x>;tag=1\r\nTo: <sip:b@x>;tag=tt\r\nCall-ID: id\r\nCSeq: 7 OPTIONS\r\n\
             Content-Length: 0\r\n\r\n"
        );
    }
}
