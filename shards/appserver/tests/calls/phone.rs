//! A phone as the tests need it: it writes what a user agent writes and reads back what it gets, and decides nothing.

use sip::{HeaderName, Limits, Message, StartLine};
use std::cell::Cell;

pub const SDP_A: &str =
    "v=0\r\no=a 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
pub const SDP_B: &str =
    "v=0\r\no=b 1 1 IN IP4 10.0.0.2\r\ns=-\r\nc=IN IP4 10.0.0.2\r\nt=0 0\r\nm=audio 4002 RTP/AVP 0\r\n";

/// A message in text, with what tests ask of it.
#[derive(Clone, Debug)]
pub struct Text(pub String);

impl Text {
    fn with<T>(&self, then: impl FnOnce(&Message<'_>) -> T) -> T {
        let message = Message::parse(self.0.as_bytes(), &Limits::default());
        then(&message.unwrap_or_else(|fault| panic!("{fault}: {}", self.0)))
    }

    /// The status of a response, or 0.
    pub fn status(&self) -> u16 {
        self.with(|m| match m.start_line() {
            StartLine::Response { status, .. } => status.get(),
            StartLine::Request { .. } => 0,
        })
    }

    /// The method of a request, or of the request that a response answers.
    pub fn method(&self) -> String {
        self.header("CSeq").split_once(' ').expect("a CSeq has a method").1.to_owned()
    }

    pub fn is_request(&self) -> bool {
        self.with(|m| m.is_request())
    }

    /// The Request-URI.
    pub fn uri(&self) -> String {
        self.with(|m| match m.start_line() {
            StartLine::Request { uri, .. } => String::from_utf8_lossy(uri).into_owned(),
            StartLine::Response { .. } => panic!("a response has no Request-URI"),
        })
    }

    /// The first value of a header by its long name; empty where there is none.
    pub fn header(&self, name: &str) -> String {
        let known = HeaderName::new(name.as_bytes());
        self.with(|m| {
            let named = |line: &[u8]| {
                line.split(|&b| b == b':').next().is_some_and(|n| n.eq_ignore_ascii_case(name.as_bytes()))
            };
            let found = m.headers().find(|h| if known == HeaderName::Other { named(h.line) } else { h.name == known });
            found.map_or(String::new(), |h| String::from_utf8_lossy(h.value).into_owned())
        })
    }

    /// The tag of From or To; empty where there is none.
    pub fn tag(&self, name: &str) -> String {
        self.header(name).split_once(";tag=").map_or(String::new(), |(_, tag)| tag.to_owned())
    }

    /// The URI in the first Contact.
    pub fn contact(&self) -> String {
        let value = self.header("Contact");
        value.split_once('<').map_or("", |(_, rest)| rest.split('>').next().unwrap_or_default()).to_owned()
    }

    pub fn body(&self) -> String {
        self.with(|m| String::from_utf8_lossy(m.body()).into_owned())
    }

    pub fn cseq(&self) -> u32 {
        self.header("CSeq").split_once(' ').and_then(|(n, _)| n.parse().ok()).expect("a CSeq has a number")
    }
}

/// A user agent at an address.
pub struct Phone {
    pub user: &'static str,
    pub host: &'static str,
    pub address: &'static str,
    drawn: Cell<u32>,
}

impl Phone {
    pub fn new(user: &'static str, host: &'static str, address: &'static str) -> Self {
        Self { user, host, address, drawn: Cell::new(0) }
    }

    fn draw(&self) -> u32 {
        self.drawn.set(self.drawn.get() + 1);
        self.drawn.get()
    }

    fn via(&self) -> String {
        format!("Via: SIP/2.0/UDP {};branch=z9hG4bK{}{}\r\n", self.address, self.user, self.draw())
    }

    pub fn contact(&self) -> String {
        format!("<sip:{}@{}>", self.user, self.address)
    }

    /// A request outside a dialog to `uri`, with extra header lines and a body.
    pub fn request(&self, method: &str, uri: &str, lines: &str, body: &str) -> Text {
        let n = self.draw();
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        Text(format!(
            "{method} {uri} SIP/2.0\r\n{}Max-Forwards: 70\r\nFrom: \"{user}\" <sip:{user}@{host}>;tag={user}{n}\r\nTo: <{uri}>\r\n\
             Call-ID: {user}-{n}\r\nCSeq: 1 {method}\r\nContact: {}\r\n{lines}{kind}Content-Length: {}\r\n\r\n{body}",
            self.via(),
            self.contact(),
            body.len(),
            user = self.user,
            host = self.host,
        ))
    }

    pub fn invite(&self, uri: &str) -> Text {
        self.request("INVITE", uri, "", SDP_A)
    }

    /// The same request again with the next CSeq, a new branch and more header lines: the answer to a challenge.
    pub fn again(&self, request: &Text, lines: &str) -> Text {
        let (old, method) = (request.header("Via"), request.method());
        let text = request.0.replace(&format!("Via: {old}\r\n"), &self.via());
        let text = text
            .replace(&format!("CSeq: {} {method}", request.cseq()), &format!("CSeq: {} {method}", request.cseq() + 1));
        Text(text.replace("Max-Forwards: 70\r\n", &format!("Max-Forwards: 70\r\n{lines}")))
    }

    /// A response to `request`. `tag` is ours as the one who is called.
    pub fn respond(&self, request: &Text, status: u16, tag: &str, lines: &str, body: &str) -> Text {
        let to = request.header("To");
        let to = if to.contains(";tag=") || tag.is_empty() { to } else { format!("{to};tag={tag}") };
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        Text(format!(
            "SIP/2.0 {status} Whatever\r\nVia: {}\r\nFrom: {}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: {}\r\nContact: {}\r\n\
             {lines}{kind}Content-Length: {}\r\n\r\n{body}",
            request.header("Via"),
            request.header("From"),
            request.header("Call-ID"),
            request.header("CSeq"),
            self.contact(),
            body.len(),
        ))
    }

    /// A request inside the dialog that `theirs` belongs to: a response that we got as the caller, or the INVITE that we
    /// got as the one who is called, who has `tag` there.
    pub fn inside(&self, theirs: &Text, tag: &str, method: &str, cseq: u32, lines: &str, body: &str) -> Text {
        let (from, to) = if theirs.is_request() {
            (format!("{};tag={tag}", theirs.header("To")), theirs.header("From"))
        } else {
            (theirs.header("From"), theirs.header("To"))
        };
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        Text(format!(
            "{method} {} SIP/2.0\r\n{}Max-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: {cseq} {method}\r\n\
             Contact: {}\r\n{lines}{kind}Content-Length: {}\r\n\r\n{body}",
            theirs.contact(),
            self.via(),
            theirs.header("Call-ID"),
            self.contact(),
            body.len(),
        ))
    }

    /// The ACK for a final response to `invite` that is no 2xx, or the CANCEL of it: on the INVITE's branch.
    pub fn follow(&self, invite: &Text, to: &str, method: &str) -> Text {
        Text(format!(
            "{method} {} SIP/2.0\r\nVia: {}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: {} {method}\r\n\
             Content-Length: 0\r\n\r\n",
            invite.uri(),
            invite.header("Via"),
            invite.header("From"),
            invite.header("Call-ID"),
            invite.cseq(),
        ))
    }

    pub fn cancel(&self, invite: &Text) -> Text {
        self.follow(invite, &invite.header("To"), "CANCEL")
    }
}
