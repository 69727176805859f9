//! Via (RFC 3261 §20.42; RFC 3581 `rport`; RFC 5923 `alias`).

use crate::{
    Error, HeaderName, Host, Octets, Param, Params, Transport, host,
    lex::{self, Cursor, PLAIN, TOKEN, is_lws, is_word},
    uri::port,
    walk::Walk,
};
use arrayvec::ArrayVec;
use std::net::{IpAddr, SocketAddr};

/// One value of Via.
#[derive(Clone, Copy, Debug)]
pub struct Via<'b> {
    /// The whole value, without white space around it.
    pub raw: &'b [u8],
    /// The transport's token; it may be one that we do not speak.
    pub transport: &'b [u8],
    /// Where the sender listens.
    pub host: Host<'b>,
    /// The port of sent-by, if one is given.
    pub port: Option<u16>,
    /// All parameters.
    pub params: Params<'b>,
    /// `branch`, with its magic cookie if it has one.
    pub branch: Option<&'b [u8]>,
    /// `received`, as an address.
    pub received: Option<IpAddr>,
    received_text: Option<&'b [u8]>,
    /// `rport`.
    pub rport: Rport<'b>,
    /// `maddr`, as it stands.
    pub maddr: Option<&'b [u8]>,
    /// Whether the sender offers this connection for requests to him (RFC 5923 §5).
    pub alias: bool,
}

/// The `rport` parameter (RFC 3581 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rport<'b> {
    /// Not there.
    Absent,
    /// There without a value: the sender asks for the answer where it sent from. The slice is the name as it stands.
    Asked(&'b [u8]),
    /// Filled in by who received the request.
    Filled(u16),
}

/// As many as `;received=` takes with the longest address, which has 45.
const MARK_OCTETS: usize = 56;

impl<'b> Via<'b> {
    /// What a branch of RFC 3261 begins with (§8.1.1.7).
    pub const MAGIC_COOKIE: &'static [u8] = b"z9hG4bK";

    #[inline]
    pub(crate) fn parse(at: &mut Cursor<'b>) -> Result<Self, Error> {
        if let Some(via) = Self::walk(at.rest()) {
            at.skip(via.raw.len());
            return Ok(via);
        }
        Self::parse_any(at)
    }

    /// Takes a value that is laid out as usual: all there is, or up to a comma.
    // One copy of it takes fewer lines of the cache than one wherever a Via is read, and that is faster.
    #[inline(never)]
    pub(crate) fn walk(text: &'b [u8]) -> Option<Self> {
        const PROTOCOL: &[u8] = b"SIP/2.0/";
        if !text.starts_with(PROTOCOL) {
            return None;
        }
        let mut walk = Walk::new(text, PROTOCOL.len());
        let transport = walk.run(TOKEN);
        if transport.is_empty() || !walk.eat(b' ') {
            return None;
        }
        let mut via = Self::new(transport, Host::plain(walk.run(PLAIN))?);
        if walk.eat(b':') {
            via.port = Some(port(lex::number(walk.run(PLAIN))?)?);
        }
        let start = walk.at();
        while let Some(param) = Param::walk(&mut walk) {
            if !via.keep(param.ok()?) {
                return None;
            }
        }
        via.params = Params::since(&walk, start);
        via.raw = walk.since(0);
        matches!(walk.peek(), None | Some(b',')).then_some(via)
    }

    /// Takes a value in any layout.
    #[cold]
    pub(crate) fn parse_any(at: &mut Cursor<'b>) -> Result<Self, Error> {
        let bad = Error::Malformed(HeaderName::Via);
        at.skip_lws();
        let start = at.rest();
        let is_sip = at.token().is_some_and(|protocol| is_word(protocol, "SIP")) && at.eat_separator(b'/');
        let is_ours = is_sip && at.token() == Some(b"2.0") && at.eat_separator(b'/');
        let transport = at.token().filter(|_| is_ours).ok_or(bad)?;
        if !at.peek().is_some_and(is_lws) {
            return Err(bad);
        }
        at.skip_lws();
        let (host, rest) = Host::parse(at.rest()).ok_or(bad)?;
        *at = Cursor::new(rest);
        let mut via = Self::new(transport, host);
        if at.eat_separator(b':') {
            // The grammar allows white space around the colon.
            via.port = Some(at.number().and_then(port).ok_or(bad)?);
        }
        let mut sound = true;
        via.params = Params::parse(at, |p| sound &= via.keep(p)).map_err(|_| bad)?;
        via.raw = &start[..start.len() - at.rest().len()];
        at.skip_lws();
        if sound && matches!(at.peek(), None | Some(b',')) { Ok(via) } else { Err(bad) }
    }

    fn new(transport: &'b [u8], host: Host<'b>) -> Self {
        Self {
            raw: &[],
            transport,
            host,
            port: None,
            params: Params::default(),
            branch: None,
            received: None,
            received_text: None,
            rport: Rport::Absent,
            maddr: None,
            alias: false,
        }
    }

    /// Keeps what routing needs of a parameter; false where its value is none, or where it stands there already: §7.3.1
    /// has each parameter once, and with two branches it would depend on the reader which transaction is meant.
    #[inline(always)]
    fn keep(&mut self, p: Param<'b>) -> bool {
        if is_word(p.name, "branch") {
            p.value.is_some() && std::mem::replace(&mut self.branch, p.value).is_none()
        } else if is_word(p.name, "received") {
            self.received = p.value.and_then(host::address);
            self.received.is_some() && std::mem::replace(&mut self.received_text, p.value).is_none()
        } else if is_word(p.name, "rport") {
            let rport = match p.value {
                None => Rport::Asked(p.name),
                Some(digits) => match lex::number(digits).and_then(|n| u16::try_from(n).ok()) {
                    Some(port) => Rport::Filled(port),
                    None => return false,
                },
            };
            std::mem::replace(&mut self.rport, rport) == Rport::Absent
        } else if is_word(p.name, "maddr") {
            p.value.is_some() && std::mem::replace(&mut self.maddr, p.value).is_none()
        } else {
            self.alias |= is_word(p.name, "alias");
            true
        }
    }

    /// The port of sent-by, or the transport's own (§18.1.1).
    pub fn port_or_default(&self) -> u16 {
        self.port.unwrap_or_else(|| Transport::from_token(self.transport).map_or(5060, Transport::default_port))
    }

    /// What a receiver changes in a request's topmost Via, so that it tells where the request really came from:
    /// `received` where sent-by is another address (§18.2.1) or `rport` is asked for, and `rport`'s value (RFC 3581 §4).
    /// A `received` that the sender put there himself is left to stand only if it is true. Each change is told in order of place:
    /// the offset into [`Via::raw`], how many octets to leave out, and what to put in.
    pub fn mark(&self, source: SocketAddr, mut change: impl FnMut(usize, usize, &[u8])) {
        let end = |part: &[u8]| part.as_ptr() as usize + part.len() - self.raw.as_ptr() as usize;
        let asked = if let Rport::Asked(name) = self.rport { Some(end(name)) } else { None };
        let mut received = ArrayVec::<u8, MARK_OCTETS>::new();
        let at = match self.received_text {
            Some(claim) if self.received != Some(source.ip()) => Some((end(claim) - claim.len(), claim.len())),
            // RFC 5118 §4.5: an IPv6 address stands without brackets here.
            None if asked.is_some() || self.host.ip() != Some(source.ip()) => {
                received.put(b";received=");
                Some((self.raw.len(), 0))
            }
            _ => None,
        };
        if let Some((at, remove)) = at {
            received.put_ip(source.ip());
            if asked.is_none_or(|asked| at < asked) {
                change(at, remove, &received);
            }
        }
        let Some(asked) = asked else { return };
        let mut port = ArrayVec::<u8, MARK_OCTETS>::new();
        port.put(b"=");
        port.put_number(source.port().into());
        change(asked, 0, &port);
        if let Some((at, remove)) = at.filter(|&(at, _)| at >= asked) {
            change(at, remove, &received);
        }
    }

    /// Writes the value with its marks, as an answer of ours carries it.
    pub fn write_marked(&self, out: &mut impl Octets, source: SocketAddr) {
        let mut from = 0;
        self.mark(source, |at, remove, text| {
            out.put(&self.raw[from..at]);
            out.put(text);
            from = at + remove;
        });
        out.put(&self.raw[from..]);
    }
}

/// The values of one Via header line.
#[derive(Clone, Debug)]
pub(crate) struct Vias<'b>(Option<Cursor<'b>>);

impl<'b> Vias<'b> {
    pub(crate) fn new(value: &'b [u8]) -> Self {
        Self(Some(Cursor::new(value)))
    }
}

impl<'b> Iterator for Vias<'b> {
    type Item = Result<Via<'b>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut at = self.0.take()?;
        let via = Via::parse(&mut at);
        if via.is_ok() && at.eat(b',') {
            self.0 = Some(at);
        }
        Some(via)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(value: &str) -> Result<Via<'_>, Error> {
        Vias::new(value.as_bytes()).next().expect("an iterator over a value yields at least one")
    }

    #[test]
    fn white_space_may_stand_almost_anywhere() {
        // RFC 4475 §3.1.1.1.
        let via = one("SIP  / 2.0\r\n /UDP\r\n    192.0.2.2;branch=390skdjuw").unwrap();
        assert_eq!((via.transport, via.branch), (&b"UDP"[..], Some(&b"390skdjuw"[..])));
        let via =
            one("SIP/2.0/TCP     spindle.example.com   ;\r\n  branch  =   z9hG4bK9ikj8  ,\r\n SIP / 2.0").unwrap();
        assert_eq!(via.branch, Some(&b"z9hG4bK9ikj8"[..]));
    }

    #[test]
    fn received_takes_ipv6_with_and_without_brackets() {
        for value in ["2001:db8::9:255", "[2001:db8::9:255]"] {
            let text = format!("SIP/2.0/UDP [2001:db8::9:1];received={value};branch=z9hG4bKas3-111");
            assert_eq!(one(&text).unwrap().received, "2001:db8::9:255".parse().ok());
        }
        assert!(one("SIP/2.0/UDP host;received=nonsense").is_err());
    }

    #[test]
    fn rport_is_absent_asked_or_filled() {
        assert_eq!(one("SIP/2.0/UDP h;branch=z9hG4bK1").unwrap().rport, Rport::Absent);
        assert_eq!(one("SIP/2.0/UDP h;rport;branch=z9hG4bK1").unwrap().rport, Rport::Asked(b"rport"));
        assert_eq!(one("SIP/2.0/UDP h;rport=5061").unwrap().rport, Rport::Filled(5061));
        assert!(one("SIP/2.0/UDP h;rport=70000").is_err());
    }

    #[test]
    fn a_receiver_marks_where_the_request_came_from() {
        let marked = |value: &str, source: &str| {
            let mut out = Vec::new();
            one(value).unwrap().write_marked(&mut out, source.parse().unwrap());
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            marked("SIP/2.0/UDP 10.1.1.1:4540;rport;branch=z9hG4bKkjshdyff", "192.0.2.1:9988"),
            "SIP/2.0/UDP 10.1.1.1:4540;rport=9988;branch=z9hG4bKkjshdyff;received=192.0.2.1"
        );
        assert_eq!(
            marked("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1", "192.0.2.1:5060"),
            "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1"
        );
        assert_eq!(
            marked("SIP/2.0/UDP [2001:db8::1];received=2001:db8::2;rport", "[2001:db8::3]:5060"),
            "SIP/2.0/UDP [2001:db8::1];received=2001:db8::3;rport=5060"
        );
    }

    #[test]
    fn the_quick_way_and_the_general_one_agree_wherever_a_step_ends() {
        for length in 1..140 {
            let text = format!("SIP/2.0/UDP {}:5060;branch=z9hG4bK_1;rport;x=[::1]", "h".repeat(length));
            let general = Via::parse_any(&mut Cursor::new(text.as_bytes()));
            assert_eq!(format!("{:?}", Via::walk(text.as_bytes())), format!("{:?}", general.ok()));
        }
    }

    #[test]
    fn stray_separators_are_faults() {
        // RFC 4475 §3.1.2.1.
        assert!(one("SIP/2.0/UDP 192.0.2.15;;,;,,").is_err());
        assert!(one("SIP/2.0/UDP").is_err());
        assert!(one("SIP/7.0/UDP host").is_err());
    }

    #[test]
    fn a_parameter_that_routing_reads_stands_once() {
        for twice in
            ["branch=z9hG4bK1;branch=z9hG4bK2", "rport;rport=1", "received=::1;received=::1", "maddr=a;MADDR=a"]
        {
            assert!(one(&format!("SIP/2.0/UDP h;{twice}")).is_err(), "{twice}");
        }
        assert!(one("SIP/2.0/UDP h;x=1;x=2").is_ok());
    }
}
