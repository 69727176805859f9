//! A message: its start-line, an index of its header lines, its body. Everything borrows from the receive buffer.
//!
//! The scan finds the lines and recognises their names, no more. A header is parsed when somebody asks for it.

use crate::{
    Address, Error, HeaderName, Limits, Method, StatusCode, Via,
    address::Addresses,
    headers::{CSeq, Tokens},
    lex::{self, Cursor, TOKEN, WORD, is_lws},
    scan::LineEnds,
    via::Vias,
};
use arrayvec::ArrayVec;
use memchr::{memchr, memchr2};

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
    #[inline]
    pub fn parse(bytes: &'b [u8], limits: &Limits) -> Result<Self, Error> {
        let mut message = Self::nothing();
        message.scan(bytes, limits, Err)?;
        Ok(message)
    }

    /// What can be read of a message that [`Message::parse`] refuses: the lines that are whole, and no body. For the
    /// answer to a malformed request only.
    pub fn salvage(bytes: &'b [u8], limits: &Limits) -> Option<Self> {
        let mut message = Self::nothing();
        message.scan(bytes, limits, |_| Ok(())).ok()?;
        Some(message)
    }

    /// What the scan begins with.
    #[inline]
    fn nothing() -> Self {
        Self {
            bytes: &[],
            start: StartLine::Request { method: Method::Other(&[]), uri: &[] },
            headers: 0,
            headers_end: 0,
            body: 0,
            fields: ArrayVec::new(),
            first: [ABSENT; _],
        }
    }

    /// Scans the lines. Each fault goes to `fault`, which says whether to go on behind it.
    fn scan(
        &mut self,
        bytes: &'b [u8],
        limits: &Limits,
        fault: impl Fn(Error) -> Result<(), Error>,
    ) -> Result<(), Error> {
        // §7.5: CRLFs before the start-line are ignored.
        let blank = bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
        self.bytes = &bytes[blank..];
        if self.bytes.is_empty() {
            return Err(Error::Empty);
        }
        if self.bytes.len() > usize::from(limits.max_message) {
            fault(Error::MessageTooLarge)?;
            self.bytes = &self.bytes[..usize::from(limits.max_message)];
        }
        let eol = match StartLine::sound_request(self.bytes) {
            Some((start, eol)) => {
                self.start = start;
                eol
            }
            None => {
                let eol = memchr(b'\n', self.bytes).ok_or(Error::MalformedStartLine)?;
                let line = &self.bytes[..eol];
                self.start = match StartLine::parse(line) {
                    Ok(start) => start,
                    Err(error) => {
                        fault(error)?;
                        StartLine::salvage(line).ok_or(error)?
                    }
                };
                eol
            }
        };
        // The CR before it is no part of the line.
        if eol > usize::from(limits.max_line) + 1 {
            fault(Error::LineTooLong)?;
        }
        self.headers = eol as u16 + 1;
        self.body = self.bytes.len() as u16;
        if self.scan_headers(limits, &fault)? {
            self.frame_body().or_else(&fault)
        } else {
            fault(Error::MissingEmptyLine)
        }
    }

    /// Indexes the header lines; false where no empty line ends them.
    #[inline(never)]
    fn scan_headers(&mut self, limits: &Limits, fault: &impl Fn(Error) -> Result<(), Error>) -> Result<bool, Error> {
        let bytes = self.bytes;
        let mut line = usize::from(self.headers);
        let mut ends = LineEnds::new(bytes, line);
        loop {
            self.headers_end = line as u16;
            if bytes.get(line) == Some(&b'\r') && bytes.get(line + 1) == Some(&b'\n') {
                self.body = line as u16 + 2;
                return Ok(true);
            }
            let end = match ends.next().filter(|&end| is_sound_end(bytes, end)) {
                Some(end) => end,
                None => {
                    let end = line_end(bytes, line);
                    let next = match end {
                        Ok(end) => end.map_or(bytes.len(), |end| end + 2),
                        Err(_) => memchr(b'\n', &bytes[line..]).map_or(bytes.len(), |i| line + i + 1),
                    };
                    ends = LineEnds::new(bytes, next);
                    match end {
                        Ok(Some(end)) => end,
                        Ok(None) => return Ok(false),
                        Err(error) => {
                            fault(error)?;
                            // An empty line that ends in LF alone ends the headers too.
                            if next == line + 1 {
                                self.body = next as u16;
                                return Ok(true);
                            }
                            line = next;
                            continue;
                        }
                    }
                }
            };
            match self.index(line, end, limits) {
                Ok(()) => {}
                Err(Error::TooManyHeaders) => return fault(Error::TooManyHeaders).map(|()| false),
                Err(error) => fault(error)?,
            }
            line = end + 2;
        }
    }

    /// Takes a header line into the index.
    #[inline(always)]
    fn index(&mut self, line: usize, end: usize, limits: &Limits) -> Result<(), Error> {
        if end - line > usize::from(limits.max_line) {
            return Err(Error::LineTooLong);
        }
        let field = Field::parse(self.bytes, line, end).ok_or(Error::MalformedHeaderLine)?;
        if self.fields.len() >= usize::from(limits.max_headers) {
            return Err(Error::TooManyHeaders);
        }
        if let Some(first) = self.first.get_mut(field.name as usize) {
            if *first == ABSENT {
                *first = self.fields.len() as u8;
            } else if field.name.stands_once() {
                return Err(Error::Duplicate(field.name));
            }
        }
        self.fields.try_push(field).map_err(|_| Error::TooManyHeaders)
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
        let line = &self.bytes[usize::from(f.line)..usize::from(f.end) + 2];
        Header { name: f.name, value: self.field_value(f), line }
    }

    #[inline]
    fn field_value(&self, f: &Field) -> &'b [u8] {
        lex::trim(&self.bytes[usize::from(f.colon) + 1..usize::from(f.end)])
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
        match self.first.get(name as usize) {
            Some(&first) => self.fields.get(usize::from(first)).map(|f| self.field_value(f)),
            None => self.all(name).next().map(|h| h.value),
        }
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

/// Whether nothing is peculiar about the line end at `end`: it is a CRLF, and neither does the line go on behind it nor is
/// a half of another CRLF there.
#[inline(always)]
fn is_sound_end(bytes: &[u8], end: usize) -> bool {
    match bytes[end..].first_chunk() {
        Some(&[b'\r', b'\n', next, after]) => next > b' ' || (next == b'\r' && after == b'\n'),
        _ => false,
    }
}

/// Where the line that begins at `line` ends with its continuations (§7.3.1: a line that begins with white space continues
/// the one before it), before its CRLF; None where it is not whole. A CR or an LF alone is a fault: it may be a line end to
/// others.
#[cold]
fn line_end(bytes: &[u8], line: usize) -> Result<Option<usize>, Error> {
    let mut from = line;
    while let Some(ahead) = memchr2(b'\r', b'\n', &bytes[from..]) {
        let end = from + ahead;
        from = match &bytes[end..] {
            [b'\r', b'\n', b' ' | b'\t', ..] => end + 3,
            [b'\r', b'\n', ..] => return Ok(Some(end)),
            [b'\r', ..] => return Err(Error::BareCarriageReturn),
            _ => return Err(Error::BareLineFeed),
        };
    }
    Ok(None)
}

impl Field {
    /// Splits a line of the message at its colon (§7.3.1).
    #[inline(always)]
    fn parse(bytes: &[u8], line: usize, end: usize) -> Option<Self> {
        let (name, colon) = match bytes[line..].first_chunk().and_then(HeaderName::of_line) {
            // What is found behind the line is not of it.
            Some((name, colon)) if line + colon < end => (name, colon),
            _ => Self::split(&bytes[line..end])?,
        };
        Some(Self { name, line: line as u16, colon: (line + colon) as u16, end: end as u16 })
    }

    /// The name of a line and where its colon is, for any name in any layout.
    #[cold]
    fn split(line: &[u8]) -> Option<(HeaderName, usize)> {
        let colon = lex::find_near(line, b':')?;
        let mut raw_name = &line[..colon];
        // HCOLON allows blanks before the colon.
        while let [before @ .., b' ' | b'\t'] = raw_name {
            raw_name = before;
        }
        let name = HeaderName::new(raw_name);
        // A name that is known is a token.
        let is_token = name != HeaderName::Other || (!raw_name.is_empty() && TOKEN.span(raw_name) == raw_name.len());
        is_token.then_some((name, colon))
    }
}

impl<'b> StartLine<'b> {
    /// The Request-Line that the message begins with, if nothing is wrong with it, and where its LF is.
    #[inline]
    fn sound_request(bytes: &'b [u8]) -> Option<(Self, usize)> {
        let (method, rest) = bytes.split_at(TOKEN.span(bytes));
        let rest = rest.strip_prefix(b" ")?;
        let (uri, rest) = rest.split_at(WORD.span(rest));
        let behind = rest.strip_prefix(b" SIP/2.0\r\n")?;
        let is_sound = !method.is_empty() && !uri.is_empty();
        is_sound.then_some((Self::Request { method: Method::new(method), uri }, bytes.len() - behind.len() - 1))
    }

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
