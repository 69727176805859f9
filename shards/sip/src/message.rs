//! A message: its start-line, an index of its header lines, its body. Everything borrows from the receive buffer.
//!
//! The scan finds the lines and recognises their names, no more. A header is parsed when somebody asks for it.

use crate::{
    Address, Error, HeaderName, Limits, Method, StartLine, StatusCode, Via,
    address::Addresses,
    headers::{CSeq, Tokens},
    lex::{self, Cursor, TOKEN},
    scan::{self, Lanes, LineEnds, Work},
    via::Vias,
};
use arrayvec::ArrayVec;
use memchr::{memchr, memchr2};
use std::ops::RangeInclusive;

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
    /// Of each name the first line's place in `fields`, or [`ABSENT`]. All names that are not known count as one.
    first: [u8; HeaderName::Other as usize + 1],
    /// The names that have more lines than one: a bit for each, by its number.
    repeated: u64,
}

const _: () = assert!((HeaderName::Other as u32) < u64::BITS);
const ABSENT: u8 = u8::MAX;
const _: () = assert!(Limits::MAX_HEADERS <= ABSENT as usize);

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
        let mut message = Self::empty();
        message.read(bytes, limits).map(|()| message)
    }

    /// [`Message::parse`] into one that is [empty](Message::empty): the index is over a kilobyte, which is copied out of a
    /// `Result`.
    ///
    /// # Errors
    /// As above; then what is in it means nothing.
    #[inline]
    pub fn read(&mut self, bytes: &'b [u8], limits: &Limits) -> Result<(), Error> {
        debug_assert!(self.bytes.is_empty(), "there is a message in it");
        scan::by_widest_lanes(Scan { message: self, bytes, limits, fault: Err })
    }

    /// What can be read of a message that [`Message::parse`] refuses: the lines that are whole, and no body. For the
    /// answer to a malformed request only.
    pub fn salvage(bytes: &'b [u8], limits: &Limits) -> Option<Self> {
        let mut message = Self::empty();
        scan::by_widest_lanes(Scan { message: &mut message, bytes, limits, fault: |_| Ok(()) }).ok()?;
        Some(message)
    }

    /// Nothing yet: what a scan begins with.
    #[inline]
    pub fn empty() -> Self {
        Self {
            bytes: &[],
            start: StartLine::Request { method: Method::Other(&[]), uri: &[] },
            headers: 0,
            headers_end: 0,
            body: 0,
            fields: ArrayVec::new(),
            first: [ABSENT; _],
            repeated: 0,
        }
    }

    /// Scans the lines. Each fault goes to `fault`, which says whether to go on behind it.
    #[inline(always)]
    fn scan(
        &mut self,
        lanes: impl Lanes,
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
        if self.scan_headers(lanes, limits, &fault)? {
            self.frame_body().or_else(&fault)
        } else {
            fault(Error::MissingEmptyLine)
        }
    }

    /// Indexes the header lines; false where no empty line ends them.
    #[inline(always)]
    fn scan_headers(
        &mut self,
        lanes: impl Lanes,
        limits: &Limits,
        fault: &impl Fn(Error) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        let bytes = self.bytes;
        let mut line = usize::from(self.headers);
        loop {
            if bytes.get(line..line + 2) != Some(b"\r\n") {
                line = self.index_usual_lines(lanes, line, limits);
            }
            self.headers_end = line as u16;
            if bytes.get(line..line + 2) == Some(b"\r\n") {
                self.body = line as u16 + 2;
                return Ok(true);
            }
            // What is peculiar may be a fault, or a line that is folded.
            let end = line_end(bytes, line);
            let indexed = match end {
                Ok(Some(end)) => self.index(line, end, limits),
                Ok(None) => return Ok(false),
                Err(error) => Err(error),
            };
            match indexed {
                Ok(()) => {}
                Err(Error::TooManyHeaders) => return fault(Error::TooManyHeaders).map(|()| false),
                Err(error) => fault(error)?,
            }
            match end {
                Ok(end) => line = end.map_or(bytes.len(), |end| end + 2),
                Err(_) => {
                    let next = memchr(b'\n', &bytes[line..]).map_or(bytes.len(), |i| line + i + 1);
                    // An empty line that ends in LF alone ends the headers too.
                    if next == line + 1 {
                        self.body = next as u16;
                        return Ok(true);
                    }
                    line = next;
                }
            }
        }
    }

    /// Indexes the lines from the one at `line` on, up to the empty line or one that is peculiar, and gives where that
    /// begins.
    #[inline(always)]
    fn index_usual_lines(&mut self, lanes: impl Lanes, mut line: usize, limits: &Limits) -> usize {
        // What a line ends in, and what the next one begins with: not white space, which would continue this one.
        const BEFORE_ANOTHER: RangeInclusive<u32> =
            u32::from_be_bytes(*b"\r\n!\0")..=u32::from_be_bytes([b'\r', b'\n', 0xff, 0xff]);
        const BEFORE_THE_EMPTY_ONE: u32 = u32::from_be_bytes(*b"\r\n\r\n");
        let max_line = usize::from(limits.max_line);
        let max_headers = Limits::MAX_HEADERS.min(usize::from(limits.max_headers));
        let mut ends = LineEnds::new(lanes, self.bytes, line);
        let mut rest = &self.bytes[line..];
        while let Some(end) = ends.next(line) {
            let len = end - line;
            let (head, behind) = (rest.first_chunk(), &rest[len..]);
            let (Some(head), Some(&four)) = (head, behind.first_chunk()) else { break };
            let four = u32::from_be_bytes(four);
            if !BEFORE_ANOTHER.contains(&four) && four != BEFORE_THE_EMPTY_ONE {
                break;
            }
            let Some((name, colon)) = HeaderName::of_line(head) else { break };
            let place = self.fields.len();
            // A colon behind the line is not of it.
            if colon >= len || len > max_line || place >= max_headers {
                break;
            }
            let first = &mut self.first[name as usize];
            if *first == ABSENT {
                *first = place as u8;
            } else if name.stands_once() {
                break;
            } else {
                self.repeated |= 1 << name as u32;
            }
            self.fields.push(Field { name, line: line as u16, colon: (line + colon) as u16, end: end as u16 });
            line = end + 2;
            rest = &behind[2..];
            if four == BEFORE_THE_EMPTY_ONE {
                break;
            }
        }
        line
    }

    /// Takes a header line into the index, in whatever layout it is.
    #[cold]
    fn index(&mut self, line: usize, end: usize, limits: &Limits) -> Result<(), Error> {
        if end - line > usize::from(limits.max_line) {
            return Err(Error::LineTooLong);
        }
        let (name, colon) = split(&self.bytes[line..end]).ok_or(Error::MalformedHeaderLine)?;
        if self.fields.len() >= Limits::MAX_HEADERS.min(usize::from(limits.max_headers)) {
            return Err(Error::TooManyHeaders);
        }
        let first = &mut self.first[name as usize];
        if *first == ABSENT {
            *first = self.fields.len() as u8;
        } else if name.stands_once() {
            return Err(Error::Duplicate(name));
        } else {
            self.repeated |= 1 << name as u32;
        }
        self.fields.push(Field { name, line: line as u16, colon: (line + colon) as u16, end: end as u16 });
        Ok(())
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
        let value = &self.bytes[usize::from(f.colon) + 1..usize::from(f.end)];
        // Nearly all have one blank before them and nothing behind.
        if let [b' ', first, .., last] = value
            && first.min(last) > &b' '
        {
            return &value[1..];
        }
        lex::trim(value)
    }

    /// Every header line, in order.
    pub fn headers(&self) -> impl DoubleEndedIterator<Item = Header<'b>> + '_ {
        self.fields.iter().map(|f| self.header(f))
    }

    /// The lines among which those of that name are, from its first one on.
    #[inline]
    fn lines(&self, name: HeaderName) -> &[Field] {
        match self.first[name as usize] {
            ABSENT => &[],
            // Most stand once, and what is behind them need not be looked at.
            first if self.repeated & 1 << name as u32 == 0 => &self.fields[usize::from(first)..][..1],
            first => &self.fields[usize::from(first)..],
        }
    }

    /// Every header line of that name, in order.
    #[inline]
    pub fn all(&self, name: HeaderName) -> impl DoubleEndedIterator<Item = Header<'b>> + '_ {
        self.lines(name).iter().filter(move |f| f.name == name).map(|f| self.header(f))
    }

    /// The first value of that name, without white space around it.
    #[inline]
    pub fn value(&self, name: HeaderName) -> Option<&'b [u8]> {
        self.fields.get(usize::from(self.first[name as usize])).map(|f| self.field_value(f))
    }

    /// Checks what a proxy and a UAS must check of a request (§16.3 step 1) and gives what routing needs.
    ///
    /// # Errors
    /// The fault, which knows its answer. A response is none.
    // Always inlined: of its many octets only those are moved that the caller reads.
    #[inline(always)]
    pub fn request(&self) -> Result<Request<'b>, Error> {
        let StartLine::Request { method, uri } = self.start else { return Err(Error::MalformedStartLine) };
        let value = self.needed(HeaderName::Via)?;
        let via = match Via::walk(value) {
            Some(via) => via,
            None => Via::parse_any(&mut Cursor::new(value))?,
        };
        let call_id = self.sound_call_id()?;
        let cseq = self.cseq()?;
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
        // Not by `ok_or`: in a `Result` the address would be moved in pieces, around the octets where a fault would be.
        let Some(from) = Address::from_value(self.needed(HeaderName::From)?) else {
            return Err(Error::Malformed(HeaderName::From));
        };
        let Some(to) = Address::from_value(self.needed(HeaderName::To)?) else {
            return Err(Error::Malformed(HeaderName::To));
        };
        Ok(Request { method, uri, via, from, to, call_id, cseq, max_forwards })
    }

    /// Checks a response. One that fails is dropped (§18.1.2): nobody answers a response.
    ///
    /// # Errors
    /// The fault. A request is none.
    #[inline]
    pub fn response(&self) -> Result<Response<'b>, Error> {
        let StartLine::Response { status, .. } = self.start else { return Err(Error::MalformedStartLine) };
        let via = Via::parse(&mut Cursor::new(self.needed(HeaderName::Via)?))?;
        Ok(Response { status, via, call_id: self.sound_call_id()?, cseq: self.cseq()? })
    }

    #[inline(always)]
    fn sound_call_id(&self) -> Result<&'b [u8], Error> {
        let call_id = self.needed(HeaderName::CallId)?;
        // §25.1: callid = word [ "@" word ]. Only what would split it is refused; nobody here looks inside.
        if call_id.is_empty() || lex::span_word(call_id) != call_id.len() {
            return Err(Error::Malformed(HeaderName::CallId));
        }
        Ok(call_id)
    }

    #[inline]
    fn cseq(&self) -> Result<CSeq<'b>, Error> {
        CSeq::parse(self.needed(HeaderName::CSeq)?)
    }

    /// The first value of a header that every message has.
    #[inline(always)]
    fn needed(&self, name: HeaderName) -> Result<&'b [u8], Error> {
        self.value(name).ok_or(Error::Missing(name))
    }

    /// Every Via value, topmost first. Behind a malformed one the rest of its line is passed over.
    pub fn vias(&self) -> impl Iterator<Item = Result<Via<'b>, Error>> + '_ {
        self.all(HeaderName::Via).flat_map(|h| Vias::new(h.value))
    }

    /// Every Via value beneath `top`, which is the topmost one, parsed already.
    pub fn vias_below(&self, top: &Via<'b>) -> impl Iterator<Item = Result<Via<'b>, Error>> + '_ {
        let (first, lines) = self.lines(HeaderName::Via).split_first().unzip();
        let line = first.map_or(&[][..], |f| self.field_value(f));
        let behind = &line[top.raw.as_ptr() as usize + top.raw.len() - line.as_ptr() as usize..];
        let mut values = if behind.is_empty() { None } else { lex::trim(behind).strip_prefix(b",").map(Vias::new) };
        let mut lines = lines.unwrap_or_default().iter().filter(|f| f.name == HeaderName::Via);
        // By hand: mostly there is none, and iterators within iterators take longer to find that out.
        std::iter::from_fn(move || {
            loop {
                if let Some(via) = values.as_mut().and_then(Vias::next) {
                    return Some(via);
                }
                values = Some(Vias::new(self.field_value(lines.next()?)));
            }
        })
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

/// [`Message::scan`].
struct Scan<'m, 'b, F> {
    message: &'m mut Message<'b>,
    bytes: &'b [u8],
    limits: &'m Limits,
    fault: F,
}

impl<F: Fn(Error) -> Result<(), Error>> Work for Scan<'_, '_, F> {
    type Output = Result<(), Error>;

    #[inline(always)]
    fn run(self, lanes: impl Lanes) -> Result<(), Error> {
        self.message.scan(lanes, self.bytes, self.limits, self.fault)
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

/// The name of a line and where its colon is (§7.3.1), for any name in any layout.
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
