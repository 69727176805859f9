//! Session descriptions (RFC 8866), as far as signalling needs them: where media goes, which way it flows, and, of a peer
//! behind a NAT, where it should go instead.
//!
//! Reading is lazy and never fails: a line that breaks the grammar is a line without meaning. Media itself never comes here.

mod multipart;
mod mangle;
mod third_party;

pub use mangle::{is_private, mangle};
pub(crate) use multipart::part_of;
pub use third_party::{Codec, write_placeholder};

use crate::Body;
use sip::{HeaderName, Message, Octets};
use std::net::IpAddr;

/// A session description, borrowed from the message.
#[derive(Clone, Copy, Debug)]
pub struct Sdp<'b> {
    text: &'b [u8],
}

/// `type=value`, or a line that has another form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'b> {
    /// The type's letter; 0 where the line has another form.
    pub kind: u8,
    /// What is behind the equals sign, or the whole line.
    pub value: &'b [u8],
    /// The line with its end.
    pub raw: &'b [u8],
}

/// An `o=` line (RFC 8866 §5.2). Its numbers may have any length, so they are text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'b> {
    /// Who made the session.
    pub username: &'b [u8],
    /// Its identifier.
    pub session_id: &'b [u8],
    /// The version of the description: RFC 3264 §8 counts it up with each change.
    pub version: &'b [u8],
    /// Where it was made.
    pub address: Network<'b>,
}

/// `IN IP4 192.0.2.1`: the value of `c=` (§5.7), and the end of `o=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network<'b> {
    /// Address type and address, as they stand.
    pub raw: &'b [u8],
    /// The address; `None` for a name, and for a multicast address with its TTL.
    pub ip: Option<IpAddr>,
}

/// The direction attributes (RFC 8866 §6.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `a=sendrecv`, and where nothing is said.
    SendRecv,
    /// `a=sendonly`
    SendOnly,
    /// `a=recvonly`
    RecvOnly,
    /// `a=inactive`
    Inactive,
}

/// One `m=` line and what belongs to it (§5.14).
#[derive(Clone, Copy, Debug)]
pub struct Media<'b> {
    /// `audio`, `video`, …
    pub kind: &'b [u8],
    /// The port; 0 refuses or ends the stream (RFC 3264 §5.1).
    pub port: u16,
    /// `RTP/AVP`, …
    pub proto: &'b [u8],
    /// The formats, in order of preference, with blanks between them.
    formats: &'b [u8],
    /// Where it is to be sent: its own `c=`, or else the session's.
    pub connection: Option<Network<'b>>,
    /// Its own direction, or else the session's.
    pub direction: Direction,
    /// The lines below it, up to the next `m=`.
    section: &'b [u8],
}

impl<'b> Sdp<'b> {
    /// `m=` lines that are read; those behind them are kept, and not counted.
    pub const MAX_MEDIA: usize = 64;

    /// The description that `text` is.
    pub fn new(text: &'b [u8]) -> Self {
        Self { text }
    }

    /// The description that a message carries: its body, or a part of it (RFC 5621).
    pub fn of(message: &Message<'b>) -> Option<Self> {
        let body = message.body();
        if body.is_empty() {
            return None;
        }
        match message.value(HeaderName::ContentType) {
            // RFC 3261 §20.15 wants the type. Phones that forget it send descriptions.
            None => body.starts_with(b"v=").then_some(Self::new(body)),
            Some(content_type) => part_of(content_type, body, Body::SDP).map(Self::new),
        }
    }

    /// All its octets.
    pub fn as_bytes(&self) -> &'b [u8] {
        self.text
    }

    /// Every line in order. A line ends in CRLF or in LF (§5: readers should take both).
    pub fn lines(&self) -> impl Iterator<Item = Line<'b>> + use<'b> {
        self.text.split_inclusive(|&b| b == b'\n').map(|raw| {
            let line = raw.strip_suffix(b"\n").unwrap_or(raw);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            match line {
                [kind, b'=', value @ ..] => Line { kind: *kind, value, raw },
                _ => Line { kind: 0, value: line, raw },
            }
        })
    }

    /// The lines before the first `m=`.
    fn session_lines(&self) -> impl Iterator<Item = Line<'b>> + use<'b> {
        self.lines().take_while(|line| line.kind != b'm')
    }

    /// The `o=` line.
    pub fn origin(&self) -> Option<Origin<'b>> {
        self.session_lines().find(|line| line.kind == b'o').and_then(|line| Origin::parse(line.value))
    }

    /// The session's `c=` line.
    pub fn connection(&self) -> Option<Network<'b>> {
        self.session_lines().find(|line| line.kind == b'c').and_then(|line| Network::of_connection(line.value))
    }

    /// The session's direction, if it says one.
    pub fn direction(&self) -> Option<Direction> {
        self.session_lines().find_map(|line| Direction::of(&line))
    }

    /// Its media, in order, up to [`Sdp::MAX_MEDIA`]. An `m=` line that cannot be read counts as refused.
    pub fn media(&self) -> impl Iterator<Item = Media<'b>> + use<'b> {
        let (connection, direction) = (self.connection(), self.direction().unwrap_or(Direction::SendRecv));
        let (text, mut lines) = (self.text, self.lines().peekable());
        std::iter::from_fn(move || {
            let line = lines.by_ref().find(|line| line.kind == b'm')?;
            let mut media = Media { connection, direction, ..Media::parse(line.value) };
            let below = line.raw.as_ptr() as usize - text.as_ptr() as usize + line.raw.len();
            let mut said = (false, false);
            while let Some(line) = lines.next_if(|line| line.kind != b'm') {
                media.section = &text[below..below + media.section.len() + line.raw.len()];
                if line.kind == b'c' && !said.0 {
                    media.connection = Network::of_connection(line.value);
                    said.0 = true;
                } else if let Some(direction) = Direction::of(&line).filter(|_| !said.1) {
                    media.direction = direction;
                    said.1 = true;
                }
            }
            Some(media)
        })
        .take(Self::MAX_MEDIA)
    }

    /// Writes the answer that refuses every stream of this offer: each `m=` line again, with port 0 (RFC 3264 §6).
    pub fn write_refusal(&self, out: &mut impl Octets) {
        out.put(b"v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n");
        for media in self.media() {
            for part in [b"m=", media.kind, b" 0 ", media.proto] {
                out.put(part);
            }
            for format in media.formats() {
                out.put(b" ");
                out.put(format);
            }
            out.put(b"\r\n");
        }
    }

    /// Whether its sender holds the call: no stream is left that he wants to hear (RFC 3264 §8.4, or the address 0.0.0.0 of
    /// RFC 2543).
    pub fn is_hold(&self) -> bool {
        let mut active = self.media().filter(|m| m.port != 0).peekable();
        active.peek().is_some() && active.all(|m| m.is_held())
    }

    /// Whether it has candidates for ICE (RFC 8839 §5.1).
    pub(crate) fn has_candidates(&self) -> bool {
        self.lines().any(|line| line.kind == b'a' && line.value.starts_with(b"candidate:"))
    }
}

impl<'b> Origin<'b> {
    fn parse(value: &'b [u8]) -> Option<Self> {
        let mut fields = words(value);
        let (username, session_id, version) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Self { username, session_id, version, address: Network::parse(value, fields)? })
    }
}

impl<'b> Network<'b> {
    fn of_connection(value: &'b [u8]) -> Option<Self> {
        Self::parse(value, words(value))
    }

    /// The network that `fields` go on with, which are words of `value`.
    fn parse(value: &'b [u8], mut fields: impl Iterator<Item = &'b [u8]>) -> Option<Self> {
        let (_, family, address) = (fields.next().filter(|net| *net == b"IN")?, fields.next()?, fields.next()?);
        let offset = |part: &[u8]| part.as_ptr() as usize - value.as_ptr() as usize;
        let raw = &value[offset(family)..offset(address) + address.len()];
        Some(Self { raw, ip: std::str::from_utf8(address).ok().and_then(|a| a.parse().ok()) })
    }
}

impl Direction {
    /// The attribute's name.
    pub fn attribute(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    fn of(line: &Line<'_>) -> Option<Self> {
        let all = [Self::SendRecv, Self::SendOnly, Self::RecvOnly, Self::Inactive];
        all.into_iter().find(|direction| line.kind == b'a' && line.value == direction.attribute().as_bytes())
    }
}

impl<'b> Media<'b> {
    fn parse(value: &'b [u8]) -> Self {
        let mut fields = words(value);
        let kind = fields.next().unwrap_or_default();
        // §5.14: the number of ports may stand behind a slash.
        let port = fields.next().unwrap_or_default().split(|&b| b == b'/').next().unwrap_or_default();
        let proto = fields.next().unwrap_or_default();
        let formats = fields.next().map_or(&[][..], |first| {
            let start = first.as_ptr() as usize - value.as_ptr() as usize;
            &value[start..]
        });
        let port = sip::number(port).and_then(|n| u16::try_from(n).ok()).unwrap_or(0);
        Self { kind, port, proto, formats, connection: None, direction: Direction::SendRecv, section: &[] }
    }

    /// The formats, in order of preference.
    pub fn formats(&self) -> impl Iterator<Item = &'b [u8]> + use<'b> {
        words(self.formats)
    }

    /// The values of its `a=` lines, in order (§5.13).
    pub fn attributes(&self) -> impl Iterator<Item = &'b [u8]> + use<'b> {
        Sdp::new(self.section).lines().filter(|line| line.kind == b'a').map(|line| line.value)
    }

    /// Whether its sender does not want to hear it.
    pub fn is_held(&self) -> bool {
        matches!(self.direction, Direction::SendOnly | Direction::Inactive)
            || self.connection.and_then(|c| c.ip).is_some_and(|ip| ip.is_unspecified())
    }
}

/// What stands between blanks.
fn words(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b' ' || b == b'\t').filter(|word| !word.is_empty())
}
