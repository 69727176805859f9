//! The first line of a message (RFC 3261 §7.1, §7.2).

use crate::{
    Error, Method, StatusCode,
    lex::{self, TOKEN, WORD, is_lws},
};
use memchr::memchr;

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

impl<'b> StartLine<'b> {
    /// The Request-Line that the message begins with, if nothing is wrong with it, and where its LF is.
    #[inline(always)]
    pub(crate) fn sound_request(bytes: &'b [u8]) -> Option<(Self, usize)> {
        let (method, rest) = bytes.split_at(TOKEN.span(bytes));
        let rest = rest.strip_prefix(b" ")?;
        let (uri, rest) = rest.split_at(lex::span_word(rest));
        let behind = rest.strip_prefix(b" SIP/2.0\r\n")?;
        let is_sound = !method.is_empty() && !uri.is_empty();
        is_sound.then_some((Self::Request { method: Method::new(method), uri }, bytes.len() - behind.len() - 1))
    }

    /// Parses a line without its LF. Exactly one blank stands between its parts and none behind them.
    pub(crate) fn parse(line: &'b [u8]) -> Result<Self, Error> {
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
    pub(crate) fn salvage(line: &'b [u8]) -> Option<Self> {
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
