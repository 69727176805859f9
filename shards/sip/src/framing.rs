//! Framing on streams (RFC 3261 §7.5, §18.3; keep-alives of RFC 5626 §3.5.1, §4.4.1): where a message ends.
//!
//! Looks at the octets which a connection has buffered and says how many of them are the next frame. It copies nothing,
//! parses no header field but Content-Length, and looks at each octet of a header section once, however small the pieces
//! are in which it arrives.
//!
//! It is strict where two readers could disagree on where a message ends: lines end in CRLF, and Content-Length says one
//! thing. After an error nobody knows where the next message begins, so the connection is closed.

use crate::{Limits, StatusCode, lex};

/// What the next octets of a stream are. The caller takes that many from the front of its buffer and asks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Not a whole frame yet: ask again with the same octets and more behind them.
    Incomplete,
    /// A CRLF between messages.
    KeepAlive {
        /// Its length: 2.
        octets: usize,
        /// With the CRLF just before, it makes a ping, to be answered with a single CRLF (RFC 5626 §4.4.1). One that
        /// stands alone is a pong, or nothing at all (§7.5).
        ping: bool,
    },
    /// A message.
    Message {
        /// Length of header section and body together.
        octets: usize,
    },
}

/// Why a stream cannot be read further. The peer is at fault; close the connection, after the [response](Self::response)
/// if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// What begins here is not a SIP message.
    #[error("not SIP")]
    NotSip,
    /// A line of the header section ends in LF without CR.
    #[error("a line ends in LF without CR")]
    BareLineFeed,
    /// The header section alone is longer than [`Limits::max_message`].
    #[error("the header section is too large")]
    HeaderTooLarge,
    /// No Content-Length, which a stream needs (§18.3).
    #[error("no Content-Length on a stream")]
    MissingContentLength,
    /// Content-Length is not a number, or one beyond 32 bits.
    #[error("Content-Length is not a number")]
    BadContentLength,
    /// Content-Length occurs twice and says two things.
    #[error("two values of Content-Length")]
    ConflictingContentLengths,
    /// Content-Length makes the message longer than [`Limits::max_message`].
    #[error("the message is too large")]
    MessageTooLarge,
}

impl FrameError {
    /// The status code of the response to the request that is broken. Except with [`HeaderTooLarge`](Self::HeaderTooLarge)
    /// its header section is complete in the buffer. None: there is nothing that a response could be made for.
    pub fn response(&self) -> Option<StatusCode> {
        match self {
            Self::NotSip | Self::BareLineFeed => None,
            Self::HeaderTooLarge | Self::MessageTooLarge => Some(StatusCode::MESSAGE_TOO_LARGE),
            Self::MissingContentLength | Self::BadContentLength | Self::ConflictingContentLengths => {
                Some(StatusCode::BAD_REQUEST)
            }
        }
    }
}

/// Cuts one stream into frames.
#[derive(Clone, Debug)]
pub struct Framer {
    max_message: usize,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Before a message. `crlf`: the frame before was a CRLF which may be the first half of a ping.
    Between { crlf: bool },
    /// In the header section.
    Header(Section),
    /// The header section is complete, and with it the length of the message is known.
    Body { octets: usize },
}

/// How far a header section has been read.
#[derive(Clone, Copy, Debug)]
struct Section {
    /// Where the current line begins, or the first of the lines that are folded into one.
    field: usize,
    /// How far line ends have been searched for.
    searched: usize,
    length: ContentLength,
}

/// What the header fields so far say of the body's length. Errors wait for the end of the header section, because a
/// response takes its Via, From, To, Call-ID and CSeq from there.
#[derive(Clone, Copy, Debug)]
enum ContentLength {
    Unseen,
    Octets(u32),
    Wrong(FrameError),
}

impl Framer {
    /// For a new connection. Of the limits only the message's length matters here.
    pub fn new(limits: Limits) -> Self {
        Self { max_message: usize::from(limits.max_message), state: State::Between { crlf: false } }
    }

    /// The next frame of a stream. `buffered` begins where the last frame ended, and after [`Frame::Incomplete`] with
    /// what it had before.
    pub fn next(&mut self, buffered: &[u8]) -> Result<Frame, FrameError> {
        loop {
            match &mut self.state {
                State::Between { crlf } => match *buffered {
                    [] | [b'\r'] => return Ok(Frame::Incomplete),
                    [b'\r', b'\n', ..] => {
                        let ping = *crlf;
                        *crlf = !ping;
                        return Ok(Frame::KeepAlive { octets: 2, ping });
                    }
                    // A start line begins with a visible character. This turns away TLS and binary junk at once.
                    [first, ..] if !first.is_ascii_graphic() => return Err(FrameError::NotSip),
                    _ => {
                        self.state = State::Header(Section { field: 0, searched: 0, length: ContentLength::Unseen });
                    }
                },
                State::Header(section) => {
                    let within = &buffered[..buffered.len().min(self.max_message)];
                    let Some(header_octets) = section.end(within)? else {
                        if within.len() == self.max_message {
                            return Err(FrameError::HeaderTooLarge);
                        }
                        return Ok(Frame::Incomplete);
                    };
                    let body_octets = match section.length {
                        ContentLength::Unseen => return Err(FrameError::MissingContentLength),
                        ContentLength::Wrong(error) => return Err(error),
                        ContentLength::Octets(octets) => octets,
                    };
                    let octets = header_octets.saturating_add(body_octets as usize);
                    if octets > self.max_message {
                        return Err(FrameError::MessageTooLarge);
                    }
                    self.state = State::Body { octets };
                }
                State::Body { octets } if buffered.len() < *octets => return Ok(Frame::Incomplete),
                State::Body { octets } => {
                    let octets = *octets;
                    self.state = State::Between { crlf: false };
                    return Ok(Frame::Message { octets });
                }
            }
        }
    }
}

impl Section {
    /// Reads on to the empty line and tells the length of the section, or None if it is not there yet.
    fn end(&mut self, buffered: &[u8]) -> Result<Option<usize>, FrameError> {
        while let Some(found) = memchr::memchr(b'\n', &buffered[self.searched..]) {
            let line_end = self.searched + found;
            // The octet before may lie before `searched`, but never before the line, which does not begin with LF.
            if line_end == self.field || buffered[line_end - 1] != b'\r' {
                return Err(FrameError::BareLineFeed);
            }
            if line_end == self.field + 1 {
                return Ok(Some(line_end + 1));
            }
            // §7.3.1: a line that begins with white space goes on with the field before it, so a field is complete only
            // when the next octet is known. Until then this line end is found again at the first look.
            let Some(next) = buffered.get(line_end + 1) else {
                self.searched = line_end;
                return Ok(None);
            };
            if !matches!(next, b' ' | b'\t') {
                self.read(&buffered[self.field..line_end])?;
                self.field = line_end + 1;
            }
            self.searched = line_end + 1;
        }
        self.searched = buffered.len();
        Ok(None)
    }

    /// Takes in the start line or a header field, unfolded or not, without its last LF.
    fn read(&mut self, field: &[u8]) -> Result<(), FrameError> {
        if self.field == 0 {
            return if is_start_line(field) { Ok(()) } else { Err(FrameError::NotSip) };
        }
        // Most fields are told apart by one octet.
        if !matches!(field[0], b'C' | b'c' | b'L' | b'l') {
            return Ok(());
        }
        let Some(colon) = memchr::memchr(b':', field) else { return Ok(()) };
        let name = lex::trim(&field[..colon]);
        if !name.eq_ignore_ascii_case(b"Content-Length") && !name.eq_ignore_ascii_case(b"l") {
            return Ok(());
        }
        // §20.14: 1*DIGIT.
        self.length = match (self.length, lex::number(lex::trim(&field[colon + 1..]))) {
            (ContentLength::Wrong(error), _) => ContentLength::Wrong(error),
            (_, None) => ContentLength::Wrong(FrameError::BadContentLength),
            (ContentLength::Octets(before), Some(now)) if before != now => {
                ContentLength::Wrong(FrameError::ConflictingContentLengths)
            }
            (_, Some(now)) => ContentLength::Octets(now),
        };
        Ok(())
    }
}

/// Whether a line is a status line or a request line of any version of SIP: a wrong version is for the parser, which
/// answers it with 505, but HTTP is not (§7.1, §7.2).
fn is_start_line(line: &[u8]) -> bool {
    let line = lex::trim(line);
    let last_word = line.rsplit(|&c| lex::is_lws(c)).next().unwrap_or(line);
    [line, last_word].iter().any(|at| at.get(..4).is_some_and(|name| name.eq_ignore_ascii_case(b"SIP/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_are_searched_once_however_small_the_pieces() {
        let folded = "folded\r\n ".repeat(1000);
        let stream = format!("OPTIONS sip:a@b SIP/2.0\r\nSubject: {folded}\r\n{}: y\r\n", "x".repeat(10_000));
        let mut framer = Framer::new(Limits::default());
        for arrived in 1..=stream.len() {
            assert_eq!(framer.next(&stream.as_bytes()[..arrived]), Ok(Frame::Incomplete));
            let State::Header(section) = framer.state else { panic!("the header section has not ended") };
            // A line end at the edge is looked at again, with the octet behind it.
            assert!(section.searched >= arrived - 1);
        }
    }
}
