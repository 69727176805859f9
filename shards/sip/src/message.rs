//! A message: its start-line, an index of its header lines, its body. Everything borrows from the receive buffer.
//!
//! The scan finds the lines and recognises their names, no more. A header is parsed when somebody asks for it.

use crate::{
    Address, Error, HeaderName, Limits, Method, StatusCode, Via,
    address::Addresses,
    headers::{CSeq, Tokens},
    lex::{self, Cursor, TOKEN, WORD, is_lws},
    via::Vias,
};
use arrayvec::ArrayVec;
use memchr::memchr;

/// A SIP message (RFC 3261 §7).
#[derive(Clone)]
pub struct Message<'b> {
    bytes: &'b [u8],
    start: StartLine<'b>,
    /// Where the header lines begin.
    headers: u16,
    /// Where the empty line begins.
    headers_end: u16,
    body: u16,
    fields: ArrayVec<Field, { Limits::MAX_HEADERS }>,
    /// Of each name that is known the first line's place in `fields`, or [`ABSENT`].
    first: [u8; HeaderName::Other as usize],
}

const ABSENT: u8 = u8::MAX;
const _: () = assert!(Limits::MAX_HEADERS <= ABSENT as usize);

/// The first line of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartLine<'b> {
    /// A Request-Line (§7.1).
    Request {
        /// The method.
        method: Method<'b>,
        /// The Request-URI as it stands.
        uri: &'b [u8],
    },
    /// A Status-Line (§7.2).
    Response {
        /// The status.
        status: StatusCode,
        /// The reason phrase; may be empty.
        reason: &'b [u8],
    },
}

/// Offsets of one header line.
#[derive(Clone, Copy)]
struct Field {
    name: HeaderName,
    line: u16,
    colon: u16,
    /// Before the CRLF.
    end: u16,
}

/// One header line.
#[derive(Clone, Copy, Debug)]
pub struct Header<'b> {
    /// Which one it is.
    pub name: HeaderName,
    /// Its value without white space around it. It may be folded.
    pub value: &'b [u8],
    /// The whole line, with its line end.
    pub line: &'b [u8],
}

/// What every request must have and routing needs (§8.1.1), parsed.
#[derive(Clone, Copy, Debug)]
pub struct Request<'b> {
    /// The method.
    pub method: Method<'b>,
    /// The Request-URI as it stands.
    pub uri: &'b [u8],
    /// The topmost Via.
    pub via: Via<'b>,
    /// From.
    pub from: Address<'b>,
    /// To.
    pub to: Address<'b>,
    /// Call-ID, as it stands.
    pub call_id: &'b [u8],
    /// CSeq; its method is the request's.
    pub cseq: CSeq<'b>,
    /// Max-Forwards, if it is there.
    pub max_forwards: Option<u8>,
}

/// What every response must have, parsed.
#[derive(Clone, Copy, Debug)]
pub struct Response<'b> {
    /// The status.
    pub status: StatusCode,
    /// The topmost Via: ours, where the response is for us.
    pub via: Via<'b>,
    /// Call-ID, as it stands.
    pub call_id: &'b [u8],
    /// CSeq.
    pub cseq: CSeq<'b>,
}

impl<'b> Message<'b> {
    /// Parses a whole message: a datagram, or a stream's frame (§18.3). Octets behind the body are left out.
    ///
    /// # Errors
    /// The first fault of the framing. [`Message::salvage`] then gives what an answer needs.
    pub fn parse(bytes: &'b [u8], limits: &Limits) -> Result<Self, Error> {
        Self::scan(bytes, limits, Err)
    }

    /// What can be read of a message that [`Message::parse`] refuses: the lines that are whole, and no body. For the
    /// answer to a malformed request only.
    pub fn salvage(bytes: &'b [u8], limits: &Limits) -> Option<Self> {
        Self::scan(bytes, limits, |_| Ok(())).ok()
    }

    /// Scans the lines. Each fault goes to `fault`, which says whether to go on behind it.
    #[inline]
    fn scan(bytes: &'b [u8], limits: &Limits, fault: impl Fn(Error) -> Result<(), Error>) -> Result<Self, Error> {
        // §7.5: CRLFs before the start-line are ignored.
        let blank = bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
        let mut bytes = &bytes[blank..];
        if bytes.is_empty() {
            return Err(Error::Empty);
        }
        if bytes.len() > usize::from(limits.max_message) {
            fault(Error::MessageTooLarge)?;
            bytes = &bytes[..usize::from(limits.max_message)];
        }
        let eol = memchr(b'\n', bytes).ok_or(Error::MalformedStartLine)?;
        // The CR before it is no part of the line.
        if eol > usize::from(limits.max_line) + 1 {
            fault(Error::LineTooLong)?;
        }
        let start = match StartLine::parse(&bytes[..eol]) {
            Ok(start) => start,
            Err(error) => {
                fault(error)?;
                StartLine::salvage(&bytes[..eol]).ok_or(error)?
            }
        };
        let mut message = Self {
            bytes,
            start,
            headers: eol as u16 + 1,
            headers_end: bytes.len() as u16,
            body: bytes.len() as u16,
            fields: ArrayVec::new(),
            first: [ABSENT; _],
        };
        let terminated = message.scan_headers(limits, &fault)?;
        if terminated {
            message.frame_body().or_else(&fault)?;
        } else {
            fault(Error::MissingEmptyLine)?;
        }
        Ok(message)
    }

    /// Indexes the header lines; false where no empty line ends them.
    #[inline]
    fn scan_headers(&mut self, limits: &Limits, fault: &impl Fn(Error) -> Result<(), Error>) -> Result<bool, Error> {
        let (bytes, max_line) = (self.bytes, usize::from(limits.max_line));
        let max_headers = usize::from(limits.max_headers).min(Limits::MAX_HEADERS);
        let mut rest = &bytes[usize::from(self.headers)..];
        loop {
            self.headers_end = (bytes.len() - rest.len()) as u16;
            let (line, after) = match line_len(rest) {
                Ok(Some(0)) => {
                    self.body = self.headers_end + 2;
                    return Ok(true);
                }
                Ok(Some(len)) => (&rest[..len], &rest[len + 2..]),
                Ok(None) => return Ok(false),
                Err(error) => {
                    fault(error)?;
                    let behind = memchr(b'\n', rest).map_or(rest.len(), |i| i + 1);
                    rest = &rest[behind..];
                    // An empty line that ends in LF alone ends the headers too.
                    if behind == 1 {
                        self.body = self.headers_end + 1;
                        return Ok(true);
                    }
                    continue;
                }
            };
            rest = after;
            if line.len() > max_line {
                fault(Error::LineTooLong)?;
                continue;
            }
            let Some(field) = Field::parse(line, self.headers_end) else {
                fault(Error::MalformedHeaderLine)?;
                continue;
            };
            if self.fields.len() == max_headers {
                return fault(Error::TooManyHeaders).map(|()| false);
            }
            if let Some(first) = self.first.get_mut(field.name as usize) {
                if *first == ABSENT {
                    *first = self.fields.len() as u8;
                } else if field.name.stands_once() {
                    fault(Error::Duplicate(field.name))?;
                    continue;
                }
            }
            self.fields.push(field);
        }
    }

    /// §18.3: Content-Length bounds the body; without it a datagram's end does.
    #[inline]
    fn frame_body(&mut self) -> Result<(), Error> {
        if let Some(value) = self.value(HeaderName::ContentLength) {
            let length = lex::number(value).ok_or(Error::Malformed(HeaderName::ContentLength))? as usize;
            let end = usize::from(self.body) + length;
            self.bytes = self.bytes.get(..end).ok_or(Error::BodyTruncated)?;
        }
        Ok(())
    }

    /// The message's octets, from the start-line to the end of the body.
    pub fn bytes(&self) -> &'b [u8] {
        self.bytes
    }

    /// The start-line.
    pub fn start_line(&self) -> StartLine<'b> {
        self.start
    }

    /// Whether it is a request.
    pub fn is_request(&self) -> bool {
        matches!(self.start, StartLine::Request { .. })
    }

    /// The body.
    pub fn body(&self) -> &'b [u8] {
        &self.bytes[usize::from(self.body)..]
    }

    /// Where header lines of ours go to stand first.
    pub(crate) fn headers_start(&self) -> usize {
        usize::from(self.headers)
    }

    /// Where header lines of ours go to stand last.
    pub(crate) fn headers_end(&self) -> usize {
        usize::from(self.headers_end)
    }

    #[inline]
    fn header(&self, f: &Field) -> Header<'b> {
        let at = |from: u16, to: u16| &self.bytes[usize::from(from)..usize::from(to)];
        Header { name: f.name, value: lex::trim(at(f.colon + 1, f.end)), line: at(f.line, f.end + 2) }
    }

    /// Every header line, in order.
    pub fn headers(&self) -> impl DoubleEndedIterator<Item = Header<'b>> + '_ {
        self.fields.iter().map(|f| self.header(f))
    }

    /// Every header line of that name, in order.
    #[inline]
    pub fn all(&self, name: HeaderName) -> impl DoubleEndedIterator<Item = Header<'b>> + '_ {
        let first = self.first.get(name as usize).map_or(0, |&first| usize::from(first).min(self.fields.len()));
        self.fields[first..].iter().filter(move |f| f.name == name).map(|f| self.header(f))
    }

    /// The first value of that name, without white space around it.
    #[inline]
    pub fn value(&self, name: HeaderName) -> Option<&'b [u8]> {
        self.all(name).next().map(|h| h.value)
    }

    /// Checks what a proxy and a UAS must check of a request (§16.3 step 1) and gives what routing needs.
    ///
    /// # Errors
    /// The fault, which knows its answer. A response is none.
    #[inline]
    pub fn request(&self) -> Result<Request<'b>, Error> {
        let StartLine::Request { method, uri } = self.start else { return Err(Error::MalformedStartLine) };
        let (via, call_id, cseq) = self.common()?;
        if cseq.method != method {
            return Err(Error::CSeqMethodMismatch);
        }
        let max_forwards = match self.value(HeaderName::MaxForwards) {
            None => None,
            // §20.22: from 0 to 255.
            Some(digits) => Some(
                lex::number(digits)
                    .and_then(|n| u8::try_from(n).ok())
                    .ok_or(Error::Malformed(HeaderName::MaxForwards))?,
            ),
        };
        let (from, to) = (self.address(HeaderName::From)?, self.address(HeaderName::To)?);
        Ok(Request { method, uri, via, from, to, call_id, cseq, max_forwards })
    }

    /// Checks a response. One that fails is dropped (§18.1.2): nobody answers a response.
    ///
    /// # Errors
    /// The fault. A request is none.
    #[inline]
    pub fn response(&self) -> Result<Response<'b>, Error> {
        let StartLine::Response { status, .. } = self.start else { return Err(Error::MalformedStartLine) };
        let (via, call_id, cseq) = self.common()?;
        Ok(Response { status, via, call_id, cseq })
    }

    #[inline]
    fn common(&self) -> Result<(Via<'b>, &'b [u8], CSeq<'b>), Error> {
        let via = self.value(HeaderName::Via).ok_or(Error::Missing(HeaderName::Via))?;
        let via = Via::parse(&mut Cursor::new(via))?;
        let call_id = self.value(HeaderName::CallId).ok_or(Error::Missing(HeaderName::CallId))?;
        // §25.1: callid = word [ "@" word ]. Only what would split it is refused; nobody here looks inside.
        if call_id.is_empty() || WORD.span(call_id) != call_id.len() {
            return Err(Error::Malformed(HeaderName::CallId));
        }
        let cseq = self.value(HeaderName::CSeq).ok_or(Error::Missing(HeaderName::CSeq))?;
        Ok((via, call_id, CSeq::parse(cseq)?))
    }

    /// A header that holds one address.
    #[inline]
    fn address(&self, name: HeaderName) -> Result<Address<'b>, Error> {
        let value = self.value(name).ok_or(Error::Missing(name))?;
        Address::from_value(value).ok_or(Error::Malformed(name))
    }

    /// Every Via value, topmost first. Behind a malformed one the rest of its line is passed over.
    pub fn vias(&self) -> impl Iterator<Item = Result<Via<'b>, Error>> + '_ {
        self.all(HeaderName::Via).flat_map(|h| Vias::new(h.value))
    }

    /// Every Via value beneath `top`, which is the topmost one, parsed already.
    pub fn vias_below(&self, top: &Via<'b>) -> impl Iterator<Item = Result<Via<'b>, Error>> + '_ {
        let mut lines = self.all(HeaderName::Via);
        let line = lines.next().map_or(&[][..], |h| h.value);
        let behind = top.raw.as_ptr() as usize + top.raw.len() - line.as_ptr() as usize;
        let beside = lex::trim(&line[behind..]).strip_prefix(b",").map(Vias::new);
        beside.into_iter().flatten().chain(lines.flat_map(|h| Vias::new(h.value)))
    }

    /// Every value of a header that is a list of addresses: Contact, Route, Record-Route, Path, Service-Route.
    pub fn addresses(&self, name: HeaderName) -> impl Iterator<Item = Result<Address<'b>, Error>> + '_ {
        self.all(name).flat_map(move |h| Addresses::new(name, h.value))
    }

    /// Every value of a header that is a list of tokens: Require, Proxy-Require, Supported.
    pub fn tokens(&self, name: HeaderName) -> impl Iterator<Item = &'b [u8]> + '_ {
        self.all(name).flat_map(|h| Tokens::new(h.value))
    }

    /// The Call-ID, without any other check: who owns the message depends on it alone.
    pub fn call_id(&self) -> Option<&'b [u8]> {
        self.value(HeaderName::CallId)
    }

    /// The value of Expires; `Err` where it is no number of seconds (§20.19).
    pub fn expires(&self) -> Option<Result<u32, Error>> {
        self.value(HeaderName::Expires).map(|v| lex::number(v).ok_or(Error::Malformed(HeaderName::Expires)))
    }
}

impl std::fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.bytes))
    }
}

impl<'b> Header<'b> {
    /// Its name as it stands.
    pub fn raw_name(&self) -> &'b [u8] {
        &self.line[..TOKEN.span(self.line)]
    }
}

/// How long the first line is with its continuations (§7.3.1: a line that begins with white space continues the one before
/// it), without its CRLF; None where there is no whole line. A CR or an LF alone is a fault: it may be a line end to others.
#[inline(always)]
fn line_len(bytes: &[u8]) -> Result<Option<usize>, Error> {
    let mut end = 0;
    while let Some(found) = lex::find_control(&bytes[end..]) {
        end += found;
        match &bytes[end..] {
            // Only the empty line is not continued: what is behind it is body.
            [b'\r', b'\n', b' ' | b'\t', ..] if end > 0 => end += 3,
            [b'\r', b'\n', ..] => return Ok(Some(end)),
            [b'\r', ..] => return Err(Error::BareCarriageReturn),
            [b'\n', ..] => return Err(Error::BareLineFeed),
            _ => end += 1,
        }
    }
    Ok(None)
}

impl Field {
    /// Splits a line, which begins at `at` in the message, at its colon (§7.3.1).
    #[inline(always)]
    fn parse(line: &[u8], at: u16) -> Option<Self> {
        let colon = lex::find_near(line, b':')?;
        let mut raw_name = &line[..colon];
        // HCOLON allows blanks before the colon.
        while let [before @ .., b' ' | b'\t'] = raw_name {
            raw_name = before;
        }
        let name = HeaderName::new(raw_name);
        // A name that is known is a token.
        if name == HeaderName::Other && (raw_name.is_empty() || TOKEN.span(raw_name) != raw_name.len()) {
            return None;
        }
        Some(Self { name, line: at, colon: at + colon as u16, end: at + line.len() as u16 })
    }
}

impl<'b> StartLine<'b> {
    /// Parses a line without its LF. Exactly one blank stands between its parts and none behind them.
    fn parse(line: &'b [u8]) -> Result<Self, Error> {
        let bad = Error::MalformedStartLine;
        let line = line.strip_suffix(b"\r").ok_or(Error::BareLineFeed)?;
        if is_version(line) {
            return Self::parse_status_line(line);
        }
        let (method, rest) = line.split_at(TOKEN.span(line));
        let rest = rest.strip_prefix(b" ").ok_or(bad)?;
        let (uri, version) = rest.split_at(WORD.span(rest));
        let version = version.strip_prefix(b" ").ok_or(bad)?;
        if method.is_empty() || uri.is_empty() {
            return Err(bad);
        }
        if !lex::is_word(version, "SIP/2.0") {
            return Err(if is_version(version) && !version.contains(&b' ') { Error::UnsupportedVersion } else { bad });
        }
        Ok(Self::Request { method: Method::new(method), uri })
    }

    fn parse_status_line(line: &'b [u8]) -> Result<Self, Error> {
        let bad = Error::MalformedStartLine;
        let (version, rest) = line.split_at(memchr(b' ', line).ok_or(bad)?);
        if !lex::is_word(version, "SIP/2.0") {
            return Err(Error::UnsupportedVersion);
        }
        let (code, reason) = rest[1..].split_at(lex::span(&rest[1..], |b| b.is_ascii_digit()));
        if !(reason.is_empty() || reason[0] == b' ') || reason.contains(&b'\r') {
            return Err(bad);
        }
        let status = lex::number(code)
            .and_then(|n| u16::try_from(n).ok())
            .and_then(StatusCode::new)
            .filter(|_| code.len() == 3)
            .ok_or(Error::StatusCodeOutOfRange)?;
        Ok(Self::Response { status, reason: reason.get(1..).unwrap_or_default() })
    }

    /// A request whose line is malformed, but which is clearly a request: it can be answered.
    fn salvage(line: &'b [u8]) -> Option<Self> {
        let line = lex::trim(line);
        let method = &line[..TOKEN.span(line)];
        let is_request =
            !method.is_empty() && !is_version(line) && line.rsplit(|&b| is_lws(b)).next().is_some_and(is_version);
        is_request.then_some(Self::Request { method: Method::new(method), uri: &[] })
    }
}

/// Whether `text` begins like a SIP-Version.
fn is_version(text: &[u8]) -> bool {
    text.len() >= 5 && lex::is_word(&text[..4], "SIP/") && text[4].is_ascii_digit()
}
