//! Addresses: name-addr and addr-spec with their parameters (RFC 3261 §20.10, §20.20, §20.30, §20.34, §20.39).

use crate::{
    Error, HeaderName, Param, Params, Uri,
    lex::{BARE, BRACKETED, Cursor, DISPLAY, QUOTED, TOKEN, is_word, trim},
    walk::Walk,
};

/// One value of From, To, Contact, Route, Record-Route, Path or Service-Route.
#[derive(Clone, Copy, Debug)]
pub struct Address<'b> {
    /// The whole value, without white space around it.
    pub raw: &'b [u8],
    /// The display name as it stands, quotes included; empty where there is none.
    pub display: &'b [u8],
    /// The URI's octets, without angle brackets.
    pub uri: &'b [u8],
    /// The header parameters.
    pub params: Params<'b>,
    /// The `tag` parameter (§19.3).
    pub tag: Option<&'b [u8]>,
}

/// The value breaks the grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadAddress;

impl<'b> Address<'b> {
    /// Takes one value; a comma or the end follows. An addr-spec
    /// without angle brackets ends at a comma too.
    #[inline]
    pub(crate) fn parse(at: &mut Cursor<'b>) -> Result<Self, BadAddress> {
        if let Some(address) = Self::walk(at.rest()) {
            at.skip(address.raw.len());
            return Ok(address);
        }
        Self::parse_any(at)
    }

    /// Takes a value that is laid out as usual, all there is or up to a comma: angle brackets, and before them nothing or a
    /// quoted string without escapes.
    // One copy: as for a Via's.
    #[inline(never)]
    pub(crate) fn walk(text: &'b [u8]) -> Option<Self> {
        let mut walk = Walk::new(text, 0);
        let display = if walk.eat(b'"') {
            walk.run(QUOTED);
            if !walk.eat(b'"') {
                return None;
            }
            walk.since(0)
        } else {
            walk.run(TOKEN)
        };
        if !display.is_empty() {
            walk.eat(b' ');
        }
        let has_bracket = walk.eat(b'<');
        let uri = walk.run(BRACKETED);
        if !has_bracket || uri.is_empty() || !walk.eat(b'>') {
            return None;
        }
        let mut tag = Tag::new();
        let start = walk.at();
        while let Some(param) = Param::walk(&mut walk) {
            tag.keep(param.ok()?);
        }
        let params = Params::since(&walk, start);
        let address = Self { raw: walk.since(0), display, uri, params, tag: tag.only().ok()? };
        matches!(walk.peek(), None | Some(b',')).then_some(address)
    }

    /// Takes a value in any layout.
    fn parse_any(at: &mut Cursor<'b>) -> Result<Self, BadAddress> {
        at.skip_lws();
        let start = at.rest();
        let display = display_name(at)?;
        let uri;
        if at.eat(b'<') {
            // RFC 4475 §3.1.2.14: white space has no place inside the brackets.
            uri = at.run(BRACKETED);
            if uri.is_empty() || !at.eat(b'>') {
                return Err(BadAddress);
            }
        } else {
            // §20: without angle brackets every parameter is the header's, and a comma or question mark is not allowed.
            uri = at.run(BARE);
            if uri.is_empty() || !display.is_empty() {
                return Err(BadAddress);
            }
        }
        let mut tag = Tag::new();
        let params = Params::parse(at, |p| tag.keep(p)).map_err(|_| BadAddress)?;
        let raw = &start[..start.len() - at.rest().len()];
        at.skip_lws();
        if !matches!(at.peek(), None | Some(b',')) {
            return Err(BadAddress);
        }
        Ok(Self { raw, display, uri, params, tag: tag.only()? })
    }

    /// The one address that `value` is, all of it.
    #[inline]
    pub fn from_value(value: &'b [u8]) -> Option<Self> {
        match Self::walk(value) {
            Some(address) if address.raw.len() == value.len() => Some(address),
            _ => Self::from_any_value(value),
        }
    }

    #[cold]
    fn from_any_value(value: &'b [u8]) -> Option<Self> {
        let mut at = Cursor::new(value);
        Self::parse_any(&mut at).ok().filter(|_| at.is_at_end())
    }

    /// The addresses of a comma-separated list, such as a stored Path.
    pub fn list(values: &'b [u8]) -> impl Iterator<Item = Result<Self, Error>> + use<'b> {
        Addresses::new(HeaderName::Path, values)
    }

    /// The URI parsed.
    pub fn parse_uri(&self) -> Result<Uri<'b>, Error> {
        Uri::parse(self.uri)
    }
}

/// The `tag` while the parameters are read. §7.3.1: a parameter stands once. With two tags it would depend on the reader
/// which dialog is meant.
struct Tag<'b> {
    value: Option<&'b [u8]>,
    is_single: bool,
}

impl<'b> Tag<'b> {
    fn new() -> Self {
        Self { value: None, is_single: true }
    }

    #[inline(always)]
    fn keep(&mut self, p: Param<'b>) {
        if is_word(p.name, "tag") {
            self.is_single &= self.value.is_none();
            self.value = p.value;
        }
    }

    #[inline(always)]
    fn only(self) -> Result<Option<&'b [u8]>, BadAddress> {
        if self.is_single { Ok(self.value) } else { Err(BadAddress) }
    }
}

/// Takes `display-name LAQUOT` up to the bracket; takes nothing where an addr-spec begins.
#[inline]
fn display_name<'b>(at: &mut Cursor<'b>) -> Result<&'b [u8], BadAddress> {
    if at.peek() == Some(b'<') {
        return Ok(&[]);
    }
    let mut ahead = *at;
    let quoted = ahead.peek() == Some(b'"');
    if quoted {
        ahead.quoted().ok_or(BadAddress)?;
    } else {
        // §25.1: display-name = *(token LWS) / quoted-string.
        ahead.run(DISPLAY);
    }
    let taken = trim(&at.rest()[..at.rest().len() - ahead.rest().len()]);
    ahead.skip_lws();
    if ahead.peek() == Some(b'<') {
        *at = ahead;
        return Ok(taken);
    }
    if quoted { Err(BadAddress) } else { Ok(&[]) }
}

/// The values of a header that is a list of addresses.
#[derive(Clone, Debug)]
pub(crate) struct Addresses<'b> {
    at: Option<Cursor<'b>>,
    name: HeaderName,
}

impl<'b> Addresses<'b> {
    pub(crate) fn new(name: HeaderName, value: &'b [u8]) -> Self {
        Self { at: Some(Cursor::new(value)), name }
    }
}

impl<'b> Iterator for Addresses<'b> {
    type Item = Result<Address<'b>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut at = self.at.take()?;
        let address = Address::parse(&mut at).map_err(|_| Error::Malformed(self.name));
        if address.is_ok() && at.eat(b',') {
            self.at = Some(at);
        }
        Some(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(value: &str) -> Option<Address<'_>> {
        Address::from_value(value.as_bytes())
    }

    #[test]
    fn all_three_forms_are_read() {
        let a = one("\"J Rosenberg \\\\\\\"\"  <sip:jdrosen@example.com>\r\n ; tag = 98asjd8").unwrap();
        assert_eq!((a.uri, a.tag), (&b"sip:jdrosen@example.com"[..], Some(&b"98asjd8"[..])));
        let a = one("caller<sip:caller@example.com>;tag=323").unwrap();
        assert_eq!((a.display, a.uri), (&b"caller"[..], &b"sip:caller@example.com"[..]));
        let a = one("sip:vivekg@example.com;tag=1918181833n").unwrap();
        assert_eq!((a.uri, a.tag), (&b"sip:vivekg@example.com"[..], Some(&b"1918181833n"[..])));
        assert!(one("Watson, Thomas <sip:t.watson@example.org>").is_none());
    }

    #[test]
    fn a_list_is_split_at_its_own_commas_only() {
        let value = b"\"a, b\" <sip:x@y?h=1,2>;q=0.5, <sip:p@q>,sip:z@w";
        let uris: Vec<_> = Addresses::new(HeaderName::Contact, value).map(|a| a.unwrap().uri).collect();
        assert_eq!(uris, [&b"sip:x@y?h=1,2"[..], b"sip:p@q", b"sip:z@w"]);
    }

    #[test]
    fn unbalanced_and_spaced_values_are_faults() {
        for bad in [
            "\"Mr. J. User <sip:j.user@example.com>",
            "< sip:a@b>",
            "<sip:a@b",
            "<>",
            "",
            "sip:a@b?Route=c",
            "a <sip:b@c> d",
            "<sip:b@c>;tag=1;tag=2",
        ] {
            assert!(one(bad).is_none(), "{bad}");
        }
    }
}
