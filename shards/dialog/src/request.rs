//! The requests that a UA writes: the first one (RFC 3261 §8.1.1), those within a dialog (§12.2.1.1), ACK for a
//! 2xx (§13.2.2.4). CANCEL and the other ACKs are the transaction's (§9.1, §17.1.1.3).
//!
//! Addresses of ours are written as [`PLACEHOLDER`], which the proxy replaces.

use crate::{
    Dialog,
    dialog::refreshes_target,
    text::{self, BadText, Body, Field, Party, put_line},
};
use agent::{Agent, AppBranch, AppToken, PLACEHOLDER};
use sip::{Address, HeaderName, Message, Method, Octets, StartLine, Uri};

/// Who writes: an agent behind the proxy.
#[derive(Clone, Copy)]
pub struct UserAgent<'a> {
    /// The application server and its shard.
    pub agent: Agent<'a>,
    /// What seals its Contacts.
    pub tokens: &'a AppToken,
}

impl UserAgent<'_> {
    fn write_via(&self, branch: u64, out: &mut impl Octets) {
        out.put(b"Via: SIP/2.0/UDP ");
        out.put(PLACEHOLDER.as_bytes());
        out.put(b";branch=");
        AppBranch { agent: self.agent, id: branch }.write(out);
        out.put(b"\r\n");
    }

    /// The Contact of a dialog with that Call-ID. §8.1.1.8, §12.1.1: SIPS where the request is for a SIPS URI.
    pub(crate) fn write_contact(&self, call_id: &[u8], is_sips: bool, out: &mut impl Octets) {
        out.put(if is_sips { b"Contact: <sips:" } else { b"Contact: <sip:" });
        self.tokens.write(self.agent, call_id, out);
        out.put(b"@");
        out.put(PLACEHOLDER.as_bytes());
        out.put(b">\r\n");
    }
}

/// Hops that a request of ours may take (§8.1.1.6).
pub const MAX_FORWARDS: u8 = 70;

/// A request outside any dialog.
#[derive(Clone, Copy)]
pub struct NewRequest<'a> {
    method: Method<'a>,
    uri: &'a [u8],
    from: Party<'a>,
    to: Party<'a>,
    call_id: &'a [u8],
    routes: &'a [u8],
    /// CSeq's number: one higher for each further try of the same request (§8.1.3.5, §22.2).
    pub cseq: u32,
    /// Hops that it may take: one less than the request had which it carries on, so that a loop through us ends.
    pub max_forwards: u8,
    /// More headers.
    pub fields: &'a [Field<'a>],
    /// The body.
    pub body: Option<Body<'a>>,
}

impl<'a> NewRequest<'a> {
    /// A request with CSeq 1 and no more headers than it needs.
    ///
    /// # Errors
    /// The method is no token, the URI none that may stand in a Request-URI, or the Call-ID has white space in it.
    pub fn new(
        method: Method<'a>,
        uri: &'a [u8],
        from: Party<'a>,
        to: Party<'a>,
        call_id: &'a [u8],
    ) -> Result<Self, BadText> {
        if !text::is_token(method.as_bytes()) {
            return Err(BadText::Name);
        }
        // §19.1.5: a Request-URI has no headers.
        let uri = match Uri::parse(uri).map_err(|_| BadText::Uri)? {
            Uri::Sip(sip) => sip.without_headers(),
            _ => uri,
        };
        if !text::is_word(call_id) {
            return Err(BadText::Identifier);
        }
        let (fields, body) = (&[][..], None);
        Ok(Self { method, uri, from, to, call_id, routes: &[], cseq: 1, max_forwards: MAX_FORWARDS, fields, body })
    }

    /// Lets it go along a preloaded route set (§8.1.1.1): comma-separated values of Route, such as the Path of a binding.
    ///
    /// # Errors
    /// One of them is no SIP or SIPS URI in angle brackets.
    pub fn route(&mut self, routes: &'a [u8]) -> Result<(), BadText> {
        if !is_route_list(routes) {
            return Err(BadText::Uri);
        }
        self.routes = routes;
        Ok(())
    }

    /// Writes it, in the transaction that `branch` numbers.
    pub fn write(&self, ua: UserAgent<'_>, branch: u64, out: &mut impl Octets) {
        let is_sips = begin(out, self.method, self.uri, self.routes);
        ua.write_via(branch, out);
        write_hops(out, self.max_forwards);
        out.put(b"From: ");
        self.from.write(out);
        out.put(b"\r\nTo: ");
        self.to.write(out);
        out.put(b"\r\n");
        write_identity(out, self.call_id, self.cseq, self.method);
        // §12.1.2: methods that make a dialog.
        if matches!(self.method, Method::Invite | Method::Subscribe | Method::Refer) {
            ua.write_contact(self.call_id, is_sips, out);
        }
        end(out, self.fields, self.body);
    }
}

/// Writes a request of ours once more with the credentials that a challenge asks for (§22.2, §22.3): the same but for its
/// transaction, the number of its CSeq (§8.1.3.5) and credentials that it had before.
pub fn write_again(
    request: &Message<'_>,
    ua: UserAgent<'_>,
    branch: u64,
    cseq: u32,
    credentials: &Field<'_>,
    out: &mut impl Octets,
) {
    let StartLine::Request { method, uri } = request.start_line() else { return };
    write_request_line(out, method, uri);
    ua.write_via(branch, out);
    let is_new = |name| {
        matches!(
            name,
            HeaderName::Via
                | HeaderName::CSeq
                | HeaderName::Authorization
                | HeaderName::ProxyAuthorization
                | HeaderName::ContentLength
        )
    };
    for header in request.headers().filter(|header| !is_new(header.name)) {
        out.put(header.line);
    }
    out.put(b"CSeq: ");
    out.put_number(cseq.into());
    out.put(b" ");
    out.put(method.as_bytes());
    out.put(b"\r\n");
    credentials.write(out);
    sip::write::finish(out, request.body());
}

impl Dialog {
    /// Writes a request within the dialog, in the transaction that `branch` numbers, and gives the number of its CSeq. ACK
    /// is [`Dialog::write_ack`]'s.
    ///
    /// # Errors
    /// The method is no token.
    pub fn write_request(
        &mut self,
        ua: UserAgent<'_>,
        branch: u64,
        method: Method<'_>,
        fields: &[Field<'_>],
        body: Option<Body<'_>>,
        out: &mut impl Octets,
    ) -> Result<u32, BadText> {
        if !text::is_token(method.as_bytes()) {
            return Err(BadText::Name);
        }
        let cseq = self.next_cseq();
        self.write(ua, branch, method, cseq, fields, body, out);
        Ok(cseq)
    }

    /// Writes the ACK for a 2xx to the INVITE whose CSeq has that number (§13.2.2.4): a transaction of its own, so
    /// `branch` is a new one, and the same for every copy. `fields` carry the INVITE's credentials, if it had any.
    pub fn write_ack(
        &self,
        ua: UserAgent<'_>,
        branch: u64,
        cseq: u32,
        fields: &[Field<'_>],
        body: Option<Body<'_>>,
        out: &mut impl Octets,
    ) {
        self.write(ua, branch, Method::Ack, cseq, fields, body, out);
    }

    #[expect(clippy::too_many_arguments, reason = "a request's parts, named by the two callers above")]
    fn write(
        &self,
        ua: UserAgent<'_>,
        branch: u64,
        method: Method<'_>,
        cseq: u32,
        fields: &[Field<'_>],
        body: Option<Body<'_>>,
        out: &mut impl Octets,
    ) {
        let is_sips = begin(out, method, self.remote_target(), self.route_set());
        ua.write_via(branch, out);
        write_hops(out, MAX_FORWARDS);
        write_party(out, HeaderName::From, self.local(), self.local_tag());
        write_party(out, HeaderName::To, self.remote(), self.remote_tag());
        write_identity(out, self.call_id(), cseq, method);
        if refreshes_target(method) {
            ua.write_contact(self.call_id(), is_sips || self.is_secure(), out);
        }
        end(out, fields, body);
    }
}

/// Writes Request-Line and Route (§12.2.1.1): to a loose router by Route, to a strict one in the Request-URI with the target
/// behind all routes. True if the request is for a SIPS URI, at its end or at its first hop.
fn begin(out: &mut impl Octets, method: Method<'_>, target: &[u8], routes: &[u8]) -> bool {
    let first = Address::list(routes).next().and_then(Result::ok);
    let first = first.and_then(|a| Some((a, a.parse_uri().ok()?.sip().ok()?)));
    let Some((address, uri)) = first else {
        write_request_line(out, method, target);
        return is_sips(target);
    };
    if uri.is_loose() {
        write_request_line(out, method, target);
        put_line(out, b"Route", routes);
    } else {
        // §12.2.1.1: what no Request-URI may have is left out; in a Record-Route those can only be headers.
        write_request_line(out, method, uri.without_headers());
        let behind = address.raw.as_ptr() as usize + address.raw.len() - routes.as_ptr() as usize;
        out.put(b"Route: ");
        let rest = routes[behind..].trim_ascii_start().strip_prefix(b",").unwrap_or_default().trim_ascii_start();
        text::put_clean(out, rest);
        out.put(if rest.is_empty() { b"<" } else { b",<" });
        out.put(target);
        out.put(b">\r\n");
    }
    is_sips(target) || uri.secure
}

fn write_request_line(out: &mut impl Octets, method: Method<'_>, uri: &[u8]) {
    out.put(method.as_bytes());
    out.put(b" ");
    out.put(uri);
    out.put(b" SIP/2.0\r\n");
}

fn write_hops(out: &mut impl Octets, hops: u8) {
    out.put(b"Max-Forwards: ");
    out.put_number(hops.into());
    out.put(b"\r\n");
}

fn write_party(out: &mut impl Octets, name: HeaderName, address: &[u8], tag: &[u8]) {
    out.put(name.canonical().as_bytes());
    out.put(b": ");
    out.put(address);
    if !tag.is_empty() {
        out.put(b";tag=");
        out.put(tag);
    }
    out.put(b"\r\n");
}

fn write_identity(out: &mut impl Octets, call_id: &[u8], cseq: u32, method: Method<'_>) {
    out.put(b"Call-ID: ");
    out.put(call_id);
    out.put(b"\r\nCSeq: ");
    out.put_number(cseq.into());
    out.put(b" ");
    out.put(method.as_bytes());
    out.put(b"\r\n");
}

/// The headers that the caller gives, and the body.
pub(crate) fn end(out: &mut impl Octets, fields: &[Field<'_>], body: Option<Body<'_>>) {
    for field in fields {
        field.write(out);
    }
    text::finish(out, body);
}

/// Whether `routes` are values of Route, all of them.
pub(crate) fn is_route_list(routes: &[u8]) -> bool {
    let is_route = |a: Address<'_>| matches!(a.parse_uri(), Ok(Uri::Sip(_))) && a.raw.contains(&b'<');
    text::is_clean(routes) && Address::list(routes).all(|a| a.is_ok_and(is_route))
}

pub(crate) fn is_sips(uri: &[u8]) -> bool {
    matches!(Uri::parse(uri), Ok(Uri::Sip(uri)) if uri.secure)
}
