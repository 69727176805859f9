//! Text that somebody gives for a message (a script, a peer on the other leg), checked so that it stays in its place.
//!
//! Twofold: what a script gives is refused with a reason that its author reads, and whatever is written loses its line
//! ends on the way out. So no text, however it came here, begins a header line of its own (RFC 3261 §7.3.1).

use sip::{Address, Header, HeaderName, Octets, Uri};

/// Why text is not taken into a message. The fault is the script's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadText {
    /// The name of a header or of a method is no token (§25.1).
    #[error("a name is made of letters, digits and -.!%*_+`'~")]
    Name,
    /// The header identifies the message, frames it or routes it, and is written from what is known of the call.
    #[error("this header is written by the switch itself")]
    Reserved,
    /// A line end, or another control character.
    #[error("line ends and other control characters have no place in a header")]
    Control,
    /// No URI, or a list of routes with one that is none.
    #[error("this is no URI")]
    Uri,
    /// A tag that is no token, or a Call-ID with white space in it.
    #[error("tags are tokens, and a Call-ID has no white space")]
    Identifier,
}

/// A header line that the writers take as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    name: &'a [u8],
    value: &'a [u8],
}

impl<'a> Field<'a> {
    /// A header from a script.
    ///
    /// # Errors
    /// It breaks the grammar, or is one that the writers write.
    pub fn new(name: &'a [u8], value: &'a [u8]) -> Result<Self, BadText> {
        if !is_token(name) {
            return Err(BadText::Name);
        }
        if is_reserved(name) {
            return Err(BadText::Reserved);
        }
        if !is_clean(value) {
            return Err(BadText::Control);
        }
        Ok(Self { name, value })
    }

    /// A header that the caller writes himself, with a value that is his.
    pub const fn own(name: HeaderName, value: &'a [u8]) -> Self {
        Self { name: name.canonical().as_bytes(), value }
    }

    /// A header of a message from the other leg; `None` where the writers write it themselves. A folded value is written
    /// on one line.
    pub fn received(header: &Header<'a>) -> Option<Self> {
        let name = header.raw_name();
        (!is_reserved(name)).then_some(Self { name, value: header.value })
    }

    /// The name, as it was given.
    pub fn name(&self) -> &'a [u8] {
        self.name
    }

    /// The value, as it was given.
    pub fn value(&self) -> &'a [u8] {
        self.value
    }

    pub(crate) fn write(&self, out: &mut impl Octets) {
        put_line(out, self.name, self.value);
    }
}

/// One end of a call as From or To names it.
#[derive(Clone, Copy, Debug)]
pub struct Party<'a> {
    display: &'a [u8],
    is_plain: bool,
    uri: &'a [u8],
    tag: &'a [u8],
}

impl<'a> Party<'a> {
    /// A party by its display name in plain text (empty for none), URI, and tag (empty for none).
    ///
    /// # Errors
    /// The URI is none, the tag is no token, or the display name has control characters in it.
    pub fn new(display: &'a [u8], uri: &'a [u8], tag: &'a [u8]) -> Result<Self, BadText> {
        if !is_clean(display) {
            return Err(BadText::Control);
        }
        Uri::parse(uri).map_err(|_| BadText::Uri)?;
        if !tag.is_empty() && !is_token(tag) {
            return Err(BadText::Identifier);
        }
        Ok(Self { display, is_plain: true, uri, tag })
    }

    /// The party that a received From or To names, with another tag (empty for none).
    ///
    /// # Errors
    /// The tag is no token, or the URI holds what would end it.
    pub fn received(address: &Address<'a>, tag: &'a [u8]) -> Result<Self, BadText> {
        if !is_enclosed(address.uri) {
            return Err(BadText::Uri);
        }
        if !tag.is_empty() && !is_token(tag) {
            return Err(BadText::Identifier);
        }
        Ok(Self { display: address.display, is_plain: false, uri: address.uri, tag })
    }

    pub(crate) fn write(&self, out: &mut impl Octets) {
        if !self.display.is_empty() {
            if self.is_plain {
                put_quoted(out, self.display);
            } else {
                put_clean(out, self.display);
            }
            out.put(b" ");
        }
        out.put(b"<");
        out.put(self.uri);
        out.put(b">");
        if !self.tag.is_empty() {
            out.put(b";tag=");
            out.put(self.tag);
        }
    }
}

/// The body of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body<'a> {
    /// Its Content-Type.
    pub content_type: &'a [u8],
    /// Its octets, written as they are.
    pub octets: &'a [u8],
}

impl Body<'_> {
    /// The Content-Type of a session description (RFC 8866 §8.1).
    pub const SDP: &'static [u8] = b"application/sdp";
    /// The Content-Type of a piece of a message (RFC 3420).
    pub const SIPFRAG: &'static [u8] = b"message/sipfrag;version=2.0";
}

/// Ends a message: the body with its type and length.
pub(crate) fn finish(out: &mut impl Octets, body: Option<Body<'_>>) {
    if let Some(body) = body {
        put_line(out, HeaderName::ContentType.canonical().as_bytes(), body.content_type);
    }
    sip::write::finish(out, body.map_or(&[], |b| b.octets));
}

/// Writes one header line; a value's line ends are left out.
pub(crate) fn put_line(out: &mut impl Octets, name: &[u8], value: &[u8]) {
    out.put(name);
    out.put(b": ");
    put_clean(out, value);
    out.put(b"\r\n");
}

/// Writes text without its line ends, which unfolds a folded value (§7.3.1); any other control octet becomes a blank.
pub(crate) fn put_clean(out: &mut impl Octets, text: &[u8]) {
    if is_clean(text) {
        return out.put(text);
    }
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&b| is_control(b)) {
        out.put(&rest[..at]);
        if !matches!(rest[at], b'\r' | b'\n') {
            out.put(b" ");
        }
        rest = &rest[at + 1..];
    }
    out.put(rest);
}

/// Writes a quoted-string (§25.1).
pub(crate) fn put_quoted(out: &mut impl Octets, text: &[u8]) {
    out.put(b"\"");
    for part in text.split_inclusive(|&b| matches!(b, b'"' | b'\\')) {
        if let [plain @ .., special @ (b'"' | b'\\')] = part {
            put_clean(out, plain);
            out.put(&[b'\\', *special]);
        } else {
            put_clean(out, part);
        }
    }
    out.put(b"\"");
}

/// Whether `text` is a token (§25.1).
pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&b| is_token_octet(b))
}

/// Whether `text` may be a tag of somebody: a token, or what the parser takes for the value of a parameter besides, for phones
/// write such tags.
pub(crate) fn is_tag(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&b| is_token_octet(b) || b >= 0x80 || b"[]:/@<>&$#|=?".contains(&b))
}

/// Whether `text` may be a Call-ID: what would split it is refused, as the parser does.
pub(crate) fn is_word(text: &[u8]) -> bool {
    // All of it in any case: without a way out of the loop it is a few octets at a time.
    !text.is_empty() && !text.iter().fold(false, |found, &b| found | (b <= b' ') | (b == 0x7f))
}

/// Whether `text` has no control character in it.
pub(crate) fn is_clean(text: &[u8]) -> bool {
    !text.iter().fold(false, |found, &b| found | is_control(b))
}

/// Whether `uri` stays between its angle brackets.
pub(crate) fn is_enclosed(uri: &[u8]) -> bool {
    is_word(uri) && !uri.iter().fold(false, |found, &b| found | (b == b'<') | (b == b'>'))
}

/// Whether `b` has no place in a header's value. The tab has one.
fn is_control(b: u8) -> bool {
    (b < b' ') & (b != b'\t') | (b == 0x7f)
}

fn is_token_octet(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~')
}

/// What the writers write themselves: what identifies a message, frames it, routes it; and what the proxy strips as its own.
fn is_reserved(name: &[u8]) -> bool {
    const OWN: &[u8] = b"ringswitch-";
    matches!(
        HeaderName::new(name),
        HeaderName::Via
            | HeaderName::From
            | HeaderName::To
            | HeaderName::CallId
            | HeaderName::CSeq
            | HeaderName::MaxForwards
            | HeaderName::Route
            | HeaderName::RecordRoute
            | HeaderName::Contact
            | HeaderName::ContentType
            | HeaderName::ContentLength
    ) || name.get(..OWN.len()).is_some_and(|n| n.eq_ignore_ascii_case(OWN))
}
