//! The messages that the bench sends, as templates whose numbers have a fixed width (RFC 3261 §7).
//!
//! A message is laid out once; to send it again only its digits are stamped anew, so a batch costs the generator a few
//! nanoseconds a message and every message of a run has the same size. The bench has no parser: what comes back is matched
//! by the branch (§17.1.3), which carries the message's ordinal and which a stateless proxy leaves alone in every Via
//! but its own.

use std::{net::SocketAddrV4, ops::Range, sync::LazyLock};

use anyhow::{Result, ensure};
use memchr::memmem::Finder;

/// Size in octets of the OPTIONS that are forwarded.
pub const OPTIONS_SIZE: usize = 462;
/// Size in octets of the INVITE with SDP that are forwarded.
pub const INVITE_SIZE: usize = 975;
/// Size in octets of the INVITE without SDP that are forwarded.
pub const INVITE_BARE_SIZE: usize = 640;

/// The domain of every address of record that the bench registers.
pub const DOMAIN: &str = "bench.example";

/// Precedes the ordinal in every branch: the magic cookie (§8.1.1.7) and a word of ours.
const BRANCH: &str = "z9hG4bKrsb";
const ORDINAL_DIGITS: usize = 10;

/// The request that a workload sends through the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Method {
    /// An OPTIONS of 462 octets without a body.
    Options,
    /// An INVITE of 975 octets with SDP.
    Invite,
    /// An INVITE of 640 octets without a body, which asks the callee for an offer (§13.2.1).
    InviteBare,
}

impl Method {
    fn size(self) -> usize {
        match self {
            Self::Options => OPTIONS_SIZE,
            Self::Invite => INVITE_SIZE,
            Self::InviteBare => INVITE_BARE_SIZE,
        }
    }
}

/// One kind of message in a mix.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// The request.
    pub method: Method,
    /// Its octets.
    pub size: usize,
    /// How many of a hundred are such.
    pub percent: usize,
}

/// A mix of sizes such as a switch meets, so that neither its buffers nor the kernel's segmentation see runs of one size: keep-alives, requests as
/// large as a REGISTER with credentials, calls without an offer and with one, and calls that have passed several proxies.
pub const MIX: [Kind; 5] = [
    Kind { method: Method::Options, size: OPTIONS_SIZE, percent: 20 },
    Kind { method: Method::Options, size: 700, percent: 30 },
    Kind { method: Method::InviteBare, size: INVITE_BARE_SIZE, percent: 10 },
    Kind { method: Method::Invite, size: INVITE_SIZE, percent: 30 },
    Kind { method: Method::Invite, size: 1400, percent: 10 },
];

/// Keep-alives of many phones: one request, whose names and numbers are of different lengths.
pub const NEAR: [Kind; 5] = [
    Kind { method: Method::Options, size: 462, percent: 20 },
    Kind { method: Method::Options, size: 467, percent: 20 },
    Kind { method: Method::Options, size: 473, percent: 20 },
    Kind { method: Method::Options, size: 478, percent: 20 },
    Kind { method: Method::Options, size: 486, percent: 20 },
];

/// What the digits of one message say.
#[derive(Clone, Copy, Debug)]
pub struct Numbers {
    /// Which message of the run this is; it comes back in the branch.
    pub ordinal: u64,
    /// 0 for the first request of a transaction's exchange, 1 for the one that answers a challenge.
    pub attempt: u8,
    /// The number of the address of record.
    pub aor: u32,
    /// The CSeq number; less than 2^31 (§8.1.1.5).
    pub cseq: u32,
    /// The source's port.
    pub port: u16,
}

/// A message with places for its numbers.
///
/// In the text a run of `#` stands for the ordinal, `%` for the number of the address of record, `~`
/// for the CSeq number, `^` for the port and `!` for the attempt, each as many digits as the run is long.
#[derive(Clone, Debug)]
pub struct Template {
    octets: Vec<u8>,
    fields: Vec<(u8, Range<usize>)>,
}

impl Template {
    /// An OPTIONS or INVITE for `request_uri`, of exactly the method's size.
    pub fn request(method: Method, request_uri: &str) -> Result<Self> {
        Self::sized(method, request_uri, method.size())
    }

    /// The same of exactly `size` octets.
    pub fn sized(method: Method, request_uri: &str, size: usize) -> Result<Self> {
        match method {
            Method::Options => Self::padded(&options(request_uri), "", size),
            Method::Invite => Self::padded(&(invite(request_uri) + "Content-Type: application/sdp\r\n"), SDP, size),
            Method::InviteBare => Self::padded(&invite(request_uri), "", size),
        }
    }

    /// A REGISTER (§10.2) of one contact at `contact` for users of `domain`; `authorization` is a whole header line or
    /// nothing.
    pub fn register(domain: &str, contact: SocketAddrV4, authorization: &str) -> Self {
        Self::new(format!(
            "REGISTER sip:{domain} SIP/2.0\r\n\
             Via: SIP/2.0/UDP 127.0.0.1:^^^^^;rport;branch={BRANCH}##########!\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:user%%%%%%%@{domain}>;tag=t%%%%%%%\r\n\
             To: <sip:user%%%%%%%@{domain}>\r\n\
             Call-ID: reg%%%%%%%-8f2c11d0a94b@{domain}\r\n\
             CSeq: ~~~~~~~~~~ REGISTER\r\n\
             Contact: <sip:user%%%%%%%@{contact}>\r\n\
             {authorization}\
             Expires: 3600\r\n\
             User-Agent: bench\r\n\
             Content-Length: 0\r\n\r\n"
        ))
    }

    fn padded(head: &str, body: &str, size: usize) -> Result<Self> {
        let tail = format!("Content-Length: {}\r\n\r\n{body}", body.len());
        let padding = "User-Agent: \r\n".len();
        let used = head.len() + padding + tail.len();
        ensure!(used < size, "the message takes {used} octets before padding, its size is to be {size}");
        let user_agent = "bench".chars().chain("-".chars().cycle()).take(size - used).collect::<String>();
        Ok(Self::new(format!("{head}User-Agent: {user_agent}\r\n{tail}")))
    }

    /// A message of the given text.
    pub fn new(text: String) -> Self {
        let octets = text.into_bytes();
        let mut fields: Vec<(u8, Range<usize>)> = Vec::new();
        for (at, &octet) in octets.iter().enumerate().filter(|(_, octet)| b"#%~^!".contains(octet)) {
            match fields.last_mut() {
                Some((kind, run)) if *kind == octet && run.end == at => run.end += 1,
                _ => fields.push((octet, at..at + 1)),
            }
        }
        Self { octets, fields }
    }

    /// The message, its numbers not yet stamped.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// Stamps the numbers into `message`, which began as a copy of this template.
    pub fn stamp(&self, message: &mut [u8], numbers: &Numbers) {
        for (kind, run) in &self.fields {
            let mut rest = match kind {
                b'#' => numbers.ordinal,
                b'%' => u64::from(numbers.aor),
                b'~' => u64::from(numbers.cseq),
                b'^' => u64::from(numbers.port),
                _ => u64::from(numbers.attempt),
            };
            for digit in message[run.clone()].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
    }

    /// The message with its numbers.
    pub fn stamped(&self, numbers: &Numbers) -> Vec<u8> {
        let mut message = self.octets.clone();
        self.stamp(&mut message, numbers);
        message
    }
}

fn options(request_uri: &str) -> String {
    format!(
        "OPTIONS {request_uri} SIP/2.0\r\n\
         Via: SIP/2.0/UDP 127.0.0.1:^^^^^;rport;branch={BRANCH}##########!\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:bench@127.0.0.1>;tag=t##########\r\n\
         To: <{request_uri}>\r\n\
         Call-ID: ##########-8f2c11d0a94b@127.0.0.1\r\n\
         CSeq: 1 OPTIONS\r\n\
         Contact: <sip:bench@127.0.0.1:^^^^^>\r\n\
         Accept: application/sdp\r\n"
    )
}

fn invite(request_uri: &str) -> String {
    format!(
        "INVITE {request_uri} SIP/2.0\r\n\
         Via: SIP/2.0/UDP 127.0.0.1:^^^^^;rport;branch={BRANCH}##########!\r\n\
         Max-Forwards: 70\r\n\
         From: \"Bench\" <sip:bench@127.0.0.1>;tag=t##########\r\n\
         To: <{request_uri}>\r\n\
         Call-ID: ##########-8f2c11d0a94b@127.0.0.1\r\n\
         CSeq: 1 INVITE\r\n\
         Contact: <sip:bench@127.0.0.1:^^^^^>\r\n\
         Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, NOTIFY, INFO\r\n\
         Supported: replaces, timer, path\r\n\
         Session-Expires: 1800;refresher=uac\r\n"
    )
}

/// An offer of two codecs.
pub const SDP: &str = "v=0\r\n\
    o=bench 20518 20518 IN IP4 127.0.0.1\r\n\
    s=-\r\n\
    c=IN IP4 127.0.0.1\r\n\
    t=0 0\r\n\
    m=audio 40376 RTP/AVP 8 0 101\r\n\
    a=rtpmap:8 PCMA/8000\r\n\
    a=rtpmap:0 PCMU/8000\r\n\
    a=rtpmap:101 telephone-event/8000\r\n\
    a=fmtp:101 0-16\r\n\
    a=ptime:20\r\n\
    a=sendrecv\r\n";

/// What a datagram that came back belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The ordinal of the message that we sent.
    pub ordinal: u64,
    /// The attempt that we sent.
    pub attempt: u8,
    /// The status code of a response; None for a request.
    pub status: Option<u16>,
}

impl Arrival {
    /// Finds our branch in a datagram; None if it has none.
    pub fn read(datagram: &[u8]) -> Option<Self> {
        static OUR_BRANCH: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(BRANCH));
        let at = OUR_BRANCH.find(datagram)? + BRANCH.len();
        let ordinal = number(datagram.get(at..at + ORDINAL_DIGITS)?)?;
        let attempt = number(datagram.get(at + ORDINAL_DIGITS..at + ORDINAL_DIGITS + 1)?)? as u8;
        let status = match datagram.strip_prefix(b"SIP/2.0 ") {
            Some(rest) => Some(number(rest.get(..3)?)? as u16),
            None => None,
        };
        Some(Self { ordinal, attempt, status })
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u64::from(digit - b'0')))
}

/// The 200 with which the sink answers a request (§8.2.6): Via, From, To, Call-ID and CSeq as they came, and a To tag.
pub fn ok_to(request: &[u8]) -> Vec<u8> {
    response_to(request, "200 OK", "sink", "Content-Length: 0\r\n\r\n")
}

/// A response to a request (§8.2.6): Via, From, To, Call-ID, CSeq and Record-Route as they came, `tag` where To has none, then
/// `rest`, which is the other header lines, the empty line and the body.
pub fn response_to(request: &[u8], status: &str, tag: &str, rest: &str) -> Vec<u8> {
    let mut response = format!("SIP/2.0 {status}\r\n").into_bytes();
    for line in header_lines(request).skip(1) {
        match line.split(|&octet| octet == b':').next() {
            Some(b"Via" | b"From" | b"Call-ID" | b"CSeq" | b"Record-Route") => response.extend_from_slice(line),
            Some(b"To") => {
                response.extend_from_slice(line);
                // §12.2.2: a request within a dialog brings our tag along.
                if memchr::memmem::find(line, b";tag=").is_none() {
                    response.extend_from_slice(b";tag=");
                    response.extend_from_slice(tag.as_bytes());
                }
            }
            _ => continue,
        }
        response.extend_from_slice(b"\r\n");
    }
    response.extend_from_slice(rest.as_bytes());
    response
}

/// The start line and the header lines of a message, without their line ends.
pub fn header_lines(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    message
        .split(|&octet| octet == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .take_while(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: Numbers = Numbers { ordinal: 1234, attempt: 1, aor: 42, cseq: 7, port: 40001 };

    #[test]
    fn requests_have_exactly_the_size_that_the_tables_name() {
        for Kind { method, size, .. } in MIX {
            for uri in ["sip:bench@127.0.0.1:5070", "sip:user%%%%%%%@bench.example"] {
                let message = Template::sized(method, uri, size).expect("it fits").stamped(&NUMBERS);
                assert_eq!(message.len(), size);
                let text = String::from_utf8(message).expect("it is ASCII");
                let (head, body) = text.split_once("\r\n\r\n").expect("a head ends");
                assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{head}");
            }
        }
    }

    #[test]
    fn a_hundred_messages_of_the_mix_are_a_hundred() {
        assert_eq!(MIX.iter().map(|kind| kind.percent).sum::<usize>(), 100);
    }

    #[test]
    fn every_number_of_a_register_is_stamped() {
        let contact = "127.0.0.1:5070".parse().expect("an address");
        let text = String::from_utf8(Template::register(DOMAIN, contact, "").stamped(&NUMBERS)).expect("it is ASCII");
        assert!(text.contains("Via: SIP/2.0/UDP 127.0.0.1:40001;rport;branch=z9hG4bKrsb00000012341\r\n"), "{text}");
        assert!(text.contains("CSeq: 0000000007 REGISTER\r\n"), "{text}");
        assert!(text.contains("To: <sip:user0000042@bench.example>\r\n"), "{text}");
    }

    #[test]
    fn a_response_and_a_forwarded_request_are_matched_by_our_branch() {
        let sent = Template::request(Method::Options, "sip:bench@127.0.0.1:5070").expect("it fits").stamped(&NUMBERS);
        assert_eq!(Arrival::read(&sent), Some(Arrival { ordinal: 1234, attempt: 1, status: None }));
        let answer = ok_to(&sent);
        assert_eq!(Arrival::read(&answer), Some(Arrival { ordinal: 1234, attempt: 1, status: Some(200) }));
        assert!(answer.ends_with(b"\r\n\r\n"));
        assert_eq!(Arrival::read(b"SIP/2.0 200 OK\r\n\r\n"), None);
    }
}
