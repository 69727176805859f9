//! Route preprocessing (RFC 3261 §16.4): which Request-URI and which Route values are left once ours are taken away.

use super::{dialog::Dialog, settings::Settings};
use agent::{Draft, Flow};
use bumpalo::{Bump, collections::Vec as BumpVec};
use sip::{Address, Edit, Error, HeaderName, Host, Message, Octets, Param, Request, SipUri, Transport, Uri};

/// Route values of a request; more are refused, for nobody has use for them.
const MAX_ROUTES: usize = 32;

/// A request after route preprocessing.
pub struct Routed<'b> {
    /// The Request-URI that counts.
    pub uri: Uri<'b>,
    /// The Route values that are left, topmost first.
    pub routes: BumpVec<'b, Address<'b>>,
    /// What our own token said: this is a request inside a dialog that was set up through us.
    pub dialog: Option<Dialog>,
    /// `uri` as it stands.
    raw_uri: &'b [u8],
    /// Whether it is not the one on the wire.
    uri_changed: bool,
    /// Values taken from the top.
    popped: usize,
    /// Whether the last value became the Request-URI.
    last_taken: bool,
}

impl<'b> Routed<'b> {
    /// Takes away what is ours: from Request-URI and Route.
    pub fn of(
        settings: &Settings,
        message: &Message<'b>,
        request: &Request<'b>,
        arena: &'b Bump,
    ) -> Result<Self, Error> {
        let mut routes = BumpVec::new_in(arena);
        for route in message.addresses(HeaderName::Route) {
            if routes.len() == MAX_ROUTES {
                return Err(Error::Malformed(HeaderName::Route));
            }
            routes.push(route?);
        }
        let mut routed = Self {
            uri: Uri::parse(request.uri)?,
            routes,
            dialog: None,
            raw_uri: request.uri,
            uri_changed: false,
            popped: 0,
            last_taken: false,
        };
        routed.restore_uri(settings, request)?;
        if let Uri::Sip(uri) = routed.uri {
            // A Request-URI carries no headers (§19.1.1); RFC 4475 §3.1.2.11 lets them be left out.
            let plain = without_own_maddr(settings, &uri, arena).unwrap_or(uri.without_headers());
            if plain.len() != routed.raw_uri.len() {
                (routed.uri, routed.raw_uri, routed.uri_changed) = (Uri::parse(plain)?, plain, true);
            }
        }
        // Two values of ours stand there where a dialog crosses from one transport to another.
        while let Some(top) = routed.routes.first()
            && let Ok(Uri::Sip(uri)) = top.parse_uri()
            && let Some(user) = own(settings, &uri)
        {
            routed.dialog = routed.dialog.or_else(|| settings.keys.dialogs.open(request, user?));
            routed.take_first();
        }
        Ok(routed)
    }

    /// §16.4: a strict router before us has put our Record-Route's URI into the Request-URI, and the real one last.
    fn restore_uri(&mut self, settings: &Settings, request: &Request<'b>) -> Result<(), Error> {
        if let Some(last) = self.routes.last()
            && let Uri::Sip(uri) = self.uri
            && let Some(Some(token)) = own(settings, &uri)
            && let Some(dialog) = settings.keys.dialogs.open(request, token)
        {
            self.dialog = Some(dialog);
            (self.uri, self.raw_uri, self.uri_changed) = (last.parse_uri()?, last.uri, true);
            self.routes.pop();
            self.last_taken = true;
        }
        Ok(())
    }

    /// Takes the topmost Route that is left, which was for us.
    pub fn take_first(&mut self) {
        self.routes.remove(0);
        self.popped += 1;
    }

    /// The flow that our own token leads to, where no Route tells another way.
    pub fn dialog_flow(&self) -> Option<Flow> {
        if self.routes.is_empty() { self.dialog?.towards } else { None }
    }

    /// The URI that the next hop is looked up by: the topmost Route that is left, else the Request-URI (§16.6 step 7).
    pub fn next_hop_uri(&self) -> Result<Uri<'b>, Error> {
        self.routes.first().map_or(Ok(self.uri), Address::parse_uri)
    }

    /// Edits Request-URI and Route. `target` replaces the Request-URI. What must be pushed as a header line goes to
    /// `lines`.
    pub fn apply(
        &self,
        message: &Message<'b>,
        target: Option<&'b [u8]>,
        edit: &mut Edit<'_, 'b>,
        lines: &mut impl Octets,
    ) -> Result<(), Error> {
        let uri = target.unwrap_or(self.raw_uri);
        // §16.6 step 6: a strict router next takes its own URI in the Request-URI, and the real one last in Route.
        let strict = match self.routes.first() {
            None => None,
            Some(top) => match top.parse_uri()? {
                Uri::Sip(route) if !route.is_loose() => Some(route),
                _ => None,
            },
        };
        if strict.is_none() && !self.last_taken && self.popped <= 1 {
            if target.is_some() || self.uri_changed {
                edit.set_request_uri(uri);
            }
            if self.popped == 1
                && let Some(Ok(own)) = message.addresses(HeaderName::Route).next()
            {
                edit.pop(HeaderName::Route, own.raw);
            }
            return Ok(());
        }
        edit.set_request_uri(strict.as_ref().map_or(uri, |route| route.without_headers()));
        for line in message.all(HeaderName::Route) {
            edit.remove_line(line.line);
        }
        for route in self.routes.iter().skip(usize::from(strict.is_some())) {
            sip::write::header(lines, HeaderName::Route, route.raw);
        }
        if strict.is_some() {
            lines.put(b"Route: <");
            lines.put(uri);
            lines.put(b">\r\n");
        }
        Ok(())
    }
}

/// The user part of a URI that names us as a route, if it does.
pub(super) fn own<'b>(settings: &Settings, uri: &SipUri<'b>) -> Option<Option<&'b [u8]>> {
    let port = uri.port.unwrap_or_else(|| uri.transport().ok().flatten().unwrap_or(Transport::Udp).default_port());
    let is_own = settings.listeners.is_own(&uri.host, port) || settings.domains.local(&uri.host, uri.port).is_some();
    is_own.then_some(uri.user)
}

/// §16.4: an maddr of ours in the Request-URI led here and has no further meaning, nor have the port and the transport
/// beside it. Gives the URI without them.
fn without_own_maddr<'b>(settings: &Settings, uri: &SipUri<'b>, arena: &'b Bump) -> Option<&'b [u8]> {
    let maddr = Host::new(uri.param("maddr")?)?;
    settings.domains.local(&maddr, uri.port)?;
    let mut plain = Draft::with_capacity_in(uri.raw.len(), arena);
    plain.put(if uri.secure { b"sips:" } else { b"sip:" });
    if let Some(user) = uri.user {
        plain.put(user);
        if let Some(password) = uri.password {
            plain.put(b":");
            plain.put(password);
        }
        plain.put(b"@");
    }
    match uri.host {
        Host::Name(name) => plain.put(name),
        Host::V4(v4) => plain.put_display(v4),
        Host::V6(v6) => plain.put_display(format_args!("[{v6}]")),
    }
    let is_left = |p: &Param<'_>| !["maddr", "transport"].iter().any(|n| p.name.eq_ignore_ascii_case(n.as_bytes()));
    for param in uri.params().filter(is_left) {
        plain.put(b";");
        plain.put(param.name);
        if let Some(value) = param.value {
            plain.put(b"=");
            plain.put(value);
        }
    }
    Some(plain.into_bump_slice())
}
