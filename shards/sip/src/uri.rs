//! SIP, SIPS and tel URIs (RFC 3261 §19.1, RFC 3966), borrowed from the message.

use crate::{
    Error, Host, Octets, Param, Transport,
    lex::{self, PLAIN, URI_HEADER, URI_PARAM, URIC, USER},
    walk::Walk,
};

/// A URI.
#[derive(Clone, Copy, Debug)]
pub enum Uri<'b> {
    /// `sip:` or `sips:`.
    Sip(SipUri<'b>),
    /// `tel:`, with the number as it stands.
    Tel(TelUri<'b>),
    /// Any other scheme, kept octet for octet.
    Other {
        /// What is before the colon.
        scheme: &'b [u8],
    },
}

/// A SIP or SIPS URI.
#[derive(Clone, Copy, Debug)]
pub struct SipUri<'b> {
    /// Everything, as it stands.
    pub raw: &'b [u8],
    /// Whether the scheme is `sips`.
    pub secure: bool,
    /// The user part, escaped as it stands.
    pub user: Option<&'b [u8]>,
    /// The password; deprecated by §19.1.1.
    pub password: Option<&'b [u8]>,
    /// The host.
    pub host: Host<'b>,
    /// The port, if one is given.
    pub port: Option<u16>,
    params: &'b [u8],
    headers: &'b [u8],
}

/// A telephone number (RFC 3966).
#[derive(Clone, Copy, Debug)]
pub struct TelUri<'b> {
    /// Everything, as it stands.
    pub raw: &'b [u8],
    /// The number with its visual separators, before the first semicolon.
    pub number: &'b [u8],
}

impl<'b> Uri<'b> {
    /// Parses all of `raw`.
    pub fn parse(raw: &'b [u8]) -> Result<Self, Error> {
        if let Some((scheme, rest)) = raw.split_at_checked(4)
            && lex::is_word(scheme, "sip:")
        {
            return match SipUri::walk(raw) {
                Some(uri) => Ok(Self::Sip(uri)),
                None => SipUri::parse(raw, rest, false).map(Self::Sip),
            };
        }
        let colon = raw.iter().position(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.')));
        let (scheme, rest) = raw.split_at(colon.ok_or(Error::MalformedUri)?);
        let rest = rest.strip_prefix(b":").ok_or(Error::MalformedUri)?;
        if lex::is_word(scheme, "sips") {
            SipUri::parse(raw, rest, true).map(Self::Sip)
        } else if lex::is_word(scheme, "tel") {
            TelUri::parse(raw, rest).map(Self::Tel)
        } else if scheme.first().is_some_and(u8::is_ascii_alphabetic) && URIC.span(rest) == rest.len() {
            Ok(Self::Other { scheme })
        } else {
            Err(Error::MalformedUri)
        }
    }

    /// The SIP or SIPS URI, or `UnsupportedScheme`.
    pub fn sip(self) -> Result<SipUri<'b>, Error> {
        match self {
            Self::Sip(uri) => Ok(uri),
            _ => Err(Error::UnsupportedScheme),
        }
    }
}

impl<'b> SipUri<'b> {
    /// Parses a `sip` URI that is laid out as usual: no escapes, no password, no headers.
    #[inline(always)]
    fn walk(raw: &'b [u8]) -> Option<Self> {
        let mut walk = Walk::new(raw, "sip:".len());
        let hostport = walk;
        let name = walk.run(USER);
        let user = match walk.peek() {
            Some(b'@') if !name.is_empty() && walk.eat(b'@') => Some(name),
            // No user: what was taken for him is the host, maybe with parameters, and before the colon of its port.
            None => None,
            Some(b':') if !raw.contains(&b'@') => None,
            _ => return None,
        };
        if user.is_none() {
            walk = hostport;
        }
        let host = Host::plain(walk.run(PLAIN))?;
        let port = if walk.eat(b':') { Some(port(lex::number(walk.run(PLAIN))?)?) } else { None };
        let start = walk.at();
        while walk.eat(b';') {
            let is_sound = !walk.run(URI_PARAM).is_empty() && (!walk.eat(b'=') || !walk.run(URI_PARAM).is_empty());
            if !is_sound {
                return None;
            }
        }
        let params = walk.since(start);
        let uri = Self { raw, secure: false, user, password: None, host, port, params, headers: &[] };
        walk.peek().is_none().then_some(uri)
    }

    fn parse(raw: &'b [u8], rest: &'b [u8], secure: bool) -> Result<Self, Error> {
        let bad = Error::MalformedUri;
        let (user, password, hostport) = userinfo(rest);
        if user.is_some_and(<[u8]>::is_empty) {
            return Err(bad);
        }
        let (host, rest) = Host::parse(hostport).ok_or(bad)?;
        let (port, rest) = split_port(rest).ok_or(bad)?;
        let (params, headers) = rest.split_at(span_params(rest).ok_or(bad)?);
        let are_headers = match headers {
            [] => true,
            [b'?', fields @ ..] => !fields.is_empty() && URI_HEADER.span_escaped(fields) == fields.len(),
            _ => false,
        };
        if are_headers { Ok(Self { raw, secure, user, password, host, port, params, headers }) } else { Err(bad) }
    }

    /// Its parameters in order. Names and values may be escaped; [`SipUri::param`] compares them unescaped.
    pub fn params(&self) -> impl Iterator<Item = Param<'b>> + use<'b> {
        split_params(self.params)
    }

    /// The value of a parameter; empty where it has none.
    pub fn param(&self, name: &str) -> Option<&'b [u8]> {
        let named = |p: &Param<'_>| unescaped(p.name).map(|o| o.octet.to_ascii_lowercase()).eq(name.bytes());
        if self.params.is_empty() {
            return None;
        }
        self.params().find(named).map(|p| p.value.unwrap_or_default())
    }

    /// The transport it asks for. `Err` is one that we do not speak.
    pub fn transport(&self) -> Result<Option<Transport>, Error> {
        match self.param("transport") {
            None => Ok(None),
            Some(token) => Transport::from_token(token).map(Some).ok_or(Error::MalformedUri),
        }
    }

    /// Whether it marks a loose router (§16.12.1.1).
    pub fn is_loose(&self) -> bool {
        self.param("lr").is_some()
    }

    /// What is behind the question mark, with it.
    pub fn headers(&self) -> &'b [u8] {
        self.headers
    }

    /// The URI without its headers, which a Request-URI may not carry (§19.1.5).
    pub fn without_headers(&self) -> &'b [u8] {
        &self.raw[..self.raw.len() - self.headers.len()]
    }

    /// The address of record in canonical form (§10.3 step 5): `user@domain` where `domain` is given by the caller, and
    /// in the user part only those escapes are left that must be. It is ASCII, and equal for equal users.
    pub fn write_aor(&self, domain: &str, out: &mut impl Octets) {
        if let Some(user) = self.user {
            write_canonical(user, out);
            out.put(b"@");
        }
        out.put(domain.as_bytes());
    }

    /// §19.1.4. Of two URIs with very many parameters or headers it asks that they be the same octets: comparing each
    /// with each would let one message cost what thousands do.
    pub fn is_equivalent(&self, other: &Self) -> bool {
        const MAX_COMPARED: usize = 64;
        if [self, other].iter().any(|u| u.params().count() + u.header_fields().count() > MAX_COMPARED) {
            return self.raw == other.raw;
        }
        self.secure == other.secure
            && is_same_text(self.user, other.user)
            && is_same_text(self.password, other.password)
            && self.host == other.host
            && self.port == other.port
            && self.covers_params(other)
            && other.covers_params(self)
            && self.covers_headers(other)
            && other.covers_headers(self)
    }

    /// Every parameter of ours is one of `other`'s with the same value, or may stand alone.
    fn covers_params(&self, other: &Self) -> bool {
        const NEVER_ALONE: [&str; 5] = ["user", "ttl", "method", "maddr", "transport"];
        self.params().all(|p| {
            let same_name = other.params().filter(|q| is_same_octets(p.name, q.name));
            let same_value =
                same_name.map(|q| is_same_octets(p.value.unwrap_or_default(), q.value.unwrap_or_default()));
            // A name that stands twice, which §19.1.1 forbids, is at least equal to itself.
            match same_value.reduce(|any, same| any || same) {
                Some(is_same) => is_same,
                None => !NEVER_ALONE.iter().any(|n| is_same_octets(p.name, n.as_bytes())),
            }
        })
    }

    fn header_fields(&self) -> impl Iterator<Item = (&'b [u8], &'b [u8])> + use<'b> {
        let fields = self.headers.strip_prefix(b"?").into_iter().flat_map(|h| h.split(|&b| b == b'&'));
        fields.map(|field| match memchr::memchr(b'=', field) {
            Some(i) => (&field[..i], &field[i + 1..]),
            None => (field, &[][..]),
        })
    }

    fn covers_headers(&self, other: &Self) -> bool {
        self.header_fields().all(|(name, value)| {
            // §20 says per header how values compare; without its grammar the octets decide.
            other.header_fields().any(|(n, v)| is_same_octets(name, n) && unescaped(value).eq(unescaped(v)))
        })
    }
}

/// User and password, and what is behind them. An @ stands nowhere but behind the userinfo, whose own reserved octets may
/// include ; and ? (RFC 4475 §3.1.1.9); so where none ends it, there is no userinfo.
fn userinfo(rest: &[u8]) -> (Option<&[u8]>, Option<&[u8]>, &[u8]) {
    let (user, behind) = rest.split_at(USER.span_escaped(rest));
    match behind {
        [b'@', hostport @ ..] => (Some(user), None, hostport),
        [b':', secret @ ..] => match secret.split_at(USER.span_escaped(secret)) {
            (password, [b'@', hostport @ ..]) => (Some(user), Some(password), hostport),
            _ => (None, None, rest),
        },
        _ => (None, None, rest),
    }
}

/// How far `;name` and `;name=value` go on; None where a name or a value is empty.
fn span_params(text: &[u8]) -> Option<usize> {
    let part = |from: usize| Some(URI_PARAM.span_escaped(&text[from..])).filter(|&len| len > 0);
    let mut end = 0;
    while text.get(end) == Some(&b';') {
        end += 1 + part(end + 1)?;
        if text.get(end) == Some(&b'=') {
            end += 1 + part(end + 1)?;
        }
    }
    Some(end)
}

/// Splits `;name=value…`; names and values are checked elsewhere.
fn split_params(params: &[u8]) -> impl Iterator<Item = Param<'_>> {
    params.strip_prefix(b";").into_iter().flat_map(|p| p.split(|&b| b == b';')).map(|p| match memchr::memchr(b'=', p) {
        Some(i) => Param { name: &p[..i], value: Some(&p[i + 1..]) },
        None => Param { name: p, value: None },
    })
}

/// `[":" port]`, and what follows.
fn split_port(rest: &[u8]) -> Option<(Option<u16>, &[u8])> {
    let Some(after) = rest.strip_prefix(b":") else { return Some((None, rest)) };
    let (number, digits) = lex::number_at(after)?;
    Some((Some(port(number)?), &after[digits..]))
}

/// The port that a number is.
pub(crate) fn port(number: u32) -> Option<u16> {
    u16::try_from(number).ok().filter(|&port| port != 0)
}

/// An octet behind its escape. A reserved one that was escaped differs from the same one in clear (§19.1.4).
#[derive(Clone, Copy, PartialEq, Eq)]
struct Unescaped {
    octet: u8,
    is_reserved_escape: bool,
}

fn unescaped(text: &[u8]) -> impl Iterator<Item = Unescaped> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (&first, after) = rest.split_first()?;
        let hex = |b: u8| char::from(b).to_digit(16);
        if first == b'%'
            && let [high, low, after @ ..] = after
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            rest = after;
            let octet = (high * 16 + low) as u8;
            return Some(Unescaped { octet, is_reserved_escape: is_reserved(octet) });
        }
        rest = after;
        Some(Unescaped { octet: first, is_reserved_escape: false })
    })
}

/// What must stay escaped: the reserved set of §25.1, and whatever cannot stand in clear.
fn is_reserved(b: u8) -> bool {
    !(b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'!' | b'~' | b'*' | b'\'' | b'(' | b')'))
}

fn write_canonical(text: &[u8], out: &mut impl Octets) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for o in unescaped(text) {
        if o.is_reserved_escape {
            out.put(&[b'%', HEX[usize::from(o.octet >> 4)], HEX[usize::from(o.octet & 15)]]);
        } else {
            out.put(&[o.octet]);
        }
    }
}

/// User and password compare with case.
fn is_same_text(a: Option<&[u8]>, b: Option<&[u8]>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => unescaped(a).eq(unescaped(b)),
        (None, None) => true,
        _ => false,
    }
}

/// Everything else compares without.
fn is_same_octets(a: &[u8], b: &[u8]) -> bool {
    let lower = |o: Unescaped| Unescaped { octet: o.octet.to_ascii_lowercase(), ..o };
    unescaped(a).map(lower).eq(unescaped(b).map(lower))
}

impl<'b> TelUri<'b> {
    fn parse(raw: &'b [u8], rest: &'b [u8]) -> Result<Self, Error> {
        let number = &rest[..memchr::memchr(b';', rest).unwrap_or(rest.len())];
        let digits = number.strip_prefix(b"+").unwrap_or(number);
        let is_number = |b: &u8| b.is_ascii_hexdigit() || matches!(b, b'*' | b'#' | b'-' | b'.' | b'(' | b')');
        let fits = !digits.is_empty() && digits.iter().all(is_number) && URIC.span(rest) == rest.len();
        if fits { Ok(Self { raw, number }) } else { Err(Error::MalformedUri) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sip(raw: &str) -> SipUri<'_> {
        Uri::parse(raw.as_bytes()).and_then(Uri::sip).unwrap_or_else(|e| panic!("{raw}: {e}"))
    }

    #[test]
    fn a_user_part_may_hold_semicolons() {
        // RFC 4475 §3.1.1.9.
        let uri = sip("sip:user;par=u%40example.net@example.com");
        assert_eq!(uri.user, Some(&b"user;par=u%40example.net"[..]));
        assert_eq!(uri.host, Host::Name(b"example.com"));
        assert_eq!(uri.params().count(), 0);
    }

    #[test]
    fn escaped_parameter_names_are_the_plain_ones() {
        // RFC 4475 §3.1.1.3: %6C%72 is lr.
        let uri = sip("sip:alice@host;%6C%72;n%61me=v%61lue%25%34%31");
        assert!(uri.is_loose());
        assert_eq!(uri.param("name"), Some(&b"v%61lue%25%34%31"[..]));
    }

    #[test]
    fn malformed_uris_are_told() {
        for bad in [
            "sip:",
            "sip:@host",
            "sip:a@",
            "sip:a b@host",
            "<sip:a@host>",
            "sip:a%4@host",
            "sip:a@host:",
            "sip:a@host:99999",
            "sip:a@host:0",
            "sip:a@host;",
            "sip:a@host;=x",
            "sip:a@host?",
            "sip:2001:db8::10",
            "1sip:a@b",
            ":a",
            "nothing",
            "sip:a@h;x=",
            "tel:",
            "tel:abc xyz",
        ] {
            assert!(Uri::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_of_record_has_one_spelling() {
        let aor = |raw: &str| {
            let mut out = Vec::new();
            sip(raw).write_aor("example.com", &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(aor("sip:%61lice@EXAMPLE.com;transport=tcp"), "alice@example.com");
        assert_eq!(aor("sip:null-%00-null@x"), "null-%00-null@example.com");
        assert_eq!(aor("sip:a%2fb@x"), "a%2Fb@example.com");
        assert_ne!(aor("sip:a/b@x"), aor("sip:a%2Fb@x"));
    }

    #[test]
    fn other_schemes_are_kept() {
        assert!(matches!(Uri::parse(b"nobodyKnowsThisScheme:totallyopaquecontent"), Ok(Uri::Other { .. })));
        assert!(
            matches!(Uri::parse(b"tel:+1-201-555-0123;phone-context=x"), Ok(Uri::Tel(t)) if t.number == b"+1-201-555-0123")
        );
    }
}
