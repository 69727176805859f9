//! The parameters after a scheme's name (RFC 3261 §25.1 `auth-param`; RFC 7616 §3.3, §3.4): read and written.

use super::DigestError;
use crate::{
    Octets,
    lex::{Cursor, VERBATIM, find_any, is_lws, is_word, span},
};
use std::{borrow::Cow, fmt};

/// Octets that a parameter's value may have before unquoting. Unknown parameters are not kept and may be longer.
pub const MAX_PARAM_OCTETS: usize = 1024;

/// A parameter that this implementation reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Param {
    /// `algorithm`
    Algorithm,
    /// `cnonce`
    Cnonce,
    /// `nc`
    Nc,
    /// `nonce`
    Nonce,
    /// `opaque`
    Opaque,
    /// `qop`
    Qop,
    /// `realm`
    Realm,
    /// `response`
    Response,
    /// `stale`
    Stale,
    /// `uri`
    Uri,
    /// `userhash`
    Userhash,
    /// `username`
    Username,
}

impl Param {
    const COUNT: usize = Self::Username as usize + 1;

    /// In any case.
    fn from_name(name: &[u8]) -> Option<Self> {
        Some(match name {
            _ if is_word(name, "nc") => Self::Nc,
            _ if is_word(name, "qop") => Self::Qop,
            _ if is_word(name, "uri") => Self::Uri,
            _ if is_word(name, "nonce") => Self::Nonce,
            _ if is_word(name, "realm") => Self::Realm,
            _ if is_word(name, "stale") => Self::Stale,
            _ if is_word(name, "cnonce") => Self::Cnonce,
            _ if is_word(name, "opaque") => Self::Opaque,
            _ if is_word(name, "response") => Self::Response,
            _ if is_word(name, "userhash") => Self::Userhash,
            _ if is_word(name, "username") => Self::Username,
            _ if is_word(name, "algorithm") => Self::Algorithm,
            _ => return None,
        })
    }

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Algorithm => "algorithm",
            Self::Cnonce => "cnonce",
            Self::Nc => "nc",
            Self::Nonce => "nonce",
            Self::Opaque => "opaque",
            Self::Qop => "qop",
            Self::Realm => "realm",
            Self::Response => "response",
            Self::Stale => "stale",
            Self::Uri => "uri",
            Self::Userhash => "userhash",
            Self::Username => "username",
        }
    }
}

impl fmt::Display for Param {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The values of one header field, without quotes and escapes.
pub(super) struct Params<'b> {
    values: [Option<Cow<'b, [u8]>>; Param::COUNT],
}

impl<'b> Params<'b> {
    /// Reads a whole field value: the scheme, then the list. Folded lines are white space.
    pub(super) fn parse(field_value: &'b [u8]) -> Result<Self, DigestError> {
        let mut at = Cursor::new(field_value);
        at.skip_lws();
        let is_digest = at.token().is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"Digest"));
        if !is_digest || !at.peek().is_none_or(is_lws) {
            return Err(DigestError::OtherScheme);
        }
        let mut values = [const { None }; Param::COUNT];
        loop {
            // Empty elements between commas are tolerated, as RFC 7230 §7 asks of readers of lists.
            at.take(|b| is_lws(b) || b == b',');
            if at.is_at_end() {
                return Ok(Self { values });
            }
            let name = at.token().ok_or(DigestError::Malformed)?;
            if !at.eat_separator(b'=') {
                return Err(DigestError::Malformed);
            }
            let raw = take_value(&mut at).ok_or(DigestError::Malformed)?;
            at.skip_lws();
            if !matches!(at.peek(), None | Some(b',')) {
                return Err(DigestError::Malformed);
            }
            let Some(param) = Param::from_name(name) else { continue };
            if raw.len() > MAX_PARAM_OCTETS {
                return Err(DigestError::TooLong(param));
            }
            let slot = &mut values[param as usize];
            if slot.is_some() {
                return Err(DigestError::Duplicate(param));
            }
            *slot = Some(unquote(raw).ok_or(DigestError::Illegal(param))?);
        }
    }

    pub(super) fn take(&mut self, param: Param) -> Option<Cow<'b, [u8]>> {
        self.values[param as usize].take()
    }

    pub(super) fn require(&mut self, param: Param) -> Result<Cow<'b, [u8]>, DigestError> {
        self.take(param).ok_or(DigestError::Missing(param))
    }

    /// A flag is set by `true`, in any case, and by nothing else (RFC 7616 §3.3 on `stale`).
    pub(super) fn take_flag(&mut self, param: Param) -> bool {
        self.take(param).is_some_and(|v| v.eq_ignore_ascii_case(b"true"))
    }
}

/// Takes a value, with its quotes if it has any. One that the grammar wants quoted may come bare, and the reverse: phones
/// do both (`qop="auth"`, `algorithm="MD5"`), and the meaning is the same.
fn take_value<'b>(at: &mut Cursor<'b>) -> Option<&'b [u8]> {
    if at.peek() == Some(b'"') {
        return at.quoted();
    }
    let value = at.take(|b| !is_lws(b) && b != b',' && b != b'"');
    (!value.is_empty()).then_some(value)
}

/// The text of a value: without its quotes, an escape replaced by the octet it stands for (RFC 9110 §5.6.4), folded
/// lines by one space (RFC 3261 §7.3.1). None if CR or LF remain, which no text may hold. Copies only what it changes.
fn unquote(raw: &[u8]) -> Option<Cow<'_, [u8]>> {
    let Some(inner) = raw.strip_prefix(b"\"").and_then(|r| r.strip_suffix(b"\"")) else {
        return Some(Cow::Borrowed(raw));
    };
    if find_any(inner, [b'\\', b'\r', b'\n']).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    let (mut text, mut rest) = (Vec::with_capacity(inner.len()), inner);
    loop {
        match rest {
            [] => return Some(Cow::Owned(text)),
            // The cursor has refused an escaped line end.
            [b'\\', escaped, after @ ..] => {
                text.push(*escaped);
                rest = after;
            }
            [b'\r', b'\n', b' ' | b'\t', after @ ..] => {
                text.push(b' ');
                rest = &after[span(after, |b| matches!(b, b' ' | b'\t'))..];
            }
            [b'\\' | b'\r' | b'\n', ..] => return None,
            [octet, after @ ..] => {
                text.push(*octet);
                rest = after;
            }
        }
    }
}

/// Writes `Digest` and parameters behind it, separated by commas.
pub(super) struct Writer<'o, O> {
    out: &'o mut O,
    separator: &'static [u8],
}

impl<'o, O: Octets> Writer<'o, O> {
    pub(super) fn new(out: &'o mut O) -> Self {
        out.put(b"Digest");
        Self { out, separator: b" " }
    }

    /// `name=value`, for a value that is a token or quoted already.
    pub(super) fn bare(&mut self, param: Param, value: &[u8]) -> &mut Self {
        for part in [self.separator, param.name().as_bytes(), b"=", value] {
            self.out.put(part);
        }
        self.separator = b", ";
        self
    }

    /// `name="value"`, with escapes where they are needed.
    pub(super) fn quoted(&mut self, param: Param, text: &[u8]) -> &mut Self {
        self.bare(param, b"\"");
        let mut rest = text;
        while let [octet, after @ ..] = &rest[VERBATIM.span(rest)..] {
            self.out.put(&rest[..rest.len() - after.len() - 1]);
            match octet {
                // §25.1: not even an escape may hold them, and a header field ends at one.
                b'\r' | b'\n' => self.out.put(b" "),
                _ => self.out.put(&[b'\\', *octet]),
            }
            rest = after;
        }
        self.out.put(rest);
        self.out.put(b"\"");
        self
    }
}
