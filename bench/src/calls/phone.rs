//! What a phone writes and reads in a call: INVITE, ACK and BYE, and the marks by which what comes back is told apart
//! (RFC 3261 §12, §13).
//!
//! A back-to-back user agent gives the other leg a Call-ID, tags and branches of its own, so the bench puts its mark where a
//! user agent server must return it (branch, tags) and where the switch passes it on: the session name of the SDP. The first
//! party of a call back is offered no SDP of the bench's; a plan puts the mark into the display name that he sees.

use std::{fmt::Write as _, net::SocketAddrV4};

use memchr::memmem::Finder;

use crate::message::{Numbers, SDP, Template, header_lines, response_to};

/// Digits of a call's number in a mark.
const ORDINAL_DIGITS: usize = 10;

/// Which end of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// Who sent the INVITE; of a call back the first party.
    Caller,
    /// Who answered it; of a call back the second party.
    Callee,
}

impl End {
    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Caller => Self::Callee,
            Self::Callee => Self::Caller,
        }
    }

    fn letter(self) -> char {
        match self {
            Self::Caller => 'c',
            Self::Callee => 'u',
        }
    }
}

/// What a datagram is, and of which call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// A response to a request of ours.
    Response { ordinal: u64, status: u16, to: Asked },
    /// An INVITE without a To tag: a new call for that end.
    Call { ordinal: u64, end: End },
    /// Another request, for that end.
    Request { ordinal: u64, method: &'a [u8], end: End },
}

/// The request of ours that a response answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// INVITE.
    Invite,
    /// BYE, by that end.
    Bye(End),
}

/// The mark of one run. No two runs share one, so what is left of an earlier run is not taken for ours.
#[derive(Clone, Debug)]
pub struct Mark {
    text: String,
    branch: Finder<'static>,
    tag: Finder<'static>,
    session: Finder<'static>,
    name: Finder<'static>,
}

impl Mark {
    /// The mark of the run of that number.
    pub fn new(run: u32) -> Self {
        let text = format!("rsc{run:08x}x");
        Self {
            branch: Finder::new(format!("branch=z9hG4bK{text}").as_bytes()).into_owned(),
            tag: Finder::new(format!("tag={text}").as_bytes()).into_owned(),
            session: Finder::new(format!("s={text}").as_bytes()).into_owned(),
            name: Finder::new(&text).into_owned(),
            text,
        }
    }

    /// The Call-ID of the caller's dialog.
    pub fn call_id(&self, ordinal: u64) -> String {
        format!("{}{ordinal:010}@127.0.0.1", self.text)
    }

    /// The tag of one end.
    pub fn tag(&self, ordinal: u64, end: End) -> String {
        format!("{}{ordinal:010}{}", self.text, end.letter())
    }

    fn branch(&self, ordinal: u64, letter: char) -> String {
        format!("z9hG4bK{}{ordinal:010}{letter}", self.text)
    }

    /// Reads what came. None if it is not of this run or makes no sense.
    pub fn read<'a>(&self, datagram: &'a [u8]) -> Option<Heard<'a>> {
        if let Some(rest) = datagram.strip_prefix(b"SIP/2.0 ") {
            let (ordinal, letter) = numbered(&self.branch, datagram)?;
            let to = match letter {
                b'i' => Asked::Invite,
                b'c' => Asked::Bye(End::Caller),
                b'u' => Asked::Bye(End::Callee),
                _ => return None,
            };
            return Some(Heard::Response { ordinal, status: str::from_utf8(rest.get(..3)?).ok()?.parse().ok()?, to });
        }
        let method = datagram.split(|&octet| octet == b' ').next()?;
        if let Some((ordinal, letter)) = numbered(&self.tag, header(datagram, "To")?) {
            let end = if letter == b'c' { End::Caller } else { End::Callee };
            return Some(Heard::Request { ordinal, method, end });
        }
        if method != b"INVITE" {
            return None;
        }
        let called = || Some((numbered(&self.session, datagram)?.0, End::Callee));
        let called_back = || Some((numbered(&self.name, header(datagram, "From")?)?.0, End::Caller));
        called().or_else(called_back).map(|(ordinal, end)| Heard::Call { ordinal, end })
    }
}

/// The number and the letter that stand behind a mark.
fn numbered(mark: &Finder<'_>, text: &[u8]) -> Option<(u64, u8)> {
    let at = mark.find(text)? + mark.needle().len();
    let digits = str::from_utf8(text.get(at..at + ORDINAL_DIGITS)?).ok()?;
    Some((digits.parse().ok()?, text.get(at + ORDINAL_DIGITS).copied().unwrap_or_default()))
}

/// Status code and reason phrase of a response.
pub fn status_line(response: &[u8]) -> String {
    let line = header_lines(response).next().and_then(|line| line.get(8..)).unwrap_or_default();
    String::from_utf8_lossy(line).into_owned()
}

/// What a BYE says for itself: its Reason (RFC 3326).
pub fn reason(bye: &[u8]) -> String {
    let reason = header(bye, "Reason").unwrap_or(b"without a Reason");
    format!("BYE {}", String::from_utf8_lossy(reason))
}

/// The number of a message's CSeq.
pub fn cseq(message: &[u8]) -> Option<u32> {
    str::from_utf8(header(message, "CSeq")?).ok()?.split_ascii_whitespace().next()?.parse().ok()
}

/// The value of the first header field of that name.
pub fn header<'a>(message: &'a [u8], name: &str) -> Option<&'a [u8]> {
    headers(message, name).next()
}

fn headers<'a>(message: &'a [u8], name: &str) -> impl Iterator<Item = &'a [u8]> {
    header_lines(message).skip(1).filter_map(move |line| {
        let (head, value) = line.split_at_checked(name.len())?;
        let value = head.eq_ignore_ascii_case(name.as_bytes()).then_some(value)?.trim_ascii_start();
        Some(value.strip_prefix(b":")?.trim_ascii())
    })
}

/// The INVITE of a call, with places for call, callee and port.
pub fn invite(mark: &Mark, caller: &str, domain: &str) -> Template {
    let mark = &mark.text;
    let sdp = SDP.replace("s=-", &format!("s={mark}##########"));
    Template::new(format!(
        "INVITE sip:user%%%%%%%@{domain} SIP/2.0\r\n\
         Via: SIP/2.0/UDP 127.0.0.1:^^^^^;rport;branch=z9hG4bK{mark}##########i\r\n\
         Max-Forwards: 70\r\n\
         From: \"Bench\" <sip:{caller}@{domain}>;tag={mark}##########c\r\n\
         To: <sip:user%%%%%%%@{domain}>\r\n\
         Call-ID: {mark}##########@127.0.0.1\r\n\
         CSeq: 1 INVITE\r\n\
         Contact: <sip:{caller}@127.0.0.1:^^^^^>\r\n\
         Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, UPDATE, INFO\r\n\
         Supported: replaces, timer\r\n\
         User-Agent: bench\r\n\
         Content-Type: application/sdp\r\n\
         Content-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    ))
}

/// The ACK of a final response that is no 2xx (§17.1.1.3): the INVITE's Request-URI and branch, the response's To.
pub fn ack_of_refusal(template: &Template, numbers: &Numbers, response: &[u8]) -> Option<Vec<u8>> {
    let invite = template.stamped(numbers);
    let field = |name| Some(String::from_utf8_lossy(header(&invite, name)?).into_owned());
    let uri = invite.split(|&octet| octet == b' ').nth(1)?;
    let ack = format!(
        "ACK {} SIP/2.0\r\nVia: {}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: 1 ACK\r\n\
         Content-Length: 0\r\n\r\n",
        String::from_utf8_lossy(uri),
        field("Via")?,
        field("From")?,
        String::from_utf8_lossy(header(response, "To")?),
        field("Call-ID")?,
    );
    Some(ack.into_bytes())
}

/// One end of an established dialog (§12.1): all that its requests need.
#[derive(Clone, Debug)]
pub struct Dialog {
    target: Box<str>,
    /// Route header lines.
    routes: Box<str>,
    local: Box<str>,
    remote: Box<str>,
    call_id: Box<str>,
}

impl Dialog {
    /// The caller's, from the 2xx (§12.1.2).
    pub fn of_caller(response: &[u8]) -> Option<Self> {
        let mut routes: Vec<&[u8]> = headers(response, "Record-Route").flat_map(values).collect();
        routes.reverse();
        Self::new(response, &routes, header(response, "From")?.to_vec(), header(response, "To")?)
    }

    /// The callee's, from the INVITE (§12.1.1); `tag` is what its responses put into To.
    pub fn of_callee(invite: &[u8], tag: &str) -> Option<Self> {
        let routes: Vec<&[u8]> = headers(invite, "Record-Route").flat_map(values).collect();
        let local = [header(invite, "To")?, b";tag=", tag.as_bytes()].concat();
        Self::new(invite, &routes, local, header(invite, "From")?)
    }

    fn new(message: &[u8], routes: &[&[u8]], local: Vec<u8>, remote: &[u8]) -> Option<Self> {
        let text = |octets: &[u8]| Box::from(String::from_utf8_lossy(octets));
        let contact = header(message, "Contact")?;
        let target = match contact.iter().position(|&octet| octet == b'<') {
            Some(open) => contact[open + 1..].split(|&octet| octet == b'>').next()?,
            None => contact.split(|&octet| octet == b';').next()?,
        };
        let routes = routes.iter().fold(String::new(), |mut lines, route| {
            _ = write!(lines, "Route: {}\r\n", String::from_utf8_lossy(route)); // Writing to a String cannot fail.
            lines
        });
        Some(Self {
            target: text(target),
            routes: routes.into(),
            local: text(&local),
            remote: text(remote),
            call_id: text(header(message, "Call-ID")?),
        })
    }

    /// The caller's ACK of a 2xx (§13.2.2.4): a transaction of its own.
    pub fn ack(&self, mark: &Mark, ordinal: u64, address: SocketAddrV4) -> Vec<u8> {
        self.request("ACK", 1, &mark.branch(ordinal, 'a'), address)
    }

    /// The BYE of one end.
    pub fn bye(&self, mark: &Mark, ordinal: u64, end: End, address: SocketAddrV4) -> Vec<u8> {
        self.request("BYE", 2, &mark.branch(ordinal, end.letter()), address)
    }

    fn request(&self, method: &str, cseq: u32, branch: &str, address: SocketAddrV4) -> Vec<u8> {
        let Self { target, routes, local, remote, call_id } = self;
        format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {address};rport;branch={branch}\r\nMax-Forwards: 70\r\n\
             {routes}From: {local}\r\nTo: {remote}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n\
             Content-Length: 0\r\n\r\n"
        )
        .into_bytes()
    }
}

/// The values of a header field that are separated by commas; those in angle brackets separate nothing (§7.3.1).
fn values(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut depth = 0;
    field
        .split(move |&octet| {
            depth += i32::from(octet == b'<') - i32::from(octet == b'>');
            octet == b',' && depth == 0
        })
        .map(<[u8]>::trim_ascii)
}

/// The session that one party of a call back describes, with its media at `media`; the same each time, but that it is held where
/// `offer` is (RFC 3264 §6.1).
pub fn description(mark: &Mark, ordinal: u64, media: SocketAddrV4, offer: &[u8]) -> String {
    let (address, port) = (media.ip(), media.port());
    let is_held = memchr::memmem::find(offer, b"a=inactive").is_some();
    SDP.replace("s=-", &format!("s={}{ordinal:010}", mark.text))
        .replace("127.0.0.1", &address.to_string())
        .replace("m=audio 40376", &format!("m=audio {port}"))
        .replace("a=sendrecv", if is_held { "a=inactive" } else { "a=sendrecv" })
}

/// The 180 to an INVITE.
pub fn ringing(invite: &[u8], tag: &str, contact: SocketAddrV4) -> Vec<u8> {
    response_to(invite, "180 Ringing", tag, &format!("Contact: <sip:callee@{contact}>\r\nContent-Length: 0\r\n\r\n"))
}

/// The 200 to an INVITE or UPDATE, also one within the dialog, with a session description.
pub fn answer(invite: &[u8], tag: &str, contact: SocketAddrV4, sdp: &str) -> Vec<u8> {
    let rest = format!(
        "Contact: <sip:callee@{contact}>\r\nAllow: INVITE, ACK, CANCEL, OPTIONS, BYE, UPDATE, INFO\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    );
    response_to(invite, "200 OK", tag, &rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLEE: &str = "127.0.0.1:5070";

    fn numbers(ordinal: u64) -> Numbers {
        Numbers { ordinal, attempt: 0, aor: 42, cseq: 1, port: 40001 }
    }

    #[test]
    fn every_message_of_a_call_is_known_by_its_mark() {
        let mark = Mark::new(7);
        let invite = invite(&mark, "caller", "bench.example").stamped(&numbers(1234));
        assert_eq!(mark.read(&invite), Some(Heard::Call { ordinal: 1234, end: End::Callee }));
        let tag = mark.tag(1234, End::Callee);
        let contact = CALLEE.parse().expect("an address");
        let ok = answer(&invite, &tag, contact, SDP);
        assert_eq!(mark.read(&ok), Some(Heard::Response { ordinal: 1234, status: 200, to: Asked::Invite }));
        let caller = Dialog::of_caller(&ok).expect("a dialog");
        let bye = caller.bye(&mark, 1234, End::Caller, contact);
        assert!(bye.starts_with(b"BYE sip:callee@127.0.0.1:5070 SIP/2.0\r\n"));
        assert_eq!(mark.read(&bye), Some(Heard::Request { ordinal: 1234, method: b"BYE", end: End::Callee }));
        let callee = Dialog::of_callee(&invite, &tag).expect("a dialog");
        let bye = callee.bye(&mark, 1234, End::Callee, contact);
        assert_eq!(mark.read(&bye), Some(Heard::Request { ordinal: 1234, method: b"BYE", end: End::Caller }));
        let ok = response_to(&bye, "200 OK", "other", "Content-Length: 0\r\n\r\n");
        let to = Asked::Bye(End::Callee);
        assert_eq!(mark.read(&ok), Some(Heard::Response { ordinal: 1234, status: 200, to }));
        assert_eq!(Mark::new(8).read(&ok), None, "another run's");
    }

    #[test]
    fn the_route_set_of_the_caller_is_reversed_and_that_of_the_callee_is_not() {
        let contact = CALLEE.parse().expect("an address");
        let invite = invite(&Mark::new(7), "caller", "bench.example").stamped(&numbers(1));
        let text = String::from_utf8(invite).expect("it is ASCII");
        let routed =
            text.replacen("To:", "Record-Route: <sip:b;lr>, <sip:c,d;lr>\r\nRecord-Route: <sip:a;lr>\r\nTo:", 1);
        let callee = Dialog::of_callee(routed.as_bytes(), "t").expect("a dialog");
        assert_eq!(&*callee.routes, "Route: <sip:b;lr>\r\nRoute: <sip:c,d;lr>\r\nRoute: <sip:a;lr>\r\n");
        let caller = Dialog::of_caller(&answer(routed.as_bytes(), "t", contact, SDP)).expect("a dialog");
        assert_eq!(&*caller.routes, "Route: <sip:a;lr>\r\nRoute: <sip:c,d;lr>\r\nRoute: <sip:b;lr>\r\n");
    }

    #[test]
    fn a_party_of_a_call_back_is_known_by_the_name_that_he_sees_and_the_other_by_what_he_has_said() {
        let (mark, media) = (Mark::new(7), "198.51.100.9:2048".parse().expect("an address"));
        let asked = invite(&mark, "caller", "bench.example").stamped(&numbers(1234));
        let call_id = String::from_utf8_lossy(header(&asked, "Call-ID").expect("it has one")).into_owned();
        let placeholder = "s=-\r\na=inactive\r\n";
        let head = |from: &str| format!("INVITE sip:u@h SIP/2.0\r\nFrom: {from};tag=a\r\nTo: <sip:u@h>\r\n\r\n");
        let first = format!("{}{placeholder}", head(&format!("\"{call_id}\" <sip:caller@h>")));
        assert_eq!(mark.read(first.as_bytes()), Some(Heard::Call { ordinal: 1234, end: End::Caller }));
        let said = description(&mark, 1234, media, placeholder.as_bytes());
        assert!(said.contains("c=IN IP4 198.51.100.9\r\n") && said.contains("m=audio 2048 RTP"), "{said}");
        assert!(said.ends_with("a=inactive\r\n"), "{said}");
        assert!(description(&mark, 1234, media, b"a=sendrecv\r\n").ends_with("a=sendrecv\r\n"));
        let second = format!("{}{said}", head("<sip:caller@h>"));
        assert_eq!(mark.read(second.as_bytes()), Some(Heard::Call { ordinal: 1234, end: End::Callee }));
        assert_eq!(mark.read(head("<sip:caller@h>").as_bytes()), None);
    }
}
